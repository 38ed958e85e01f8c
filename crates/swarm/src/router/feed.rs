//! Where tables come from: the master's long poll, and the disk before the master has answered.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use rand::Rng as _;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{master::Master, plane::Plane, settings::Settings, status::Feed, table::RouteTable, tcp::Listeners};

/// Name of the last table in the router's directory.
pub const TABLE_FILE: &str = "routes.json";
const TABLE_MODE: u32 = 0o600;
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How often the file is looked at when there is no master.
const FILE_INTERVAL: Duration = Duration::from_millis(200);
/// How often listeners that could not be opened are tried again.
const LISTENERS_INTERVAL: Duration = Duration::from_secs(5);

/// Brings tables into force.
#[derive(Debug)]
pub(super) struct Installer {
    pub(super) plane: Arc<Plane>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) feed: Arc<Feed>,
    pub(super) path: PathBuf,
}

impl Installer {
    /// The last table of the disk, if there is one that can be read.
    pub(super) async fn install_last(&self) -> u64 {
        match read(&self.path) {
            Ok(table) => {
                tracing::info!(revision = table.revision, routes = table.routes.len(), "routes of the last run");
                self.install(&table).await;
                table.revision
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => {
                // The master sends the whole table.
                tracing::error!(path = %self.path.display(), %error, "the last routes are not usable");
                0
            }
        }
    }

    async fn install(&self, table: &RouteTable) {
        self.plane.install(table).await;
        self.listeners.follow(&self.plane.routes()).await;
    }

    /// Brings the master's tables into force until `stop`.
    pub(super) async fn follow_master(&self, mut master: Master, stop: CancellationToken) {
        let following = async {
            // The first question, and every one after a failure, asks for the whole table: the master may have begun anew.
            let mut after = 0;
            let mut failures = 0;
            loop {
                self.feed.acknowledged.store(after, Ordering::Relaxed);
                match master.ask(after, &self.listeners.failures()).await {
                    Ok(answer) => {
                        self.feed.is_connected.store(true, Ordering::Relaxed);
                        failures = 0;
                        if let Some(table) = answer {
                            self.take(&table).await;
                            after = table.revision;
                        }
                    }
                    Err(error) => {
                        if self.feed.is_connected.swap(false, Ordering::Relaxed) || failures == 0 {
                            tracing::warn!(%error, "the master does not answer; the last routes stay in force");
                        }
                        after = 0;
                        sleep(backoff(failures)).await;
                        failures += 1;
                    }
                }
            }
        };
        tokio::select! {
            () = following => {}
            () = stop.cancelled() => {}
        }
    }

    async fn take(&self, table: &RouteTable) {
        self.install(table).await;
        if let Err(error) = self.save(table).await {
            tracing::error!(path = %self.path.display(), %error, "the routes cannot be kept for the next start");
        }
        tracing::info!(
            revision = table.revision,
            routes = table.routes.len(),
            tcp = table.tcp.len(),
            "routes in force"
        );
    }

    async fn save(&self, table: &RouteTable) -> io::Result<()> {
        let (path, content) = (self.path.clone(), serde_json::to_vec(table)?);
        tokio::task::spawn_blocking(move || sampan_agents::disk::replace(&path, TABLE_MODE, &content, true)).await?
    }

    /// Without a master: the file, whenever it changes.
    pub(super) async fn follow_file(&self, stop: CancellationToken) {
        let mut last = stamp(&self.path);
        let mut look = interval(FILE_INTERVAL);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = stop.cancelled() => return,
            }
            let now = stamp(&self.path);
            if now != last {
                last = now;
                let revision = self.install_last().await;
                self.feed.acknowledged.store(revision, Ordering::Relaxed);
            }
        }
    }

    /// Tries listeners again that could not be opened.
    pub(super) async fn mend(&self, stop: CancellationToken) {
        let mut look = interval(LISTENERS_INTERVAL);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = stop.cancelled() => return,
            }
            if !self.listeners.failures().is_empty() {
                self.listeners.follow(&self.plane.routes()).await;
            }
        }
    }
}

fn backoff(failures: u32) -> Duration {
    let longest = BACKOFF_FIRST.saturating_mul(1 << failures.min(8)).min(BACKOFF_MAX);
    longest.mul_f64(rand::rng().random_range(0.5..1.0))
}

fn read(path: &Path) -> io::Result<RouteTable> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Tells one content of the file from the next, also when both were put there within one tick of the clock.
fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// The master, if there is one.
pub(super) fn master(settings: &Settings) -> Option<Master> {
    let (address, tls) = (settings.master.clone()?, settings.tls.clone()?);
    Some(Master::new(address, tls, settings.node.clone()))
}
