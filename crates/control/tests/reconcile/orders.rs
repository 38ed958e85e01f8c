//! What users ask for, recorded as the use cases record it: everything of one request in one transaction.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sampan_store::{
    Batch, Store,
    model::{
        Cluster, ClusterNetwork, ClusterState, ClusterType, ControlPlaneOptions, Deletion, EtcdMember, Halted, Machine,
        MachineRole, MachineState, MachineWanted, Membership, MultiAzPolicy, NodePool, NodePoolState, Power, ProxyMode,
        Restore, RestorePhase, Retain, Stage, StageState, SwarmOptions, Task, TaskResult, TaskState, TaskType,
        Timestamp, VSwitch, Vpc,
    },
};

pub(crate) const REGION: &str = "cn-hangzhou";
const ACCOUNT: &str = "1234567890";

/// A cluster to be created.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) number: u8,
    pub(crate) workers: u8,
    pub(crate) timeout_minutes: u32,
    pub(crate) disable_rollback: bool,
    pub(crate) vpc_id: Option<String>,
    /// A cluster of Docker engines.
    pub(crate) swarm: bool,
    /// Masters of a dedicated cluster; 0: it is a managed one.
    pub(crate) masters: u8,
}

impl Order {
    pub(crate) fn new(number: u8, workers: u8) -> Self {
        Self { number, workers, timeout_minutes: 60, disable_rollback: false, vpc_id: None, swarm: false, masters: 0 }
    }

    pub(crate) fn dedicated(number: u8, masters: u8, workers: u8) -> Self {
        Self { masters, ..Self::new(number, workers) }
    }

    pub(crate) fn swarm(number: u8, nodes: u8) -> Self {
        Self { swarm: true, ..Self::new(number, nodes) }
    }

    /// The host's port for HTTP to the applications of a Swarm cluster.
    pub(crate) fn routing_port(&self) -> u16 {
        self.port() + 4
    }

    pub(crate) fn cluster_id(&self) -> String {
        format!("c{:04}", self.number)
    }

    pub(crate) fn vpc(&self) -> String {
        self.vpc_id.clone().unwrap_or_else(|| format!("vpc-{:04}", self.number))
    }

    pub(crate) fn control_plane(&self) -> String {
        machine_id(self.number, 0)
    }

    /// A machine of the control plane, counted from 0.
    pub(crate) fn part(&self, index: u8) -> String {
        machine_id(self.number, part_index(index))
    }

    pub(crate) fn part_ip(&self, index: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 200, subnet(self), 10 + part_index(index))
    }

    pub(crate) fn worker(&self, index: u8) -> String {
        machine_id(self.number, index)
    }

    pub(crate) fn pool_id(&self) -> String {
        format!("np{:04}", self.number)
    }

    pub(crate) fn port(&self) -> u16 {
        20_000 + u16::from(self.number)
    }

    pub(crate) fn creation_task(&self) -> String {
        format!("T-create{:04}", self.number)
    }
}

fn machine_id(cluster: u8, index: u8) -> String {
    format!("i-{cluster:02x}{index:02x}")
}

/// Workers have the numbers after the first.
fn part_index(index: u8) -> u8 {
    if index == 0 { 0 } else { 199 + index }
}

fn subnet(order: &Order) -> u8 {
    // Clusters of one VPC must not share addresses; those of their own may use any.
    order.number * 16
}

/// Records the order.
pub(crate) async fn create(store: &Store, order: &Order, now: Timestamp) {
    let mut batch = Batch::new();
    let task = task(&order.creation_task(), order, TaskType::ClusterCreate, now, order.timeout_minutes);
    batch.create(&task).create(&cluster(order, now)).create(&pool(order, now));
    if store.get::<Vpc>(&order.vpc()).is_none() {
        let cidr = Ipv4Net::new_assert(Ipv4Addr::new(10, 200, subnet(order), 0), 20);
        let vswitch = VSwitch {
            id: format!("vsw-{:04}", order.number),
            vpc_id: order.vpc(),
            zone_id: format!("{REGION}-a"),
            cidr: Ipv4Net::new_assert(cidr.addr(), 23),
            created: now,
        };
        batch.create(&vswitch);
        let (account_id, region_id) = (ACCOUNT.into(), REGION.into());
        batch.create(&Vpc { id: order.vpc(), account_id, region_id, cidr, created: now, ephemeral: true });
    }
    for index in 0..=order.workers {
        batch.create(&machine(order, index, &order.creation_task(), now));
    }
    for index in 1..order.masters {
        batch.create(&machine(order, part_index(index), &order.creation_task(), now));
    }
    store.commit(batch).await.expect("recorded");
}

