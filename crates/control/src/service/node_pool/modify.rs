//! ModifyClusterNodePool: what a request leaves out stays; live nodes get new labels and taints only if that is asked for.

use std::sync::Arc;

use sampan_store::{
    Versioned,
    model::{
        Cluster, Fault, Level, Machine, MachineState, MachineWanted, NodeConfig, NodePool, NodePoolState, Outcome,
        Retired, Taint, TaskType, new_task_id,
    },
};
use serde_json::Value;

use super::{
    create::{NODES_PER_REQUEST_MAX, multi_az_policy, refuse_other_type, refuse_other_vpc},
    delete::refuse_protected,
    in_flight::{leaving, refuse_busy},
    options::{MASKED, Naming, NodePoolOptions, SettledOptions, mask_secrets, settle},
    recorded::recorded_parts,
    scale::More,
    wishes::{self, AutoScalingWish, ManagementWish},
    workers::Home,
};
use crate::service::{
    RequestContext, Service,
    change::{About, Change, NewTask, Notice},
    fields, quota, task,
};

/// Most data disks that section 11.3 allows.
const DATA_DISKS_MAX: usize = 10;

/// What is to be changed of a pool.
#[derive(Clone, Debug, Default)]
pub struct NodePoolModify {
    /// `nodepool_info.name`.
    pub name: Option<String>,
    /// `nodepool_info.type`; it stays as it is.
    pub pool_type: Option<String>,
    /// `nodepool_info.resource_group_id`.
    pub resource_group_id: Option<String>,
    /// `scaling_group.vpc_id`; it stays as it is.
    pub vpc_id: Option<String>,
    /// `scaling_group.desired_size`: nodes in total.
    pub desired_size: Option<i64>,
    /// Its machines; `request` says which of the lists were given.
    pub options: NodePoolOptions,
    /// `management`.
    pub management: Option<ManagementWish>,
    /// `auto_scaling`.
    pub auto_scaling: Option<AutoScalingWish>,
    /// `update_nodes`: live nodes get the pool's labels and taints, too.
    pub update_nodes: bool,
    /// The body as sent, without secrets.
    pub request: Value,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

/// What an accepted change is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePoolModified {
    /// The pool.
    pub node_pool_id: String,
    /// The task that carries the change out.
    pub task_id: String,
}

/// A change, checked as far as that needs no records.
struct Wanted {
    name: Option<String>,
    resource_group_id: Option<String>,
    desired_size: Option<u32>,
    options: SettledOptions,
    update_nodes: bool,
    request: Value,
    notices: Vec<Notice>,
}

/// What is there before the change.
#[derive(Clone, Copy)]
struct Present<'a> {
    cluster: &'a Versioned<Cluster>,
    pool: &'a Versioned<NodePool>,
    members: &'a [Arc<Versioned<Machine>>],
}

