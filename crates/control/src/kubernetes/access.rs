//! [`ClusterAccess`] through the tunnel of a machine of each cluster's control plane: where it has several, the one that
//! answered last.

use std::{
    collections::HashMap,
    fmt,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::api::{
    core::v1::{Node, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use sampan_store::{
    MasterKey,
    model::{Cluster, Fault, Outcome, Taint},
};
use tokio::{sync::broadcast, task::AbortHandle};

use super::{
    addons::{COREDNS_ADDON, Images, base_manifests, is_wanted},
    apply::apply,
    connect, drain,
    etcd::EtcdClient,
    gateway::Gateway,
    health, members, nodes,
    pki::Pki,
    restore, snapshot, survey, watch,
};
use crate::ports::{
    ApiReadiness, BasePart, ClusterAccess, ComponentView, Dialer, DrainOutcome, EtcdChange, EtcdMemberView,
    NodeConditionsView, NodeView, NodeWanted, Survey,
};

/// Time for one request; the API server's own limit for ordinary requests is a minute.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Changes that a slow receiver may miss before it must look at everything.
const CHANGES_MAX: usize = 1024;
/// Selects the cluster's DNS service.
pub(crate) const DNS_SELECTOR: &str = "kubernetes.io/service-name=kube-dns";
/// Namespace of the cluster's own workloads.
pub(crate) const SYSTEM_NAMESPACE: &str = "kube-system";

/// What access needs to know about clusters.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// The cluster's certificates and keys.
    ///
    /// # Errors
    /// When it has none, or they cannot be read.
    async fn pki(&self, cluster_id: &str) -> Outcome<Arc<Pki>>;
    /// Ids of the machines that its control plane runs on, always in the same order.
    fn control_planes(&self, cluster_id: &str) -> Vec<String>;
    /// Address of its node with that name.
    fn node_ip(&self, cluster_id: &str, node_name: &str) -> Option<Ipv4Addr>;
    /// What backups are encrypted under; `None`: none can be made.
    fn master_key(&self) -> Option<MasterKey> {
        None
    }
    /// Taints of all its node pools.
    fn taints(&self, cluster_id: &str) -> Vec<Taint>;
}

/// Reaches the API servers of clusters.
pub struct TunnelAccess {
    directory: Arc<dyn Directory>,
    dialer: Arc<dyn Dialer>,
    images: Images,
    name_servers: Vec<Ipv4Addr>,
    entries: Mutex<HashMap<String, Entry>>,
    preferred: Arc<Preferred>,
    changes: broadcast::Sender<String>,
}

#[derive(Default)]
struct Entry {
    /// Clients by the machine that they go through, with the certificate that each shows.
    clients: HashMap<String, (String, Client)>,
    watch: Option<AbortHandle>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

impl fmt::Debug for TunnelAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelAccess").field("clusters", &self.entries().len()).finish_non_exhaustive()
    }
}

impl TunnelAccess {
    /// `name_servers` answer the clusters' questions about names outside; see [`super::HostFacts::name_servers`].
    pub fn new(
        directory: Arc<dyn Directory>,
        dialer: Arc<dyn Dialer>,
        images: Images,
        name_servers: Vec<Ipv4Addr>,
    ) -> Arc<Self> {
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        Arc::new(Self {
            directory,
            dialer,
            images,
            name_servers,
            entries: Mutex::default(),
            preferred: Arc::default(),
            changes,
        })
    }

    /// A client with all rights, for what [`ClusterAccess`] does not cover.
    ///
    /// # Errors
    /// `Unavailable` while the cluster has no control plane machine; as [`Directory::pki`].
    pub async fn client(&self, cluster_id: &str) -> Outcome<Client> {
        let machine_id = self.preferred.choose(cluster_id, &*self.directory)?;
        self.client_on(cluster_id, &machine_id).await
    }

    async fn client_on(&self, cluster_id: &str, machine_id: &str) -> Outcome<Client> {
        let pki = self.directory.pki(cluster_id).await?;
        let certificate = &pki.admin.certificate;
        if let Some((shown, client)) = self.entries().get(cluster_id).and_then(|entry| entry.clients.get(machine_id))
            && shown == certificate
        {
            return Ok(client.clone());
        }
        let client = connect::client(Arc::clone(&self.dialer), machine_id, &pki)?;
        let present = self.directory.control_planes(cluster_id);
        let mut entries = self.entries();
        let clients = &mut entries.entry(cluster_id.to_owned()).or_default().clients;
        clients.retain(|machine_id, _| present.contains(machine_id));
        clients.insert(machine_id.to_owned(), (certificate.clone(), client.clone()));
        Ok(client)
    }

    async fn ask_readiness(&self, cluster_id: &str, machine_id: &str) -> Outcome<ApiReadiness> {
        let client = self.client_on(cluster_id, machine_id).await?;
        let request = http::Request::get("/readyz")
            .body(Vec::new())
            .map_err(|error| Fault::internal(format!("a request cannot be built: {error}")))?;
        match call("its readiness", client.request_text(request)).await {
            Ok(_) => Ok(ApiReadiness::Ready),
            Err(fault) => unready(fault),
        }
    }

    /// The key of backups.
    fn backup_key(&self) -> Outcome<MasterKey> {
        self.directory.master_key().ok_or_else(|| Fault::internal("there is no key for backups"))
    }

    /// Where it announces clusters whose nodes changed; others may announce there, too.
    pub fn announcer(&self) -> broadcast::Sender<String> {
        self.changes.clone()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // Entries are replaced as a whole, so the map is consistent after a panic, too.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Through which machine each cluster is asked: the one that answered last, until it does not.
#[derive(Default)]
pub(crate) struct Preferred(Mutex<HashMap<String, String>>);

impl Preferred {
    fn map(&self) -> MutexGuard<'_, HashMap<String, String>> {
        // Entries are replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine of the cluster's control plane.
    ///
    /// # Errors
    /// Unavailable, when it has none.
    pub(crate) fn choose(&self, cluster_id: &str, directory: &dyn Directory) -> Outcome<String> {
        let present = directory.control_planes(cluster_id);
        let preferred = self.map().get(cluster_id).filter(|machine_id| present.contains(machine_id)).cloned();
        preferred
            .or_else(|| present.into_iter().next())
            .ok_or_else(|| Fault::unavailable(format!("cluster {cluster_id} has no control plane machine yet")))
    }

    /// Notes how a machine answered.
    fn note(&self, cluster_id: &str, machine_id: &str, answers: bool) {
        let mut map = self.map();
        if answers {
            map.entry(cluster_id.to_owned()).or_insert_with(|| machine_id.to_owned());
        } else if map.get(cluster_id).is_some_and(|preferred| preferred == machine_id) {
            map.remove(cluster_id);
        }
    }
}

/// What the list that `/readyz` answers says: an API server that only has to end its hooks after the start serves already.
fn unready(mut fault: Fault) -> Outcome<ApiReadiness> {
    const HOOK: &str = "poststarthook/";
    let failing: Vec<&str> =
        fault.message.lines().filter_map(|line| line.split_once("[-]")?.1.split_whitespace().next()).collect();
    if failing.is_empty() {
        return Err(fault);
    }
    let names: Vec<&str> = failing.iter().map(|check| check.trim_start_matches(HOOK)).collect();
    let message = format!("the API server still has to do: {}", names.join(", "));
    if failing.iter().all(|check| check.starts_with(HOOK)) {
        return Ok(ApiReadiness::Starting(message));
    }
    fault.message = message;
    Err(fault)
}

#[async_trait]
impl ClusterAccess for TunnelAccess {
    async fn readiness(&self, cluster: &Cluster) -> Outcome<ApiReadiness> {
        let machine_id = self.preferred.choose(&cluster.id, &*self.directory)?;
        self.ask_readiness(&cluster.id, &machine_id).await
    }

    async fn readiness_on(&self, cluster: &Cluster, machine_id: &str) -> Outcome<ApiReadiness> {
        let readiness = self.ask_readiness(&cluster.id, machine_id).await;
        self.preferred.note(&cluster.id, machine_id, readiness.is_ok());
        readiness
    }

    fn avoid(&self, cluster: &Cluster, machine_id: &str) {
        self.preferred.note(&cluster.id, machine_id, false);
    }

    async fn etcd_members(&self, cluster: &Cluster) -> Outcome<Vec<EtcdMemberView>> {
        members::view(&*self.directory, &self.dialer, &cluster.id).await
    }

    async fn change_etcd(&self, cluster: &Cluster, change: EtcdChange) -> Outcome<()> {
        members::change(&*self.directory, &self.dialer, &cluster.id, change).await
    }

    async fn apply_base(&self, cluster: &Cluster, part: BasePart) -> Outcome<()> {
        let pki = self.directory.pki(&cluster.id).await?;
        let taints = self.directory.taints(&cluster.id);
        let objects = base_manifests(part, cluster, &pki, &self.images, &taints, &self.name_servers)?;
        apply(&self.client(&cluster.id).await?, &objects).await
    }

    async fn dns_ready(&self, cluster: &Cluster) -> Outcome<()> {
        if !is_wanted(cluster, COREDNS_ADDON) {
            return Ok(());
        }
        let slices: Api<EndpointSlice> = Api::namespaced(self.client(&cluster.id).await?, SYSTEM_NAMESPACE);
        let list = call("its DNS endpoints", slices.list(&ListParams::default().labels(DNS_SELECTOR))).await?;
        let is_ready = |slice: &EndpointSlice| {
            slice
                .endpoints
                .iter()
                .any(|endpoint| endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready != Some(false)))
        };
        if list.items.iter().any(is_ready) {
            return Ok(());
        }
        Err(Fault::unavailable(format!("no pod answers for the DNS service of cluster {} yet", cluster.id)))
    }

    async fn default_account_ready(&self, cluster: &Cluster) -> Outcome<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(&cluster.id).await?, "default");
        match call("its default service account", accounts.get_opt("default")).await? {
            Some(_) => Ok(()),
            None => Err(Fault::unavailable("the service account default/default is not there yet")),
        }
    }

    async fn nodes(&self, cluster: &Cluster) -> Outcome<Vec<NodeView>> {
        let nodes: Api<Node> = Api::all(self.client(&cluster.id).await?);
        let list = call("its nodes", nodes.list(&ListParams::default())).await?;
        Ok(list.items.iter().map(nodes::view).collect())
    }

    async fn settle_node(&self, cluster: &Cluster, node: &str, wanted: &NodeWanted) -> Outcome<()> {
        nodes::settle(&self.client(&cluster.id).await?, node, wanted).await
    }

    async fn drain(&self, cluster: &Cluster, node: &str) -> Outcome<DrainOutcome> {
        drain::drain(&self.client(&cluster.id).await?, node).await
    }

    async fn delete_node(&self, cluster: &Cluster, node: &str) -> Outcome<()> {
        let nodes: Api<Node> = Api::all(self.client(&cluster.id).await?);
        match tokio::time::timeout(CALL_TIMEOUT, nodes.delete(node, &DeleteParams::default())).await {
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(answer) => answer.map(drop).map_err(|error| fault(&format!("node {node}"), &error)),
            Err(_) => Err(timed_out(&format!("node {node}"))),
        }
    }

    async fn survey(&self, cluster: &Cluster) -> Outcome<Survey> {
        survey::survey(&self.client(&cluster.id).await?).await
    }

    async fn server_version(&self, cluster: &Cluster, machine_id: &str) -> Outcome<String> {
        survey::server_version(&self.client_on(&cluster.id, machine_id).await?).await
    }

    async fn uncordon(&self, cluster: &Cluster, node: &str) -> Outcome<()> {
        survey::uncordon(&self.client(&cluster.id).await?, node).await
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    fn watch(&self, cluster: &Cluster) {
        let mut entries = self.entries();
        let entry = entries.entry(cluster.id.clone()).or_default();
        if entry.watch.as_ref().is_some_and(|watch| !watch.is_finished()) {
            return;
        }
        let watcher = watch::Watcher {
            cluster_id: cluster.id.clone(),
            directory: Arc::clone(&self.directory),
            dialer: Arc::clone(&self.dialer),
            preferred: Arc::clone(&self.preferred),
            changes: self.changes.clone(),
        };
        entry.watch = Some(tokio::spawn(watcher.run()).abort_handle());
    }

    fn forget(&self, cluster_id: &str) {
        // Dropping the entry ends its watch.
        self.entries().remove(cluster_id);
        self.preferred.map().remove(cluster_id);
    }

    async fn snapshot(&self, cluster: &Cluster, to: &Path) -> Outcome<u64> {
        // The member beside the API server that answers: that one has asked it a moment ago.
        let machine_id = self.preferred.choose(&cluster.id, &*self.directory)?;
        let pki = self.directory.pki(&cluster.id).await?;
        let etcd = EtcdClient::new(Arc::clone(&self.dialer), &machine_id, pki);
        snapshot::save(&etcd, cluster, to, self.backup_key()?).await
    }

    async fn send_snapshot(&self, cluster: &Cluster, machine_id: &str, from: &Path) -> Outcome<()> {
        let key = self.backup_key()?;
        let restore = cluster.restore.as_ref();
        let restore = restore.ok_or_else(|| Fault::internal("the cluster is not put back to a backup"))?;
        restore::send(&*self.dialer, machine_id, restore, from.to_owned(), key).await
    }

    async fn components(&self, cluster: &Cluster) -> Outcome<Vec<ComponentView>> {
        let machine_id = self.preferred.choose(&cluster.id, &*self.directory)?;
        let pki = self.directory.pki(&cluster.id).await?;
        let gateway = Gateway::new(Arc::clone(&self.dialer), &machine_id, pki);
        let (dns, members) = tokio::join!(self.dns_ready(cluster), self.etcd_members(cluster));
        Ok(health::components(&gateway, members, dns.err().map(|fault| fault.message)).await)
    }

    async fn node_conditions(&self, cluster: &Cluster) -> Outcome<Vec<NodeConditionsView>> {
        let nodes: Api<Node> = Api::all(self.client(&cluster.id).await?);
        let list = call("its nodes", nodes.list(&ListParams::default())).await?;
        Ok(list.items.iter().map(health::conditions).collect())
    }
}

/// Waits for one request on `what`, for a bounded time.
pub(crate) async fn call<T>(what: &str, request: impl Future<Output = kube::Result<T>>) -> Outcome<T> {
    match tokio::time::timeout(CALL_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| fault(what, &error)),
        Err(_) => Err(timed_out(what)),
    }
}

pub(crate) fn timed_out(what: &str) -> Fault {
    Fault::unavailable(format!(
        "the cluster's API server did not answer about {what} within {} s",
        CALL_TIMEOUT.as_secs()
    ))
}

/// A refusal of the API server, or that it cannot be reached, in our words.
pub(crate) fn fault(what: &str, error: &kube::Error) -> Fault {
    use sampan_store::model::FaultKind;
    match error {
        kube::Error::Api(status) => match status.code {
            404 => Fault::new(FaultKind::NotFound("Object".into()), format!("{what}: {}", status.message)),
            409 => Fault::new(FaultKind::Conflict, format!("{what}: {}", status.message)),
            429 | 500.. => Fault::unavailable(format!("the cluster's API server on {what}: {}", status.message)),
            _ => Fault::internal(format!("the cluster's API server refused {what}: {}", status.message)),
        },
        other => Fault::unavailable(format!("the cluster's API server cannot be asked about {what}: {}", chain(other))),
    }
}

/// An error with its causes: "service error" alone helps nobody.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
