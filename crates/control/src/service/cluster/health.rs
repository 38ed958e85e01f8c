//! How a cluster is: what the controllers noted of its parts, and what its nodes say now.

use std::{future::Future, sync::Arc, time::Duration};

use sampan_store::{
    Versioned,
    model::{Cluster, Condition, Health, Machine, Outcome},
};

use crate::{
    ports::{ClusterAccess, EtcdMemberView, NodeConditionView, NodeConditionsView},
    service::{RequestContext, Service, credentials::CertificateView},
};

/// A cluster that does not answer within this time is described from records.
const ASK_MAX: Duration = Duration::from_secs(8);

/// How a cluster is.
#[derive(Clone, Debug)]
pub struct ClusterHealth {
    /// The cluster.
    pub cluster: Arc<Versioned<Cluster>>,
    /// The worst of all.
    pub health: Health,
    /// Its parts.
    pub components: Vec<Condition>,
    /// Members of its etcd.
    pub etcd_members: Vec<EtcdMemberView>,
    /// Its nodes.
    pub nodes: Vec<NodeHealth>,
}

/// How a node is.
#[derive(Clone, Debug)]
pub struct NodeHealth {
    /// Its machine.
    pub machine: Arc<Versioned<Machine>>,
    /// In one word.
    pub health: Health,
    /// New pods keep away from it.
    pub unschedulable: bool,
    /// Its conditions.
    pub conditions: Vec<NodeConditionView>,
}

impl Service {
    /// How a cluster is, its nodes included.
    ///
    /// # Errors
    /// ClusterNotFound.
    pub async fn cluster_health(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<ClusterHealth> {
        let cluster = self.cluster(ctx, cluster_id)?;
        let (members, conditions) = match self.access.get() {
            Some(access) if cluster.first_running.is_some() && cluster.power.is_none() => {
                ask(&**access, &cluster).await
            }
            _ => (Vec::new(), None),
        };
        let machines = self.store.list_of::<Machine>(cluster_id);
        let visible = machines.into_iter().filter(|machine| machine.is_node_of(cluster_id));
        let nodes: Vec<NodeHealth> = visible.map(|machine| node(machine, conditions.as_deref())).collect();
        let worst = cluster.conditions.iter().map(|condition| condition.health).chain(nodes.iter().map(|n| n.health));
        let health = worst.max_by_key(|health| badness(*health)).unwrap_or(Health::Unknown);
        Ok(ClusterHealth { components: cluster.conditions.clone(), cluster, health, etcd_members: members, nodes })
    }

    /// Every certificate of a cluster and its nodes, without keys.
    ///
    /// # Errors
    /// ClusterNotFound; Unsupported for a Swarm cluster.
    pub async fn cluster_certificates(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<Vec<CertificateView>> {
        let cluster = self.kubernetes_cluster(ctx, cluster_id)?;
        let machines = self.store.list_of::<Machine>(cluster_id);
        let machines: Vec<Machine> = machines.iter().map(|machine| machine.value.clone()).collect();
        self.credentials.certificates(&cluster, &machines).await
    }
}

async fn ask(access: &dyn ClusterAccess, cluster: &Cluster) -> (Vec<EtcdMemberView>, Option<Vec<NodeConditionsView>>) {
    let (members, conditions) =
        tokio::join!(limited(access.etcd_members(cluster)), limited(access.node_conditions(cluster)));
    (members.unwrap_or_default(), conditions)
}

async fn limited<T>(call: impl Future<Output = Outcome<T>> + Send) -> Option<T> {
    tokio::time::timeout(ASK_MAX, call).await.ok()?.ok()
}

fn node(machine: Arc<Versioned<Machine>>, all: Option<&[NodeConditionsView]>) -> NodeHealth {
    let name = machine.membership.as_ref().map_or("", |member| &member.node_name);
    let found = all.and_then(|all| all.iter().find(|view| view.node == name));
    let Some(found) = found else {
        let conditions = vec![recorded(&machine)];
        // That nobody can be asked says nothing about the node; that it is not registered does.
        let health = if all.is_some() { Health::Unhealthy } else { Health::Unknown };
        return NodeHealth { machine, health, unschedulable: false, conditions };
    };
    let conditions = found.conditions.clone();
    let is_ready = conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True");
    let is_pressed = conditions.iter().any(|condition| condition.kind != "Ready" && condition.status == "True");
    let health = match (is_ready, is_pressed || found.unschedulable) {
        (true, false) => Health::Healthy,
        (true, true) => Health::Degraded,
        (false, _) => Health::Unhealthy,
    };
    NodeHealth { machine, health, unschedulable: found.unschedulable, conditions }
}

/// What the record says, when the cluster does not.
fn recorded(machine: &Machine) -> NodeConditionView {
    let status = match machine.node_status.as_deref() {
        Some("Ready") => "True",
        Some("NotReady") => "False",
        _ => "Unknown",
    };
    NodeConditionView {
        kind: "Ready".to_owned(),
        status: status.to_owned(),
        reason: "LastSeen".to_owned(),
        message: machine.error.clone().unwrap_or_else(|| "as seen last by the server".to_owned()),
        since: machine.not_ready_since,
    }
}

fn badness(health: Health) -> u8 {
    match health {
        Health::Healthy => 0,
        Health::Unknown => 1,
        Health::Degraded => 2,
        Health::Unhealthy => 3,
    }
}