/// Records that a managed cluster shall have a control plane of three machines; answers the task.
pub(crate) async fn migrate(store: &Store, order: &Order, now: Timestamp) -> String {
    let id = format!("T-migrate{:04}", order.number);
    let mut batch = Batch::new();
    batch.create(&task(&id, order, TaskType::ClusterMigrate, now, 60));
    let cluster = store.get::<Cluster>(&order.cluster_id()).expect("there");
    batch.put(&Cluster { spec: "ack.pro.small".into(), state: ClusterState::Updating, ..cluster.value.clone() });
    let with = |mut machine: Machine, etcd: EtcdMember| {
        machine.membership.as_mut().expect("a member").etcd = Some(etcd);
        machine
    };
    let first = store.get::<Machine>(&order.part(0)).expect("there").value.clone();
    batch.put(&with(first, EtcdMember::founder(&[order.part_ip(0)])));
    for index in 1..3 {
        let fresh = machine(order, part_index(index), &id, now);
        batch.create(&with(fresh, EtcdMember::newcomer(false)));
    }
    store.commit(batch).await.expect("recorded");
    id
}

/// Records that these workers are wanted too; answers the task.
pub(crate) async fn scale_out(store: &Store, order: &Order, indexes: std::ops::Range<u8>, now: Timestamp) -> String {
    let id = format!("T-scale{:04}x{}", order.number, indexes.start);
    let mut batch = Batch::new();
    batch.create(&task(&id, order, TaskType::ClusterScaleout, now, 30));
    for index in indexes {
        batch.create(&machine(order, index, &id, now));
    }
    store.commit(batch).await.expect("recorded");
    id
}

/// Records that a worker of the inventory is wanted again; answers the task.
pub(crate) async fn attach(store: &Store, order: &Order, index: u8, now: Timestamp) -> String {
    let id = format!("T-attach{:04}x{index}", order.number);
    let kept = store.get::<Machine>(&order.worker(index)).expect("it is recorded");
    assert_eq!((kept.wanted, &kept.membership), (MachineWanted::Keep, &None), "it is in the inventory");
    let mut scale = task(&id, order, TaskType::ClusterScaleout, now, 30);
    let status = sampan_store::model::ResultStatus::Initial;
    scale.results.push(TaskResult { data: kept.id.clone(), status });
    let fresh = machine(order, index, &id, now);
    let attached = Machine {
        wanted: MachineWanted::Run,
        source: "ess_attach".into(),
        membership: fresh.membership,
        state: MachineState::Pending,
        ..kept.value.clone()
    };
    let mut batch = Batch::new();
    batch.update(kept.revision, &attached).create(&scale);
    store.commit(batch).await.expect("recorded");
    id
}

/// Records that these workers shall leave; answers the task.
pub(crate) async fn remove(
    store: &Store,
    order: &Order,
    indexes: &[u8],
    wanted: MachineWanted,
    drain: bool,
    now: Timestamp,
) -> String {
    let id = format!("T-remove{:04}x{}", order.number, indexes[0]);
    let mut removal = task(&id, order, TaskType::ClusterNodeDelete, now, 60);
    let mut batch = Batch::new();
    for index in indexes {
        let Some(machine) = store.get::<Machine>(&order.worker(*index)) else { continue };
        let status = sampan_store::model::ResultStatus::Initial;
        removal.results.push(TaskResult { data: machine.id.clone(), status });
        let removal_task_id = Some(id.clone());
        batch.put(&Machine { wanted, drain, removal_task_id, ..machine.value.clone() });
    }
    batch.create(&removal);
    store.commit(batch).await.expect("recorded");
    id
}

/// Records that this node shall be made from scratch; answers the task.
pub(crate) async fn reset(store: &Store, order: &Order, index: u8, now: Timestamp) -> String {
    let id = format!("T-reset{:04}x{index}", order.number);
    let mut reset = task(&id, order, TaskType::ClusterNodeReset, now, 60);
    let machine = store.get::<Machine>(&order.worker(index)).expect("it is recorded");
    let status = sampan_store::model::ResultStatus::Initial;
    reset.results.push(TaskResult { data: machine.id.clone(), status });
    let mut batch = Batch::new();
    batch.update(
        machine.revision,
        &Machine {
            wanted: MachineWanted::Reset,
            drain: true,
            removal_task_id: Some(id.clone()),
            state: MachineState::Removing,
            ..machine.value.clone()
        },
    );
    batch.create(&reset);
    store.commit(batch).await.expect("recorded");
    id
}

