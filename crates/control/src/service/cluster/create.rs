//! CreateCluster: the whole cluster is recorded in one transaction, with every address it will ever need at the start.

use sampan_store::model::{
    Addon, Cluster, ClusterNetwork, ClusterState, Fault, Level, Machine, MaintenanceWindow, NodePool, Outcome, Setting,
    Tag, TaskType, VSwitch, Vpc, new_cluster_id, new_resource_id, new_task_id,
};
use serde_json::Value;

use super::{
    ClusterTask,
    check::{self, Checked},
    masters::{self, MastersWanted, ZoneWanted, ZoneWorkers},
    site::Site,
};
use crate::service::{
    RequestContext, Service,
    change::{About, Change, NewTask},
    fields,
    network::{
        allocate::can_listen,
        cidr::{self, ClusterRanges, RangeWishes, Taken},
    },
    node_pool::{Home, NewPool, NodePoolCreate, NodePoolOptions, WorkerTemplate, without_repetition},
    task,
};

/// A cluster to be made: the fields of all editions that have an effect or a rule here.
#[derive(Clone, Debug, Default)]
pub struct ClusterCreate {
    /// `name`; required.
    pub name: Option<String>,
    /// `cluster_type`; required.
    pub cluster_type: Option<String>,
    /// `cluster_spec`.
    pub cluster_spec: Option<String>,
    /// `profile`.
    pub profile: Option<String>,
    /// `region_id`; else the request's region.
    pub region_id: Option<String>,
    /// `kubernetes_version`.
    pub kubernetes_version: Option<String>,
    /// `resource_group_id`.
    pub resource_group_id: Option<String>,
    /// `vpcid`.
    pub vpc_id: Option<String>,
    /// `vswitch_ids`, `vswitchid`.
    pub vswitch_ids: Vec<String>,
    /// `zone_ids`, `zone_id`, `zoneid`.
    pub zone_ids: Vec<String>,
    /// `snat_entry`.
    pub snat_entry: Option<bool>,
    /// `container_cidr`.
    pub container_cidr: Option<String>,
    /// `service_cidr`.
    pub service_cidr: Option<String>,
    /// `node_cidr_mask`.
    pub node_cidr_mask: Option<i64>,
    /// `security_group_id`.
    pub security_group_id: Option<String>,
    /// `endpoint_public_access`.
    pub endpoint_public_access: Option<bool>,
    /// `timezone`.
    pub timezone: Option<String>,
    /// `proxy_mode`.
    pub proxy_mode: Option<String>,
    /// `cluster_domain`.
    pub cluster_domain: Option<String>,
    /// `custom_san`.
    pub custom_san: Option<String>,
    /// `extra_sans`.
    pub extra_sans: Vec<String>,
    /// `service_account_issuer`.
    pub service_account_issuer: Option<String>,
    /// `api_audiences`.
    pub api_audiences: Option<String>,
    /// `encryption_provider_key`.
    pub encryption_provider_key: Option<String>,
    /// `user_ca`; stored as a secret.
    pub user_ca: Option<String>,
    /// `tags`.
    pub tags: Vec<Tag>,
    /// `addons`.
    pub addons: Vec<Addon>,
    /// `timeout_mins`.
    pub timeout_mins: Option<i64>,
    /// `disable_rollback`.
    pub disable_rollback: Option<bool>,
    /// `deletion_protection`.
    pub deletion_protection: Option<bool>,
    /// `maintenance_window`.
    pub maintenance_window: Option<MaintenanceWindow>,
    /// The `master_…` fields of a dedicated cluster.
    pub masters: MastersWanted,
    /// `vswitch_id_a`, …: the cluster's zones, if it is described by them.
    pub zones: Vec<ZoneWanted>,
    /// `num_of_nodes`.
    pub num_of_nodes: Option<i64>,
    /// The `worker_…` fields, `runtime`, `taints`, `key_pair`, ….
    pub workers: NodePoolOptions,
    /// `nodepools`.
    pub node_pools: Vec<NodePoolCreate>,
    /// `client_token`.
    pub client_token: Option<String>,
    /// The body as sent, without secrets.
    pub request: Value,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

impl Service {
    /// Records a cluster and the task that makes it.
    ///
    /// # Errors
    /// InvalidParameter and MissingParameter of what is wrong, QuotaExceeded, Unavailable when addresses are used up.
    pub async fn cluster_create(&self, ctx: &RequestContext, input: &ClusterCreate) -> Outcome<ClusterTask> {
        let plain = masters::without_zones(input);
        let input = &*plain;
        let checked = check::check(&self.settings, ctx, input)?;
        if let Some(pem) = &checked.user_ca {
            crate::kubernetes::user_ca::parse(pem, self.now())?;
        }
        let token = client_token(ctx, &input.client_token, &input.request)?;
        self.create_once(ctx, token, |change| self.plan_cluster(change, input, &checked)).await
    }

