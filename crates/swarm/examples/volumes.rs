//! `sampan volumes` by itself, for trials by hand: `volumes CONFIG.json`.

use std::{path::Path, process::ExitCode};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let Some(config) = std::env::args().nth(1) else {
        eprintln!("usage: volumes CONFIG.json");
        return ExitCode::FAILURE;
    };
    match sampan_swarm::volumes::run(Path::new(&config)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
