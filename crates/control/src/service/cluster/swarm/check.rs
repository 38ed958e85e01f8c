//! Everything about the creation of a Swarm cluster that can be decided without looking at records.

use ipnet::Ipv4Net;
use sampan_store::model::{Fault, FaultKind, Outcome, Tag};
use serde_json::Value;

use super::{create::SwarmCreate, image};
use crate::service::{
    RequestContext, Settings, change::Notice, fields, instance_type, network::cidr, node_pool::mask_secrets,
};

const DISKS: [&str; 8] = [
    "cloud",
    "cloud_efficiency",
    "cloud_ssd",
    "cloud_essd",
    "cloud_auto",
    "cloud_essd_entry",
    "ephemeral_ssd",
    "ephemeral",
];
/// Most nodes that a request can name; quotas are stricter.
const SIZE_MAX: i64 = 1000;
/// Addresses of the overlay that nobody can have: network, gateway, broadcast.
const RESERVED: u32 = 3;
/// Addresses of the overlay that a machine takes for itself (its end of the overlay, its router), and one for a container.
const PER_NODE: u32 = 3;

/// Fields that a Swarm body may have.
const FIELDS: [&str; 22] = [
    "name",
    "cluster_type",
    "size",
    "instance_type",
    "network_mode",
    "subnet_cidr",
    "vpc_id",
    "vpcid",
    "vswitch_id",
    "vswitchid",
    "password",
    "data_disk_category",
    "data_disk_size",
    "ecs_image_id",
    "io_optimized",
    "need_slb",
    "release_eip_flag",
    "rds_instances",
    "region_id",
    "tags",
    "timeout_mins",
    "disable_rollback",
];
/// Further ones, of which nothing has to be said.
const SILENT: [&str; 2] = ["client_token", "zone_id"];

/// A checked request.
pub(super) struct Checked {
    pub(super) name: String,
    pub(super) region_id: String,
    pub(super) size: u32,
    pub(super) instance_type: String,
    pub(super) vpc_id: Option<String>,
    pub(super) vswitch_ids: Vec<String>,
    pub(super) zones: Vec<String>,
    /// `None`: the first default that is free.
    pub(super) subnet: Option<Ipv4Net>,
    pub(super) routing: bool,
    pub(super) tags: Vec<Tag>,
    pub(super) timeout_minutes: u32,
    pub(super) disable_rollback: bool,
    pub(super) password: String,
    pub(super) request: Value,
    pub(super) notices: Vec<Notice>,
}

/// Checks a request.
pub(super) fn check(settings: &Settings, ctx: &RequestContext, input: &SwarmCreate) -> Outcome<Checked> {
    let name = fields::required("name", input.name.as_deref())?;
    fields::name("name", name)?;
    let size = fields::number("size", input.size.ok_or_else(|| Fault::missing("size"))?, 1..=SIZE_MAX)?;
    let instance_type = fields::required("instance_type", input.instance_type.as_deref())?;
    instance_type::shape("instance_type", instance_type)?;
    let region_id = fields::given(&input.region_id).unwrap_or(&ctx.region_id);
    fields::region("region_id", region_id)?;
    let mode = fields::given(&input.network_mode).unwrap_or("vpc");
    if mode != "vpc" {
        let text = format!("network_mode {mode:?} is not supported: clusters are in a VPC; give vpc");
        return Err(Fault::invalid("network_mode", text));
    }
    let (vpc_id, vswitch_ids) = place(input)?;
    let zones: Vec<String> = fields::given(&input.zone_id).into_iter().map(str::to_owned).collect();
    zones.iter().try_for_each(|zone| fields::region("zone_id", zone))?;
    let subnet = fields::given(&input.subnet_cidr).map(|text| subnet(text, size)).transpose()?;
    fields::tags("tags", &input.tags, 64)?;
    let mut notices = vec![image::first_password(input.password.as_deref())?];
    notices.extend(image::check(settings, fields::given(&input.ecs_image_id))?);
    disks(input.data_disk_category.as_deref(), input.data_disk_size, input.io_optimized.as_deref())?;
    let mut request = input.request.clone();
    mask_secrets(&mut request);
    notices.extend(without_effect(input));
    let mut ignored = foreign(&request);
    ignored.extend(input.unknown_fields.iter().cloned());
    notices.extend(Notice::unknown_fields(&ignored));
    Ok(Checked {
        name: name.to_owned(),
        region_id: region_id.to_owned(),
        size,
        instance_type: instance_type.to_owned(),
        vpc_id,
        vswitch_ids,
        zones,
        subnet,
        routing: input.need_slb.unwrap_or(true),
        tags: input.tags.clone(),
        timeout_minutes: fields::number("timeout_mins", input.timeout_mins.unwrap_or(60), 1..=1440)?,
        disable_rollback: input.disable_rollback.unwrap_or(false),
        password: input.password.clone().unwrap_or_default(),
        request,
        notices,
    })
}

