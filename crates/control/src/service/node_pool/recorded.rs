//! Parts of a pool's body that are checked, stored and returned, but change nothing here: nothing is dropped in silence, one
//! event names them and says why.

use sampan_store::model::{Fault, Outcome};
use serde_json::Value;

use crate::service::{change::Notice, fields};

/// Fields with words that may stand in them; empty counts as absent.
const WORDS: [(&str, &[&str]); 4] = [
    ("scaling_policy", &["release", "recycle"]),
    ("multi_az_policy", &["PRIORITY", "COST_OPTIMIZED", "BALANCE"]),
    ("spot_strategy", &["NoSpot", "SpotWithPriceLimit", "SpotAsPriceGo"]),
    ("internet_charge_type", &["PayByBandwidth", "PayByTraffic"]),
];

/// Fields with numbers. Answers have zeros in them, so zero is allowed in requests, too.
const NUMBERS: [(&str, i64); 4] = [
    ("on_demand_base_capacity", 1000),
    ("on_demand_percentage_above_base_capacity", 100),
    ("spot_instance_pools", 10),
    ("internet_max_bandwidth_out", 100),
];

/// What has an effect, or is told of elsewhere, of `scaling_group`.
const EFFECTIVE: [&str; 23] = [
    "vswitch_ids",
    "vpc_id",
    "instance_types",
    "desired_size",
    "instance_charge_type",
    "tags",
    "multi_az_policy",
    // Without effect unless the pool is prepaid, which the documents say themselves.
    "period",
    "period_unit",
    "auto_renew",
    "auto_renew_period",
    // Told of with the options of machines.
    "image_id",
    "key_pair",
    "login_password",
    "rds_instances",
    // What runs is what most people ask for.
    "image_type",
    "platform",
    "internet_charge_type",
    "spot_price_limit",
    // Only in answers.
    "ram_policy",
    "scaling_group_id",
    "system_disk_performance_level",
    "ram_role_name",
];

/// Why the fields of `scaling_group` that have no effect have none.
fn reason(field: &str) -> &'static str {
    match field {
        f if f.starts_with("system_disk") || matches!(f, "data_disks" | "disk_init") => "disks are the host's",
        "security_group_id" | "security_group_ids" => "security groups do not filter",
        "internet_max_bandwidth_out" => "machines have no public addresses",
        "deploymentset_id" => "all machines are on one host",
        "scaling_policy" => "machines are made and destroyed, none is kept stopped",
        f if f.starts_with("spot_") || f.starts_with("on_demand_") || f == "compensate_with_on_demand" => {
            "there is no spot market"
        }
        "cis_enabled" | "soc_enabled" | "security_hardening_os" => "node images are not hardened",
        _ => "there is nothing like it here",
    }
}

/// Whether a field says something else than what holds anyway.
fn says_something(field: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => {
            !matches!((field, text.as_str()), (_, "") | ("scaling_policy", "release") | ("spot_strategy", "NoSpot"))
        }
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(|value| !value.is_null()),
    }
}

/// Checks the recorded parts of a body, and says which of them have no effect.
pub(crate) fn recorded_parts(prefix: &str, request: &Value, containerd: &str) -> Outcome<Option<Notice>> {
    let group = &request["scaling_group"];
    check(prefix, group)?;
    let mut said = Vec::new();
    for (field, value) in group.as_object().into_iter().flatten() {
        if !EFFECTIVE.contains(&field.as_str()) && says_something(field, value) {
            said.push(format!("{prefix}scaling_group.{field} ({})", reason(field)));
        }
    }
    if group["multi_az_policy"] == "COST_OPTIMIZED" {
        said.push(format!(
            "{prefix}scaling_group.multi_az_policy COST_OPTIMIZED (there are no prices; nodes are spread as by BALANCE)"
        ));
    }
    said.extend(nodes(prefix, &request["kubernetes_config"], containerd));
    said.extend(whole(prefix, request));
    Ok((!said.is_empty()).then(|| Notice::new("NotApplied", format!("recorded without effect: {}", said.join("; ")))))
}

fn check(prefix: &str, group: &Value) -> Outcome<()> {
    for (field, words) in WORDS {
        if let Some(word) = group[field].as_str().filter(|word| !word.is_empty()) {
            fields::one_of(&format!("{prefix}scaling_group.{field}"), word, words)?;
        }
    }
    for (field, max) in NUMBERS {
        if let Some(n) = group[field].as_i64() {
            fields::number(&format!("{prefix}scaling_group.{field}"), n, 0..=max)?;
        }
    }
    for (index, limit) in group["spot_price_limit"].as_array().into_iter().flatten().enumerate() {
        let field = format!("{prefix}scaling_group.spot_price_limit[{index}].price_limit");
        let price = limit["price_limit"].as_str().filter(|text| !text.is_empty());
        if price.is_some_and(|text| text.parse::<f64>().ok().is_none_or(|n| !n.is_finite() || n < 0.0)) {
            return Err(Fault::invalid(&field, format!("{field} is not a price like 0.39")));
        }
    }
    Ok(())
}

