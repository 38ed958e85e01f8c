//! How the parts behind a cluster's API are, and its nodes, in words.

use futures::join;
use k8s_openapi::api::core::v1::Node;
use sampan_store::model::{Health, Outcome};

use super::gateway::Gateway;
use crate::ports::{ComponentView, EtcdMemberView, NodeConditionView, NodeConditionsView};

const CONTROLLER_MANAGER_PORT: u16 = 10_257;
const SCHEDULER_PORT: u16 = 10_259;

/// How etcd, the controllers, the scheduler and DNS are; `dns` says what is wrong with the last.
pub(crate) async fn components(
    gateway: &Gateway,
    members: Outcome<Vec<EtcdMemberView>>,
    dns: Option<String>,
) -> Vec<ComponentView> {
    let (controllers, scheduler) =
        join!(gateway.probe(CONTROLLER_MANAGER_PORT, "/healthz"), gateway.probe(SCHEDULER_PORT, "/healthz"),);
    let view = |component, outcome: Option<String>, well: &str| match outcome {
        None => ComponentView { component, health: Health::Healthy, message: well.to_owned() },
        Some(message) => ComponentView { component, health: Health::Unhealthy, message },
    };
    let why = |outcome: Outcome<()>| outcome.err().map(|fault| fault.message);
    vec![
        etcd(members),
        view("controllers", why(controllers), "kube-controller-manager answers"),
        view("scheduler", why(scheduler), "kube-scheduler answers"),
        view("dns", dns, "the DNS service has an endpoint"),
    ]
}

fn etcd(members: Outcome<Vec<EtcdMemberView>>) -> ComponentView {
    let (health, message) = match members {
        Err(fault) => (Health::Unhealthy, fault.message),
        Ok(members) => {
            let problems: Vec<String> = members
                .iter()
                .flat_map(|member| member.problems.iter().map(move |problem| format!("{}: {problem}", title(member))))
                .collect();
            match problems.is_empty() {
                true => (Health::Healthy, format!("{} of {} members answer", members.len(), members.len())),
                false => (Health::Degraded, problems.join("; ")),
            }
        }
    };
    ComponentView { component: "etcd", health, message }
}

fn title(member: &EtcdMemberView) -> String {
    match (member.name.is_empty(), member.ip) {
        (false, _) => member.name.clone(),
        (true, Some(ip)) => format!("the member at {ip}"),
        (true, None) => format!("member {:x}", member.id),
    }
}

/// All conditions of a node.
pub(crate) fn conditions(node: &Node) -> NodeConditionsView {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let view = |condition: &k8s_openapi::api::core::v1::NodeCondition| NodeConditionView {
        kind: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        since: condition.last_transition_time.as_ref().map(|time| time.0),
    };
    NodeConditionsView {
        node: node.metadata.name.clone().unwrap_or_default(),
        unschedulable: node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false),
        conditions: conditions.into_iter().flatten().map(view).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_is_as_well_as_its_members() {
        let well = EtcdMemberView { name: "etcd-1".into(), healthy: true, ..EtcdMemberView::default() };
        let ill = EtcdMemberView { problems: vec!["does not answer".into()], healthy: false, ..well.clone() };
        assert_eq!(etcd(Ok(vec![well.clone()])).health, Health::Healthy);
        let some = etcd(Ok(vec![well, ill]));
        assert_eq!((some.health, some.message.as_str()), (Health::Degraded, "etcd-1: does not answer"));
        assert_eq!(etcd(Err(sampan_store::model::Fault::unavailable("no quorum"))).health, Health::Unhealthy);
    }
}
