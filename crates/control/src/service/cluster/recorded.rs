//! Fields of CreateCluster that are checked, recorded and returned, but have no effect of their own; and those that are
//! refused because recording them would promise something. `docs/fields-create-cluster.md` says the same for people.

use sampan_store::model::{Fault, Outcome};
use serde_json::Value;

use crate::service::{change::Notice, fields};

/// What is done about a field.
enum Rule {
    /// One of these words; nothing is said.
    Word(&'static [&'static str]),
    /// One of these words; anything else cannot be had here, and why.
    Only(&'static [&'static str], &'static str),
    /// Cannot be had here (unless false, zero or empty), and why.
    Refused(&'static str),
    /// Recorded; that it has no effect is said, with the reason (unless false or empty).
    Noted(&'static str),
}

const DISK: &[&str] = &["cloud", "cloud_efficiency", "cloud_ssd", "cloud_essd", "cloud_auto", "cloud_essd_entry"];
const PAYMENT: &[&str] = &["PostPaid", "PrePaid"];
const NO_LOG_SERVICE: &str = "there is no log service; logs of the control plane are in its machine";
const NO_MASTERS: &str = "a managed cluster has no master nodes of the user's";

/// Path of the field in the body, and its rule.
const RULES: &[(&str, Rule)] = &[
    (
        "load_balancer_spec",
        Rule::Word(&["slb.s1.small", "slb.s2.small", "slb.s2.medium", "slb.s3.small", "slb.s3.medium", "slb.s3.large"]),
    ),
    ("charge_type", Rule::Word(PAYMENT)),
    ("os_type", Rule::Only(&["Linux"], "nodes run Linux")),
    ("ip_stack", Rule::Only(&["ipv4"], "clusters have IPv4 addresses")),
    ("network_mode", Rule::Only(&["vpc"], "clusters are in a VPC")),
    ("node_port_range", Rule::Only(&["30000-32767"], "the port range of services cannot be chosen in this release")),
    ("instances", Rule::Refused("existing instances cannot be added at creation in this release; give num_of_nodes")),
    (
        "access_control_list",
        Rule::Refused("the API server's load balancer has no access control list; it would not protect anything"),
    ),
    (
        "auto_mode.enable",
        Rule::Refused("nodes are not managed by themselves in this release; give num_of_nodes or nodepools"),
    ),
    ("multi_az", Rule::Noted("a managed cluster's zones follow from its vSwitches")),
    ("pod_vswitch_ids", Rule::Noted("it is for the terway network only")),
    ("snat_entry", Rule::Noted("machines reach the outside through their host")),
    ("nat_gateway", Rule::Noted("machines reach the outside through their host")),
    ("load_balancer_id", Rule::Noted("the API server has a load balancer of its own")),
    ("ssh_flags", Rule::Noted("machines run no SSH server")),
    ("release_eip_flag", Rule::Noted("machines have no public addresses")),
    ("private_zone", Rule::Noted("there is no private zone service")),
    ("service_discovery_types", Rule::Noted("the cluster's own DNS serves its services")),
    ("control_plane_endpoints_config", Rule::Noted("the API server has one load balancer")),
    (
        "encryption_provider_key",
        Rule::Noted("there is no key management service; Secrets are encrypted with a key of the cluster's own"),
    ),
    ("enable_rrsa", Rule::Noted("there is no RAM that service accounts could take roles of")),
    ("rrsa_config.enabled", Rule::Noted("there is no RAM that service accounts could take roles of")),
    ("audit_log_config.enabled", Rule::Noted(NO_LOG_SERVICE)),
    ("controlplane_log_ttl", Rule::Noted(NO_LOG_SERVICE)),
    ("controlplane_log_project", Rule::Noted(NO_LOG_SERVICE)),
    ("controlplane_log_components", Rule::Noted(NO_LOG_SERVICE)),
    ("logging_type", Rule::Noted(NO_LOG_SERVICE)),
    ("cis_enabled", Rule::Noted("node images are not hardened")),
    ("soc_enabled", Rule::Noted("node images are not hardened")),
    ("security_hardening_os", Rule::Noted("node images are not hardened")),
    (
        "operation_policy.cluster_auto_upgrade.enabled",
        Rule::Noted("maintenance_window and the pools' management.auto_upgrade decide"),
    ),
    ("maintenance_window.recurrence", Rule::Noted("weekly_period decides")),
    ("maintenance_window.exclusions", Rule::Noted("weekly_period decides")),
    ("master_count", Rule::Noted(NO_MASTERS)),
    ("master_vswitch_ids", Rule::Noted(NO_MASTERS)),
    ("master_instance_types", Rule::Noted(NO_MASTERS)),
    ("master_instance_type", Rule::Noted(NO_MASTERS)),
    ("master_instance_type_a", Rule::Noted(NO_MASTERS)),
    ("master_instance_type_b", Rule::Noted(NO_MASTERS)),
    ("master_instance_type_c", Rule::Noted(NO_MASTERS)),
    ("master_system_disk_category", Rule::Word(DISK)),
    ("master_instance_charge_type", Rule::Word(PAYMENT)),
    ("control_plane_config", Rule::Noted(NO_MASTERS)),
];

/// Checks those fields of a request; answers one event about what has no effect.
pub(super) fn check(request: &Value, is_dedicated: bool) -> Outcome<Option<Notice>> {
    let mut said = Vec::new();
    for (path, rule) in RULES {
        let value = path.split('.').fold(request, |value, step| &value[step]);
        if is_nothing(value) {
            continue;
        }
        let word = value.as_str().unwrap_or_default();
        match rule {
            Rule::Word(words) => fields::one_of(path, word, words)?,
            Rule::Only(words, why) if !words.contains(&word) => {
                return Err(Fault::invalid(path, format!("{path} {value} is not supported: {why}")));
            }
            Rule::Only(..) => {}
            Rule::Refused(why) => return Err(Fault::invalid(path, format!("{path} is not supported: {why}"))),
            // Masters are what these fields say.
            Rule::Noted(NO_MASTERS) if is_dedicated && path.starts_with("master_") => {}
            Rule::Noted(NO_MASTERS) if is_dedicated => {
                said.push(format!("{path} (the master_ fields describe masters)"))
            }
            Rule::Noted("a managed cluster's zones follow from its vSwitches") if is_dedicated => {}
            Rule::Noted(why) => said.push(format!("{path} ({why})")),
        }
    }
    Ok((!said.is_empty()).then(|| Notice::new("NotApplied", format!("recorded without effect: {}", said.join("; ")))))
}

/// Whether a value asks for nothing.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
    }
}

