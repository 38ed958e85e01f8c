//! Clusters and what they consist of, as users ask for them.

use std::sync::Arc;

use sampan_store::{
    Store, Versioned,
    model::{Cluster, ClusterState, ClusterType, Machine, MachineState, Outcome, Timestamp, VSwitch, Vpc},
};

use crate::service::{RequestContext, Service, fields};

/// Which clusters are wanted; empty texts do not filter.
#[derive(Clone, Debug, Default)]
pub struct ClusterFilter {
    /// With this name.
    pub name: Option<String>,
    /// With this id.
    pub cluster_id: Option<String>,
    /// Of this type.
    pub cluster_type: Option<String>,
    /// Of this specification.
    pub spec: Option<String>,
    /// Of this profile.
    pub profile: Option<String>,
    /// In this region.
    pub region_id: Option<String>,
    /// In this resource group.
    pub resource_group_id: Option<String>,
}

/// What kind of resource it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// The API server's load balancer.
    LoadBalancer,
    /// VPC.
    Vpc,
    /// vSwitch.
    VSwitch,
    /// Security group.
    SecurityGroup,
    /// Machine.
    Instance,
}

/// A part of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// Its id.
    pub id: String,
    /// Its name in the cluster.
    pub name: String,
    /// When it was recorded.
    pub created: Timestamp,
    /// `CREATE_COMPLETE`, `CREATE_IN_PROGRESS`, `CREATE_FAILED`, `DELETE_IN_PROGRESS`, `DELETE_FAILED`.
    pub state: &'static str,
    /// Why, in words.
    pub reason: String,
    /// It was made by the service and goes away with the cluster.
    pub made_here: bool,
}

impl Service {
    /// The caller's clusters, newest first.
    ///
    /// # Errors
    /// InvalidParameter of a filter.
    pub fn clusters(&self, ctx: &RequestContext, filter: &ClusterFilter) -> Outcome<Vec<Arc<Versioned<Cluster>>>> {
        if let Some(cluster_type) = fields::given(&filter.cluster_type) {
            let types = ["Kubernetes", "ManagedKubernetes", "Ask", "ExternalKubernetes", "aliyun"];
            fields::one_of("cluster_type", cluster_type, &types)?;
        }
        let mut clusters = self.store.list::<Cluster>();
        clusters.retain(|c| c.account_id == ctx.account_id && c.is_live() && matches(c, filter));
        clusters.sort_by(|a, b| (b.created, &a.id).cmp(&(a.created, &b.id)));
        Ok(clusters)
    }

    /// What a cluster consists of.
    ///
    /// # Errors
    /// ClusterNotFound.
    pub fn cluster_resources(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<Vec<Resource>> {
        let cluster = self.cluster(ctx, cluster_id)?;
        let made = progress(&cluster);
        let part = |kind, id: &str, name: &str, made_here| Resource {
            kind,
            id: id.to_owned(),
            name: name.to_owned(),
            created: cluster.created,
            state: made,
            reason: cluster.state_reason.clone().unwrap_or_else(|| "state changed".into()),
            made_here,
        };
        let network = &cluster.network;
        let prefix = if cluster.is_swarm() { "swarm" } else { "k8s" };
        let name = |what: &str| format!("{prefix}_{what}");
        let mut resources =
            vec![part(ResourceKind::LoadBalancer, &network.api_load_balancer_id, &name("master_slb"), true)];
        if let Some(vpc) = self.store.get::<Vpc>(&network.vpc_id) {
            resources.push(Resource {
                created: vpc.created,
                ..part(ResourceKind::Vpc, &vpc.id, &name("vpc"), vpc.ephemeral)
            });
        }
        for id in &network.vswitch_ids {
            if let Some(vswitch) = self.store.get::<VSwitch>(id) {
                resources.push(Resource {
                    created: vswitch.created,
                    ..part(ResourceKind::VSwitch, id, &name("vswitch"), true)
                });
            }
        }
        let own_group = cluster.request["security_group_id"].as_str() != Some(network.security_group_id.as_str());
        resources.push(part(ResourceKind::SecurityGroup, &network.security_group_id, &name("sg"), own_group));
        let workers = self.store.list_of::<Machine>(cluster_id);
        resources.extend(workers.iter().filter(|m| m.is_node_of(cluster_id)).map(|m| instance(m)));
        Ok(resources)
    }

    /// How many nodes the cluster has.
    pub fn worker_count(&self, cluster_id: &str) -> usize {
        worker_count(&self.store, cluster_id)
    }
}

/// How many nodes the cluster has, leaving ones included: workers, and the masters of a dedicated cluster.
pub fn worker_count(store: &Store, cluster_id: &str) -> usize {
    store.list_of::<Machine>(cluster_id).iter().filter(|m| m.is_node_of(cluster_id)).count()
}

fn matches(cluster: &Cluster, filter: &ClusterFilter) -> bool {
    let is = |wanted: &Option<String>, value: &str| fields::given(wanted).is_none_or(|w| w == value);
    let cluster_type = match cluster.cluster_type {
        ClusterType::ManagedKubernetes => "ManagedKubernetes",
        ClusterType::Kubernetes => "Kubernetes",
        ClusterType::Swarm => "aliyun",
    };
    let profile = if cluster.is_swarm() { "" } else { "Default" };
    is(&filter.name, &cluster.name)
        && is(&filter.cluster_id, &cluster.id)
        && is(&filter.cluster_type, cluster_type)
        && is(&filter.spec, &cluster.spec)
        && is(&filter.profile, profile)
        && is(&filter.region_id, &cluster.region_id)
        && is(&filter.resource_group_id, &cluster.resource_group_id)
}

fn progress(cluster: &Cluster) -> &'static str {
    match cluster.state {
        ClusterState::Initial => "CREATE_IN_PROGRESS",
        ClusterState::Failed => "CREATE_FAILED",
        ClusterState::Deleting => "DELETE_IN_PROGRESS",
        ClusterState::DeleteFailed => "DELETE_FAILED",
        _ => "CREATE_COMPLETE",
    }
}

fn instance(machine: &Machine) -> Resource {
    let state = match machine.state {
        MachineState::Pending | MachineState::Starting => "CREATE_IN_PROGRESS",
        MachineState::Running | MachineState::Stopped | MachineState::Kept => "CREATE_COMPLETE",
        MachineState::Removing => "DELETE_IN_PROGRESS",
        MachineState::Failed => "CREATE_FAILED",
    };
    Resource {
        kind: ResourceKind::Instance,
        id: machine.id.clone(),
        name: machine.instance_name.clone(),
        created: machine.created,
        state,
        reason: machine.error.clone().unwrap_or_else(|| "state changed".into()),
        made_here: true,
    }
}
