//! Kubeconfigs: who may get one, for which address, for how long.

use async_trait::async_trait;
use jiff::SignedDuration;
use sampan_store::{
    Batch,
    model::{Cluster, ClusterState, Fault, FaultKind, KubeCredential, Machine, Outcome, Timestamp},
};

use super::{RequestContext, Service, cluster_state_word, fields};
use crate::{
    kubernetes::{ADMINISTRATORS, API_PORT, CertifiedKey, Kubeconfig},
    swarm::MASTER_PORT,
};

/// Group of users that have no rights by themselves.
const USERS: &str = "sampan:users";

/// A client certificate, and the authority of the server that accepts it.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// Client certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PEM.
    pub key_pem: String,
    /// Authority of the API server's certificate, PEM.
    pub ca_pem: String,
    /// End of validity.
    pub expires: Timestamp,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Issues client certificates of clusters.
#[async_trait]
pub trait Credentials: Send + Sync + 'static {
    /// A certificate for that user in those groups, valid until `not_after` at most.
    async fn issue(
        &self,
        cluster: &Cluster,
        user_name: &str,
        groups: &[String],
        not_after: Timestamp,
    ) -> Outcome<Issued>;

    /// Every certificate of the cluster, and of those machines. Unsupported where nobody keeps a list.
    async fn certificates(&self, _cluster: &Cluster, _machines: &[Machine]) -> Outcome<Vec<CertificateView>> {
        Err(Fault::new(FaultKind::Unsupported, "the certificates of clusters of this kind are not listed"))
    }
}

/// A certificate, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateView {
    /// What it is called here.
    pub name: String,
    /// The machine that has it, if it is one machine's own.
    pub machine_id: Option<String>,
    /// Whom it names.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Begin of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// Who uses it, and for what.
    pub consumer: String,
    /// Whether it is an authority's.
    pub is_ca: bool,
    /// When it is issued again by itself.
    pub renewed_at: Option<Timestamp>,
}

/// What kind of kubeconfig is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct KubeconfigWanted {
    /// The address inside the VPC rather than the public one.
    pub private: bool,
    /// Minutes of validity, 15 to 4320; absent: the installation's long validity.
    pub minutes: Option<i64>,
}

/// A kubeconfig.
#[derive(Clone, PartialEq, Eq)]
pub struct KubeconfigIssued {
    /// Its text.
    pub text: String,
    /// Its parts.
    pub issued: Issued,
}

impl Service {
    /// A kubeconfig with a client certificate of the caller's own.
    ///
    /// # Errors
    /// ClusterNotFound; ClusterState while the cluster is not up; InvalidParameter of `TemporaryDurationMinutes`;
    /// NotFound(Kubeconfig) when a public one is wanted of a cluster without public endpoint.
    pub async fn kubeconfig(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        wanted: KubeconfigWanted,
    ) -> Outcome<KubeconfigIssued> {
        let cluster = self.kubernetes_cluster(ctx, cluster_id)?;
        let minutes = wanted.minutes.map(|m| fields::number("TemporaryDurationMinutes", m, 15..=4320)).transpose()?;
        refuse_unless_up(&cluster)?;
        let url = self.api_url(&cluster, wanted.private)?;
        let now = self.now();
        let validity = match minutes {
            Some(minutes) => SignedDuration::from_mins(i64::from(minutes)),
            None => SignedDuration::from_hours(24 * i64::from(self.settings.kubeconfig_days)),
        };
        let not_after =
            now.checked_add(validity).map_err(|e| Fault::internal(format!("the clock shows {now}: {e}")))?;
        let (user, group) = identity(ctx);
        let issued = self.credentials.issue(&cluster, &user, &[group.to_owned()], not_after).await?;
        self.keep_credential(ctx, &cluster, &user, minutes.is_some(), issued.expires).await?;
        let client = CertifiedKey {
            certificate: issued.certificate_pem.clone(),
            key: issued.key_pem.clone(),
            expires: issued.expires,
        };
        let context = format!("{user}-{cluster_id}");
        let text =
            Kubeconfig { url: &url, authority: &issued.ca_pem, client: &client, user: &user, context: &context }.text();
        Ok(KubeconfigIssued { text, issued })
    }