impl Service {
    /// Changes a pool.
    ///
    /// # Errors
    /// ClusterNotFound, NotFound for the pool, ClusterState while it is being changed or deleted, QuotaExceeded, and
    /// InvalidParameter of what is wrong.
    pub async fn node_pool_modify(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        pool_id: &str,
        input: &NodePoolModify,
    ) -> Outcome<NodePoolModified> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let wanted = self.check_modification(input)?;
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            let pool = change.living_pool(&cluster, pool_id)?;
            let members = change.members(&pool);
            let tasks = change.tasks_of_pool(&pool, &members);
            refuse_busy(&pool, &tasks, &[TaskType::NodepoolUpdate], "changed")?;
            let next = self.modified(change, &cluster, &pool, input, &wanted)?;
            let now = Present { cluster: &cluster, pool: &pool, members: &members };
            self.plan_modification(change, &now, next, &wanted)
        })
        .await
    }

    fn check_modification(&self, input: &NodePoolModify) -> Outcome<Wanted> {
        let name = fields::given(&input.name);
        name.map_or(Ok(()), |name| fields::name("nodepool_info.name", name))?;
        refuse_other_type("nodepool_info.type", &input.pool_type)?;
        let mut given = input.options.clone();
        // What an answer has in place of the password is none.
        given.login.password = given.login.password.filter(|password| password != MASKED);
        if given.data_disks.len() > DATA_DISKS_MAX {
            let text = format!(
                "scaling_group.data_disks: {} disks are given; at most {DATA_DISKS_MAX} are allowed",
                given.data_disks.len()
            );
            return Err(Fault::invalid("scaling_group.data_disks", text));
        }
        // This section allows smaller system disks than creation does.
        given.system_disk.size = given.system_disk.size.filter(|size| !(20..40).contains(size));
        let options = settle(&self.settings, &Naming::Pool(String::new()), &given)?;
        let field = "scaling_group.desired_size";
        let desired_size = input.desired_size.map(|n| fields::number(field, n, 0..=i64::from(u16::MAX))).transpose()?;
        let mut request = input.request.clone();
        mask_secrets(&mut request);
        if options.password.is_none()
            && let Some(password) = request.pointer_mut("/scaling_group/login_password")
        {
            // It stays as it is, and so does what is shown in its place.
            *password = Value::Null;
        }
        let mut notices = options.notices.clone();
        notices.extend(recorded_parts("", &request, &self.settings.containerd_version)?);
        notices.extend(Notice::unknown_fields(&input.unknown_fields));
        Ok(Wanted {
            name: name.map(str::to_owned),
            resource_group_id: input.resource_group_id.clone(),
            desired_size,
            options,
            update_nodes: input.update_nodes,
            request,
            notices,
        })
    }

    /// The pool's record after the change.
    fn modified(
        &self,
        change: &mut Change<'_>,
        cluster: &Cluster,
        pool: &NodePool,
        input: &NodePoolModify,
        wanted: &Wanted,
    ) -> Outcome<NodePool> {
        refuse_other_vpc(fields::given(&input.vpc_id), cluster)?;
        let mut next = pool.clone();
        if let Some(name) = &wanted.name {
            refuse_taken_name(change, pool, name)?;
            next.name.clone_from(name);
        }
        if let Some(group) = &wanted.resource_group_id {
            next.resource_group_id.clone_from(group);
        }
        if let Some(wish) = &input.management {
            next.management = Some(wishes::management("", pool.management.as_ref(), wish)?);
        }
        if let Some(wish) = &input.auto_scaling {
            next.auto_scaling = Some(wishes::auto_scaling("", pool.auto_scaling.as_ref(), wish)?);
        }
        apply_options(&mut next, wanted);
        if next.vswitch_ids != pool.vswitch_ids {
            let home = Home { vpc_id: &cluster.network.vpc_id, zones: &[] };
            change.ensure_vswitches(&self.settings, "scaling_group.vswitch_ids", home, &next.vswitch_ids)?;
        }
        if let Some(password) = &wanted.options.password {
            change.secret(&format!("cluster/{}/node-pool/{}/login-password", cluster.id, pool.id), password);
        }
        merge(&mut next.request, &wanted.request);
        next.updated = change.now;
        Ok(next)
    }

    fn plan_modification(
        &self,
        change: &mut Change<'_>,
        now: &Present<'_>,
        mut next: NodePool,
        wanted: &Wanted,
    ) -> Outcome<NodePoolModified> {
        let Present { cluster, pool, members } = *now;
        let task_id = new_task_id();
        let about = About::NodePool { cluster_id: &cluster.id, id: &pool.id };
        change.event(
            about,
            TaskType::NodepoolUpdate,
            Level::Info,
            "Started",
            format!("Start to change node pool {}", next.name),
        );
        change.notices(about, TaskType::NodepoolUpdate, &wanted.notices);
        let staying: Vec<_> = members.iter().filter(|machine| machine.wanted == MachineWanted::Run).cloned().collect();
        let surplus = surplus(&next, &staying, wanted.desired_size)?;
        let (gone, stay): (Vec<_>, Vec<_>) =
            staying.iter().partition(|machine| surplus.iter().any(|id| *id == machine.id));
        let mut resources: Vec<String> = self.remove_surplus(change, cluster, &next, &gone, &task_id)?;
        let carried = carry(change, pool, &next, &stay, wanted.update_nodes);
        resources.extend(carried);
        let missing = wanted.desired_size.map_or(0, |n| (n as usize).saturating_sub(staying.len()));
        let added = self.add_missing(change, cluster, &next, missing, &task_id)?;
        let scales = !gone.is_empty() || !added.is_empty();
        resources.extend(added);
        let done = resources.is_empty();
        let stages: &[&str] = if scales { &task::POOL_STAGES } else { &task::MODIFY_STAGES };
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster.id,
            task_type: TaskType::NodepoolUpdate,
            stages,
            resources,
            node_pool_id: Some(pool.id.clone()),
            deadline_minutes: self.settings.task_timeout_minutes,
            done,
        });
        if done {
            let text = format!("Changed node pool {}", next.name);
            change.event(about, TaskType::NodepoolUpdate, Level::Info, "Succeeded", text);
        } else {
            next.state = NodePoolState::Updating;
        }
        change.rely_on(cluster);
        change.update(pool, &next);
        Ok(NodePoolModified { node_pool_id: pool.id.clone(), task_id })
    }

    /// Nodes that are missing to the wanted size; answers their machines' ids.
    fn add_missing(
        &self,
        change: &mut Change<'_>,
        cluster: &Versioned<Cluster>,
        next: &NodePool,
        missing: usize,
        task_id: &str,
    ) -> Outcome<Vec<String>> {
        if missing == 0 {
            return Ok(Vec::new());
        }
        let field = "scaling_group.desired_size";
        let count = fields::number(field, i64::try_from(missing).unwrap_or(i64::MAX), 1..=NODES_PER_REQUEST_MAX)?;
        self.check_node_quota(change.ctx, quota::staying_workers(change.store, &cluster.id), missing)?;
        let more = More {
            count,
            instance_types: None,
            vswitch_ids: &[],
            tags: &[],
            notices: Vec::new(),
            timeout_minutes: self.settings.task_timeout_minutes,
        };
        self.plan_new_workers(change, cluster, next, &more, task_id)
    }

    /// Nodes beyond the wanted size are drained and released; answers their machines' ids.
    fn remove_surplus(
        &self,
        change: &mut Change<'_>,
        cluster: &Cluster,
        next: &NodePool,
        gone: &[&Arc<Versioned<Machine>>],
        task_id: &str,
    ) -> Outcome<Vec<String>> {
        let leave: Vec<Machine> = gone.iter().map(|machine| leaving(next, machine, true, task_id)).collect();
        refuse_protected(cluster, &leave)?;
        for (before, machine) in gone.iter().zip(&leave) {
            change.update(before, machine);
        }
        Ok(leave.into_iter().map(|machine| machine.id).collect())
    }
}

