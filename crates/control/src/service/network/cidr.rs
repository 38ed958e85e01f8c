//! Address ranges of a cluster: which are allowed, and which fit together.

use ipnet::Ipv4Net;
use sampan_store::model::{Fault, Outcome};

/// Pod networks that are used when none is given, in this order; the first is the documented default.
const POD_DEFAULTS: [[u8; 2]; 13] = [
    [172, 16],
    [172, 20],
    [172, 21],
    [172, 22],
    [172, 23],
    [172, 24],
    [172, 25],
    [172, 26],
    [172, 27],
    [172, 28],
    [172, 29],
    [172, 30],
    [172, 31],
];

/// Service networks that are used when none is given, in this order; the first is the documented default.
const SERVICE_DEFAULTS: [[u8; 2]; 4] = [[172, 19], [172, 18], [192, 168], [172, 17]];

/// A range that is taken, and by what, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Range.
    pub range: Ipv4Net,
    /// `the VPC vpc-…`, `the pods of cluster c…`.
    pub by: String,
}

impl Taken {
    /// A taken range.
    pub fn new(range: Ipv4Net, by: impl Into<String>) -> Self {
        Self { range, by: by.into() }
    }
}

/// Whether two ranges share an address.
pub fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

/// The pod and service networks of a new cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterRanges {
    /// Pods.
    pub pods: Ipv4Net,
    /// Services.
    pub services: Ipv4Net,
    /// Prefix length of a node's part of the pods.
    pub node_mask: u8,
}

/// What a request says about a cluster's ranges.
#[derive(Clone, Debug, Default)]
pub struct RangeWishes<'a> {
    /// `container_cidr`.
    pub pods: Option<&'a str>,
    /// `service_cidr`.
    pub services: Option<&'a str>,
    /// `node_cidr_mask`.
    pub node_mask: Option<i64>,
    /// Nodes from the start.
    pub nodes: u32,
}

/// Default of `node_cidr_mask` of managed clusters.
const NODE_MASK_DEFAULT: u8 = 25;

/// Decides the ranges of a cluster; `taken` are the VPC and the pod networks of the other clusters in it.
///
/// # Errors
/// InvalidParameter of `container_cidr`, `service_cidr` or `node_cidr_mask`.
pub fn plan(wishes: &RangeWishes<'_>, taken: &[Taken]) -> Outcome<ClusterRanges> {
    let node_mask = match wishes.node_mask {
        None => NODE_MASK_DEFAULT,
        Some(mask) => u8::try_from(mask)
            .ok()
            .filter(|m| (24..=28).contains(m))
            .ok_or_else(|| Fault::invalid("node_cidr_mask", format!("node_cidr_mask {mask} is outside 24 to 28")))?,
    };
    let given_pods = wishes.pods.map(|text| pod_range(text, node_mask)).transpose()?;
    let given_services = wishes.services.map(service_range).transpose()?;
    let pods = match given_pods {
        Some(range) => {
            refuse_overlap("container_cidr", &range, taken)?;
            range
        }
        None => {
            let mut avoid = taken.to_vec();
            avoid.extend(given_services.map(|range| Taken::new(range, "service_cidr")));
            let candidates = POD_DEFAULTS.iter().map(|[a, b]| Ipv4Net::new_assert([*a, *b, 0, 0].into(), 16));
            first_free("container_cidr", candidates, &avoid)?
        }
    };
    let mut avoid = taken.to_vec();
    avoid.push(Taken::new(pods, "container_cidr"));
    let services = match given_services {
        Some(range) => {
            refuse_overlap("service_cidr", &range, &avoid)?;
            range
        }
        None => {
            let candidates = SERVICE_DEFAULTS.iter().map(|[a, b]| Ipv4Net::new_assert([*a, *b, 0, 0].into(), 20));
            first_free("service_cidr", candidates, &avoid)?
        }
    };
    let ranges = ClusterRanges { pods, services, node_mask };
    refuse_too_small(&ranges, wishes.nodes)?;
    Ok(ranges)
}

