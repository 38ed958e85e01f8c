//! What a request says about machines of a pool: in CreateCluster with `worker_` in front, in a pool's own body nested.

use std::fmt;

use sampan_store::model::{Fault, NodeNameMode, Outcome, Tag, Taint};
use serde_json::{Map, Value, json};

use super::node_name;
use crate::service::{Settings, change::Notice, fields, instance_type};

/// What stands for a secret in what is stored and returned.
pub(super) const MASKED: &str = "******";

/// A disk of a machine. Disks are the host's; what is asked for is checked, recorded and returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// `cloud_efficiency`, `cloud_ssd`, ….
    pub category: Option<String>,
    /// GiB.
    pub size: Option<i64>,
    /// `PL0` to `PL3`.
    pub performance_level: Option<String>,
    /// `true` or `false`, as text.
    pub encrypted: Option<String>,
}

/// How machines are paid for. There is no money here; what is asked for is checked, recorded and returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// `PostPaid` (default) or `PrePaid`.
    pub charge_type: Option<String>,
    /// Duration.
    pub period: Option<i64>,
    /// `Week`, `Month` or `Year`.
    pub period_unit: Option<String>,
    /// Renewed by itself.
    pub auto_renew: Option<bool>,
    /// Duration of a renewal.
    pub auto_renew_period: Option<i64>,
}

/// How people log in to machines.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// Name of a key pair.
    pub key_pair: Option<String>,
    /// Password; stored as a secret and never returned.
    pub password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| MASKED);
        f.debug_struct("Login").field("key_pair", &self.key_pair).field("password", &password).finish()
    }
}

/// What a request says about a pool's machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePoolOptions {
    /// Instance types, first choice first; none: the installation's default.
    pub instance_types: Vec<String>,
    /// vSwitches; none: the cluster's.
    pub vswitch_ids: Vec<String>,
    /// Labels of the nodes.
    pub labels: Vec<Tag>,
    /// Taints of the nodes.
    pub taints: Vec<Taint>,
    /// Tags of the machines.
    pub tags: Vec<Tag>,
    /// `none` or `static`.
    pub cpu_policy: Option<String>,
    /// First-boot script, Base64.
    pub user_data: Option<String>,
    /// `docker`, `containerd`.
    pub runtime: Option<String>,
    /// Version of the runtime.
    pub runtime_version: Option<String>,
    /// Login.
    pub login: Login,
    /// System disk.
    pub system_disk: Disk,
    /// Data disks.
    pub data_disks: Vec<Disk>,
    /// Payment.
    pub charge: Charge,
    /// Image.
    pub image_id: Option<String>,
    /// Kind of image.
    pub image_type: Option<String>,
    /// Distribution.
    pub platform: Option<String>,
    /// How node names are made.
    pub node_name_mode: Option<String>,
    /// Security groups.
    pub security_group_ids: Vec<String>,
    /// Databases that let the nodes in.
    pub rds_instances: Vec<String>,
    /// The monitoring agent is wanted.
    pub cms_enabled: Option<bool>,
}

/// How the fields are called in the request at hand.
#[derive(Clone, Debug)]
pub(crate) enum Naming {
    /// `worker_…`, as in CreateCluster.
    Worker,
    /// The same, but for the vSwitches, as in ScaleOutCluster.
    ScaleOut,
    /// `master_…`, as in CreateCluster.
    Master,
    /// Nested, after this prefix (empty or `nodepools[0].`).
    Pool(String),
}

impl Naming {
    /// The field's name; `group` is the object it is in when nested.
    pub(crate) fn name(&self, group: &str, field: &str) -> String {
        const PLAIN: [&str; 12] = [
            "taints",
            "tags",
            "cpu_policy",
            "user_data",
            "key_pair",
            "login_password",
            "image_id",
            "image_type",
            "platform",
            "node_name_mode",
            "rds_instances",
            "runtime",
        ];
        match self {
            Self::ScaleOut if field == "vswitch_ids" => field.to_owned(),
            Self::Worker | Self::Master | Self::ScaleOut if PLAIN.contains(&field) => field.to_owned(),
            Self::Master => format!("master_{field}"),
            Self::Worker | Self::ScaleOut => format!("worker_{field}"),
            Self::Pool(prefix) => format!("{prefix}{group}.{field}"),
        }
    }

    fn machine(&self, field: &str) -> String {
        self.name("scaling_group", field)
    }

    fn node(&self, field: &str) -> String {
        self.name("kubernetes_config", field)
    }

    /// The wish for a monitoring agent has two names.
    fn monitoring(&self) -> String {
        match self {
            Self::Worker | Self::Master | Self::ScaleOut => "cloud_monitor_flags".to_owned(),
            Self::Pool(_) => self.node("cms_enabled"),
        }
    }
}