/// Records that the cluster shall go; answers the task.
pub(crate) async fn delete(store: &Store, order: &Order, retain: Retain, now: Timestamp) -> String {
    let id = format!("T-delete{:04}", order.number);
    let mut batch = Batch::new();
    let cluster = store.get::<Cluster>(&order.cluster_id()).expect("there");
    let deletion = Some(Deletion { task_id: id.clone(), requested: now, retain });
    batch.put(&Cluster { deletion, state: ClusterState::Deleting, ..cluster.value.clone() });
    batch.create(&task(&id, order, TaskType::ClusterDelete, now, 60));
    store.commit(batch).await.expect("recorded");
    id
}

/// Records that the cluster shall go off, or come up; answers the task.
pub(crate) async fn power(store: &Store, order: &Order, stop: bool, now: Timestamp) -> String {
    let kind = if stop { TaskType::ClusterStop } else { TaskType::ClusterStart };
    let id = format!("T-{}{:04}", if stop { "stop" } else { "start" }, order.number);
    change(store, order, &task(&id, order, kind, now, 60), |cluster| {
        cluster.power = Some(Power { stop, task_id: id.clone(), requested: now, halted: Halted::Workers });
    })
    .await;
    id
}

/// Records that a backup shall be made; answers the task.
pub(crate) async fn backup(store: &Store, order: &Order, backup_id: &str, now: Timestamp) -> String {
    let id = format!("T-backup{:04}", order.number);
    let mut task = task(&id, order, TaskType::ClusterBackup, now, 60);
    let status = sampan_store::model::ResultStatus::Initial;
    task.results.push(TaskResult { data: backup_id.to_owned(), status });
    let mut batch = Batch::new();
    batch.create(&task);
    store.commit(batch).await.expect("recorded");
    id
}

/// Records that the cluster shall go back to a backup; answers the task.
pub(crate) async fn restore(store: &Store, order: &Order, backup_id: &str, now: Timestamp) -> String {
    let id = format!("T-restore{:04}", order.number);
    change(store, order, &task(&id, order, TaskType::ClusterRestore, now, 60), |cluster| {
        cluster.restore = Some(Restore {
            backup_id: backup_id.to_owned(),
            task_id: id.clone(),
            requested: now,
            phase: RestorePhase::Check,
            since: now,
            sha256: String::new(),
            members: Vec::new(),
            anew: false,
            failure: None,
        });
    })
    .await;
    id
}

/// Records a change of the cluster with its task, however often others change it meanwhile.
async fn change(store: &Store, order: &Order, task: &Task, change: impl Fn(&mut Cluster)) {
    loop {
        let current = store.get::<Cluster>(&order.cluster_id()).expect("there");
        let mut cluster = current.value.clone();
        cluster.state = ClusterState::Updating;
        change(&mut cluster);
        let mut batch = Batch::new();
        batch.update(current.revision, &cluster).create(task);
        if store.commit(batch).await.is_ok() {
            return;
        }
    }
}

pub(crate) fn task(id: &str, order: &Order, task_type: TaskType, now: Timestamp, minutes: u32) -> Task {
    let stage = Stage {
        name: "network".into(),
        state: StageState::Waiting,
        started: None,
        finished: None,
        message: String::new(),
    };
    Task {
        id: id.to_owned(),
        account_id: ACCOUNT.into(),
        cluster_id: order.cluster_id(),
        task_type,
        state: TaskState::Running,
        node_pool_id: None,
        stages: if task_type == TaskType::ClusterCreate { vec![stage] } else { Vec::new() },
        results: Vec::new(),
        error: None,
        created: now,
        updated: now,
        deadline: now + jiff::SignedDuration::from_mins(i64::from(minutes)),
        lease: None,
        request_id: String::new(),
    }
}