fn first_free(field: &str, mut candidates: impl Iterator<Item = Ipv4Net>, taken: &[Taken]) -> Outcome<Ipv4Net> {
    candidates.find(|range| !taken.iter().any(|t| overlap(&t.range, range))).ok_or_else(|| {
        Fault::invalid(
            field,
            format!("{field} is not given and every default is taken in this VPC; give a free private range"),
        )
    })
}

fn refuse_overlap(field: &str, range: &Ipv4Net, taken: &[Taken]) -> Outcome<()> {
    match taken.iter().find(|t| overlap(&t.range, range)) {
        None => Ok(()),
        Some(Taken { range: other, by }) => {
            Err(Fault::invalid(field, format!("{field} {range} overlaps {other} of {by}; give a range outside it")))
        }
    }
}

/// One range more than asked for, so that a failed node can be replaced.
fn refuse_too_small(ranges: &ClusterRanges, nodes: u32) -> Outcome<()> {
    let capacity = node_capacity(ranges);
    let needed = u64::from(nodes) + 1;
    if capacity >= needed {
        return Ok(());
    }
    Err(Fault::invalid(
        "container_cidr",
        format!(
            "container_cidr {} holds {capacity} nodes with node_cidr_mask {}, but {needed} are needed ({nodes} and one to \
             replace a failed one); give a larger range or a longer mask",
            ranges.pods, ranges.node_mask
        ),
    ))
}

/// How many nodes the pod network has room for.
pub fn node_capacity(ranges: &ClusterRanges) -> u64 {
    1u64 << (ranges.node_mask.saturating_sub(ranges.pods.prefix_len())).min(32)
}

/// Reads a private range that begins where it says.
pub(crate) fn read(field: &str, text: &str) -> Outcome<Ipv4Net> {
    let range: Ipv4Net = text.trim().parse().map_err(|_| {
        Fault::invalid(field, format!("{field} {text:?} is not an IPv4 range; one looks like 172.20.0.0/16"))
    })?;
    if range.trunc() != range {
        return Err(Fault::invalid(
            field,
            format!("{field} {range} is not the beginning of a range; did you mean {}?", range.trunc()),
        ));
    }
    let private = [([10, 0, 0, 0], 8), ([172, 16, 0, 0], 12), ([192, 168, 0, 0], 16)]
        .iter()
        .any(|(address, prefix)| Ipv4Net::new_assert((*address).into(), *prefix).contains(&range));
    if !private {
        return Err(Fault::invalid(
            field,
            format!("{field} {range} is not private; it must be inside 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"),
        ));
    }
    Ok(range)
}

/// Reads `container_cidr`.
fn pod_range(text: &str, node_mask: u8) -> Outcome<Ipv4Net> {
    let range = read("container_cidr", text)?;
    if range.prefix_len() > node_mask {
        return Err(Fault::invalid(
            "container_cidr",
            format!("container_cidr {range} is smaller than one node's part of it (node_cidr_mask {node_mask})"),
        ));
    }
    Ok(range)
}

