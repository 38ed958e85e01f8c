//! ModifyCluster: what may change about a cluster while it runs. A field that is absent stays as it is.

use sampan_store::{
    Versioned,
    model::{Cluster, ClusterState, Fault, Level, MaintenanceWindow, Outcome, TaskType, new_task_id},
};
use serde_json::Value;

use super::{ClusterTask, check::refuse_window_unless_pro, power::refuse_while_tasks_run};
use crate::service::{
    RequestContext, Service,
    change::{About, Change, NewTask, Notice},
    fields,
    network::allocate::can_listen,
    node_pool::{Home, mask_secrets, without_repetition},
    task,
    upgrade::refuse_open_upgrade,
};

/// What shall change.
#[derive(Clone, Debug, Default)]
pub struct ClusterModify {
    /// `api_server_eip`: whether there is a public endpoint.
    pub api_server_eip: Option<bool>,
    /// `api_server_eip_id`; only with `api_server_eip`.
    pub api_server_eip_id: Option<String>,
    /// `deletion_protection`.
    pub deletion_protection: Option<bool>,
    /// `instance_deletion_protection`.
    pub instance_deletion_protection: Option<bool>,
    /// `ingress_loadbalancer_id`.
    pub ingress_loadbalancer_id: Option<String>,
    /// `ingress_domain_rebinding`.
    pub ingress_domain_rebinding: Option<bool>,
    /// `resource_group_id`.
    pub resource_group_id: Option<String>,
    /// `maintenance_window`.
    pub maintenance_window: Option<MaintenanceWindow>,
    /// `enable_rrsa`.
    pub enable_rrsa: Option<bool>,
    /// `cluster_name`.
    pub name: Option<String>,
    /// `cluster_spec`.
    pub spec: Option<String>,
    /// `timezone`.
    pub timezone: Option<String>,
    /// `security_group_id`.
    pub security_group_id: Option<String>,
    /// `vswitch_ids`.
    pub vswitch_ids: Option<Vec<String>>,
    /// The body as sent, without secrets.
    pub request: Value,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

/// Fields that cannot be honoured, and why.
const REFUSED: [(&str, &str); 2] = [
    ("access_control_list", "the API server's load balancer has no access control list; it would not protect anything"),
    ("api_server_custom_cert_sans", "the names in the API server's certificate are decided at creation (custom_san)"),
];

/// Fields that are recorded and returned without effect.
const RECORDED: [&str; 9] = [
    "api_server_eip_id",
    "ingress_domain_rebinding",
    "ingress_loadbalancer_id",
    "enable_rrsa",
    "control_plane_config",
    "control_plane_endpoints_config",
    "operation_policy",
    "system_events_logging",
    "security_group_id",
];

impl Service {
    /// Changes a cluster.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, and InvalidParameter of what is wrong.
    pub async fn cluster_modify(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        input: &ClusterModify,
    ) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let notices = check(input)?;
        self.change(ctx, |change| {
            let cluster = self.cluster(change.ctx, cluster_id)?;
            // Protection may be switched at any time: a cluster that failed must be deletable.
            if !only_protection(input) {
                self.changeable_cluster(change.ctx, cluster_id)?;
            }
            let mut wanted = cluster.value.clone();
            let told = self.apply(change, input, &mut wanted)?;
            Ok(self.record_change(change, &cluster, wanted, told, &notices))
        })
        .await
    }

    /// Applies every field to the record; answers what changed, in words, and whether machines or the balancer have to follow.
    fn apply(&self, change: &mut Change<'_>, input: &ClusterModify, wanted: &mut Cluster) -> Outcome<Told> {
        let mut told = Told::default();
        if let Some(flag) = input.deletion_protection {
            told.set("deletion_protection", &mut wanted.deletion_protection, flag);
        }
        if let Some(flag) = input.instance_deletion_protection {
            told.set("instance_deletion_protection", &mut wanted.instance_deletion_protection, flag);
        }
        if let Some(group) = fields::given(&input.resource_group_id) {
            told.set("resource_group_id", &mut wanted.resource_group_id, group.to_owned());
        }
        if let Some(name) = fields::given(&input.name).filter(|n| *n != wanted.name) {
            refuse_taken_name(change, name)?;
            told.set("cluster_name", &mut wanted.name, name.to_owned());
        }
        self.apply_spec(change, input, wanted, &mut told)?;
        self.apply_network(change, input, wanted, &mut told)?;
        if let Some(zone) = fields::given(&input.timezone) {
            told.follow |= told.set("timezone", &mut wanted.control_plane.timezone, Some(zone.to_owned()));
        }
        keep_recorded(input, wanted, &mut told);
        Ok(told)
    }

