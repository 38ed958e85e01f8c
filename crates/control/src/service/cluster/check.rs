//! Everything about a CreateCluster request that can be decided without looking at records.

use sampan_store::model::{
    Addon, ClusterType, ControlPlaneOptions, Fault, MaintenanceWindow, Outcome, Parameters, ProxyMode, Tag,
};
use serde_json::Value;

use super::{
    create::ClusterCreate,
    masters::{self, Masters, PRO, ZoneWorkers},
    recorded,
};
use crate::service::{
    RequestContext, Settings, addon,
    change::Notice,
    fields,
    node_pool::{self, Naming, NewPool, NodePoolCreate},
    version::{self, Resolved},
};

/// Name of the pool that is made with a cluster.
const DEFAULT_POOL: &str = "default-nodepool";
/// Most workers of a cluster by the older editions.
const NODES_MAX: i64 = 300;

/// A checked request.
pub(super) struct Checked {
    pub(super) name: String,
    pub(super) region_id: String,
    pub(super) cluster_type: ClusterType,
    pub(super) spec: String,
    pub(super) version: Resolved,
    pub(super) vpc_id: Option<String>,
    pub(super) vswitch_ids: Vec<String>,
    pub(super) zones: Vec<String>,
    pub(super) security_group_id: Option<String>,
    pub(super) public: bool,
    pub(super) cluster_domain: String,
    pub(super) proxy_mode: ProxyMode,
    pub(super) control_plane: ControlPlaneOptions,
    pub(super) user_ca: Option<String>,
    pub(super) tags: Vec<Tag>,
    pub(super) addons: Vec<Addon>,
    pub(super) maintenance_window: Option<MaintenanceWindow>,
    pub(super) timeout_minutes: u32,
    /// Of a dedicated cluster.
    pub(super) masters: Option<Masters>,
    /// Workers of the first pool, where the request gives them by zones.
    pub(super) zone_workers: Vec<ZoneWorkers>,
    /// The first is the default pool.
    pub(super) pools: Vec<NewPool>,
    pub(super) request: Value,
    pub(super) notices: Vec<Notice>,
}

/// Checks a request.
pub(super) fn check(settings: &Settings, ctx: &RequestContext, input: &ClusterCreate) -> Outcome<Checked> {
    let mut notices = Vec::new();
    let name = fields::required("name", input.name.as_deref())?;
    fields::name("name", name)?;
    let cluster_type = cluster_type(input)?;
    let region_id = fields::given(&input.region_id).unwrap_or(&ctx.region_id);
    fields::region("region_id", region_id)?;
    let spec = spec(input, cluster_type)?;
    let version = version::resolve(settings, input.kubernetes_version.as_deref())?;
    if let Some(asked) = &version.instead_of {
        notices.push(Notice::new(
            "VersionReplaced",
            format!(
                "Kubernetes {asked} is not available; {} runs, the nearest one of this installation",
                version.version
            ),
        ));
    }
    let is_dedicated = cluster_type == ClusterType::Kubernetes;
    let (vpc_id, vswitch_ids, zones) = network(input, region_id, is_dedicated)?;
    let masters = if is_dedicated { Some(masters::check(settings, &input.masters)?) } else { None };
    let zone_workers = masters::zone_workers(input)?;
    fields::tags("tags", &input.tags, 64)?;
    let addons = addon::settle(settings, &input.addons)?;
    notices.extend(addons.notices);
    let control_plane = control_plane(input)?;
    let proxy_mode = proxy_mode(input)?;
    let cluster_domain = fields::given(&input.cluster_domain).unwrap_or("cluster.local");
    fields::cluster_domain(cluster_domain)?;
    let maintenance_window = maintenance_window(input, &spec)?;
    pro_only(input, &spec)?;
    notices.extend(node_pool::runtime(settings, "runtime", input.workers.runtime.as_deref())?);
    let pools = pools(settings, input)?;
    let mut request = input.request.clone();
    node_pool::mask_secrets(&mut request);
    notices.extend(recorded::check(&request, is_dedicated)?);
    for pool in &pools {
        // The runtime of the whole cluster was said above.
        notices.extend(pool.notices.iter().filter(|n| !notices.contains(n)).cloned().collect::<Vec<_>>());
    }
    if let Some(masters) = &masters {
        notices.extend(masters.notices.iter().filter(|n| !notices.contains(n)).cloned().collect::<Vec<_>>());
    }
    notices.extend(Notice::unknown_fields(&input.unknown_fields));
    Ok(Checked {
        name: name.to_owned(),
        region_id: region_id.to_owned(),
        cluster_type,
        spec,
        version,
        vpc_id,
        vswitch_ids,
        zones,
        security_group_id: security_group(input)?,
        public: input.endpoint_public_access.unwrap_or(true),
        cluster_domain: cluster_domain.to_owned(),
        proxy_mode,
        control_plane,
        user_ca: fields::given(&input.user_ca).map(str::to_owned),
        tags: input.tags.clone(),
        addons: addons.addons,
        maintenance_window,
        timeout_minutes: fields::number("timeout_mins", input.timeout_mins.unwrap_or(60), 1..=1440)?,
        masters,
        zone_workers,
        pools,
        request,
        notices,
    })
}

