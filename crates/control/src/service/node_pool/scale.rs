//! More nodes: for a cluster's default pool, for a named pool, or up to a total.

use sampan_store::{
    Versioned,
    model::{
        Cluster, ClusterState, Fault, FaultKind, Level, MachineWanted, NodePool, NodePoolState, Outcome, Tag, TaskType,
        new_task_id,
    },
};

use super::{
    create::NODES_PER_REQUEST_MAX,
    options::{Naming, NodePoolOptions, SettledOptions, settle, without_repetition},
    workers::{Home, WorkerTemplate},
};
use crate::service::{
    RequestContext, Service,
    change::{About, Change, NewTask, Notice},
    cluster::ClusterTask,
    fields, quota, task,
};

/// Most workers of a cluster by the older editions.
const NODES_MAX: i64 = 300;

/// Nodes to be added to a cluster's default pool.
#[derive(Clone, Debug, Default)]
pub struct ScaleOut {
    /// How many.
    pub count: i64,
    /// What is different from the pool: instance types, vSwitches, tags.
    pub options: NodePoolOptions,
    /// Minutes after which the task fails.
    pub timeout_mins: Option<i64>,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

/// The total that a cluster shall have.
#[derive(Clone, Debug, Default)]
pub struct ScaleTo {
    /// `num_of_nodes`: workers in total; required.
    pub num_of_nodes: Option<i64>,
    /// What is different from the default pool.
    pub options: NodePoolOptions,
    /// Minutes after which the task fails.
    pub timeout_mins: Option<i64>,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

/// A checked wish for more nodes.
pub(crate) struct More<'a> {
    pub(crate) count: u32,
    /// Other than the pool's, if given.
    pub(crate) instance_types: Option<&'a [String]>,
    /// Other than the pool's, unless empty.
    pub(crate) vswitch_ids: &'a [String],
    pub(crate) tags: &'a [Tag],
    pub(in crate::service) notices: Vec<Notice>,
    pub(crate) timeout_minutes: u32,
}

impl<'a> More<'a> {
    fn of(
        count: u32,
        input: &NodePoolOptions,
        settled: &'a SettledOptions,
        notices: Vec<Notice>,
        timeout_minutes: u32,
    ) -> Self {
        // Settled options always have an instance type; what was not asked for is the pool's to say.
        let instance_types = (!input.instance_types.is_empty()).then_some(settled.instance_types.as_slice());
        Self { count, instance_types, vswitch_ids: &settled.vswitch_ids, tags: &settled.tags, notices, timeout_minutes }
    }
}

impl Service {
    /// Adds nodes to the default pool.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, QuotaExceeded, and InvalidParameter of what is wrong.
    pub async fn scale_out(&self, ctx: &RequestContext, cluster_id: &str, input: &ScaleOut) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let count = fields::number("count", input.count, 1..=NODES_PER_REQUEST_MAX)?;
        let options = settle(&self.settings, &Naming::ScaleOut, &input.options)?;
        let timeout_minutes = self.timeout(input.timeout_mins)?;
        let notices = scale_notices(&input.options, &options, &input.unknown_fields);
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            let pool = default_pool(change, &cluster)?;
            refuse_above_maximum(change, &pool, "count", count)?;
            let more = More::of(count, &input.options, &options, notices.clone(), timeout_minutes);
            self.plan_more(change, &cluster, &pool, &more)
        })
        .await
    }

    /// Adds nodes to a named pool.
    ///
    /// # Errors
    /// As [`Service::scale_out`], and NotFound for the pool.
    pub async fn node_pool_scale(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        pool_id: &str,
        count: i64,
    ) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let count = fields::number("count", count, 1..=NODES_PER_REQUEST_MAX)?;
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            let pool = change.living_pool(&cluster, pool_id)?;
            refuse_above_maximum(change, &pool, "count", count)?;
            let timeout_minutes = self.settings.task_timeout_minutes;
            let more =
                More { count, instance_types: None, vswitch_ids: &[], tags: &[], notices: Vec::new(), timeout_minutes };
            self.plan_more(change, &cluster, &pool, &more)
        })
        .await
    }

    /// Adds as many nodes as are missing to a total. Asking for what is there already is done at once; asking for less is
    /// refused, because nobody said which nodes should go.
    ///
    /// # Errors
    /// As [`Service::scale_out`].
    pub async fn scale_to(&self, ctx: &RequestContext, cluster_id: &str, input: &ScaleTo) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let total = fields::number(
            "num_of_nodes",
            input.num_of_nodes.ok_or_else(|| Fault::missing("num_of_nodes"))?,
            0..=NODES_MAX,
        )?;
        let options = settle(&self.settings, &Naming::Worker, &input.options)?;
        let timeout_minutes = self.timeout(input.timeout_mins)?;
        let notices = scale_notices(&input.options, &options, &input.unknown_fields);
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            let present = quota::staying_workers(change.store, &cluster.id);
            let missing = (total as usize).checked_sub(present).ok_or_else(|| {
                let text = format!(
                    "num_of_nodes {total} is fewer than the {present} nodes that the cluster has; this operation only adds nodes, \
                     remove some with POST /clusters/{}/nodes",
                    cluster.id
                );
                Fault::invalid("num_of_nodes", text)
            })?;
            let pool = default_pool(change, &cluster)?;
            let count = u32::try_from(missing).unwrap_or(u32::MAX);
            refuse_above_maximum(change, &pool, "num_of_nodes", count)?;
            let more = More::of(count, &input.options, &options, notices.clone(), timeout_minutes);
            self.plan_more(change, &cluster, &pool, &more)
        })
        .await
    }

    pub(crate) fn timeout(&self, minutes: Option<i64>) -> Outcome<u32> {
        minutes.map_or(Ok(self.settings.task_timeout_minutes), |m| fields::number("timeout_mins", m, 1..=1440))
    }

    /// Records the nodes that are wished for, and their task.
    pub(in crate::service) fn plan_more(
        &self,
        change: &mut Change<'_>,
        cluster: &Versioned<Cluster>,
        pool: &Versioned<NodePool>,
        more: &More<'_>,
    ) -> Outcome<ClusterTask> {
        self.check_node_quota(change.ctx, quota::staying_workers(change.store, &cluster.id), more.count as usize)?;
        let task_id = new_task_id();
        let machines = self.plan_new_workers(change, cluster, pool, more, &task_id)?;
        let done = machines.is_empty();
        // Users of a Swarm cluster see no pools.
        let is_swarm = cluster.is_swarm();
        let (about, place) = if is_swarm {
            (About::Cluster(&cluster.id), format!("cluster {}", cluster.name))
        } else {
            (About::NodePool { cluster_id: &cluster.id, id: &pool.id }, format!("node pool {}", pool.name))
        };
        let text = format!("Start to add {} nodes to {place}", machines.len());
        change.event(about, TaskType::ClusterScaleout, Level::Info, "Started", text);
        change.notices(about, TaskType::ClusterScaleout, &more.notices);
        let used = more.instance_types.unwrap_or(&pool.instance_types).first();
        change.notices(about, TaskType::ClusterScaleout, &self.size_notices(used));
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster.id,
            task_type: TaskType::ClusterScaleout,
            stages: &task::SCALE_OUT_STAGES,
            resources: machines,
            node_pool_id: (!is_swarm).then(|| pool.id.clone()),
            deadline_minutes: more.timeout_minutes,
            done,
        });
        if done {
            change.event(
                about,
                TaskType::ClusterScaleout,
                Level::Info,
                "Succeeded",
                "The cluster has as many nodes as asked for",
            );
            change.rely_on(cluster);
        } else {
            let now = change.now;
            let scaling = change.scaling(cluster);
            change.update(cluster, &scaling);
            change.update(pool, &NodePool { state: NodePoolState::Scaling, updated: now, ..pool.value.clone() });
        }
        Ok(ClusterTask { cluster_id: cluster.id.clone(), task_id })
    }

    pub(super) fn plan_new_workers(
        &self,
        change: &mut Change<'_>,
        cluster: &Cluster,
        pool: &NodePool,
        more: &More<'_>,
        task_id: &str,
    ) -> Outcome<Vec<String>> {
        let network = &cluster.network;
        let own = if pool.vswitch_ids.is_empty() { &network.vswitch_ids } else { &pool.vswitch_ids };
        let home = Home { vpc_id: &network.vpc_id, zones: &[] };
        change.ensure_vswitches(&self.settings, "vswitch_ids", home, more.vswitch_ids)?;
        let vswitch_ids = without_repetition(if more.vswitch_ids.is_empty() { own } else { more.vswitch_ids });
        let template = WorkerTemplate {
            instance_types: more.instance_types.unwrap_or(&pool.instance_types),
            vswitch_ids: &vswitch_ids,
            any_vswitch: more.vswitch_ids.is_empty() && pool.vswitch_ids.is_empty(),
            tags: more.tags,
            source: "ess",
            field: "vswitch_ids",
        };
        let machines = change.add_workers(cluster, pool, &template, more.count, task_id)?;
        Ok(machines.into_iter().map(|m| m.id).collect())
    }
}