fn cluster(order: &Order, now: Timestamp) -> Cluster {
    Cluster {
        id: order.cluster_id(),
        account_id: ACCOUNT.into(),
        name: format!("test-{}", order.number),
        region_id: REGION.into(),
        zone_id: format!("{REGION}-a"),
        cluster_type: match (order.swarm, order.masters) {
            (true, _) => ClusterType::Swarm,
            (_, 0) => ClusterType::ManagedKubernetes,
            _ => ClusterType::Kubernetes,
        },
        spec: "ack.standard".into(),
        state: ClusterState::Initial,
        state_reason: None,
        created: now,
        updated: now,
        init_version: "1.36.3".into(),
        version: "1.36.3".into(),
        network: ClusterNetwork {
            vpc_id: order.vpc(),
            vswitch_ids: vec![format!("vsw-{:04}", order.number)],
            security_group_id: "sg-1".into(),
            pod_cidr: Ipv4Net::new_assert(Ipv4Addr::new(172, 20, 0, 0), 16),
            service_cidr: Ipv4Net::new_assert(Ipv4Addr::new(172, 21, 0, 0), 20),
            node_cidr_mask: 25,
            dns_ip: Ipv4Addr::new(172, 21, 0, 10),
            api_vip: Ipv4Addr::new(10, 200, subnet(order) + 15, 10),
            api_public_port: Some(order.port()),
            cluster_domain: "cluster.local".into(),
            proxy_mode: ProxyMode::Ipvs,
            api_load_balancer_id: "lb-1".into(),
        },
        control_plane: ControlPlaneOptions::default(),
        swarm: order.swarm.then(|| SwarmOptions {
            bridge_pool: Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 16),
            routing: true,
            routing_public_port: Some(order.routing_port()),
            listeners: std::collections::BTreeMap::new(),
            next_node_index: u32::from(order.workers) + 1,
        }),
        tags: Vec::new(),
        deletion_protection: false,
        instance_deletion_protection: false,
        addons: Vec::new(),
        maintenance_window: None,
        autoscaling: None,
        resource_group_id: String::new(),
        runtime_requested: None,
        timeout_minutes: order.timeout_minutes,
        disable_rollback: order.disable_rollback,
        creation_task_id: order.creation_task(),
        deletion: None,
        request: serde_json::Value::Null,
        first_running: None,
        upgrade: None,
        power: None,
        restore: None,
        restores: 0,
        conditions: Vec::new(),
    }
}

fn pool(order: &Order, now: Timestamp) -> NodePool {
    NodePool {
        id: order.pool_id(),
        cluster_id: order.cluster_id(),
        name: "default-nodepool".into(),
        is_default: true,
        state: NodePoolState::Scaling,
        created: now,
        updated: now,
        region_id: REGION.into(),
        instance_types: vec!["ecs.g6.large".into()],
        vswitch_ids: Vec::new(),
        labels: Vec::new(),
        taints: Vec::new(),
        tags: Vec::new(),
        cpu_policy: None,
        user_data: None,
        runtime_requested: None,
        resource_group_id: String::new(),
        request: serde_json::Value::Null,
        deleting: false,
        management: None,
        auto_scaling: None,
        multi_az_policy: MultiAzPolicy::default(),
        node_name_mode: None,
        unschedulable: false,
        deletion_task_id: None,
    }
}

/// A machine as recorded; the one with index 0 is the control plane's.
pub(crate) fn machine(order: &Order, index: u8, task_id: &str, now: Timestamp) -> Machine {
    let ip = Ipv4Addr::new(10, 200, subnet(order), 10 + index);
    let is_part = index == 0 || index >= part_index(1);
    let is_worker = !is_part;
    let role = match (is_part, order.masters) {
        (false, _) => MachineRole::Worker,
        (true, 0) => MachineRole::ControlPlane,
        (true, _) => MachineRole::Master,
    };
    let peers: Vec<Ipv4Addr> = (0..order.masters).map(|index| order.part_ip(index)).collect();
    Machine {
        id: machine_id(order.number, index),
        account_id: ACCOUNT.into(),
        region_id: REGION.into(),
        zone_id: format!("{REGION}-a"),
        vpc_id: order.vpc(),
        vswitch_id: format!("vsw-{:04}", order.number),
        ip,
        mac: format!("02:00:00:00:{:02x}:{index:02x}", order.number),
        instance_type: "ecs.g6.large".into(),
        instance_name: format!("worker-{}-{index}", order.number),
        tags: Vec::new(),
        source: "ess".into(),
        created: now,
        wanted: MachineWanted::Run,
        drain: false,
        removal_task_id: None,
        membership: Some(Membership {
            cluster_id: order.cluster_id(),
            node_pool_id: is_worker.then(|| order.pool_id()),
            role,
            node_name: format!("{REGION}.{ip}"),
            pod_cidr: (role.is_node() && !order.swarm)
                .then(|| Ipv4Net::new_assert(Ipv4Addr::new(172, 20, index, 0), 25)),
            node_index: (is_worker && order.swarm).then_some(u32::from(index)),
            etcd: (role == MachineRole::Master).then(|| EtcdMember::founder(&peers)),
            task_id: task_id.to_owned(),
            version: None,
        }),
        state: MachineState::Pending,
        node_status: None,
        not_ready_since: None,
        error: None,
        repairs: 0,
        pinned: None,
        retired: None,
        mending: None,
        repair: None,
        host: None,
        attached: None,
    }
}
