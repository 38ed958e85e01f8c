//! Nodes of a Swarm cluster: more of them, existing machines as nodes, one less, one made from scratch.

use std::{net::Ipv4Addr, sync::Arc};

use sampan_store::{
    Versioned,
    model::{Cluster, Fault, FaultKind, Level, Machine, MachineState, MachineWanted, Outcome, TaskType, new_task_id},
};

use super::{check, image};
use crate::service::{
    RequestContext, Service,
    attach::instance_ids,
    change::{About, Change, NewTask, Notice},
    cluster::ClusterTask,
    fields, instance_type,
    node::NodesRemove,
    node_pool::{More, WorkerTemplate, default_pool},
    quota, task,
};

/// Most nodes that a request can name.
const SIZE_MAX: i64 = 1000;

/// The total that a cluster shall have.
#[derive(Clone, Debug, Default)]
pub struct SwarmScale {
    /// `size`: nodes in total; required.
    pub size: Option<i64>,
    /// `instance_type` of the new ones; the cluster's own when absent.
    pub instance_type: Option<String>,
    /// `password`.
    pub password: Option<String>,
    /// `ecs_image_id`.
    pub ecs_image_id: Option<String>,
    /// `data_disk_category`.
    pub data_disk_category: Option<String>,
    /// `data_disk_size`.
    pub data_disk_size: Option<i64>,
    /// `io_optimized`.
    pub io_optimized: Option<String>,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

/// Machines of the inventory that shall be nodes.
#[derive(Clone, Debug, Default)]
pub struct SwarmAttach {
    /// `instances`: their ids; required.
    pub instances: Vec<String>,
    /// `password`.
    pub password: Option<String>,
    /// `ecs_image_id`.
    pub ecs_image_id: Option<String>,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

/// What became of one machine that was to be a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its id.
    pub instance_id: String,
    /// Why not; `None`: it is one, or becomes one.
    pub refusal: Option<Fault>,
}

/// A node that shall be made from scratch.
#[derive(Clone, Debug, Default)]
pub struct SwarmReset {
    /// `password`.
    pub password: Option<String>,
    /// `ecs_image_id`.
    pub ecs_image_id: Option<String>,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

impl Service {
    /// Adds as many nodes as are missing to a total, which must exceed the present number.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, QuotaExceeded, Unsupported, and InvalidParameter of what is wrong.
    pub async fn swarm_scale(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        input: &SwarmScale,
    ) -> Outcome<ClusterTask> {
        self.swarm_cluster(ctx, cluster_id)?;
        let size = fields::number("size", input.size.ok_or_else(|| Fault::missing("size"))?, 1..=SIZE_MAX)?;
        let instance_types: Option<Vec<String>> =
            fields::given(&input.instance_type).map(|instance_type| vec![instance_type.to_owned()]);
        if let Some(instance_type) = instance_types.iter().flatten().next() {
            instance_type::shape("instance_type", instance_type)?;
        }
        check::disks(input.data_disk_category.as_deref(), input.data_disk_size, input.io_optimized.as_deref())?;
        let notices = self.node_notices(&input.password, &input.ecs_image_id, &input.unknown_fields)?;
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            let present = quota::staying_workers(change.store, &cluster.id);
            let missing = (size as usize).checked_sub(present).filter(|missing| *missing > 0).ok_or_else(|| {
                let text = format!(
                    "size {size} must be greater than the present {present} nodes: it is the total after the expansion; remove \
                     nodes with DELETE /clusters/{}/ip/<ip>",
                    cluster.id
                );
                Fault::invalid("size", text)
            })?;
            check::refuse_small_subnet(cluster.network.pod_cidr, size)?;
            let pool = default_pool(change, &cluster)?;
            let more = More {
                count: u32::try_from(missing).unwrap_or(u32::MAX),
                instance_types: instance_types.as_deref(),
                vswitch_ids: &[],
                tags: &[],
                notices: notices.clone(),
                timeout_minutes: self.settings.task_timeout_minutes,
            };
            self.plan_more(change, &cluster, &pool, &more)
        })
        .await
    }