fn refuse_taken_name(change: &Change<'_>, pool: &NodePool, name: &str) -> Outcome<()> {
    let others = change.store.list_of::<NodePool>(&pool.cluster_id);
    if others.iter().any(|other| other.id != pool.id && other.name == name && !other.deleting) {
        let text = format!("nodepool_info.name: the cluster has a node pool {name} already");
        return Err(Fault::invalid("nodepool_info.name", text));
    }
    Ok(())
}

/// Lays those options over the pool that the request has.
fn apply_options(next: &mut NodePool, wanted: &Wanted) {
    let (request, options) = (&wanted.request, &wanted.options);
    let has = |group: &str, field: &str| !request[group][field].is_null();
    let has_some = |group: &str, field: &str| request[group][field].as_array().is_some_and(|list| !list.is_empty());
    if has("kubernetes_config", "labels") {
        next.labels.clone_from(&options.labels);
    }
    if has("kubernetes_config", "taints") {
        next.taints.clone_from(&options.taints);
    }
    if has("kubernetes_config", "cpu_policy") {
        next.cpu_policy.clone_from(&options.cpu_policy);
    }
    if has("kubernetes_config", "user_data") {
        next.user_data.clone_from(&options.user_data);
    }
    if has("kubernetes_config", "runtime") {
        next.runtime_requested.clone_from(&options.runtime);
    }
    if has("kubernetes_config", "node_name_mode") {
        next.node_name_mode.clone_from(&options.node_name_mode);
    }
    if let Some(unschedulable) = request["kubernetes_config"]["unschedulable"].as_bool() {
        next.unschedulable = unschedulable;
    }
    if has("scaling_group", "tags") {
        next.tags.clone_from(&options.tags);
    }
    if has_some("scaling_group", "instance_types") {
        next.instance_types.clone_from(&options.instance_types);
    }
    if has_some("scaling_group", "vswitch_ids") {
        next.vswitch_ids.clone_from(&options.vswitch_ids);
    }
    if let Some(policy) = multi_az_policy(request) {
        next.multi_az_policy = policy;
    }
}