fn cluster_type(input: &ClusterCreate) -> Outcome<ClusterType> {
    let unsupported = |field: &str, value: &str| {
        Err(Fault::invalid(
            field,
            format!(
                "{field} {value:?} is not supported by this release; it makes ManagedKubernetes and Kubernetes clusters"
            ),
        ))
    };
    let cluster_type = match fields::required("cluster_type", input.cluster_type.as_deref())? {
        "ManagedKubernetes" => ClusterType::ManagedKubernetes,
        "Kubernetes" => ClusterType::Kubernetes,
        other => return unsupported("cluster_type", other),
    };
    match fields::given(&input.profile).unwrap_or("Default") {
        "Default" => Ok(cluster_type),
        other => unsupported("profile", other),
    }
}

/// Dedicated clusters have none; clients that know only managed ones send the default.
fn spec(input: &ClusterCreate, cluster_type: ClusterType) -> Outcome<String> {
    let spec = fields::given(&input.cluster_spec).unwrap_or("ack.standard");
    fields::one_of("cluster_spec", spec, &["ack.standard", PRO])?;
    match cluster_type {
        ClusterType::Kubernetes if spec == PRO => Err(Fault::invalid(
            "cluster_spec",
            "cluster_spec ack.pro.small is for managed clusters; a dedicated one has as many masters as master_count says",
        )),
        ClusterType::Kubernetes => Ok(String::new()),
        _ => Ok(spec.to_owned()),
    }
}

/// VPC, vSwitches and zones; VPC and vSwitches are given both or neither.
fn network(
    input: &ClusterCreate,
    region_id: &str,
    is_dedicated: bool,
) -> Outcome<(Option<String>, Vec<String>, Vec<String>)> {
    let vpc_id = fields::given(&input.vpc_id).map(str::to_owned);
    let vswitch_ids = node_pool::without_repetition(&input.vswitch_ids);
    let workers = node_pool::without_repetition(&input.workers.vswitch_ids);
    let vswitch_ids = if vswitch_ids.is_empty() { workers } else { vswitch_ids };
    let masters = node_pool::without_repetition(&input.masters.options.vswitch_ids);
    let vswitch_ids = if vswitch_ids.is_empty() && is_dedicated { masters } else { vswitch_ids };
    if let Some(id) = &vpc_id {
        fields::resource_id("vpcid", id)?;
        if vswitch_ids.is_empty() {
            return Err(Fault::new(
                sampan_store::model::FaultKind::MissingParameter("vswitch_ids".into()),
                "the parameter vswitch_ids is required when vpcid is given: give both or neither",
            ));
        }
    } else if !vswitch_ids.is_empty() {
        return Err(Fault::new(
            sampan_store::model::FaultKind::MissingParameter("vpcid".into()),
            "the parameter vpcid is required when vswitch_ids are given: give both or neither",
        ));
    } else if input.snat_entry == Some(false) {
        return Err(Fault::invalid(
            "snat_entry",
            "snat_entry must be true when the VPC is made by the service; give true, or a vpcid",
        ));
    }
    if vswitch_ids.len() > 5 {
        return Err(Fault::invalid(
            "vswitch_ids",
            format!("vswitch_ids: {} vSwitches are given; 1 to 5 are allowed", vswitch_ids.len()),
        ));
    }
    let mut zones = node_pool::without_repetition(&input.zone_ids);
    for zone in &zones {
        refuse_foreign_zone(zone, region_id)?;
    }
    if is_dedicated && zones.is_empty() && vswitch_ids.is_empty() {
        // Masters shall not share one.
        zones = ["a", "b", "c"].map(|letter| format!("{region_id}-{letter}")).into();
    }
    if zones.len() > 5 {
        return Err(Fault::invalid(
            "zone_ids",
            format!("zone_ids: {} zones are given; 1 to 5 are allowed", zones.len()),
        ));
    }
    Ok((vpc_id, vswitch_ids, zones))
}

/// A region's zones are named after it.
fn refuse_foreign_zone(zone: &str, region_id: &str) -> Outcome<()> {
    fields::region("zone_ids", zone)?;
    let suffix = zone.strip_prefix(region_id).and_then(|rest| rest.strip_prefix('-'));
    if suffix.is_some_and(|suffix| (1..=2).contains(&suffix.len()) && suffix.bytes().all(|b| b.is_ascii_alphanumeric()))
    {
        return Ok(());
    }
    Err(Fault::invalid(
        "zone_ids",
        format!("zone_ids: the region {region_id} has no zone {zone:?}; its zones are {region_id}-a, {region_id}-b, …"),
    ))
}