#[cfg(test)]
mod tests {
    use sampan_store::model::FaultKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_is_promised() {
        let refused = |request: Value, field: &str| {
            let fault = check(&request, false).expect_err(field);
            assert_eq!(fault.kind, FaultKind::InvalidParameter(field.into()));
        };
        refused(json!({"instances": ["i-1"]}), "instances");
        refused(json!({"access_control_list": ["10.0.0.0/8"]}), "access_control_list");
        refused(json!({"auto_mode": {"enable": true}}), "auto_mode.enable");
        refused(json!({"ip_stack": "dual"}), "ip_stack");
        refused(json!({"os_type": "Windows"}), "os_type");
        refused(json!({"node_port_range": "30000-40000"}), "node_port_range");
        refused(json!({"load_balancer_spec": "slb.huge"}), "load_balancer_spec");
        let nothing = json!({"instances": [], "auto_mode": {"enable": false}, "snat_entry": false});
        assert_eq!(check(&nothing, false), Ok(None));
        let noted = json!({"snat_entry": true, "enable_rrsa": true, "load_balancer_spec": "slb.s2.small"});
        let notice = check(&noted, false);
        let notice = notice.expect("accepted").expect("said");
        assert!(notice.message.contains("snat_entry") && notice.message.contains("enable_rrsa"), "{}", notice.message);
    }
}
