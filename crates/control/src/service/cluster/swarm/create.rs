//! CreateCluster without `cluster_type`: the whole cluster is recorded in one transaction.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sampan_store::model::{
    Cluster, ClusterNetwork, ClusterState, ClusterType, ControlPlaneOptions, Fault, Level, Outcome, ProxyMode,
    SwarmOptions, Tag, TaskType, VSwitch, Vpc, new_cluster_id, new_resource_id, new_task_id,
};
use serde_json::Value;

use super::check::{self, Checked};
use crate::service::{
    RequestContext, Service,
    change::{About, Change, NewTask},
    cluster::{
        ClusterTask,
        create::{client_token, refuse_taken_name},
        site::Site,
    },
    network::{allocate::can_listen, cidr::overlap},
    node_pool::{Naming, NewPool, NodePoolCreate, NodePoolOptions, WorkerTemplate, check_pool, settle},
    task,
};

/// Overlays that are used when `subnet_cidr` is not given, in this order.
const SUBNETS: [([u8; 4], u8); 4] =
    [([172, 28, 0, 0], 16), ([172, 29, 0, 0], 16), ([172, 20, 0, 0], 16), ([192, 168, 0, 0], 16)];
/// Where further overlays take their ranges from: the first that nothing else has.
const ADDRESS_POOLS: [([u8; 4], u8); 5] = [
    ([172, 31, 0, 0], 16),
    ([172, 30, 0, 0], 16),
    ([172, 19, 0, 0], 16),
    ([192, 168, 0, 0], 16),
    ([10, 192, 0, 0], 16),
];
/// Ranges of the engines' own bridges. They are the same in every machine and are seen nowhere else; these belong to
/// nobody (RFC 2544), so nothing that a container wants to reach is hidden behind them.
const BRIDGE_POOLS: [([u8; 4], u8); 2] = [([198, 18, 0, 0], 16), ([198, 19, 0, 0], 16)];
/// Docker's name server within a container.
const DOCKER_DNS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// A Swarm cluster to be made.
#[derive(Clone, Debug, Default)]
pub struct SwarmCreate {
    /// `name`; required.
    pub name: Option<String>,
    /// `size`: nodes; required.
    pub size: Option<i64>,
    /// `instance_type`; required.
    pub instance_type: Option<String>,
    /// `network_mode`: `vpc`.
    pub network_mode: Option<String>,
    /// `region_id`; else the request's region.
    pub region_id: Option<String>,
    /// `zone_id`.
    pub zone_id: Option<String>,
    /// `vpc_id`.
    pub vpc_id: Option<String>,
    /// `vswitch_id`.
    pub vswitch_id: Option<String>,
    /// `subnet_cidr`.
    pub subnet_cidr: Option<String>,
    /// `password`; required.
    pub password: Option<String>,
    /// `data_disk_category`.
    pub data_disk_category: Option<String>,
    /// `data_disk_size`.
    pub data_disk_size: Option<i64>,
    /// `ecs_image_id`.
    pub ecs_image_id: Option<String>,
    /// `io_optimized`.
    pub io_optimized: Option<String>,
    /// `need_slb`; yes when absent.
    pub need_slb: Option<bool>,
    /// `release_eip_flag`.
    pub release_eip_flag: Option<bool>,
    /// `rds_instances`.
    pub rds_instances: Vec<String>,
    /// `tags`.
    pub tags: Vec<Tag>,
    /// `timeout_mins`.
    pub timeout_mins: Option<i64>,
    /// `disable_rollback`.
    pub disable_rollback: Option<bool>,
    /// `client_token`.
    pub client_token: Option<String>,
    /// The body as sent, without secrets.
    pub request: Value,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

/// Ranges of a new cluster.
struct Ranges {
    subnet: Ipv4Net,
    address_pool: Ipv4Net,
    bridge_pool: Ipv4Net,
}

impl Service {
    /// Records a Swarm cluster and the task that makes it.
    ///
    /// # Errors
    /// InvalidParameter and MissingParameter of what is wrong, QuotaExceeded, Unavailable when addresses are used up.
    pub async fn swarm_create(&self, ctx: &RequestContext, input: &SwarmCreate) -> Outcome<ClusterTask> {
        let checked = check::check(&self.settings, ctx, input)?;
        let token = client_token(ctx, &input.client_token, &input.request)?;
        self.create_once(ctx, token, |change| self.plan_swarm(change, input, &checked)).await
    }

