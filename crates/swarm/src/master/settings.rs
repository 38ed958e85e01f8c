//! The configuration file: read at the start, and again whenever it or a certificate it names changes.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use sampan_agents::master::MasterConfig;
use tokio::{
    sync::{Notify, watch},
    time,
};

use super::MasterError;

/// Largest configuration that is read (a cluster of a thousand nodes is some 300 KiB).
const CONFIG_MAX: u64 = 8 * 1024 * 1024;
/// Files are compared this often: what the kernel did not tell, and certificates elsewhere.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Reads the configuration and follows it.
pub(crate) fn follow(path: &Path) -> Result<watch::Receiver<Arc<MasterConfig>>, MasterError> {
    let config = read(path)?;
    let seen = stamps(path, &config);
    let (sender, receiver) = watch::channel(Arc::new(config));
    tokio::spawn(keep(path.to_owned(), sender, seen));
    Ok(receiver)
}

fn read(path: &Path) -> Result<MasterConfig, MasterError> {
    let wrong = |reason: String| MasterError::Config { path: path.to_owned(), reason };
    let size = fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > CONFIG_MAX {
        return Err(wrong(format!("it is larger than {CONFIG_MAX} bytes")));
    }
    let text = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))
}

/// What tells one version of a file from another.
type Stamp = Option<(u64, i64, i64, u64)>;

fn stamps(path: &Path, config: &MasterConfig) -> Vec<Stamp> {
    let (server, client) = (&config.endpoint_tls, &config.engines_tls);
    let files = [&server.ca, &server.cert, &server.key, &config.router_ca, &client.ca, &client.cert, &client.key];
    let stamp = |path: &Path| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
    };
    std::iter::once(stamp(path)).chain(files.iter().map(|path| stamp(Path::new(path)))).collect()
}

async fn keep(path: PathBuf, sender: watch::Sender<Arc<MasterConfig>>, mut seen: Vec<Stamp>) {
    let told = watch_directory(&path).unwrap_or_else(|error| {
        tracing::info!(%error, "the configuration is compared every few seconds; the kernel does not tell of changes");
        Arc::default()
    });
    loop {
        tokio::select! {
            () = told.notified() => {}
            () = time::sleep(LOOK_EVERY) => {}
            () = sender.closed() => return,
        }
        let now = stamps(&path, &sender.borrow());
        if now == seen {
            continue;
        }
        match read(&path) {
            Ok(config) => {
                seen = stamps(&path, &config);
                tracing::info!(nodes = config.nodes.len(), "the configuration changed");
                sender.send_replace(Arc::new(config));
            }
            // Perhaps it is half written; the last one stays in force.
            Err(error) => tracing::warn!(%error, "the configuration stays as it was"),
        }
    }
}

/// The kernel's word that something in the file's directory changed. A thread waits for it, for as long as the process
/// lives.
fn watch_directory(path: &Path) -> io::Result<Arc<Notify>> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
    inotify.add_watch(path.parent().unwrap_or(Path::new("/")), flags)?;
    let told = Arc::new(Notify::new());
    let teller = told.clone();
    thread::Builder::new().name("settings".to_owned()).spawn(move || {
        while let Ok(_) | Err(Errno::EINTR) = inotify.read_events() {
            teller.notify_one();
        }
    })?;
    Ok(told)
}