    /// Makes machines of the inventory nodes. Those that cannot be are named one by one; when none can be, nothing is done.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, QuotaExceeded, Unsupported, and InvalidParameter of what is wrong.
    pub async fn swarm_attach(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        input: &SwarmAttach,
    ) -> Outcome<(Vec<Attached>, String)> {
        self.swarm_cluster(ctx, cluster_id)?;
        let ids = instance_ids(&input.instances)?;
        let notices = self.node_notices(&input.password, &input.ecs_image_id, &input.unknown_fields)?;
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            self.plan_attached(change, &cluster, &ids, &notices)
        })
        .await
    }

    fn plan_attached(
        &self,
        change: &mut Change<'_>,
        cluster: &Versioned<Cluster>,
        ids: &[&str],
        notices: &[Notice],
    ) -> Outcome<(Vec<Attached>, String)> {
        let found: Vec<(&str, Outcome<Arc<Versioned<Machine>>>)> =
            ids.iter().map(|id| (*id, attachable(change, cluster, id))).collect();
        let usable: Vec<_> = found.iter().filter_map(|(_, machine)| machine.as_ref().ok()).cloned().collect();
        if usable.is_empty() {
            let first = found.into_iter().find_map(|(_, machine)| machine.err());
            return Err(first.unwrap_or_else(|| Fault::missing("instances")));
        }
        let present = quota::staying_workers(change.store, &cluster.id);
        self.check_node_quota(change.ctx, present, usable.len())?;
        let total = u32::try_from(present + usable.len()).unwrap_or(u32::MAX);
        check::refuse_small_subnet(cluster.network.pod_cidr, total)?;
        let pool = default_pool(change, cluster)?;
        let task_id = new_task_id();
        let template = WorkerTemplate {
            instance_types: &pool.instance_types,
            vswitch_ids: &[],
            any_vswitch: true,
            tags: &[],
            source: "ess_attach",
            field: "instances",
        };
        for machine in &usable {
            change.attach(cluster, &pool, &template, machine, &task_id)?;
        }
        let about = About::Cluster(&cluster.id);
        let text = format!("Start to add {} existing instances to cluster {}", usable.len(), cluster.name);
        change.event(about, TaskType::ClusterScaleout, Level::Info, "Started", text);
        change.notices(about, TaskType::ClusterScaleout, notices);
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster.id,
            task_type: TaskType::ClusterScaleout,
            stages: &task::SCALE_OUT_STAGES,
            resources: usable.iter().map(|machine| machine.id.clone()).collect(),
            node_pool_id: None,
            deadline_minutes: self.settings.task_timeout_minutes,
            done: false,
        });
        let scaling = change.scaling(cluster);
        change.update(cluster, &scaling);
        let answer =
            found.into_iter().map(|(id, machine)| Attached { instance_id: id.to_owned(), refusal: machine.err() });
        Ok((answer.collect(), task_id))
    }

    /// Removes the node with that address; what may move elsewhere is moved first.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, Unsupported; NotFound(Node) when no node has the address.
    pub async fn swarm_remove(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        ip: &str,
        release: bool,
    ) -> Outcome<ClusterTask> {
        let cluster = self.swarm_cluster(ctx, cluster_id)?;
        let address: Ipv4Addr =
            ip.trim().parse().map_err(|_| Fault::invalid("ip", format!("ip {ip:?} is not an IPv4 address")))?;
        let nodes = self.store.list_of::<Machine>(&cluster.id);
        let node = nodes
            .iter()
            .find(|machine| machine.is_worker_of(&cluster.id) && machine.ip == address)
            .ok_or_else(|| Fault::not_found("Node", ip))?;
        let input = NodesRemove { nodes: vec![node.id.clone()], drain: true, release, unknown_fields: Vec::new() };
        self.nodes_remove(ctx, cluster_id, &input).await
    }

    /// Makes a node from scratch: what may move elsewhere is moved first; it keeps its id and its address. Asking again
    /// answers the same task, until it is done.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, Unsupported; NotFound(Node); InvalidParameter of what is wrong.
    pub async fn swarm_reset(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        instance_id: &str,
        input: &SwarmReset,
    ) -> Outcome<ClusterTask> {
        self.swarm_cluster(ctx, cluster_id)?;
        let notices = self.node_notices(&input.password, &input.ecs_image_id, &input.unknown_fields)?;
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            let machine = change
                .store
                .get::<Machine>(instance_id)
                .filter(|machine| machine.is_worker_of(&cluster.id))
                .ok_or_else(|| Fault::not_found("Node", instance_id))?;
            match (machine.wanted, &machine.removal_task_id) {
                (MachineWanted::Run, _) => Ok(self.plan_reset(change, &cluster, &machine, &notices)),
                (MachineWanted::Reset, Some(task_id)) => {
                    Ok(ClusterTask { cluster_id: cluster.id.clone(), task_id: task_id.clone() })
                }
                _ => Err(Fault::state(format!("node {instance_id} is leaving the cluster"))),
            }
        })
        .await
    }

    fn plan_reset(
        &self,
        change: &mut Change<'_>,
        cluster: &Versioned<Cluster>,
        machine: &Versioned<Machine>,
        notices: &[Notice],
    ) -> ClusterTask {
        let task_id = new_task_id();
        let leaving = Machine {
            wanted: MachineWanted::Reset,
            drain: true,
            removal_task_id: Some(task_id.clone()),
            state: MachineState::Removing,
            ..machine.value.clone()
        };
        change.update(machine, &leaving);
        let scaling = change.scaling(cluster);
        change.update(cluster, &scaling);
        let about = About::Cluster(&cluster.id);
        let text = format!("Start to reset node {} ({}) of cluster {}", machine.id, machine.ip, cluster.name);
        change.event(about, TaskType::ClusterNodeReset, Level::Info, "Started", text);
        change.notices(about, TaskType::ClusterNodeReset, notices);
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster.id,
            task_type: TaskType::ClusterNodeReset,
            stages: &task::RESET_STAGES,
            resources: vec![machine.id.clone()],
            node_pool_id: None,
            deadline_minutes: self.settings.task_timeout_minutes,
            done: false,
        });
        ClusterTask { cluster_id: cluster.id.clone(), task_id }
    }

    /// Checks what all bodies about nodes have; answers what has to be said about it.
    fn node_notices(
        &self,
        password: &Option<String>,
        image_id: &Option<String>,
        unknown_fields: &[String],
    ) -> Outcome<Vec<Notice>> {
        let mut notices = Vec::new();
        notices.extend(image::login_password(fields::given(password))?);
        notices.extend(image::check(&self.settings, fields::given(image_id))?);
        notices.extend(Notice::unknown_fields(unknown_fields));
        Ok(notices)
    }
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
        let text =
            format!("instances: {id} is a host, which runs no Docker engine of ours; add machines of the inventory");
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
