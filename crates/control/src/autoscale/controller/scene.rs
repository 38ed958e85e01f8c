//! What is recorded of a cluster, as far as it matters here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sampan_store::{
    Store, Versioned,
    model::{AutoscalingConfig, Cluster, ClusterState, Machine, MachineWanted, NodePool, VSwitch},
};

use super::scales;

/// A cluster with pools that scale by themselves.
pub(super) struct Scene {
    pub(super) cluster: Arc<Versioned<Cluster>>,
    pub(super) config: AutoscalingConfig,
    /// All its pools.
    pub(super) pools: Vec<Arc<Versioned<NodePool>>>,
    pub(super) machines: Vec<Arc<Versioned<Machine>>>,
    /// Zones by vSwitch.
    pub(super) zones: BTreeMap<String, String>,
}

impl Scene {
    /// Whether the cluster is one that scales by itself.
    pub(super) fn exists(store: &Store, cluster_id: &str) -> bool {
        let alive = store.get::<Cluster>(cluster_id).is_some_and(|cluster| {
            !cluster.is_swarm()
                && cluster.deletion.is_none()
                && !matches!(cluster.state, ClusterState::Deleted | ClusterState::Failed | ClusterState::Stopped)
        });
        alive && scales(store, cluster_id)
    }

    pub(super) fn load(store: &Store, cluster_id: &str) -> Option<Self> {
        if !Self::exists(store, cluster_id) {
            return None;
        }
        let cluster = store.get::<Cluster>(cluster_id)?;
        let config = cluster.autoscaling.clone().unwrap_or_default();
        let switches = store.list_of::<VSwitch>(&cluster.network.vpc_id);
        Some(Self {
            zones: switches.iter().map(|vswitch| (vswitch.id.clone(), vswitch.zone_id.clone())).collect(),
            pools: store.list_of(cluster_id),
            machines: store.list_of(cluster_id),
            config,
            cluster,
        })
    }

    /// Whether nodes may be added and removed now.
    pub(super) fn is_open(&self) -> bool {
        self.cluster.is_settled() || self.cluster.state == ClusterState::Scaling
    }

    pub(super) fn interval(&self) -> Duration {
        Duration::from_secs(self.config.scan_interval_seconds.max(1).into())
    }

    /// Pools that scale by themselves.
    pub(super) fn scaling(&self) -> impl Iterator<Item = &NodePool> {
        self.pools.iter().map(|pool| &pool.value).filter(|pool| pool.scales().is_some())
    }

    pub(super) fn pool(&self, id: &str) -> Option<&NodePool> {
        self.pools.iter().map(|pool| &pool.value).find(|pool| pool.id == id)
    }

    pub(super) fn pool_of(&self, machine: &Machine) -> Option<&NodePool> {
        self.pool(machine.membership.as_ref()?.node_pool_id.as_deref()?)
    }

    /// Machines of the pool that are to stay.
    pub(super) fn staying<'a>(&'a self, pool: &'a NodePool) -> impl Iterator<Item = &'a Machine> {
        self.machines.iter().map(|machine| &machine.value).filter(|machine| {
            machine.wanted == MachineWanted::Run
                && machine.membership.as_ref().is_some_and(|member| member.node_pool_id.as_ref() == Some(&pool.id))
        })
    }

    /// Nodes that the pool may still get.
    pub(super) fn room(&self, pool: &NodePool) -> usize {
        let most = pool.scales().map_or(0, |scaling| scaling.max_instances) as usize;
        most.saturating_sub(self.staying(pool).count())
    }

    /// vSwitches of the pool in that zone.
    pub(super) fn vswitches_in(&self, pool: &NodePool, zone: &str) -> Vec<String> {
        let own = if pool.vswitch_ids.is_empty() { &self.cluster.network.vswitch_ids } else { &pool.vswitch_ids };
        own.iter().filter(|id| self.zones.get(*id).is_some_and(|other| other == zone)).cloned().collect()
    }
}
