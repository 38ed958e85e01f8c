//! Which PodDisruptionBudgets cover a pod: the API server says that one forbids an eviction, not in which namespace and not
//! always which.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use kube::{Api, Client, api::ListParams};
use sampan_store::model::Outcome;

use super::access::call;

/// More budgets of a namespace than this are not looked at.
const BUDGETS_MAX: u32 = 500;

/// The budgets of the namespaces that were asked for in one round of a drain.
#[derive(Default)]
pub(super) struct Budgets {
    by_namespace: HashMap<String, Vec<PodDisruptionBudget>>,
}

impl Budgets {
    /// `namespace/name` of the budgets that cover the pod.
    ///
    /// # Errors
    /// As the API server says.
    pub(super) async fn covering(&mut self, client: &Client, namespace: &str, pod: &Pod) -> Outcome<Vec<String>> {
        if !self.by_namespace.contains_key(namespace) {
            let api: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), namespace);
            let params = ListParams::default().limit(BUDGETS_MAX);
            let list = call(&format!("the disruption budgets of namespace {namespace}"), api.list(&params)).await?;
            self.by_namespace.insert(namespace.to_owned(), list.items);
        }
        let none = BTreeMap::new();
        let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
        let budgets = self.by_namespace.get(namespace).into_iter().flatten();
        let covers = |budget: &&PodDisruptionBudget| {
            budget
                .spec
                .as_ref()
                .and_then(|spec| spec.selector.as_ref())
                .is_some_and(|selector| matches(selector, labels))
        };
        let name = |budget: &PodDisruptionBudget| {
            format!("{namespace}/{}", budget.metadata.name.as_deref().unwrap_or_default())
        };
        Ok(budgets.filter(covers).map(name).collect())
    }
}

/// Whether a selector selects an object with these labels; an empty one selects all.
fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let mut equal = selector.match_labels.iter().flatten();
    equal.all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = |value: &String| requirement.values.iter().flatten().any(|wanted| wanted == value);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(selector: serde_json::Value, expected: bool) {
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        let labels = [("app", "web"), ("tier", "front")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(matches(&selector, &labels), expected, "{selector:?}");
    }

    #[test]
    fn selectors() {
        let expression = |operator: &str, key: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(json!({}), true);
        check(json!({"matchLabels": {"app": "web"}}), true);
        check(json!({"matchLabels": {"app": "web", "tier": "back"}}), false);
        check(expression("In", "app", &["api", "web"]), true);
        check(expression("In", "none", &["web"]), false);
        check(expression("NotIn", "app", &["web"]), false);
        check(expression("NotIn", "none", &["web"]), true);
        check(expression("Exists", "app", &[]), true);
        check(expression("DoesNotExist", "app", &[]), false);
        check(expression("Unheard", "app", &[]), false);
    }
}