/// Reads `service_cidr`.
fn service_range(text: &str) -> Outcome<Ipv4Net> {
    let range = read("service_cidr", text)?;
    if !(16..=24).contains(&range.prefix_len()) {
        return Err(Fault::invalid(
            "service_cidr",
            format!("service_cidr {range} must have a prefix length of 16 to 24"),
        ));
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sampan_store::model::FaultKind;

    use super::*;

    fn vpc() -> Vec<Taken> {
        vec![Taken::new("10.200.0.0/20".parse().expect("a range"), "the VPC vpc-1")]
    }

    fn ask(pods: Option<&str>, services: Option<&str>, mask: Option<i64>, nodes: u32) -> Outcome<(String, String, u8)> {
        plan(&RangeWishes { pods, services, node_mask: mask, nodes }, &vpc())
            .map(|r| (r.pods.to_string(), r.services.to_string(), r.node_mask))
    }

    #[test]
    fn defaults_and_given() {
        let none = ask(None, None, None, 3).expect("defaults");
        assert_eq!(none, ("172.16.0.0/16".into(), "172.19.0.0/20".into(), 25));
        let given = ask(Some("172.20.0.0/16"), Some("172.21.0.0/20"), Some(26), 3).expect("given");
        assert_eq!(given, ("172.20.0.0/16".into(), "172.21.0.0/20".into(), 26));
        // A default that would collide with what is given gives way.
        assert_eq!(ask(Some("172.19.0.0/16"), None, None, 1).expect("moves").1, "172.18.0.0/20");
        assert_eq!(ask(None, Some("172.16.0.0/20"), None, 1).expect("moves").0, "172.20.0.0/16");
    }

    #[test]
    fn refusals_name_the_field() {
        let check = |pods: Option<&str>, services: Option<&str>, mask: Option<i64>, nodes: u32, field: &str| {
            let fault = ask(pods, services, mask, nodes).expect_err(field);
            assert_eq!(fault.kind, FaultKind::InvalidParameter(field.into()), "{}", fault.message);
            assert!(fault.message.contains(field), "{}", fault.message);
        };
        check(Some("hello"), None, None, 1, "container_cidr");
        check(Some("172.20.0.0"), None, None, 1, "container_cidr");
        check(Some("172.20.1.0/16"), None, None, 1, "container_cidr");
        check(Some("8.8.0.0/16"), None, None, 1, "container_cidr");
        check(Some("172.0.0.0/8"), None, None, 1, "container_cidr");
        check(Some("10.0.0.0/8"), None, None, 1, "container_cidr");
        check(Some("10.200.8.0/22"), None, None, 1, "container_cidr");
        check(Some("172.20.0.0/26"), None, None, 1, "container_cidr");
        check(Some("172.20.0.0/24"), None, None, 2, "container_cidr");
        check(Some("172.20.0.0/22"), None, Some(24), 4, "container_cidr");
        check(None, Some("172.20.0.0/12"), None, 1, "service_cidr");
        check(None, Some("172.20.0.0/25"), None, 1, "service_cidr");
        check(Some("172.20.0.0/16"), Some("172.20.16.0/20"), None, 1, "service_cidr");
        check(None, Some("10.200.0.0/20"), None, 1, "service_cidr");
        check(None, None, Some(23), 1, "node_cidr_mask");
        check(None, None, Some(29), 1, "node_cidr_mask");
        check(None, None, Some(-1), 1, "node_cidr_mask");
    }

    #[test]
    fn a_second_cluster_in_the_vpc_gets_other_pods() {
        let mut taken = vpc();
        taken.push(Taken::new("172.16.0.0/16".parse().expect("a range"), "the pods of cluster c1"));
        let ranges = plan(&RangeWishes { nodes: 1, ..RangeWishes::default() }, &taken).expect("another default");
        assert_eq!(ranges.pods.to_string(), "172.20.0.0/16");
        let fault = plan(&RangeWishes { pods: Some("172.16.0.0/16"), nodes: 1, ..RangeWishes::default() }, &taken)
            .expect_err("taken");
        assert!(fault.message.contains("c1"), "{}", fault.message);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(pods in ".{0,24}", services in "[0-9./]{0,20}", mask in any::<i64>(), nodes in 0u32..1000) {
            let wishes = RangeWishes { pods: Some(&pods), services: Some(&services), node_mask: Some(mask), nodes };
            let _ = plan(&wishes, &vpc());
        }

        #[test]
        fn what_is_planned_fits(a in 0u8..=255, prefix in 8u8..=25, mask in 24i64..=28, nodes in 0u32..64) {
            let text = Ipv4Net::new_assert([10, a, 0, 0].into(), prefix).trunc().to_string();
            if let Ok(ranges) = plan(&RangeWishes { pods: Some(&text), services: None, node_mask: Some(mask), nodes }, &vpc()) {
                prop_assert!(node_capacity(&ranges) > u64::from(nodes));
                prop_assert!(!overlap(&ranges.pods, &ranges.services));
                prop_assert!(!vpc().iter().any(|t| overlap(&t.range, &ranges.pods) || overlap(&t.range, &ranges.services)));
            }
        }
    }
}
