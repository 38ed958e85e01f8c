//! The installation's image registry: Debian's `docker-registry` in a container of its own. It runs while there are clusters
//! whose nodes can use it, has the same address on the host and on every node, and tells the server of every push.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use sampan_provider::{HostService, HostServiceSpec, MachineProvider};
use sampan_store::{
    Batch, Kind, Store,
    model::{Cluster, ClusterType, Setting},
};
use sha2::{Digest as _, Sha256};
use tokio::{sync::broadcast, task::AbortHandle};

/// Setting with the port that was taken for good.
const PORT_SETTING: &str = "registry-port";
/// What the token of the registry's notifications is derived from.
const TOKEN_PURPOSE: &str = "notifications of the image registry";
/// The container is looked at so often though nothing changed: somebody may have removed it.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// What the registry is made of.
pub(crate) struct Registry {
    pub(crate) store: Store,
    pub(crate) provider: Arc<dyn MachineProvider>,
    /// Name of its container.
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) dir: PathBuf,
    /// Where the server takes notifications, `http://host:port`.
    pub(crate) endpoint_url: String,
    /// The local CA, when the server only speaks HTTPS.
    pub(crate) ca: Option<PathBuf>,
}

/// The port on 127.0.0.1, chosen once and kept.
///
/// # Errors
/// When no port of the range is free, or the choice cannot be recorded.
pub(crate) async fn port(store: &Store, (first, last): (u16, u16)) -> anyhow::Result<u16> {
    let recorded = store.get::<Setting>(PORT_SETTING).and_then(|setting| setting.value.value.as_u64());
    if let Some(port) = recorded.and_then(|port| u16::try_from(port).ok()) {
        return Ok(port);
    }
    let free = (first..=last).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let Some(port) = free else {
        bail!("no port of 127.0.0.1:{first} to {last} is free for the image registry; set [registry] ports")
    };
    let mut batch = Batch::new();
    batch.create(&Setting { id: PORT_SETTING.into(), value: port.into() });
    store.commit(batch).await.context("the port of the image registry cannot be recorded")?;
    Ok(port)
}

/// Removes a registry that is not wanted any more; its images stay.
pub(crate) fn remove(provider: Arc<dyn MachineProvider>, name: String) {
    tokio::spawn(async move {
        if let Err(error) = provider.delete_host_service(&name).await {
            tracing::warn!(%error, "the image registry is disabled, but could not be removed");
        }
    });
}

/// Whether a bearer token is the registry's.
pub(crate) fn is_token(store: &Store, given: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(token(store).as_bytes(), given.as_bytes()).is_ok()
}

fn token(store: &Store) -> String {
    hex(&store.master_key().derive(TOKEN_PURPOSE))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Registry {
    /// Keeps the registry as it is wanted until aborted.
    pub(crate) fn keep(self, port: u16) -> AbortHandle {
        let work = async move {
            let mut changes = self.store.watch();
            loop {
                let pause = match self.reconcile(port).await {
                    Ok(()) => LOOK_INTERVAL,
                    Err(error) => {
                        tracing::warn!(reason = %format!("{error:#}"), "the image registry is not as it should be");
                        RETRY_INTERVAL
                    }
                };
                let _ = tokio::time::timeout(pause, cluster_change(&mut changes)).await;
            }
        };
        tokio::spawn(work).abort_handle()
    }

    async fn reconcile(&self, port: u16) -> anyhow::Result<()> {
        let is_wanted = self
            .store
            .list::<Cluster>()
            .iter()
            .any(|cluster| cluster.cluster_type == ClusterType::Swarm && cluster.is_live());
        if !is_wanted {
            return Ok(self.provider.delete_host_service(&self.name).await?);
        }
        let config = self.config(port);
        let path = self.dir.join("config.yml");
        crate::data_dir::write_private(&path, config.as_bytes())?;
        if let Some(ca) = &self.ca {
            std::fs::copy(ca, self.dir.join("ca.pem")).with_context(|| format!("cannot copy {}", ca.display()))?;
        }
        let spec = HostServiceSpec {
            service: HostService::Registry,
            name: self.name.clone(),
            image: self.image.clone(),
            state_dir: self.dir.clone(),
            config_hash: hex(&Sha256::digest(config.as_bytes())[..8]),
        };
        Ok(self.provider.ensure_host_service(&spec).await?)
    }

    /// Its configuration file. The address of the server is that of this run; another one makes the registry anew.
    fn config(&self, port: u16) -> String {
        let data = Path::new(HostService::Registry.state_target()).join("data");
        let authorization = format!("Bearer {}", token(&self.store));
        let config = serde_json::json!({
            "version": 0.1,
            "log": { "level": "warn", "accesslog": { "disabled": true } },
            "storage": {
                "filesystem": { "rootdirectory": data },
                "delete": { "enabled": true },
                "cache": { "blobdescriptor": "inmemory" },
            },
            "http": { "addr": format!("127.0.0.1:{port}") },
            "notifications": { "endpoints": [{
                "name": "sampan",
                "url": format!("{}/hook/registry", self.endpoint_url),
                "headers": { "Authorization": [authorization] },
                "timeout": "5s",
                "threshold": 3,
                "backoff": "2s",
                "ignoredmediatypes": ["application/octet-stream"],
            }] },
        });
        // JSON is YAML.
        format!("{config:#}\n")
    }
}

/// Waits until a cluster changed; having missed something counts.
async fn cluster_change(changes: &mut broadcast::Receiver<sampan_store::Change>) {
    loop {
        match changes.recv().await {
            Ok(change) if change.kind != Kind::Cluster => {}
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