    /// Plans a creation and commits it, unless the same request was answered before; then the answer is that one.
    pub(super) async fn create_once(
        &self,
        ctx: &RequestContext,
        token: Option<ClientToken>,
        mut plan: impl FnMut(&mut Change<'_>) -> Outcome<ClusterTask> + Send,
    ) -> Outcome<ClusterTask> {
        self.refresh_foreign_ranges().await;
        self.change(ctx, |change| {
            if let Some(token) = &token
                && let Some(before) = token.answer(change)?
            {
                return Ok(before);
            }
            let answer = plan(change)?;
            if let Some(token) = &token {
                token.keep(change, &answer);
            }
            Ok(answer)
        })
        .await
    }

    fn plan_cluster(&self, change: &mut Change<'_>, input: &ClusterCreate, checked: &Checked) -> Outcome<ClusterTask> {
        self.check_cluster_quota(change.ctx, checked.cluster_type)?;
        let nodes: u32 = checked.pools.iter().map(|p| p.count).sum();
        self.check_node_quota(change.ctx, 0, nodes as usize)?;
        self.check_node_pool_quota(change.ctx, 0, checked.pools.len())?;
        refuse_taken_name(change, &checked.name)?;
        let site = Site {
            vpc_field: "vpcid",
            vswitch_field: if input.vswitch_ids.is_empty() && !checked.vswitch_ids.is_empty() {
                "master_vswitch_ids"
            } else {
                "vswitch_ids"
            },
            region_id: &checked.region_id,
            vpc_id: checked.vpc_id.as_deref(),
            vswitch_ids: &checked.vswitch_ids,
            zones: &checked.zones,
            ranges: &[("container_cidr", &input.container_cidr), ("service_cidr", &input.service_cidr)],
        };
        let vpc = self.plan_vpc(change, &site)?;
        let vswitches = self.plan_vswitches(change, &site, &vpc)?;
        let home = Home { vpc_id: &vpc.id, zones: &checked.zones };
        for pool in &checked.pools {
            change.ensure_vswitches(&self.settings, &pool.vswitch_field, home, &pool.options.vswitch_ids)?;
        }
        let masters = checked.masters.as_ref();
        if let Some(masters) = masters {
            change.ensure_vswitches(&self.settings, "master_vswitch_ids", home, &masters.vswitch_ids)?;
        }
        let wishes = RangeWishes {
            pods: fields::given(&input.container_cidr),
            services: fields::given(&input.service_cidr),
            node_mask: input.node_cidr_mask,
            nodes: nodes + masters.map_or(0, |masters| masters.count),
        };
        let ranges = cidr::plan(&wishes, &taken_in(change, &vpc))?;
        let (cluster_id, task_id) = (new_cluster_id(), new_task_id());
        let network = self.plan_network(change, checked, &vpc, &vswitches, &ranges)?;
        let cluster = self.record(change, input, checked, &cluster_id, &task_id, network);
        let machines = self.plan_machines(change, checked, &cluster)?;
        self.tell(change, checked, &cluster, nodes);
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster_id,
            task_type: TaskType::ClusterCreate,
            stages: &task::CREATE_STAGES,
            resources: machines,
            node_pool_id: None,
            deadline_minutes: checked.timeout_minutes,
            done: false,
        });
        Ok(ClusterTask { cluster_id, task_id })
    }

    fn plan_network(
        &self,
        change: &mut Change<'_>,
        checked: &Checked,
        vpc: &Vpc,
        vswitches: &[VSwitch],
        ranges: &ClusterRanges,
    ) -> Outcome<ClusterNetwork> {
        let api_vip = change.ledger().take_vip(&vpc.id)?;
        let address = self.settings.public_address;
        let api_public_port = if checked.public {
            Some(change.ledger().take_port(self.settings.ports.clone(), |port| can_listen(address, port))?)
        } else {
            None
        };
        let dns_ip = ranges.services.hosts().nth(9).unwrap_or_else(|| ranges.services.network());
        Ok(ClusterNetwork {
            vpc_id: vpc.id.clone(),
            vswitch_ids: vswitches.iter().map(|v| v.id.clone()).collect(),
            security_group_id: checked.security_group_id.clone().unwrap_or_else(|| new_resource_id("sg")),
            pod_cidr: ranges.pods,
            service_cidr: ranges.services,
            node_cidr_mask: ranges.node_mask,
            dns_ip,
            api_vip,
            api_public_port,
            cluster_domain: checked.cluster_domain.clone(),
            proxy_mode: checked.proxy_mode,
            api_load_balancer_id: new_resource_id("lb"),
        })
    }