/// Checked options.
#[derive(Clone, Debug)]
pub(crate) struct SettledOptions {
    /// At least one.
    pub(crate) instance_types: Vec<String>,
    /// Without repetitions; may be empty.
    pub(crate) vswitch_ids: Vec<String>,
    pub(crate) labels: Vec<Tag>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) cpu_policy: Option<String>,
    /// Decoded.
    pub(crate) user_data: Option<String>,
    pub(crate) runtime: Option<String>,
    /// `None`: nodes are named `<region>.<address>`.
    pub(crate) node_name_mode: Option<NodeNameMode>,
    pub(crate) password: Option<String>,
    pub(crate) notices: Vec<Notice>,
}

/// Checks the options of a pool.
pub(crate) fn settle(settings: &Settings, naming: &Naming, options: &NodePoolOptions) -> Outcome<SettledOptions> {
    let mut instance_types = without_repetition(&options.instance_types);
    let field = naming.machine("instance_types");
    for instance_type in &instance_types {
        instance_type::shape(&field, instance_type)?;
    }
    if instance_types.is_empty() {
        instance_types.push(settings.default_instance_type.clone());
    }
    let vswitch_ids = without_repetition(&options.vswitch_ids);
    vswitches(&naming.machine("vswitch_ids"), &vswitch_ids)?;
    fields::labels(&naming.node("labels"), &options.labels)?;
    fields::tags(&naming.machine("tags"), &options.tags, 128)?;
    let cpu_policy = fields::given(&options.cpu_policy);
    cpu_policy.map_or(Ok(()), |policy| fields::one_of(&naming.node("cpu_policy"), policy, &["none", "static"]))?;
    let user_data =
        fields::given(&options.user_data).map(|text| fields::user_data(&naming.node("user_data"), text)).transpose()?;
    login(naming, &options.login)?;
    system_disk(naming, &options.system_disk)?;
    data_disks(naming, &options.data_disks)?;
    charge(naming, &options.charge)?;
    operating_system(naming, options)?;
    for group in &options.security_group_ids {
        fields::resource_id(&naming.machine("security_group_ids"), group)?;
    }
    let field = naming.node("node_name_mode");
    let node_names = node_name::parse(&field, fields::given(&options.node_name_mode).unwrap_or_default())?;
    let mut notices = Vec::new();
    notices.extend(runtime(settings, &naming.node("runtime"), options.runtime.as_deref())?);
    notices.extend(without_effect(naming, options, node_names == node_name::Naming::NoMode));
    Ok(SettledOptions {
        instance_types,
        vswitch_ids,
        labels: options.labels.clone(),
        taints: fields::taints(&naming.node("taints"), &options.taints)?,
        tags: options.tags.clone(),
        cpu_policy: cpu_policy.map(str::to_owned),
        user_data: user_data.filter(|script| !script.is_empty()),
        runtime: fields::given(&options.runtime).map(str::to_owned),
        node_name_mode: match node_names {
            node_name::Naming::Customized(mode) => Some(mode),
            node_name::Naming::ByAddress | node_name::Naming::NoMode => None,
        },
        password: fields::given(&options.login.password).map(str::to_owned),
        notices,
    })
}

/// The container runtime named in a request: containerd runs, whatever is asked for; sandboxed ones are refused.
pub(crate) fn runtime(settings: &Settings, field: &str, name: Option<&str>) -> Outcome<Option<Notice>> {
    let Some(name) = name.map(str::trim).filter(|n| !n.is_empty()) else { return Ok(None) };
    match name {
        "containerd" => Ok(None),
        "docker" => Ok(Some(Notice::new(
            "RuntimeReplaced",
            format!(
                "{field} asks for docker; containerd {} runs, as Kubernetes no longer uses docker",
                settings.containerd_version
            )
            .replace("containerd  ", "containerd "),
        ))),
        sandboxed if sandboxed.starts_with("Sandboxed-Container") => Err(Fault::invalid(
            field,
            format!(
                "{field} {sandboxed:?} is not supported by this release: it has no sandboxed runtime; use containerd"
            ),
        )),
        other => Err(Fault::invalid(field, format!("{field} {other:?} is not one of docker, containerd"))),
    }
}

fn vswitches(field: &str, ids: &[String]) -> Outcome<()> {
    if ids.len() > 5 {
        return Err(Fault::invalid(field, format!("{field}: {} vSwitches are given; 1 to 5 are allowed", ids.len())));
    }
    ids.iter().try_for_each(|id| fields::resource_id(field, id))
}

