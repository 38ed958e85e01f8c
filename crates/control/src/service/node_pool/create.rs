//! Making a node pool: with its cluster, or later.

use sampan_store::{
    Versioned,
    model::{
        AutoScaling, Cluster, ClusterState, Fault, Level, Management, MultiAzPolicy, NodePool, NodePoolState, Outcome,
        TaskType, new_node_pool_id, new_task_id,
    },
};
use serde_json::Value;

use super::{
    options::{Naming, NodePoolOptions, SettledOptions, mask_secrets, settle, without_repetition},
    recorded::recorded_parts,
    wishes::{self, AutoScalingWish, ManagementWish},
    workers::{Home, WorkerTemplate},
};
use crate::service::{
    RequestContext, Service, Settings,
    change::{About, Change, NewTask, Notice},
    fields, quota, task,
};

/// Most nodes that one request adds to a pool.
pub(super) const NODES_PER_REQUEST_MAX: i64 = 500;

/// A node pool to be made.
#[derive(Clone, Debug, Default)]
pub struct NodePoolCreate {
    /// `nodepool_info.name`; required.
    pub name: Option<String>,
    /// `nodepool_info.type`: `ess` (default).
    pub pool_type: Option<String>,
    /// `nodepool_info.resource_group_id`.
    pub resource_group_id: Option<String>,
    /// `count`.
    pub count: Option<i64>,
    /// `scaling_group.desired_size`.
    pub desired_size: Option<i64>,
    /// `scaling_group.vpc_id`, which must be the cluster's.
    pub vpc_id: Option<String>,
    /// Its machines.
    pub options: NodePoolOptions,
    /// `management`.
    pub management: Option<ManagementWish>,
    /// `auto_scaling`.
    pub auto_scaling: Option<AutoScalingWish>,
    /// The body as sent, without secrets.
    pub request: Value,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

/// Ids of a new pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePoolCreated {
    /// Pool.
    pub node_pool_id: String,
    /// Task that brings its nodes.
    pub task_id: String,
}

/// A pool to be made, checked as far as that needs no records.
#[derive(Clone, Debug)]
pub(crate) struct NewPool {
    pub(crate) name: String,
    pub(crate) resource_group_id: String,
    pub(crate) count: u32,
    pub(crate) vpc_id: Option<String>,
    pub(crate) options: SettledOptions,
    pub(crate) management: Option<Management>,
    pub(crate) auto_scaling: Option<AutoScaling>,
    /// Field of the vSwitches, for refusals.
    pub(crate) vswitch_field: String,
    pub(crate) request: Value,
    pub(crate) notices: Vec<Notice>,
}

/// There are only pools of machines that are made here.
pub(super) fn refuse_other_type(field: &str, given: &Option<String>) -> Outcome<()> {
    match fields::given(given).unwrap_or("ess") {
        "ess" => Ok(()),
        other => Err(Fault::invalid(field, format!("{field} {other:?} is not supported by this release; use ess"))),
    }
}

/// A pool is where its cluster is.
pub(super) fn refuse_other_vpc(given: Option<&str>, cluster: &Cluster) -> Outcome<()> {
    match given.filter(|id| *id != cluster.network.vpc_id) {
        None => Ok(()),
        Some(vpc_id) => {
            let text = format!("scaling_group.vpc_id {vpc_id} is not the cluster's VPC {}", cluster.network.vpc_id);
            Err(Fault::invalid("scaling_group.vpc_id", text))
        }
    }
}