    fn record(
        &self,
        change: &mut Change<'_>,
        input: &ClusterCreate,
        checked: &Checked,
        id: &str,
        task_id: &str,
        network: ClusterNetwork,
    ) -> Cluster {
        let mut control_plane = checked.control_plane.clone();
        if let Some(pem) = &checked.user_ca {
            let name = format!("cluster/{id}/user-ca");
            change.secret(&name, pem);
            control_plane.user_ca_secret = Some(name);
        }
        let zone_id = network.vswitch_ids.first().and_then(|v| change.ledger().vswitch(v).map(|v| v.zone_id.clone()));
        let version = checked.version.version.to_string();
        let cluster = Cluster {
            id: id.to_owned(),
            account_id: change.ctx.account_id.clone(),
            name: checked.name.clone(),
            region_id: checked.region_id.clone(),
            zone_id: zone_id.unwrap_or_default(),
            cluster_type: checked.cluster_type,
            spec: checked.spec.clone(),
            state: ClusterState::Initial,
            state_reason: None,
            created: change.now,
            updated: change.now,
            init_version: version.clone(),
            version,
            network,
            control_plane,
            swarm: None,
            tags: checked.tags.clone(),
            deletion_protection: input.deletion_protection.unwrap_or(false),
            instance_deletion_protection: false,
            addons: checked.addons.clone(),
            maintenance_window: checked.maintenance_window.clone(),
            autoscaling: None,
            resource_group_id: fields::given(&input.resource_group_id).unwrap_or_default().to_owned(),
            runtime_requested: fields::given(&input.workers.runtime).map(str::to_owned),
            timeout_minutes: checked.timeout_minutes,
            disable_rollback: input.disable_rollback.unwrap_or(false),
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
        cluster
    }

    /// The control plane's machines, the pools and their machines; answers the ids of those that are nodes.
    fn plan_machines(&self, change: &mut Change<'_>, checked: &Checked, cluster: &Cluster) -> Outcome<Vec<String>> {
        let mut workers = Vec::new();
        match &checked.masters {
            Some(masters) => workers.extend(change.add_masters(cluster, masters)?),
            None => change.add_hidden_control_plane(&self.settings, cluster)?,
        }
        for (index, new) in checked.pools.iter().enumerate() {
            let pool = change.add_pool(cluster, new, new.options.vswitch_ids.clone(), index == 0);
            let vswitch_ids = pool_vswitches(cluster, new);
            let template = WorkerTemplate {
                instance_types: &pool.instance_types,
                vswitch_ids: &vswitch_ids,
                any_vswitch: new.options.vswitch_ids.is_empty(),
                tags: &[],
                source: "ess",
                field: &new.vswitch_field,
            };
            let machines = if index == 0 && !checked.zone_workers.is_empty() {
                add_zone_workers(change, cluster, &pool, &template, &checked.zone_workers)?
            } else {
                change.add_workers(cluster, &pool, &template, new.count, &cluster.creation_task_id)?
            };
            workers.extend(machines.into_iter().map(|m| m.id));
        }
        Ok(workers)
    }

    fn tell(&self, change: &mut Change<'_>, checked: &Checked, cluster: &Cluster, nodes: u32) {
        let about = About::Cluster(&cluster.id);
        let text =
            format!("Start to create cluster {} with Kubernetes {} and {nodes} nodes", cluster.name, cluster.version);
        change.event(about, TaskType::ClusterCreate, Level::Info, "Started", text);
        change.notices(about, TaskType::ClusterCreate, &checked.notices);
        let used =
            checked.pools.iter().filter(|pool| pool.count > 0).filter_map(|pool| pool.options.instance_types.first());
        let mut limits = self.size_notices(used);
        limits.extend(self.proxy_notice(checked.proxy_mode));
        change.notices(about, TaskType::ClusterCreate, &limits);
        let network = &cluster.network;
        change.log(
            &cluster.id,
            format!(
                "network: VPC {}, pods {}, services {}, API server {}:6443",
                network.vpc_id, network.pod_cidr, network.service_cidr, network.api_vip
            ),
        );
    }
}

/// Workers as the zones of the request say.
fn add_zone_workers(
    change: &mut Change<'_>,
    cluster: &Cluster,
    pool: &NodePool,
    template: &WorkerTemplate<'_>,
    zones: &[ZoneWorkers],
) -> Outcome<Vec<Machine>> {
    let mut machines = Vec::new();
    let own = &cluster.network.vswitch_ids;
    for (zone, fallback) in zones.iter().zip(own.iter().cycle()) {
        let vswitch_ids = [zone.vswitch_id.clone().unwrap_or_else(|| fallback.clone())];
        let instance_types: Vec<String> = zone.instance_type.iter().cloned().collect();
        let own = WorkerTemplate {
            vswitch_ids: &vswitch_ids,
            instance_types: if instance_types.is_empty() { template.instance_types } else { &instance_types },
            any_vswitch: false,
            ..template.clone()
        };
        machines.extend(change.add_workers(cluster, pool, &own, zone.count, &cluster.creation_task_id)?);
    }
    Ok(machines)
}

/// The vSwitches of a pool's machines: its own, else the cluster's.
fn pool_vswitches(cluster: &Cluster, new: &NewPool) -> Vec<String> {
    let own = &new.options.vswitch_ids;
    without_repetition(if own.is_empty() { &cluster.network.vswitch_ids } else { own })
}

/// Names are unique among an account's clusters that are not deleted.
pub(super) fn refuse_taken_name(change: &Change<'_>, name: &str) -> Outcome<()> {
    let mine = |c: &Cluster| c.account_id == change.ctx.account_id && c.is_live() && c.name == name;
    match change.store.list::<Cluster>().iter().find(|c| mine(c)) {
        None => Ok(()),
        Some(other) => {
            Err(Fault::invalid("name", format!("name {name:?} is taken by the cluster {}; give another one", other.id)))
        }
    }
}

/// What a new cluster in the VPC must keep away from.
fn taken_in(change: &Change<'_>, vpc: &Vpc) -> Vec<Taken> {
    let mut taken = vec![Taken::new(vpc.cidr, format!("the VPC {}", vpc.id))];
    let others = change.store.list::<Cluster>();
    // The overlay of a Swarm cluster is seen by its own containers only.
    let neighbours = others.iter().filter(|c| c.is_live() && c.network.vpc_id == vpc.id && !c.is_swarm());
    taken.extend(neighbours.map(|c| Taken::new(c.network.pod_cidr, format!("the pods of cluster {}", c.id))));
    taken
}

/// Where records of client tokens are.
pub(super) const CLIENT_TOKENS: &str = "client-token/";

/// A `client_token`: the same token with the same request gets the same answer again.
pub(super) struct ClientToken {
    id: String,
    request: String,
}

/// The token of a request, if it has one.
pub(super) fn client_token(
    ctx: &RequestContext,
    token: &Option<String>,
    request: &Value,
) -> Outcome<Option<ClientToken>> {
    let Some(token) = fields::given(token) else { return Ok(None) };
    if token.len() > 64 || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Fault::invalid("client_token", "client_token must have at most 64 visible ASCII characters"));
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, request.to_string().as_bytes());
    let request = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(ClientToken { id: format!("{CLIENT_TOKENS}{}/{token}", ctx.account_id), request }))
}

impl ClientToken {
    /// What the same request was answered before.
    fn answer(&self, change: &Change<'_>) -> Outcome<Option<ClusterTask>> {
        let Some(kept) = change.store.get::<Setting>(&self.id) else { return Ok(None) };
        let text = |field: &str| kept.value.value[field].as_str().unwrap_or_default().to_owned();
        if text("request") != self.request {
            return Err(Fault::invalid(
                "client_token",
                "client_token was used before with another request; give a new one",
            ));
        }
        Ok(Some(ClusterTask { cluster_id: text("cluster_id"), task_id: text("task_id") }))
    }

    /// Keeps the answer, with the records of the request.
    fn keep(&self, change: &mut Change<'_>, answer: &ClusterTask) {
        let value =
            serde_json::json!({"request": self.request, "cluster_id": answer.cluster_id, "task_id": answer.task_id});
        change.create(&Setting { id: self.id.clone(), value });
    }
}
