//! Existing machines as nodes of a Kubernetes cluster: those of the inventory ([`Attach`]), and hosts that people bring
//! ([`script`], [`join`]).

pub mod join;
pub mod script;

use std::{collections::HashSet, sync::Arc};

use sampan_store::{
    Versioned,
    model::{
        AttachOptions, Cluster, Fault, FaultKind, Level, Machine, NodePool, NodePoolState, Outcome, Tag, TaskType,
        new_task_id,
    },
};

pub use script::{AttachScript, HostDoor};

use super::{
    RequestContext, Service,
    change::{About, Change, NewTask, Notice},
    cluster::swarm::Attached,
    fields,
    node_pool::{default_pool, merged, refuse_above_maximum},
    quota, task,
};

/// Most machines that one request adds.
const INSTANCES_MAX: usize = 100;
/// Source of machines that existed before.
const SOURCE: &str = "ess_attach";

/// Machines of the inventory that shall be nodes (catalogue 11.6; 2019: 2.6).
#[derive(Clone, Debug, Default)]
pub struct Attach {
    /// `instances`: their ids; required.
    pub instances: Vec<String>,
    /// `nodepool_id`; the default pool when absent.
    pub node_pool_id: Option<String>,
    /// `key_pair`.
    pub key_pair: Option<String>,
    /// `password`.
    pub password: Option<String>,
    /// `format_disk`.
    pub format_disk: Option<bool>,
    /// `release_eip_flag`.
    pub release_eip_flag: Option<bool>,
    /// `keep_instance_name`; true when absent.
    pub keep_instance_name: Option<bool>,
    /// `is_edge_worker`.
    pub is_edge_worker: Option<bool>,
    /// `image_id`.
    pub image_id: Option<String>,
    /// `cpu_policy`.
    pub cpu_policy: Option<String>,
    /// `user_data`, Base64.
    pub user_data: Option<String>,
    /// `rds_instances`.
    pub rds_instances: Vec<String>,
    /// `runtime.name`.
    pub runtime: Option<String>,
    /// `tags`.
    pub tags: Vec<Tag>,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

/// A checked wish.
struct Wish {
    options: AttachOptions,
    tags: Vec<Tag>,
    keep_name: bool,
    notices: Vec<Notice>,
}

/// The ids of `instances`, each once, without blanks.
///
/// # Errors
/// MissingParameter when there is none, InvalidParameter of more than a hundred.
pub(super) fn instance_ids(instances: &[String]) -> Outcome<Vec<&str>> {
    let mut seen = HashSet::new();
    let ids: Vec<&str> = instances.iter().map(|id| id.trim()).filter(|id| !id.is_empty() && seen.insert(*id)).collect();
    if ids.is_empty() {
        return Err(Fault::missing("instances"));
    }
    if ids.len() > INSTANCES_MAX {
        let text = format!("instances: {} are given; at most {INSTANCES_MAX} are allowed", ids.len());
        return Err(Fault::invalid("instances", text));
    }
    Ok(ids)
}

impl Service {
    /// Makes machines of the inventory nodes. Those that cannot be are named one by one; when none can be, nothing is done.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, QuotaExceeded, Unsupported; NotFound for the pool; and InvalidParameter of what is
    /// wrong.
    pub async fn attach(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        input: &Attach,
    ) -> Outcome<(Vec<Attached>, String)> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let ids = instance_ids(&input.instances)?;
        let wish = check(input)?;
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            let pool = pool_of(change, &cluster, fields::given(&input.node_pool_id))?;
            self.plan_attach(change, &cluster, &pool, &ids, &wish)
        })
        .await
    }

    fn plan_attach(
        &self,
        change: &mut Change<'_>,
        cluster: &Versioned<Cluster>,
        pool: &Versioned<NodePool>,
        ids: &[&str],
        wish: &Wish,
    ) -> Outcome<(Vec<Attached>, String)> {
        let found: Vec<(&str, Outcome<Arc<Versioned<Machine>>>)> =
            ids.iter().map(|id| (*id, attachable(change, cluster, id))).collect();
        let usable: Vec<_> = found.iter().filter_map(|(_, machine)| machine.as_ref().ok()).cloned().collect();
        if usable.is_empty() {
            let first = found.into_iter().find_map(|(_, machine)| machine.err());
            return Err(first.unwrap_or_else(|| Fault::missing("instances")));
        }
        refuse_above_maximum(change, pool, "instances", u32::try_from(usable.len()).unwrap_or(u32::MAX))?;
        self.check_node_quota(change.ctx, quota::staying_workers(change.store, &cluster.id), usable.len())?;
        let task_id = new_task_id();
        for machine in &usable {
            let membership = change.worker_membership(cluster, pool, machine.ip, &task_id)?;
            let name = if wish.keep_name { machine.instance_name.clone() } else { system_name(&cluster.id) };
            let attached = Machine {
                tags: merged(&machine.tags, &wish.tags),
                source: SOURCE.to_owned(),
                instance_name: name,
                attached: (wish.options != AttachOptions::default()).then(|| wish.options.clone()),
                ..machine.joining(membership)
            };
            change.claim(&machine.id);
            change.update(machine, &attached);
            change.log(&cluster.id, format!("machine {} ({}) is added to the cluster", machine.id, machine.ip));
        }
        let resources = usable.iter().map(|machine| machine.id.clone()).collect();
        let text = format!("Start to add {} existing instances to node pool {}", usable.len(), pool.name);
        let begun = Begun { cluster, pool, task_id: &task_id, resources, text, notices: &wish.notices };
        self.begin_attach(change, begun);
        let answer =
            found.into_iter().map(|(id, machine)| Attached { instance_id: id.to_owned(), refusal: machine.err() });
        Ok((answer.collect(), task_id))
    }

    /// What is the same however machines come: the task, its event, the states.
    fn begin_attach(&self, change: &mut Change<'_>, begun: Begun<'_>) {
        let (cluster, pool) = (begun.cluster, begun.pool);
        let about = About::NodePool { cluster_id: &cluster.id, id: &pool.id };
        change.event(about, TaskType::ClusterAttach, Level::Info, "Started", begun.text);
        change.notices(about, TaskType::ClusterAttach, begun.notices);
        change.task(NewTask {
            id: begun.task_id,
            cluster_id: &cluster.id,
            task_type: TaskType::ClusterAttach,
            stages: &task::SCALE_OUT_STAGES,
            resources: begun.resources,
            node_pool_id: Some(pool.id.clone()),
            deadline_minutes: self.settings.task_timeout_minutes,
            done: false,
        });
        let scaling = change.scaling(cluster);
        change.update(cluster, &scaling);
        let now = change.now;
        change.update(pool, &NodePool { state: NodePoolState::Scaling, updated: now, ..pool.value.clone() });
    }
}