fn nodes(prefix: &str, config: &Value, containerd: &str) -> Vec<String> {
    let mut said = Vec::new();
    let version = config["runtime_version"].as_str().unwrap_or_default();
    if !matches!(config["runtime"].as_str(), Some("docker")) && !version.is_empty() && version != containerd {
        said.push(format!("{prefix}kubernetes_config.runtime_version (nodes have containerd {containerd})"));
    }
    if says_something("", &config["pre_user_data"]) {
        said.push(format!("{prefix}kubernetes_config.pre_user_data (user_data runs before the node joins; use that)"));
    }
    said
}

fn whole(prefix: &str, request: &Value) -> Vec<String> {
    let on = |part: &str, field: &str| request[part][field] == true;
    let mut said = Vec::new();
    let mut say = |there: bool, text: &str| {
        if there {
            said.push(format!("{prefix}{text}"));
        }
    };
    say(on("tee_config", "tee_enable"), "tee_config (machines do not compute confidentially)");
    say(on("auto_scaling", "is_bond_eip"), "auto_scaling.is_bond_eip (machines have no public addresses)");
    let kind = request["auto_scaling"]["type"].as_str().unwrap_or_default();
    say(
        on("auto_scaling", "enable") && !matches!(kind, "" | "cpu"),
        "auto_scaling.type (machines are ordinary ones; the pool is scaled as with cpu)",
    );
    say(says_something("", &request["node_config"]), "node_config (the kubelet has the installation's configuration)");
    for part in ["interconnect_mode", "interconnect_config", "max_nodes", "host_network", "intranet"] {
        say(says_something("", &request[part]), &format!("{part} (means something in edge pools only)"));
    }
    for part in ["auto_mode", "eflo_node_group", "node_components"] {
        say(says_something("", &request[part]), &format!("{part} (there is nothing like it here)"));
    }
    for part in ["auto_repair_policy", "auto_upgrade_policy", "auto_vul_fix_policy"] {
        say(
            says_something("", &request["management"][part]),
            &format!("management.{part} (the service has its own rules)"),
        );
    }
    for part in ["auto_vul_fix", "auto_fault_diagnosis", "drift_enabled"] {
        say(on("management", part), &format!("management.{part} (there is nothing like it here)"));
    }
    said
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(request: &Value) -> String {
        recorded_parts("", request, "2.1.1").expect("accepted").map_or_else(String::new, |notice| notice.message)
    }

    #[test]
    fn what_has_no_effect_is_named_with_its_reason() {
        let request = json!({
            "scaling_group": {
                "spot_strategy": "SpotAsPriceGo", "deploymentset_id": "ds-1", "scaling_policy": "recycle",
                "internet_max_bandwidth_out": 5, "data_disks": [{"size": 40}], "multi_az_policy": "COST_OPTIMIZED",
            },
            "kubernetes_config": {"runtime": "containerd", "runtime_version": "1.0", "pre_user_data": "eA=="},
            "tee_config": {"tee_enable": true}, "max_nodes": 10,
            "auto_scaling": {"enable": true, "is_bond_eip": true, "type": "gpu"},
            "management": {"auto_vul_fix": true},
        });
        let said = said(&request);
        for part in [
            "spot_strategy",
            "deploymentset_id",
            "scaling_policy",
            "internet_max_bandwidth_out",
            "data_disks",
            "COST_OPTIMIZED",
            "runtime_version",
            "pre_user_data",
            "tee_config",
            "max_nodes",
            "is_bond_eip",
            "auto_scaling.type",
            "auto_vul_fix",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn what_an_answer_says_is_no_news_in_a_request() {
        let request = json!({
            "scaling_group": {
                "spot_strategy": "NoSpot", "deploymentset_id": "", "scaling_policy": "release", "spot_instance_pools": 0,
                "spot_price_limit": [], "internet_charge_type": "", "compensate_with_on_demand": false,
                "multi_az_policy": "BALANCE", "on_demand_base_capacity": 0,
            },
            "kubernetes_config": {"runtime": "containerd", "runtime_version": "2.1.1"},
            "tee_config": {"tee_enable": false}, "max_nodes": 0,
        });
        assert_eq!(said(&request), "");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (field, value) in [
            ("multi_az_policy", json!("SOMEHOW")),
            ("scaling_policy", json!("keep")),
            ("spot_strategy", json!("Cheap")),
            ("internet_charge_type", json!("Free")),
            ("on_demand_base_capacity", json!(1001)),
            ("on_demand_percentage_above_base_capacity", json!(-1)),
            ("spot_instance_pools", json!(11)),
            ("internet_max_bandwidth_out", json!(101)),
            ("spot_price_limit", json!([{"price_limit": "cheap"}])),
        ] {
            let fault = recorded_parts("p.", &json!({"scaling_group": {field: value}}), "").expect_err(field);
            assert!(fault.message.contains(&format!("p.scaling_group.{field}")), "{}", fault.message);
        }
    }
}