/// Checks a pool of a request; `prefix` is where it stands in the body.
pub(crate) fn check_pool(settings: &Settings, prefix: &str, input: &NodePoolCreate) -> Outcome<NewPool> {
    let at = |field: &str| format!("{prefix}{field}");
    let name = fields::required(&at("nodepool_info.name"), input.name.as_deref())?;
    fields::name(&at("nodepool_info.name"), name)?;
    refuse_other_type(&at("nodepool_info.type"), &input.pool_type)?;
    let count = match (input.count, input.desired_size) {
        (Some(count), Some(desired)) if count != desired && desired != 0 => {
            let field = at("scaling_group.desired_size");
            return Err(Fault::invalid(
                &field,
                format!("{field} {desired} and count {count} differ; give one of them"),
            ));
        }
        (Some(count), _) => fields::number(&at("count"), count, 0..=NODES_PER_REQUEST_MAX)?,
        (None, desired) => {
            fields::number(&at("scaling_group.desired_size"), desired.unwrap_or(0), 0..=NODES_PER_REQUEST_MAX)?
        }
    };
    let management = input.management.as_ref().map(|wish| wishes::management(prefix, None, wish)).transpose()?;
    let auto_scaling = input.auto_scaling.as_ref().map(|wish| wishes::auto_scaling(prefix, None, wish)).transpose()?;
    let naming = Naming::Pool(prefix.to_owned());
    let options = settle(settings, &naming, &input.options)?;
    let mut request = input.request.clone();
    mask_secrets(&mut request);
    let mut notices = options.notices.clone();
    notices.extend(recorded_parts(prefix, &request, &settings.containerd_version)?);
    notices.extend(Notice::unknown_fields(&input.unknown_fields));
    Ok(NewPool {
        name: name.to_owned(),
        resource_group_id: fields::given(&input.resource_group_id).unwrap_or_default().to_owned(),
        count: first_nodes(&at, count, auto_scaling.as_ref())?,
        vpc_id: fields::given(&input.vpc_id).map(str::to_owned),
        vswitch_field: naming.name("scaling_group", "vswitch_ids"),
        options,
        management,
        auto_scaling,
        request,
        notices,
    })
}

/// How many nodes the pool begins with: a pool that scales by itself has at least its fewest.
fn first_nodes(at: &impl Fn(&str) -> String, count: u32, scaling: Option<&AutoScaling>) -> Outcome<u32> {
    let Some(scaling) = scaling.filter(|scaling| scaling.enable) else { return Ok(count) };
    if count > scaling.max_instances {
        let field = at("count");
        let text = format!("{field} {count} is above auto_scaling.max_instances {}", scaling.max_instances);
        return Err(Fault::invalid(&field, text));
    }
    Ok(count.max(scaling.min_instances))
}

/// Which vSwitch new machines get; without a word they are spread.
pub(super) fn multi_az_policy(request: &Value) -> Option<MultiAzPolicy> {
    match request["scaling_group"]["multi_az_policy"].as_str().unwrap_or_default() {
        "PRIORITY" => Some(MultiAzPolicy::Priority),
        "COST_OPTIMIZED" => Some(MultiAzPolicy::CostOptimized),
        "BALANCE" => Some(MultiAzPolicy::Balance),
        _ => None,
    }
}

impl Change<'_> {
    /// Records a pool of a cluster. Its vSwitches must exist already.
    pub(crate) fn add_pool(
        &mut self,
        cluster: &Cluster,
        new: &NewPool,
        vswitch_ids: Vec<String>,
        is_default: bool,
    ) -> NodePool {
        let pool = NodePool {
            id: new_node_pool_id(),
            cluster_id: cluster.id.clone(),
            name: new.name.clone(),
            is_default,
            state: if new.count > 0 { NodePoolState::Scaling } else { NodePoolState::Active },
            created: self.now,
            updated: self.now,
            region_id: cluster.region_id.clone(),
            instance_types: new.options.instance_types.clone(),
            vswitch_ids,
            labels: new.options.labels.clone(),
            taints: new.options.taints.clone(),
            tags: new.options.tags.clone(),
            cpu_policy: new.options.cpu_policy.clone(),
            user_data: new.options.user_data.clone(),
            runtime_requested: new.options.runtime.clone(),
            resource_group_id: new.resource_group_id.clone(),
            request: new.request.clone(),
            deleting: false,
            management: new.management.clone(),
            auto_scaling: new.auto_scaling.clone(),
            multi_az_policy: multi_az_policy(&new.request).unwrap_or_default(),
            node_name_mode: new.options.node_name_mode.clone(),
            unschedulable: new.request["kubernetes_config"]["unschedulable"] == true,
            deletion_task_id: None,
        };
        if let Some(password) = &new.options.password {
            self.secret(&format!("cluster/{}/node-pool/{}/login-password", cluster.id, pool.id), password);
        }
        self.create(&pool);
        pool
    }
}

