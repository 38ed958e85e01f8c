//! The options of a pool's machines.

use sampan_store::model::FaultKind;

use super::*;

fn options() -> NodePoolOptions {
    NodePoolOptions::default()
}

fn refused(naming: &Naming, options: &NodePoolOptions, field: &str) {
    let fault = settle(&Settings::default(), naming, options).expect_err(field);
    let named = match &fault.kind {
        FaultKind::InvalidParameter(f) | FaultKind::MissingParameter(f) => f,
        other => panic!("{other:?}"),
    };
    assert_eq!(named, field, "{}", fault.message);
    assert!(fault.message.contains(field), "{}", fault.message);
}

#[test]
fn defaults() {
    let settled = settle(&Settings::default(), &Naming::Worker, &options()).expect("fine");
    assert_eq!(settled.instance_types, ["ecs.g6.large"]);
    assert!(settled.notices.is_empty());
}

#[test]
fn refusals_name_the_field_as_the_request_does() {
    let pool = Naming::Pool("nodepools[1].".into());
    let disk =
        |category: &str, size: i64| Disk { category: Some(category.into()), size: Some(size), ..Disk::default() };
    let prepaid = |period: Option<i64>, unit: &str| Charge {
        charge_type: Some("PrePaid".into()),
        period,
        period_unit: Some(unit.into()),
        ..Charge::default()
    };
    let w = &Naming::Worker;
    refused(w, &NodePoolOptions { instance_types: vec!["big".into()], ..options() }, "worker_instance_types");
    refused(
        &pool,
        &NodePoolOptions { instance_types: vec!["big".into()], ..options() },
        "nodepools[1].scaling_group.instance_types",
    );
    refused(
        w,
        &NodePoolOptions { vswitch_ids: (0..6).map(|n| format!("vsw-{n}")).collect(), ..options() },
        "worker_vswitch_ids",
    );
    refused(w, &NodePoolOptions { system_disk: disk("floppy", 40), ..options() }, "worker_system_disk_category");
    refused(w, &NodePoolOptions { system_disk: disk("cloud_ssd", 39), ..options() }, "worker_system_disk_size");
    refused(w, &NodePoolOptions { system_disk: disk("cloud_ssd", 501), ..options() }, "worker_system_disk_size");
    refused(w, &NodePoolOptions { data_disks: vec![disk("cloud_ssd", 1)], ..options() }, "worker_data_disks[0].size");
    refused(w, &NodePoolOptions { cpu_policy: Some("most".into()), ..options() }, "cpu_policy");
    refused(
        &pool,
        &NodePoolOptions { user_data: Some("#!".into()), ..options() },
        "nodepools[1].kubernetes_config.user_data",
    );
    refused(
        w,
        &NodePoolOptions { login: Login { password: Some("weak".into()), key_pair: None }, ..options() },
        "login_password",
    );
    refused(w, &NodePoolOptions { charge: prepaid(None, "Month"), ..options() }, "worker_period");
    refused(w, &NodePoolOptions { charge: prepaid(Some(10), "Month"), ..options() }, "worker_period");
    refused(w, &NodePoolOptions { charge: prepaid(Some(1), ""), ..options() }, "worker_period_unit");
    refused(w, &NodePoolOptions { charge: prepaid(Some(1), "Day"), ..options() }, "worker_period_unit");
    refused(
        w,
        &NodePoolOptions { charge: Charge { charge_type: Some("Free".into()), ..Charge::default() }, ..options() },
        "worker_instance_charge_type",
    );
    refused(w, &NodePoolOptions { platform: Some("WindowsCore".into()), ..options() }, "platform");
    refused(
        &pool,
        &NodePoolOptions { runtime: Some("Sandboxed-Container.runv".into()), ..options() },
        "nodepools[1].kubernetes_config.runtime",
    );
    let taint = Taint { key: "a b".into(), value: String::new(), effect: String::new() };
    refused(w, &NodePoolOptions { taints: vec![taint], ..options() }, "taints");
}

#[test]
fn what_has_no_effect_is_said() {
    let asked = NodePoolOptions {
        runtime: Some("docker".into()),
        image_id: Some("aliyun_2_1903_x64_20G_alibase_20200529.vhd".into()),
        node_name_mode: Some("aliyun.com00055test".into()),
        login: Login { key_pair: Some("np-key-name".into()), password: Some("Hello1234".into()) },
        cms_enabled: Some(true),
        ..options()
    };
    let settled = settle(&Settings::default(), &Naming::Pool(String::new()), &asked).expect("accepted");
    let reasons: Vec<&str> = settled.notices.iter().map(|n| n.reason).collect();
    assert_eq!(reasons, ["RuntimeReplaced", "NotApplied"]);
    assert!(settled.notices[1].message.contains("node_name_mode"), "{:?}", settled.notices);
    assert!(settled.notices[1].message.contains("kubernetes_config.cms_enabled"), "{:?}", settled.notices);
    let flat = settle(&Settings::default(), &Naming::Worker, &asked).expect("accepted");
    assert!(flat.notices[1].message.contains("cloud_monitor_flags"), "{:?}", flat.notices);
}

#[test]
fn no_secret_is_recorded() {
    let asked = NodePoolOptions { login: Login { key_pair: None, password: Some("Hello1234".into()) }, ..options() };
    assert!(!as_request(&asked).to_string().contains("Hello"));
    assert!(!format!("{asked:?}").contains("Hello"));
    let mut value = json!({"nodepools": [{"scaling_group": {"login_password": "Hello1234"}}], "user_ca": "PEM", "login_password": null});
    mask_secrets(&mut value);
    assert!(!value.to_string().contains("Hello") && !value.to_string().contains("PEM"), "{value}");
}
