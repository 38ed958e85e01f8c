//! `management` and `auto_scaling` of a request: checked, and laid over what a pool has.

use sampan_store::model::{AutoScaling, Fault, Management, Outcome, ScalingKind};

use crate::service::fields;

/// Most nodes that a pool may be scaled to by itself.
const INSTANCES_MAX: i64 = 1000;

/// `management` as a request has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManagementWish {
    /// A managed pool.
    pub enable: Option<bool>,
    /// Nodes that are not Ready are restarted and replaced by themselves.
    pub auto_repair: Option<bool>,
    /// Nodes are upgraded by themselves.
    pub auto_upgrade: Option<bool>,
    /// Nodes added during an upgrade.
    pub surge: Option<i64>,
    /// The same as a percentage.
    pub surge_percentage: Option<i64>,
    /// Nodes that may be out of service during an upgrade.
    pub max_unavailable: Option<i64>,
}

/// `auto_scaling` as a request has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutoScalingWish {
    /// The pool scales by itself.
    pub enable: Option<bool>,
    /// Fewest nodes.
    pub min_instances: Option<i64>,
    /// Most nodes.
    pub max_instances: Option<i64>,
    /// `cpu`, `gpu`, `gpushare` or `spot`.
    pub kind: Option<String>,
    /// Nodes get public addresses.
    pub is_bond_eip: Option<bool>,
    /// How these are paid for.
    pub eip_internet_charge_type: Option<String>,
    /// Their bandwidth.
    pub eip_bandwidth: Option<i64>,
}

/// A number that counts as absent when it is zero: clients send zeros for what they do not mean.
fn given(value: Option<i64>) -> Option<i64> {
    value.filter(|n| *n != 0)
}

/// The pool's management after the request; what the request leaves out stays.
pub(crate) fn management(prefix: &str, now: Option<&Management>, wish: &ManagementWish) -> Outcome<Management> {
    let at = |field: &str| format!("{prefix}management.{field}");
    let mut settled = now.cloned().unwrap_or_default();
    settled.enable = wish.enable.unwrap_or(settled.enable);
    settled.auto_repair = wish.auto_repair.or(settled.auto_repair);
    settled.auto_upgrade = wish.auto_upgrade.or(settled.auto_upgrade);
    let (surge, percentage) = (given(wish.surge), given(wish.surge_percentage));
    if surge.is_some() && percentage.is_some() {
        let field = at("upgrade_config.surge_percentage");
        let text = format!("{field} and surge are both given; they exclude each other, give one of them");
        return Err(Fault::invalid(&field, text));
    }
    if wish.surge.is_some() || wish.surge_percentage.is_some() {
        settled.surge = surge.map(|n| fields::number(&at("upgrade_config.surge"), n, 0..=INSTANCES_MAX)).transpose()?;
        let field = at("upgrade_config.surge_percentage");
        settled.surge_percentage = percentage.map(|n| fields::number(&field, n, 0..=100)).transpose()?;
    }
    match wish.max_unavailable {
        // Nothing follows from it while the pool is not managed; published examples have 0 there.
        Some(0) if !settled.enable => {}
        Some(n) => settled.max_unavailable = Some(fields::number(&at("upgrade_config.max_unavailable"), n, 1..=1000)?),
        None => {}
    }
    Ok(settled)
}

/// The pool's scaling after the request; what the request leaves out stays. Bounds are only looked at when it is on.
pub(crate) fn auto_scaling(prefix: &str, now: Option<&AutoScaling>, wish: &AutoScalingWish) -> Outcome<AutoScaling> {
    let at = |field: &str| format!("{prefix}auto_scaling.{field}");
    let mut settled = now.cloned().unwrap_or_default();
    settled.enable = wish.enable.unwrap_or(settled.enable);
    settled.is_bond_eip = wish.is_bond_eip.or(settled.is_bond_eip);
    settled.eip_bandwidth = wish.eip_bandwidth.or(settled.eip_bandwidth);
    if let Some(charge) = fields::given(&wish.eip_internet_charge_type) {
        fields::one_of(&at("eip_internet_charge_type"), charge, &["PayByBandwidth", "PayByTraffic"])?;
        settled.eip_internet_charge_type = Some(charge.to_owned());
    }
    if let Some(kind) = fields::given(&wish.kind) {
        settled.kind = scaling_kind(&at("type"), kind)?;
    }
    let bound = |field: &str, value: i64| fields::number(&at(field), value, 0..=INSTANCES_MAX);
    if !settled.enable {
        // The bounds have no effect then: what cannot be one is not kept.
        settled.min_instances = wish.min_instances.and_then(|n| u32::try_from(n).ok()).unwrap_or(settled.min_instances);
        settled.max_instances = wish.max_instances.and_then(|n| u32::try_from(n).ok()).unwrap_or(settled.max_instances);
        return Ok(settled);
    }
    let before = now.is_some_and(|now| now.enable);
    for (field, wished) in [("min_instances", wish.min_instances), ("max_instances", wish.max_instances)] {
        if wished.is_none() && !before {
            return Err(Fault::missing(&at(field)));
        }
    }
    if let Some(min) = wish.min_instances {
        settled.min_instances = bound("min_instances", min)?;
    }
    if let Some(max) = wish.max_instances {
        settled.max_instances = bound("max_instances", max)?;
    }
    if settled.max_instances < settled.min_instances || settled.max_instances == 0 {
        let field = at("max_instances");
        let text = format!(
            "{field} {} must be at least 1 and not below min_instances {}",
            settled.max_instances, settled.min_instances
        );
        return Err(Fault::invalid(&field, text));
    }
    Ok(settled)
}