/// Machines that begin to be added.
struct Begun<'a> {
    cluster: &'a Versioned<Cluster>,
    pool: &'a Versioned<NodePool>,
    task_id: &'a str,
    /// Their ids.
    resources: Vec<String>,
    /// What the event says.
    text: String,
    notices: &'a [Notice],
}

/// The name of instances that do not keep theirs (catalogue 11.7).
fn system_name(cluster_id: &str) -> String {
    format!("worker-k8s-for-cs-{cluster_id}")
}

/// The pool that a request names, or the default one.
fn pool_of(change: &Change<'_>, cluster: &Cluster, id: Option<&str>) -> Outcome<Arc<Versioned<NodePool>>> {
    let Some(id) = id else { return default_pool(change, cluster) };
    change.living_pool(cluster, id)
}

fn check(input: &Attach) -> Outcome<Wish> {
    if input.is_edge_worker == Some(true) {
        let text = "is_edge_worker must be false: this installation has no edge clusters";
        return Err(Fault::invalid("is_edge_worker", text));
    }
    if let Some(password) = fields::given(&input.password) {
        fields::password("password", password)?;
    }
    if let Some(policy) = fields::given(&input.cpu_policy) {
        fields::one_of("cpu_policy", policy, &["none", "static"])?;
    }
    let user_data = fields::given(&input.user_data).map(|text| fields::user_data("user_data", text)).transpose()?;
    fields::tags("tags", &input.tags, 64)?;
    let mut notices = Vec::new();
    let mut unused = Vec::new();
    for (name, given) in
        [("key_pair", fields::given(&input.key_pair).is_some()), ("password", fields::given(&input.password).is_some())]
    {
        unused.extend(given.then_some(name));
    }
    if !unused.is_empty() {
        let text = format!("recorded without effect: {} (machines run no SSH server)", unused.join(", "));
        notices.push(Notice::new("NotApplied", text));
    }
    if let Some(image) = fields::given(&input.image_id) {
        let text = format!("image_id {image} is recorded without effect: nodes are made of the node image");
        notices.push(Notice::new("ImageReplaced", text));
    }
    if !input.rds_instances.is_empty() {
        notices.push(Notice::new("NotApplied", "rds_instances is recorded without effect: there are no RDS instances"));
    }
    if input.release_eip_flag == Some(true) {
        let text = "release_eip_flag has no effect: machines of the inventory have no public addresses";
        notices.push(Notice::new("NotApplied", text));
    }
    if input.format_disk == Some(true) {
        let text =
            "format_disk has no effect: machines of the inventory have no data disks; containers' data is on volumes";
        notices.push(Notice::new("NotApplied", text));
    }
    if fields::given(&input.runtime).is_some_and(|name| !name.eq_ignore_ascii_case("containerd")) {
        notices.push(Notice::new("RuntimeReplaced", "runtime: nodes run containerd"));
    }
    notices.extend(Notice::unknown_fields(&input.unknown_fields));
    let mut options = AttachOptions { cpu_policy: fields::given(&input.cpu_policy).map(str::to_owned), user_data };
    let mut tags = input.tags.clone();
    // Documented as not supported together; the published example has them together.
    let differs = options != AttachOptions::default() || !tags.is_empty();
    if fields::given(&input.node_pool_id).is_some() && differs {
        let text = "with nodepool_id the pool's own values hold; not applied: cpu_policy, user_data, tags";
        notices.push(Notice::new("NotApplied", text));
        options = AttachOptions::default();
        tags = Vec::new();
    }
    Ok(Wish { options, tags, keep_name: input.keep_instance_name.unwrap_or(true), notices })
}

