//! Selectors, node affinity, taints: does it match?

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{Node, NodeTaint, Pod, Tolerated};

type Labels = BTreeMap<String, String>;

/// Whether the selector matches these labels. An empty one matches everything; an operator that is not known, nothing.
pub(crate) fn matches_labels(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let values = requirement.values.as_deref().unwrap_or_default();
            let value = labels.get(&requirement.key);
            match requirement.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Whether one of the terms matches the node. No terms match no node, and so does an empty term.
pub(crate) fn node_terms_match(terms: &[NodeSelectorTerm], node: &Node) -> bool {
    terms.iter().any(|term| {
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        let fields = term.match_fields.as_deref().unwrap_or_default();
        if expressions.is_empty() && fields.is_empty() {
            return false;
        }
        let label = |requirement: &NodeSelectorRequirement| {
            requirement_matches(requirement, node.labels.get(&requirement.key).map(String::as_str))
        };
        let field = |requirement: &NodeSelectorRequirement| {
            requirement.key == "metadata.name" && requirement_matches(requirement, Some(&node.name))
        };
        expressions.iter().all(label) && fields.iter().all(field)
    })
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = |value: &str| values.iter().any(|other| other == value);
    let compare = |holds: fn(i64, i64) -> bool| {
        let limit = match values {
            [limit] => limit.parse::<i64>().ok(),
            _ => None,
        };
        match (value.and_then(|value| value.parse::<i64>().ok()), limit) {
            (Some(value), Some(limit)) => holds(value, limit),
            _ => false,
        }
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => value.is_none_or(|value| !among(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, limit| value > limit),
        "Lt" => compare(|value, limit| value < limit),
        _ => false,
    }
}

/// Whether the pod's node selector and required node affinity match the node.
pub(crate) fn node_requirements_match(pod: &Pod, node: &Node) -> bool {
    pod.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && pod.node_affinity.as_ref().is_none_or(|terms| node_terms_match(terms, node))
}

/// The first taint that keeps the pod away.
pub(crate) fn untolerated<'a>(taints: &'a [NodeTaint], tolerations: &[Tolerated]) -> Option<&'a NodeTaint> {
    taints.iter().find(|taint| !tolerates(tolerations, taint))
}

/// Whether one of the tolerations tolerates the taint.
pub(crate) fn tolerates(tolerations: &[Tolerated], taint: &NodeTaint) -> bool {
    tolerations.iter().any(|toleration| {
        (toleration.effect.is_empty() || toleration.effect == taint.effect)
            // Without a key only `Exists` is valid, and means any taint.
            && (toleration.key == taint.key || (toleration.key.is_empty() && toleration.exists))
            && (toleration.exists || toleration.value == taint.value)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn label_selectors() {
        let check = |selector: serde_json::Value, expected: bool| {
            let parsed: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(matches_labels(&parsed, &labels(&[("app", "web"), ("tier", "1")])), expected, "{selector}");
        };
        let expression = |operator: &str, key: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(json!({}), true);
        check(json!({"matchLabels": {"app": "web"}}), true);
        check(json!({"matchLabels": {"app": "db"}}), false);
        check(expression("In", "app", &["db", "web"]), true);
        check(expression("In", "none", &["db"]), false);
        check(expression("NotIn", "app", &["web"]), false);
        check(expression("NotIn", "none", &["web"]), true);
        check(expression("Exists", "tier", &[]), true);
        check(expression("DoesNotExist", "tier", &[]), false);
        check(expression("Unheard", "tier", &[]), false);
    }

    #[test]
    fn node_selector_terms() {
        let node = Node { name: "n1".into(), labels: labels(&[("zone", "a"), ("cores", "8")]), ..Node::default() };
        let check = |terms: serde_json::Value, expected: bool| {
            let parsed: Vec<NodeSelectorTerm> = serde_json::from_value(terms.clone()).unwrap();
            assert_eq!(node_terms_match(&parsed, &node), expected, "{terms}");
        };
        let term = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(json!([]), false);
        check(json!([{}]), false);
        check(json!([term("zone", "In", &["b"]), term("zone", "In", &["a"])]), true);
        check(json!([term("cores", "Gt", &["4"])]), true);
        check(json!([term("cores", "Gt", &["8"])]), false);
        check(json!([term("cores", "Lt", &["9"])]), true);
        check(json!([term("zone", "Lt", &["9"])]), false);
        check(json!([term("none", "NotIn", &["9"])]), true);
        check(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]), true);
        check(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]), false);
    }

    #[test]
    fn tolerations() {
        let taint = NodeTaint { key: "k".into(), value: "v".into(), effect: "NoSchedule".into() };
        let check = |key: &str, exists: bool, value: &str, effect: &str, expected: bool| {
            let one = Tolerated { key: key.into(), exists, value: value.into(), effect: effect.into() };
            assert_eq!(tolerates(std::slice::from_ref(&one), &taint), expected, "{one:?}");
        };
        check("", true, "", "", true);
        check("", false, "v", "", false);
        check("k", true, "", "", true);
        check("k", false, "v", "", true);
        check("k", false, "w", "", false);
        check("k", false, "v", "NoSchedule", true);
        check("k", false, "v", "NoExecute", false);
        check("l", true, "", "", false);
        assert!(!tolerates(&[], &taint));
    }
}