    fn apply_spec(
        &self,
        change: &mut Change<'_>,
        input: &ClusterModify,
        wanted: &mut Cluster,
        told: &mut Told,
    ) -> Outcome<()> {
        if let Some(spec) = fields::given(&input.spec) {
            if spec == "ack.standard" && wanted.spec == "ack.pro.small" {
                return Err(Fault::invalid(
                    "cluster_spec",
                    "cluster_spec: a cluster of ack.pro.small cannot go back to ack.standard",
                ));
            }
            if wanted.is_dedicated() {
                return Err(Fault::invalid(
                    "cluster_spec",
                    "cluster_spec is for managed clusters; this one is dedicated",
                ));
            }
            if spec != wanted.spec {
                refuse_open_upgrade(wanted)?;
                refuse_while_tasks_run(change, &wanted.id, "given another control plane")?;
            }
            if told.set("cluster_spec", &mut wanted.spec, spec.to_owned()) {
                change.widen_control_plane(&self.settings, wanted, &wanted.creation_task_id)?;
                told.follow = true;
            }
        }
        if let Some(window) = &input.maintenance_window {
            refuse_window_unless_pro(window, &wanted.spec)?;
            told.set("maintenance_window", &mut wanted.maintenance_window, Some(fields::maintenance_window(window)?));
        }
        Ok(())
    }

    fn apply_network(
        &self,
        change: &mut Change<'_>,
        input: &ClusterModify,
        wanted: &mut Cluster,
        told: &mut Told,
    ) -> Outcome<()> {
        let address = self.settings.public_address;
        match (input.api_server_eip, wanted.network.api_public_port) {
            (Some(true), None) => {
                let port = change.ledger().take_port(self.settings.ports.clone(), |port| can_listen(address, port))?;
                wanted.network.api_public_port = Some(port);
                told.changed.push(format!("api_server_eip (public endpoint on port {port})"));
                told.follow = true;
            }
            (Some(false), Some(_)) => {
                wanted.network.api_public_port = None;
                told.changed.push("api_server_eip (no public endpoint)".into());
                told.follow = true;
            }
            _ => {}
        }
        if let Some(group) = fields::given(&input.security_group_id) {
            told.set("security_group_id", &mut wanted.network.security_group_id, group.to_owned());
        }
        if let Some(ids) = &input.vswitch_ids {
            let ids = without_repetition(ids);
            if !(1..=5).contains(&ids.len()) {
                return Err(Fault::invalid(
                    "vswitch_ids",
                    format!("vswitch_ids: {} vSwitches are given; 1 to 5 are allowed", ids.len()),
                ));
            }
            let home = Home { vpc_id: &wanted.network.vpc_id, zones: &[] };
            change.ensure_vswitches(&self.settings, "vswitch_ids", home, &ids)?;
            told.set("vswitch_ids", &mut wanted.network.vswitch_ids, ids);
        }
        Ok(())
    }

    fn record_change(
        &self,
        change: &mut Change<'_>,
        cluster: &Versioned<Cluster>,
        mut wanted: Cluster,
        told: Told,
        notices: &[Notice],
    ) -> ClusterTask {
        let task_id = new_task_id();
        let about = About::Cluster(&cluster.id);
        let text = match told.changed.as_slice() {
            [] => format!("Cluster {} is as asked for already", cluster.name),
            changed => format!("Start to change cluster {}: {}", cluster.name, changed.join(", ")),
        };
        change.event(about, TaskType::ClusterModify, Level::Info, "Started", text);
        change.notices(about, TaskType::ClusterModify, notices);
        if told.changed.is_empty() {
            change.rely_on(cluster);
        } else {
            wanted.updated = change.now;
            if told.follow && wanted.state != ClusterState::Scaling {
                wanted.state = ClusterState::Updating;
            }
            change.update(cluster, &wanted);
        }
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster.id,
            task_type: TaskType::ClusterModify,
            stages: &task::MODIFY_STAGES,
            resources: vec![cluster.id.clone()],
            node_pool_id: None,
            deadline_minutes: self.settings.task_timeout_minutes,
            done: !told.follow,
        });
        if !told.follow {
            change.event(
                about,
                TaskType::ClusterModify,
                Level::Info,
                "Succeeded",
                format!("Cluster {} is as asked for", wanted.name),
            );
        }
        ClusterTask { cluster_id: cluster.id.clone(), task_id }
    }
}