/// A machine of the inventory that can be a node of the cluster.
fn attachable(change: &Change<'_>, cluster: &Cluster, id: &str) -> Outcome<Arc<Versioned<Machine>>> {
    let machine = change
        .store
        .get::<Machine>(id)
        .filter(|machine| machine.account_id == cluster.account_id)
        // The hidden machines of clusters are nobody's instances.
        .filter(|machine| machine.membership.as_ref().is_none_or(|member| member.node_pool_id.is_some()))
        .ok_or_else(|| Fault::not_found("Machine", id))?;
    if let Some(other) = machine.cluster_id() {
        return Err(Fault::new(FaultKind::ClusterState, format!("instance {id} is in the cluster {other} already")));
    }
    if machine.host.is_some() {
        let text = format!(
            "instances: {id} is a bare host, which only its owner can log in to: run the line on it that POST \
             /clusters/{}/attachscript answers",
            cluster.id
        );
        return Err(Fault::invalid("instances", text));
    }
    if machine.vpc_id != cluster.network.vpc_id {
        let text = format!(
            "instances: {id} is in the VPC {}, the cluster in {}; add instances of the cluster's VPC",
            machine.vpc_id, cluster.network.vpc_id
        );
        return Err(Fault::invalid("instances", text));
    }
    Ok(machine)
}