/// The list without empty and repeated entries, in its order.
pub(crate) fn without_repetition(list: &[String]) -> Vec<String> {
    let mut seen: Vec<String> = Vec::with_capacity(list.len());
    for item in list.iter().map(|i| i.trim()).filter(|i| !i.is_empty()) {
        if !seen.iter().any(|s| s == item) {
            seen.push(item.to_owned());
        }
    }
    seen
}

fn login(naming: &Naming, login: &Login) -> Outcome<()> {
    if let Some(key_pair) = fields::given(&login.key_pair)
        && (key_pair.chars().count() > 128 || key_pair.chars().any(char::is_control))
    {
        let field = naming.machine("key_pair");
        return Err(Fault::invalid(&field, format!("{field} is not a name of at most 128 characters")));
    }
    fields::given(&login.password).map_or(Ok(()), |p| fields::password(&naming.machine("login_password"), p))
}

const SYSTEM_DISKS: [&str; 6] =
    ["cloud", "cloud_efficiency", "cloud_ssd", "cloud_essd", "cloud_auto", "cloud_essd_entry"];
const LEVELS: [&str; 4] = ["PL0", "PL1", "PL2", "PL3"];

fn system_disk(naming: &Naming, disk: &Disk) -> Outcome<()> {
    if let Some(category) = fields::given(&disk.category) {
        fields::one_of(&naming.machine("system_disk_category"), category, &SYSTEM_DISKS)?;
    }
    if let Some(size) = disk.size {
        fields::number(&naming.machine("system_disk_size"), size, 40..=500)?;
    }
    fields::given(&disk.performance_level)
        .map_or(Ok(()), |level| fields::one_of(&naming.machine("system_disk_performance_level"), level, &LEVELS))
}

fn data_disks(naming: &Naming, disks: &[Disk]) -> Outcome<()> {
    let field = naming.machine("data_disks");
    if disks.len() > 16 {
        return Err(Fault::invalid(
            &field,
            format!("{field}: {} disks are given; at most 16 are allowed", disks.len()),
        ));
    }
    for (index, disk) in disks.iter().enumerate() {
        let at = |part: &str| format!("{field}[{index}].{part}");
        if let Some(category) = fields::given(&disk.category) {
            fields::one_of(&at("category"), category, &SYSTEM_DISKS)?;
        }
        if let Some(size) = disk.size {
            fields::number(&at("size"), size, 40..=32768)?;
        }
        if let Some(encrypted) = fields::given(&disk.encrypted) {
            fields::one_of(&at("encrypted"), encrypted, &["true", "false"])?;
        }
        if let Some(level) = fields::given(&disk.performance_level) {
            fields::one_of(&at("performance_level"), level, &LEVELS)?;
        }
    }
    Ok(())
}

fn charge(naming: &Naming, charge: &Charge) -> Outcome<()> {
    let group = |field: &str| match field {
        "charge_type" => naming.machine("instance_charge_type"),
        field => naming.machine(field),
    };
    let kind = fields::given(&charge.charge_type).unwrap_or("PostPaid");
    fields::one_of(&group("charge_type"), kind, &["PostPaid", "PrePaid"])?;
    if kind == "PostPaid" {
        // The other fields take effect only with PrePaid; clients send zeros and empty texts in them.
        return Ok(());
    }
    let unit = fields::required(&group("period_unit"), charge.period_unit.as_deref())?;
    fields::one_of(&group("period_unit"), unit, &["Week", "Month", "Year"])?;
    let period = charge.period.ok_or_else(|| Fault::missing(&group("period")))?;
    let (periods, renewals): (&[i64], &[i64]) = match unit {
        "Week" => (&[1, 2, 3, 4], &[1, 2, 3]),
        "Month" => (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 24, 36, 48, 60], &[1, 2, 3, 6, 12]),
        _ => (&[1, 2, 3, 4, 5], &[1, 2, 3]),
    };
    member(&group("period"), period, periods, unit)?;
    if charge.auto_renew == Some(true) {
        let renewal = charge.auto_renew_period.ok_or_else(|| Fault::missing(&group("auto_renew_period")))?;
        member(&group("auto_renew_period"), renewal, renewals, unit)?;
    }
    Ok(())
}

fn member(field: &str, value: i64, allowed: &[i64], unit: &str) -> Outcome<()> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let list = allowed.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    Err(Fault::invalid(field, format!("{field} {value} is not one of {list} with the unit {unit}")))
}