fn scaling_kind(field: &str, kind: &str) -> Outcome<ScalingKind> {
    fields::one_of(field, kind, &["cpu", "gpu", "gpushare", "spot"])?;
    Ok(match kind {
        "gpu" => ScalingKind::Gpu,
        "gpushare" => ScalingKind::GpuShare,
        "spot" => ScalingKind::Spot,
        _ => ScalingKind::Cpu,
    })
}

#[cfg(test)]
mod tests {
    use sampan_store::model::FaultKind;

    use super::*;

    fn field(fault: &Fault) -> &str {
        match &fault.kind {
            FaultKind::InvalidParameter(field) | FaultKind::MissingParameter(field) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn management_keeps_what_is_not_given() {
        let first =
            ManagementWish { enable: Some(true), surge: Some(5), max_unavailable: Some(2), ..Default::default() };
        let first = management("", None, &first).expect("fine");
        assert!(first.enable && first.upgrades());
        assert_eq!((first.surge_of(3), first.unavailable_max()), (5, 2));
        let next = ManagementWish { auto_repair: Some(false), ..Default::default() };
        let next = management("", Some(&first), &next).expect("fine");
        assert_eq!((next.surge, next.auto_repair, next.enable), (Some(5), Some(false), true));
        let percentage = ManagementWish { surge: Some(0), surge_percentage: Some(50), ..Default::default() };
        let percentage = management("", Some(&next), &percentage).expect("fine");
        assert_eq!((percentage.surge, percentage.surge_of(6)), (None, 3));
    }

    #[test]
    fn management_that_cannot_be() {
        let both = ManagementWish { surge: Some(1), surge_percentage: Some(1), ..Default::default() };
        let fault = management("nodepools[0].", None, &both).expect_err("both");
        assert_eq!(field(&fault), "nodepools[0].management.upgrade_config.surge_percentage");
        let none = |enable| ManagementWish { enable: Some(enable), max_unavailable: Some(0), ..Default::default() };
        assert_eq!(
            field(&management("", None, &none(true)).expect_err("0")),
            "management.upgrade_config.max_unavailable"
        );
        assert_eq!(management("", None, &none(false)).expect("as the published example").unavailable_max(), 1);
    }

    #[test]
    fn scaling_needs_bounds_only_when_it_is_on() {
        let wish = |enable, min, max| AutoScalingWish {
            enable: Some(enable),
            min_instances: min,
            max_instances: max,
            ..Default::default()
        };
        assert_eq!(
            field(&auto_scaling("", None, &wish(true, None, Some(3))).expect_err("min")),
            "auto_scaling.min_instances"
        );
        assert_eq!(
            field(&auto_scaling("", None, &wish(true, Some(4), Some(3))).expect_err("max")),
            "auto_scaling.max_instances"
        );
        assert_eq!(
            field(&auto_scaling("", None, &wish(true, Some(0), Some(0))).expect_err("none")),
            "auto_scaling.max_instances"
        );
        assert!(!auto_scaling("", None, &wish(false, Some(4), Some(3))).expect("off").enable);
        let on = auto_scaling("", None, &wish(true, Some(1), Some(3))).expect("on");
        let more = AutoScalingWish { max_instances: Some(9), ..Default::default() };
        let more = auto_scaling("", Some(&on), &more).expect("more");
        assert_eq!((more.enable, more.min_instances, more.max_instances), (true, 1, 9));
        let kind = AutoScalingWish { kind: Some("tpu".into()), ..Default::default() };
        assert_eq!(field(&auto_scaling("", None, &kind).expect_err("kind")), "auto_scaling.type");
    }
}
