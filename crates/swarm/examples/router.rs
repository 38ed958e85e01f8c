//! The router (`router CONFIG`) and the door's placeholder (`router pause`) by themselves, for trials and benchmarks beside
//! other proxies.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let argument = std::env::args().nth(1).ok_or("usage: router CONFIG | router pause")?;
    if argument == "pause" {
        return Ok(sampan_swarm::door::pause()?);
    }
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(sampan_swarm::router::run(Path::new(&argument)))?)
}