/// What changed.
#[derive(Default)]
struct Told {
    changed: Vec<String>,
    /// Machines or the balancer have to follow.
    follow: bool,
}

impl Told {
    /// Sets a value; answers whether it is another one.
    fn set<T: PartialEq>(&mut self, field: &str, place: &mut T, value: T) -> bool {
        if *place == value {
            return false;
        }
        *place = value;
        self.changed.push(field.to_owned());
        true
    }
}

/// Checks what needs no records.
fn check(input: &ClusterModify) -> Outcome<Vec<Notice>> {
    for (field, why) in REFUSED {
        let value = &input.request[field];
        if value.as_array().is_some_and(|list| !list.is_empty()) || value.as_object().is_some_and(|o| !o.is_empty()) {
            return Err(Fault::invalid(field, format!("{field} is not supported: {why}")));
        }
    }
    if fields::given(&input.api_server_eip_id).is_some() && input.api_server_eip == Some(false) {
        return Err(Fault::invalid(
            "api_server_eip_id",
            "api_server_eip_id takes effect only when api_server_eip is true",
        ));
    }
    if let Some(name) = &input.name {
        fields::name("cluster_name", name)?;
    }
    fields::given(&input.spec)
        .map_or(Ok(()), |spec| fields::one_of("cluster_spec", spec, &["ack.standard", "ack.pro.small"]))?;
    fields::given(&input.timezone).map_or(Ok(()), fields::timezone)?;
    for (field, id) in [
        ("api_server_eip_id", &input.api_server_eip_id),
        ("ingress_loadbalancer_id", &input.ingress_loadbalancer_id),
        ("security_group_id", &input.security_group_id),
        ("resource_group_id", &input.resource_group_id),
    ] {
        fields::given(id).map_or(Ok(()), |id| fields::resource_id(field, id))?;
    }
    let mut notices = Vec::new();
    let said: Vec<&str> = RECORDED.iter().filter(|field| !is_nothing(&input.request[**field])).copied().collect();
    if !said.is_empty() {
        notices.push(Notice::new("NotApplied", format!("recorded without effect: {}", said.join(", "))));
    }
    notices.extend(Notice::unknown_fields(&input.unknown_fields));
    Ok(notices)
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || *value == false || *value == "" || value.as_object().is_some_and(|o| o.values().all(is_nothing))
}

/// Whether nothing but protection is to change.
fn only_protection(input: &ClusterModify) -> bool {
    let protections = ["deletion_protection", "instance_deletion_protection", "client_token"];
    input.request.as_object().is_some_and(|fields| fields.keys().all(|field| protections.contains(&field.as_str())))
}

/// Keeps what is recorded without effect in the cluster's own request, from where it is returned.
fn keep_recorded(input: &ClusterModify, wanted: &mut Cluster, told: &mut Told) {
    let mut given = input.request.clone();
    mask_secrets(&mut given);
    let Value::Object(given) = given else { return };
    if !wanted.request.is_object() {
        wanted.request = Value::Object(serde_json::Map::new());
    }
    for (field, value) in given.into_iter().filter(|(field, _)| RECORDED.contains(&field.as_str())) {
        if wanted.request[&field] != value {
            told.changed.push(field.clone());
            wanted.request[&field] = value;
        }
    }
}

fn refuse_taken_name(change: &Change<'_>, name: &str) -> Outcome<()> {
    let clusters = change.store.list::<Cluster>();
    match clusters.iter().find(|c| c.account_id == change.ctx.account_id && c.is_live() && c.name == name) {
        None => Ok(()),
        Some(other) => {
            Err(Fault::invalid("cluster_name", format!("cluster_name {name:?} is taken by the cluster {}", other.id)))
        }
    }
}
