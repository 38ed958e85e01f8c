//! What is wanted against what there is: one task that owns every listener and every virtual IP.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

use super::{Config, Failure, Report, Status, addresses::Addresses, listener::OpenListener};
use crate::{children::Children, disk};

const CONFIG_FILE: &str = "config.json";
const CONFIG_MODE: u32 = 0o600;
/// How often failed listeners are tried again and virtual IPs looked after: Docker makes bridges anew when it restarts.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What the control socket may ask.
#[derive(Debug)]
pub(super) enum Order {
    /// Do this from now on.
    Apply(Config, oneshot::Sender<io::Result<Report>>),
    /// Tell what you do.
    Status(oneshot::Sender<Status>),
}

/// Owner of the data plane.
#[derive(Debug)]
pub(super) struct Plane {
    config_path: PathBuf,
    config: Config,
    addresses: Addresses,
    listeners: BTreeMap<(String, SocketAddr), OpenListener>,
    failures: Vec<Failure>,
}

impl Plane {
    /// Reads the last configuration.
    pub(super) fn new(state_dir: &Path, children: Arc<Children>) -> Self {
        let config_path = state_dir.join(CONFIG_FILE);
        let config = load(&config_path).unwrap_or_else(|error| {
            // The server sends the whole configuration when it connects; until then there is none.
            tracing::error!(path = %config_path.display(), %error, "the last configuration is not usable");
            Config::default()
        });
        let addresses = Addresses::load(state_dir, children);
        Self { config_path, config, addresses, listeners: BTreeMap::new(), failures: Vec::new() }
    }

    /// Applies the last configuration, then every new one, until `stop`.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>, stop: CancellationToken) {
        // Before any question is answered.
        self.reconcile().await;
        let mut look = interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => self.reconcile().await,
                Some(order) = orders.recv() => self.obey(order).await,
                () = stop.cancelled() => break,
            }
        }
        join_all(std::mem::take(&mut self.listeners).into_values().map(OpenListener::close)).await;
    }

    async fn obey(&mut self, order: Order) {
        // Whoever asked may have gone.
        match order {
            Order::Apply(config, answer) => {
                let report = self.apply(config).await;
                let _ = answer.send(report);
            }
            Order::Status(answer) => {
                let listeners = self.listeners.values().map(OpenListener::status).collect();
                let _ = answer.send(Status { listeners, failures: self.failures.clone() });
            }
        }
    }

    /// Stores the configuration first: what was answered must survive.
    async fn apply(&mut self, config: Config) -> io::Result<Report> {
        if config != self.config {
            disk::replace(&self.config_path, CONFIG_MODE, &serde_json::to_vec(&config)?, true)?;
            self.config = config;
        }
        self.reconcile().await;
        Ok(Report { failures: self.failures.clone() })
    }

    async fn reconcile(&mut self) {
        let mut failures = self.addresses.apply(&self.config.virtual_ips).await;
        failures.extend(self.reconcile_listeners().await);
        for failure in failures.iter().filter(|failure| !self.failures.contains(failure)) {
            tracing::warn!(name = failure.name, "{}: {}; trying on", failure.name, failure.message);
        }
        self.failures = failures;
    }

    async fn reconcile_listeners(&mut self) -> Vec<Failure> {
        let wanted: HashSet<(&str, SocketAddr)> =
            self.config.listeners.iter().map(|listener| (listener.name.as_str(), listener.listen)).collect();
        let obsolete = self.listeners.extract_if(.., |(name, listen), _| !wanted.contains(&(name.as_str(), *listen)));
        // Closed before new ones are opened, for these may want the same address.
        join_all(obsolete.map(|(_, listener)| listener.close()).collect::<Vec<_>>()).await;
        let virtual_ips: HashSet<IpAddr> = self.config.virtual_ips.iter().map(|ip| IpAddr::V4(ip.ip)).collect();
        let mut failures = Vec::new();
        for listener in &self.config.listeners {
            let key = (listener.name.clone(), listener.listen);
            if let Some(open) = self.listeners.get(&key) {
                open.set_backends(&listener.backends, listener.check.as_ref());
                continue;
            }
            match OpenListener::open(listener, virtual_ips.contains(&listener.listen.ip())) {
                Ok(open) => {
                    tracing::info!(name = listener.name, listen = %listener.listen, "listening");
                    self.listeners.insert(key, open);
                }
                Err(error) => {
                    let message = format!("{}: {error}", listener.listen);
                    failures.push(Failure { name: listener.name.clone(), message });
                }
            }
        }
        failures
    }
}

fn load(path: &Path) -> io::Result<Config> {
    match std::fs::read(path) {
        Ok(json) => Ok(serde_json::from_slice(&json)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(error),
    }
}