/// Nodes run our image; other Linux distributions are recorded, other systems refused.
fn operating_system(naming: &Naming, options: &NodePoolOptions) -> Outcome<()> {
    for (field, value) in [("platform", &options.platform), ("image_type", &options.image_type)] {
        if let Some(value) = fields::given(value) {
            let field = naming.machine(field);
            if value.starts_with("Windows") {
                return Err(Fault::invalid(&field, format!("{field} {value:?} is not supported: nodes run Linux")));
            }
            if value.chars().count() > 64 || value.chars().any(char::is_control) {
                return Err(Fault::invalid(&field, format!("{field} is not a name of at most 64 characters")));
            }
        }
    }
    fields::given(&options.image_id).map_or(Ok(()), |image| {
        let field = naming.machine("image_id");
        if image.len() <= 128 && image.chars().all(|c| c.is_ascii_graphic()) {
            Ok(())
        } else {
            Err(Fault::invalid(&field, format!("{field} is not an image id of at most 128 letters, digits and dots")))
        }
    })
}

/// Fields that are recorded and returned, but change nothing here; said in one event.
fn without_effect(naming: &Naming, options: &NodePoolOptions, no_name_mode: bool) -> Option<Notice> {
    let mut said = Vec::new();
    if fields::given(&options.image_id).is_some() {
        said.push(format!("{} (nodes run the installation's own image)", naming.machine("image_id")));
    }
    if no_name_mode {
        let field = naming.node("node_name_mode");
        said.push(format!(
            "{field} (it has not the form customized,prefix,5,suffix; nodes are named <region>.<address>)"
        ));
    }
    if fields::given(&options.login.key_pair).is_some() || fields::given(&options.login.password).is_some() {
        said.push(format!(
            "{} (machines run no SSH server)",
            naming.machine("login_password").replace("login_password", "key_pair, login_password")
        ));
    }
    if !options.rds_instances.is_empty() {
        said.push(format!("{} (there are no databases)", naming.machine("rds_instances")));
    }
    if options.cms_enabled == Some(true) {
        said.push(format!("{} (there is no monitoring agent)", naming.monitoring()));
    }
    (!said.is_empty()).then(|| Notice::new("NotApplied", format!("recorded without effect: {}", said.join("; "))))
}

/// The options in the shape of a pool's own request body, without secrets, for recording.
pub(crate) fn as_request(options: &NodePoolOptions) -> Value {
    let disk = |d: &Disk| {
        object([
            ("category", json!(d.category)),
            ("size", json!(d.size)),
            ("encrypted", json!(d.encrypted)),
            ("performance_level", json!(d.performance_level)),
        ])
    };
    let disks: Vec<Value> = options.data_disks.iter().map(disk).collect();
    json!({
        "scaling_group": object([
            ("instance_types", json!(options.instance_types)),
            ("vswitch_ids", json!(options.vswitch_ids)),
            ("instance_charge_type", json!(options.charge.charge_type)),
            ("period", json!(options.charge.period)),
            ("period_unit", json!(options.charge.period_unit)),
            ("auto_renew", json!(options.charge.auto_renew)),
            ("auto_renew_period", json!(options.charge.auto_renew_period)),
            ("system_disk_category", json!(options.system_disk.category)),
            ("system_disk_size", json!(options.system_disk.size)),
            ("system_disk_performance_level", json!(options.system_disk.performance_level)),
            ("data_disks", json!(disks)),
            ("image_id", json!(options.image_id)),
            ("image_type", json!(options.image_type)),
            ("platform", json!(options.platform)),
            ("key_pair", json!(options.login.key_pair)),
            ("login_password", json!(options.login.password.as_ref().map(|_| MASKED))),
            ("security_group_ids", json!(options.security_group_ids)),
            ("rds_instances", json!(options.rds_instances)),
            ("tags", json!(options.tags)),
        ]),
        "kubernetes_config": object([
            ("runtime", json!(options.runtime)),
            ("runtime_version", json!(options.runtime_version)),
            ("cpu_policy", json!(options.cpu_policy)),
            ("user_data", json!(options.user_data)),
            ("node_name_mode", json!(options.node_name_mode)),
            ("cms_enabled", json!(options.cms_enabled)),
            ("labels", json!(options.labels)),
            ("taints", json!(options.taints)),
        ]),
    })
}

/// An object of what is there: no nulls, no empty lists.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let there = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
    let kept: Map<String, Value> =
        fields.into_iter().filter(|(_, v)| there(v)).map(|(k, v)| (k.to_owned(), v)).collect();
    Value::Object(kept)
}

/// Replaces passwords anywhere in what is to be recorded, should a caller have left one in.
pub(crate) fn mask_secrets(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if matches!(name.as_str(), "login_password" | "password" | "user_ca") && !field.is_null() {
                    *field = Value::from(MASKED);
                } else {
                    mask_secrets(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask_secrets),
        _ => {}
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