    fn plan_swarm(&self, change: &mut Change<'_>, input: &SwarmCreate, checked: &Checked) -> Outcome<ClusterTask> {
        self.check_cluster_quota(change.ctx, ClusterType::Swarm)?;
        self.check_node_quota(change.ctx, 0, checked.size as usize)?;
        refuse_taken_name(change, &checked.name)?;
        let site = Site {
            vpc_field: "vpc_id",
            vswitch_field: "vswitch_id",
            region_id: &checked.region_id,
            vpc_id: checked.vpc_id.as_deref(),
            vswitch_ids: &checked.vswitch_ids,
            zones: &checked.zones,
            ranges: &[("subnet_cidr", &input.subnet_cidr)],
        };
        let vpc = self.plan_vpc(change, &site)?;
        let vswitches = self.plan_vswitches(change, &site, &vpc)?;
        let ranges = self.plan_ranges(checked, &vpc)?;
        let (cluster_id, task_id) = (new_cluster_id(), new_task_id());
        let cluster = self.swarm_record(change, checked, (&cluster_id, &task_id), (&vpc, &vswitches), &ranges)?;
        let nodes = self.plan_nodes(change, checked, &cluster)?;
        self.tell_swarm(change, checked, &cluster);
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster_id,
            task_type: TaskType::ClusterCreate,
            stages: &task::CREATE_STAGES,
            resources: nodes,
            node_pool_id: None,
            deadline_minutes: checked.timeout_minutes,
            done: false,
        });
        Ok(ClusterTask { cluster_id, task_id })
    }

    /// The overlay must not hide the VPC; what is chosen here must hide neither of them, nor what else the host can reach.
    fn plan_ranges(&self, checked: &Checked, vpc: &Vpc) -> Outcome<Ranges> {
        let pool = self.settings.machine_pool;
        if let Some(subnet) = checked.subnet.filter(|subnet| overlap(subnet, &vpc.cidr)) {
            let text =
                format!("subnet_cidr {subnet} overlaps {} of the VPC {}; give a range outside it", vpc.cidr, vpc.id);
            return Err(Fault::invalid("subnet_cidr", text));
        }
        let foreign = self.foreign_ranges();
        let choose = |candidates: &[([u8; 4], u8)], taken: &[Ipv4Net]| {
            let mut candidates = candidates.iter().map(|(base, prefix)| Ipv4Net::new_assert((*base).into(), *prefix));
            let fits = |range: &Ipv4Net, taken: &[Ipv4Net]| !taken.iter().any(|other| overlap(other, range));
            let free = candidates.clone().find(|range| fits(range, taken) && fits(range, &foreign));
            // What the host can reach is better hidden than the cluster not made.
            free.or_else(|| candidates.find(|range| fits(range, taken)))
        };
        let none = |what: &str| {
            Fault::invalid(
                "subnet_cidr",
                format!("subnet_cidr leaves no range for {what}; give a smaller one, such as 172.28.0.0/16"),
            )
        };
        let mut taken = vec![vpc.cidr, pool];
        let subnet = checked.subnet.or_else(|| choose(&SUBNETS, &taken)).ok_or_else(|| none("the containers"))?;
        check::refuse_small_subnet(subnet, checked.size)?;
        taken.push(subnet);
        let address_pool = choose(&ADDRESS_POOLS, &taken).ok_or_else(|| none("further networks"))?;
        taken.push(address_pool);
        let bridge_pool = choose(&BRIDGE_POOLS, &taken).ok_or_else(|| none("the engines' bridges"))?;
        Ok(Ranges { subnet, address_pool, bridge_pool })
    }

    fn swarm_record(
        &self,
        change: &mut Change<'_>,
        checked: &Checked,
        (id, task_id): (&str, &str),
        (vpc, vswitches): (&Vpc, &[VSwitch]),
        ranges: &Ranges,
    ) -> Outcome<Cluster> {
        let address = self.settings.public_address;
        let mut take_port = || change.ledger().take_port(self.settings.ports.clone(), |port| can_listen(address, port));
        let master_port = take_port()?;
        let routing_public_port = checked.routing.then(&mut take_port).transpose()?;
        let network = ClusterNetwork {
            vpc_id: vpc.id.clone(),
            vswitch_ids: vswitches.iter().map(|vswitch| vswitch.id.clone()).collect(),
            security_group_id: new_resource_id("sg"),
            pod_cidr: ranges.subnet,
            service_cidr: ranges.address_pool,
            node_cidr_mask: ranges.subnet.prefix_len(),
            dns_ip: DOCKER_DNS,
            api_vip: change.ledger().take_vip(&vpc.id)?,
            api_public_port: Some(master_port),
            cluster_domain: String::new(),
            proxy_mode: ProxyMode::Iptables,
            api_load_balancer_id: new_resource_id("lb"),
        };
        let cluster = Cluster {
            id: id.to_owned(),
            account_id: change.ctx.account_id.clone(),
            name: checked.name.clone(),
            region_id: checked.region_id.clone(),
            zone_id: vswitches.first().map(|vswitch| vswitch.zone_id.clone()).unwrap_or_default(),
            cluster_type: ClusterType::Swarm,
            spec: String::new(),
            state: ClusterState::Initial,
            state_reason: None,
            created: change.now,
            updated: change.now,
            init_version: String::new(),
            version: String::new(),
            network,
            control_plane: ControlPlaneOptions::default(),
            swarm: Some(SwarmOptions {
                bridge_pool: ranges.bridge_pool,
                routing: checked.routing,
                routing_public_port,
                listeners: std::collections::BTreeMap::new(),
                // The first nodes are recorded together with the cluster.
                next_node_index: checked.size.saturating_add(1),
            }),
            tags: checked.tags.clone(),
            deletion_protection: false,
            instance_deletion_protection: false,
            addons: Vec::new(),
            maintenance_window: None,
            autoscaling: None,
            resource_group_id: String::new(),
            runtime_requested: None,
            timeout_minutes: checked.timeout_minutes,
            disable_rollback: checked.disable_rollback,
            creation_task_id: task_id.to_owned(),
            deletion: None,
            request: checked.request.clone(),
            first_running: None,
            upgrade: None,
            power: None,
            restore: None,
            restores: 0,
            conditions: Vec::new(),
        };
        change.create(&cluster);
        change.secret(&format!("cluster/{id}/login-password"), &checked.password);
        Ok(cluster)
    }

    /// The master's machine, the hidden pool and its nodes; answers the nodes' ids.
    fn plan_nodes(&self, change: &mut Change<'_>, checked: &Checked, cluster: &Cluster) -> Outcome<Vec<String>> {
        change.add_control_plane(&self.settings, cluster)?;
        let pool = change.add_pool(cluster, &self.hidden_pool(checked)?, Vec::new(), true);
        let template = WorkerTemplate {
            instance_types: &pool.instance_types,
            vswitch_ids: &cluster.network.vswitch_ids,
            any_vswitch: false,
            tags: &[],
            source: "ess",
            field: "vswitch_id",
        };
        let nodes = change.add_workers(cluster, &pool, &template, checked.size, &cluster.creation_task_id)?;
        Ok(nodes.into_iter().map(|machine| machine.id).collect())
    }

    fn hidden_pool(&self, checked: &Checked) -> Outcome<NewPool> {
        let options =
            NodePoolOptions { instance_types: vec![checked.instance_type.clone()], ..NodePoolOptions::default() };
        let given = NodePoolCreate {
            name: Some("default-nodepool".to_owned()),
            count: Some(i64::from(checked.size)),
            ..NodePoolCreate::default()
        };
        let mut pool = check_pool(&self.settings, "", &given)?;
        pool.options = settle(&self.settings, &Naming::Worker, &options)?;
        Ok(pool)
    }

    fn tell_swarm(&self, change: &mut Change<'_>, checked: &Checked, cluster: &Cluster) {
        let about = About::Cluster(&cluster.id);
        let text = format!("Start to create Swarm cluster {} with {} nodes", cluster.name, checked.size);
        change.event(about, TaskType::ClusterCreate, Level::Info, "Started", text);
        change.notices(about, TaskType::ClusterCreate, &checked.notices);
        change.notices(about, TaskType::ClusterCreate, &self.size_notices([&checked.instance_type]));
        let network = &cluster.network;
        change.log(
            &cluster.id,
            format!(
                "network: VPC {}, containers {}, further networks {}, master {}:{}",
                network.vpc_id,
                network.pod_cidr,
                network.service_cidr,
                network.api_vip,
                crate::swarm::MASTER_PORT
            ),
        );
    }
}