/// VPC and vSwitch are given both or neither.
fn place(input: &SwarmCreate) -> Outcome<(Option<String>, Vec<String>)> {
    let (vpc, vswitch) = (fields::given(&input.vpc_id), fields::given(&input.vswitch_id));
    if let Some(id) = vpc {
        fields::resource_id("vpc_id", id)?;
    }
    if let Some(id) = vswitch {
        fields::resource_id("vswitch_id", id)?;
    }
    let missing = |field: &str, other: &str| {
        let text = format!("the parameter {field} is required when {other} is given: give both or neither");
        Err(Fault::new(FaultKind::MissingParameter(field.into()), text))
    };
    match (vpc, vswitch) {
        (Some(_), None) => missing("vswitch_id", "vpc_id"),
        (None, Some(_)) => missing("vpc_id", "vswitch_id"),
        (vpc, vswitch) => Ok((vpc.map(str::to_owned), vswitch.into_iter().map(str::to_owned).collect())),
    }
}

/// Reads `subnet_cidr` for that many nodes.
pub(super) fn subnet(text: &str, size: u32) -> Outcome<Ipv4Net> {
    const FIELD: &str = "subnet_cidr";
    let range = cidr::read(FIELD, text)?;
    if !(8..=27).contains(&range.prefix_len()) {
        return Err(Fault::invalid(FIELD, format!("{FIELD} {range} must be a /8 to a /27")));
    }
    refuse_small_subnet(range, size)?;
    Ok(range)
}

/// Each machine and each container has an address of the overlay.
pub(super) fn refuse_small_subnet(range: Ipv4Net, size: u32) -> Outcome<()> {
    let has = 1u64 << (32 - u32::from(range.prefix_len()));
    let needed = u64::from(RESERVED) + u64::from(PER_NODE) * (u64::from(size) + 1);
    if has >= needed {
        return Ok(());
    }
    let text = format!(
        "subnet_cidr {range} has {has} addresses, but {size} nodes with one container each need {needed}; give a larger range"
    );
    Err(Fault::invalid("subnet_cidr", text))
}

/// Disks and what belongs to them, in all Swarm bodies.
pub(super) fn disks(category: Option<&str>, size: Option<i64>, io_optimized: Option<&str>) -> Outcome<()> {
    let given = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(category) = given(category) {
        fields::one_of("data_disk_category", &category, &DISKS)?;
    }
    if let Some(size) = size {
        fields::number("data_disk_size", size, 20..=32768)?;
    }
    if let Some(word) = given(io_optimized) {
        // The table has two words, the example another.
        fields::one_of("io_optimized", &word.to_ascii_lowercase(), &["none", "optimized", "true", "false"])?;
    }
    Ok(())
}

/// What is recorded and returned, but changes nothing here.
fn without_effect(input: &SwarmCreate) -> Option<Notice> {
    let mut said = Vec::new();
    if fields::given(&input.data_disk_category).is_some() || input.data_disk_size.is_some() {
        said.push("data_disk_category, data_disk_size (the disk of a node is the host's)");
    }
    if input.release_eip_flag == Some(true) {
        said.push("release_eip_flag (nodes have no public addresses)");
    }
    if !input.rds_instances.is_empty() {
        said.push("rds_instances (there are no databases)");
    }
    (!said.is_empty()).then(|| Notice::new("NotApplied", format!("recorded without effect: {}", said.join("; "))))
}

/// Fields that belong to Kubernetes clusters.
fn foreign(request: &Value) -> Vec<String> {
    let known = |name: &str| FIELDS.contains(&name) || SILENT.contains(&name);
    let given = request.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    given.map(|(name, _)| name.clone()).filter(|name| !known(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets() {
        let read = |text: &str, size| subnet(text, size).map(|range| range.to_string());
        assert_eq!(read("172.28.1.0/24", 1), Ok("172.28.1.0/24".into()));
        assert_eq!(read("10.0.0.0/8", 100), Ok("10.0.0.0/8".into()));
        assert!(read("172.28.1.0/27", 8).is_ok());
        for (bad, size) in [
            ("172.28.1.0/27", 9),
            ("172.28.1.0/28", 1),
            ("8.8.8.0/24", 1),
            ("172.28.1.1/24", 1),
            ("x", 1),
            ("10.0.0.0/7", 1),
        ] {
            let fault = subnet(bad, size).expect_err(bad);
            assert_eq!(fault.kind, FaultKind::InvalidParameter("subnet_cidr".into()), "{bad}");
        }
    }

    #[test]
    fn fields_of_the_other_generation_are_named() {
        let request =
            serde_json::json!({"name": "a", "size": 1, "num_of_nodes": 3, "taints": null, "proxy_mode": "ipvs"});
        assert_eq!(foreign(&request), ["num_of_nodes", "proxy_mode"]);
    }
}