    /// The kubeconfig that the older edition's certificate download answers: the public one if there is a public endpoint,
    /// else the internal one.
    ///
    /// # Errors
    /// As [`Service::kubeconfig`].
    pub async fn cluster_certs(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<KubeconfigIssued> {
        let private = self.cluster(ctx, cluster_id)?.network.api_public_port.is_none();
        self.kubeconfig(ctx, cluster_id, KubeconfigWanted { private, minutes: None }).await
    }

    fn api_url(&self, cluster: &Cluster, private: bool) -> Outcome<String> {
        if private {
            return Ok(internal_url(cluster));
        }
        public_url(&self.settings, cluster).ok_or_else(|| {
            Fault::new(
                FaultKind::NotFound("Kubeconfig".into()),
                format!(
                    "cluster {} has no public endpoint (endpoint_public_access is false); ask with PrivateIpAddress=true, or \
                     change the cluster with api_server_eip true",
                    cluster.id
                ),
            )
        })
    }

    /// Keeps the record of a certificate, so that it can be listed.
    async fn keep_credential(
        &self,
        ctx: &RequestContext,
        cluster: &Cluster,
        user: &str,
        temporary: bool,
        expires: Timestamp,
    ) -> Outcome<()> {
        let kind = if temporary { "temporary" } else { "long" };
        let id = format!("{}/{}/{kind}", cluster.id, ctx.principal);
        let mut batch = Batch::new();
        batch.put(&KubeCredential { id, cluster_id: cluster.id.clone(), user_name: user.to_owned(), expires });
        Ok(self.store.commit(batch).await?)
    }
}

/// Address of the API server, or of a Swarm cluster's master, inside the VPC.
pub fn internal_url(cluster: &Cluster) -> String {
    let port = if cluster.is_swarm() { MASTER_PORT } else { API_PORT };
    format!("https://{}:{port}", cluster.network.api_vip)
}

/// Public address of the API server, or of a Swarm cluster's master, if it has one.
pub fn public_url(settings: &super::Settings, cluster: &Cluster) -> Option<String> {
    cluster.network.api_public_port.map(|port| format!("https://{}", on_host(settings, port)))
}

/// Public address at which the applications of a Swarm cluster take HTTP, if it has one.
pub fn routing_url(settings: &super::Settings, cluster: &Cluster) -> Option<String> {
    cluster.swarm.as_ref()?.routing_public_port.map(|port| format!("http://{}", on_host(settings, port)))
}

/// A port of the host, as it is reached.
pub fn on_host(settings: &super::Settings, port: u16) -> std::net::SocketAddr {
    let address = settings.public_address;
    // What listens on every address is reached on the loopback one.
    let address = if address.is_unspecified() { std::net::Ipv4Addr::LOCALHOST.into() } else { address };
    std::net::SocketAddr::new(address, port)
}

/// User name and group in the certificate: the account itself administers the cluster; its users get the rights that are
/// bound to their name.
fn identity(ctx: &RequestContext) -> (String, &'static str) {
    if ctx.is_root { ("kubernetes-admin".to_owned(), ADMINISTRATORS) } else { (ctx.principal.clone(), USERS) }
}

/// Refuses what only a cluster that has been running can give.
pub(super) fn refuse_unless_up(cluster: &Cluster) -> Outcome<()> {
    if cluster.first_running.is_some() && cluster.deletion.is_none() && cluster.state != ClusterState::Failed {
        return Ok(());
    }
    let state = cluster_state_word(cluster);
    let what = if cluster.is_swarm() { "certificates" } else { "a kubeconfig" };
    Err(Fault::state(format!("cluster {} is {state}; it has {what} once it is running", cluster.id)))
}