impl Service {
    /// Makes a node pool and its first nodes.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, QuotaExceeded, and InvalidParameter of what is wrong.
    pub async fn node_pool_create(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        input: &NodePoolCreate,
    ) -> Outcome<NodePoolCreated> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let new = check_pool(&self.settings, "", input)?;
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            self.plan_pool(change, &cluster, &new)
        })
        .await
    }

    fn plan_pool(
        &self,
        change: &mut Change<'_>,
        cluster: &Versioned<Cluster>,
        new: &NewPool,
    ) -> Outcome<NodePoolCreated> {
        self.check_node_pool_quota(change.ctx, quota::staying_pools(change.store, &cluster.id), 1)?;
        self.check_node_quota(change.ctx, quota::staying_workers(change.store, &cluster.id), new.count as usize)?;
        if change.store.list_of::<NodePool>(&cluster.id).iter().any(|p| p.name == new.name && !p.deleting) {
            return Err(Fault::invalid(
                "nodepool_info.name",
                format!("nodepool_info.name: the cluster has a node pool {} already", new.name),
            ));
        }
        refuse_other_vpc(new.vpc_id.as_deref(), cluster)?;
        let home = Home { vpc_id: &cluster.network.vpc_id, zones: &[] };
        change.ensure_vswitches(&self.settings, &new.vswitch_field, home, &new.options.vswitch_ids)?;
        let pool = change.add_pool(cluster, new, new.options.vswitch_ids.clone(), false);
        let task_id = new_task_id();
        let about = About::NodePool { cluster_id: &cluster.id, id: &pool.id };
        let text = format!("Start to create node pool {} with {} nodes", pool.name, new.count);
        change.event(about, TaskType::NodepoolUpdate, Level::Info, "Started", text);
        change.notices(about, TaskType::NodepoolUpdate, &new.notices);
        change.notices(about, TaskType::NodepoolUpdate, &self.size_notices(pool.instance_types.first()));
        let vswitches = without_repetition(if pool.vswitch_ids.is_empty() {
            &cluster.network.vswitch_ids
        } else {
            &pool.vswitch_ids
        });
        let template = WorkerTemplate {
            instance_types: &pool.instance_types,
            vswitch_ids: &vswitches,
            any_vswitch: pool.vswitch_ids.is_empty(),
            tags: &[],
            source: "ess",
            field: &new.vswitch_field,
        };
        let machines = change.add_workers(cluster, &pool, &template, new.count, &task_id)?;
        let done = machines.is_empty();
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster.id,
            task_type: if done { TaskType::NodepoolUpdate } else { TaskType::ClusterScaleout },
            stages: &task::SCALE_OUT_STAGES,
            resources: machines.into_iter().map(|m| m.id).collect(),
            node_pool_id: Some(pool.id.clone()),
            deadline_minutes: self.settings.task_timeout_minutes,
            done,
        });
        if done {
            change.event(
                about,
                TaskType::NodepoolUpdate,
                Level::Info,
                "Succeeded",
                format!("Created node pool {}", pool.name),
            );
            change.rely_on(cluster);
        } else {
            let scaling = Cluster { state: ClusterState::Scaling, updated: change.now, ..cluster.value.clone() };
            change.update(cluster, &scaling);
        }
        Ok(NodePoolCreated { node_pool_id: pool.id, task_id })
    }
}