/// A pool that scales by itself would only take such nodes away again.
pub(in crate::service) fn refuse_above_maximum(
    change: &Change<'_>,
    pool: &NodePool,
    field: &str,
    more: u32,
) -> Outcome<()> {
    let Some(scaling) = pool.scales() else { return Ok(()) };
    let present = change.members(pool).iter().filter(|machine| machine.wanted == MachineWanted::Run).count();
    if more == 0 || present + more as usize <= scaling.max_instances as usize {
        return Ok(());
    }
    let text = format!(
        "{field}: {more} more are too many: node pool {} has {present} nodes and auto_scaling.max_instances {}; raise that first",
        pool.name, scaling.max_instances
    );
    Err(Fault::invalid(field, text))
}

impl Change<'_> {
    /// The cluster's record as its nodes become more, with what was allocated for them.
    pub(crate) fn scaling(&mut self, cluster: &Cluster) -> Cluster {
        let mut scaling = Cluster { state: ClusterState::Scaling, updated: self.now, ..cluster.clone() };
        if let Some(options) = &mut scaling.swarm {
            options.next_node_index = self.ledger().next_node_index(&cluster.id);
        }
        scaling
    }
}

/// The pool that is made with the cluster.
pub(crate) fn default_pool(change: &Change<'_>, cluster: &Cluster) -> Outcome<std::sync::Arc<Versioned<NodePool>>> {
    let pools = change.store.list_of::<NodePool>(&cluster.id);
    pools.into_iter().find(|p| p.is_default && !p.deleting).ok_or_else(|| {
        Fault::new(
            FaultKind::ClusterState,
            format!("cluster {} has no default node pool; add nodes to a named pool instead", cluster.id),
        )
    })
}

/// What holds for a whole pool cannot differ for some of its nodes; that is said.
fn scale_notices(input: &NodePoolOptions, settled: &SettledOptions, unknown: &[String]) -> Vec<Notice> {
    let mut notices = settled.notices.clone();
    let mut pools_own = Vec::new();
    for (name, there) in [
        ("taints", !input.taints.is_empty()),
        ("cpu_policy", settled.cpu_policy.is_some()),
        ("user_data", settled.user_data.is_some()),
    ] {
        if there {
            pools_own.push(name);
        }
    }
    if !pools_own.is_empty() {
        notices.push(Notice::new(
            "NotApplied",
            format!("the node pool's own values hold for its new nodes: {}", pools_own.join(", ")),
        ));
    }
    notices.extend(Notice::unknown_fields(unknown));
    notices
}