fn security_group(input: &ClusterCreate) -> Outcome<Option<String>> {
    let Some(id) = fields::given(&input.security_group_id) else { return Ok(None) };
    fields::resource_id("security_group_id", id)?;
    Ok(Some(id.to_owned()))
}

fn proxy_mode(input: &ClusterCreate) -> Outcome<ProxyMode> {
    match fields::given(&input.proxy_mode).unwrap_or("ipvs") {
        "ipvs" => Ok(ProxyMode::Ipvs),
        "iptables" => Ok(ProxyMode::Iptables),
        other => Err(Fault::invalid("proxy_mode", format!("proxy_mode {other:?} is not one of ipvs, iptables"))),
    }
}

fn control_plane(input: &ClusterCreate) -> Outcome<ControlPlaneOptions> {
    let mut custom_san =
        fields::subject_names("custom_san", fields::given(&input.custom_san).unwrap_or_default().split(','))?;
    for name in fields::subject_names("extra_sans", input.extra_sans.iter().map(String::as_str))? {
        if !custom_san.contains(&name) {
            custom_san.push(name);
        }
    }
    let issuer = fields::given(&input.service_account_issuer);
    issuer.map_or(Ok(()), fields::issuer)?;
    let timezone = fields::given(&input.timezone);
    timezone.map_or(Ok(()), fields::timezone)?;
    Ok(ControlPlaneOptions {
        custom_san,
        service_account_issuer: issuer.map(str::to_owned),
        api_audiences: fields::audiences(input.api_audiences.as_deref().unwrap_or_default())?,
        timezone: timezone.map(str::to_owned),
        // The secret's name has the cluster's id in it.
        user_ca_secret: None,
        parameters: Parameters::new(),
        parameter_change: None,
    })
}

/// Takes effect only in Pro clusters; there a window that is on would be ignored, so it is refused.
fn maintenance_window(input: &ClusterCreate, spec: &str) -> Outcome<Option<MaintenanceWindow>> {
    let Some(window) = &input.maintenance_window else { return Ok(None) };
    refuse_window_unless_pro(window, spec)?;
    fields::maintenance_window(window).map(Some)
}

/// The same rule for creating and changing.
pub(super) fn refuse_window_unless_pro(window: &MaintenanceWindow, spec: &str) -> Outcome<()> {
    if window.enable && spec != "ack.pro.small" {
        return Err(Fault::invalid(
            "maintenance_window",
            "maintenance_window takes effect only in clusters with cluster_spec ack.pro.small; turn it off or make such a cluster",
        ));
    }
    Ok(())
}

fn pro_only(input: &ClusterCreate, spec: &str) -> Outcome<()> {
    if fields::given(&input.encryption_provider_key).is_some() && spec != "ack.pro.small" {
        return Err(Fault::invalid(
            "encryption_provider_key",
            "encryption_provider_key works only in clusters with cluster_spec ack.pro.small",
        ));
    }
    Ok(())
}

/// The pools: the default one with `num_of_nodes`, unless only others are asked for; then the first of them is it.
fn pools(settings: &Settings, input: &ClusterCreate) -> Outcome<Vec<NewPool>> {
    let nodes = fields::number("num_of_nodes", input.num_of_nodes.unwrap_or(0), 0..=NODES_MAX)?;
    let mut pools = Vec::with_capacity(1 + input.node_pools.len());
    if nodes > 0 || input.node_pools.is_empty() {
        let options = node_pool::settle(settings, &Naming::Worker, &input.workers)?;
        let given = NodePoolCreate {
            name: Some(DEFAULT_POOL.into()),
            resource_group_id: input.resource_group_id.clone(),
            count: Some(i64::from(nodes)),
            request: node_pool::as_request(&input.workers),
            ..NodePoolCreate::default()
        };
        let mut pool = node_pool::check_pool(settings, "", &given)?;
        pool.vswitch_field = Naming::Worker.name("", "vswitch_ids");
        pool.notices = options.notices.clone();
        pool.options = options;
        pools.push(pool);
    }
    for (index, pool) in input.node_pools.iter().enumerate() {
        let pool = node_pool::check_pool(settings, &format!("nodepools[{index}]."), pool)?;
        if pools.iter().any(|p| p.name == pool.name) {
            let field = format!("nodepools[{index}].nodepool_info.name");
            return Err(Fault::invalid(&field, format!("{field}: the name {} is given twice", pool.name)));
        }
        pools.push(pool);
    }
    Ok(pools)
}