/// Lays one JSON over another: objects field by field, everything else as a whole; null says nothing.
fn merge(old: &mut Value, new: &Value) {
    match (old, new) {
        (_, Value::Null) => {}
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in new.iter().filter(|(_, value)| !value.is_null()) {
                merge(old.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (old, new) => old.clone_from(new),
    }
}

/// Which machines go when fewer nodes are wanted: those that are not in service first, then the newest.
fn surplus(next: &NodePool, staying: &[Arc<Versioned<Machine>>], desired: Option<u32>) -> Outcome<Vec<String>> {
    let Some(desired) = desired else { return Ok(Vec::new()) };
    if let Some(scaling) = next.auto_scaling.as_ref().filter(|scaling| scaling.enable) {
        let bounds = scaling.min_instances..=scaling.max_instances;
        if !bounds.contains(&desired) && desired as usize != staying.len() {
            let field = "scaling_group.desired_size";
            let text = format!(
                "{field} {desired} is outside auto_scaling.min_instances {} to max_instances {}",
                bounds.start(),
                bounds.end()
            );
            return Err(Fault::invalid(field, text));
        }
    }
    let too_many = staying.len().saturating_sub(desired as usize);
    let mut order: Vec<&Arc<Versioned<Machine>>> = staying.iter().collect();
    let serves = |machine: &Machine| machine.state == MachineState::Running && machine.not_ready_since.is_none();
    order.sort_by_key(|machine| (serves(machine), std::cmp::Reverse((machine.created, machine.ip))));
    Ok(order.into_iter().take(too_many).map(|machine| machine.id.clone()).collect())
}

/// Carries the change to live nodes, or makes them keep what they have; answers the ids of those that change.
fn carry(
    change: &mut Change<'_>,
    before: &NodePool,
    next: &NodePool,
    stay: &[&Arc<Versioned<Machine>>],
    update_nodes: bool,
) -> Vec<String> {
    let mut changed = Vec::new();
    for machine in stay {
        let after = carried(before, next, machine, update_nodes);
        if after == machine.value {
            continue;
        }
        change.update(machine, &after);
        // A machine that only remembers what it had is no work for anybody.
        if update_nodes {
            changed.push(machine.id.clone());
        }
    }
    changed
}

/// A machine's record after the change of its pool.
fn carried(before: &NodePool, next: &NodePool, machine: &Machine, update_nodes: bool) -> Machine {
    let had = machine.pinned.clone().unwrap_or_else(|| before.node_config());
    let wanted = next.node_config();
    let has = if update_nodes {
        NodeConfig { labels: wanted.labels.clone(), taints: wanted.taints.clone(), ..had.clone() }
    } else {
        had.clone()
    };
    let mut retired = machine.retired.clone().unwrap_or_default();
    retired.labels.extend(had.labels.iter().map(|label| label.key.clone()));
    retired.labels.retain(|key| !has.labels.iter().any(|label| label.key == *key));
    retired.labels.sort();
    retired.labels.dedup();
    retired.taints.extend(had.taints.iter().cloned());
    let same = |a: &Taint, b: &Taint| a.key == b.key && a.effect == b.effect;
    retired.taints.retain(|taint| !has.taints.iter().any(|other| same(taint, other)));
    retired.taints.dedup();
    Machine {
        pinned: (has != wanted).then_some(has),
        retired: (retired != Retired::default()).then_some(retired),
        ..machine.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_laid_over_the_former_one() {
        let mut old = json!({"a": {"x": 1, "y": [1, 2]}, "b": "kept"});
        merge(&mut old, &json!({"a": {"y": [3], "z": null, "w": true}, "b": null, "c": {"d": 1}}));
        assert_eq!(old, json!({"a": {"x": 1, "y": [3], "w": true}, "b": "kept", "c": {"d": 1}}));
        let mut none = Value::Null;
        merge(&mut none, &json!({"a": {"b": 1}}));
        assert_eq!(none, json!({"a": {"b": 1}}));
    }
}
