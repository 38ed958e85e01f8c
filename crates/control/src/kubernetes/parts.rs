//! Small helpers for building a [`NodeSpec`](sampan_agents::spec::NodeSpec) of a machine of Kubernetes.

use std::collections::BTreeMap;

use sampan_agents::spec::Route;
use sampan_store::model::Machine;

pub(crate) use crate::parts::{pair_files, process, public_file, secret_file};

/// Folder of the cluster's certificates and kubeconfigs on a machine.
pub(crate) const PKI_DIR: &str = "/etc/kubernetes/pki";

/// Path of a Kubernetes component in the node image; one executable serves all, by its name.
pub(crate) fn component(version: &str, name: &str) -> String {
    format!("/opt/sampan/kubernetes/{version}/{name}")
}

/// A command line: the program, then `--name=value` for each pair.
pub(crate) fn command_line<'a>(program: String, flags: impl IntoIterator<Item = (&'a str, String)>) -> Vec<String> {
    let mut line = vec![program];
    line.extend(flags.into_iter().map(|(name, value)| format!("--{name}={value}")));
    line
}

/// Environment of a component: how much its heap may grow before it is collected, in percent (Go's `GOGC`; no limit in
/// bytes, because a busy cluster that reaches one would do nothing but collect), and the time zone.
pub(crate) fn environment(heap_growth: u32, timezone: Option<&str>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("GOGC".to_owned(), heap_growth.to_string())]);
    if let Some(zone) = timezone {
        env.insert("TZ".to_owned(), zone.to_owned());
    }
    env
}

/// Whether machines of the VPC reach it without a router. A host that is elsewhere cannot be a next hop.
fn is_on_link(machine: &Machine) -> bool {
    machine.host.as_ref().is_none_or(|host| host.on_link)
}

/// Routes to the pods of these workers, as seen from `own` (which needs none to itself).
pub(crate) fn pod_routes(own: &Machine, workers: &[Machine]) -> Vec<Route> {
    let mut routes: Vec<Route> = workers
        .iter()
        .filter(|worker| worker.id != own.id && is_on_link(worker) && is_on_link(own))
        .filter_map(|worker| {
            let destination = worker.membership.as_ref()?.pod_cidr?;
            Some(Route { destination, via: worker.ip })
        })
        .collect();
    // A stable order keeps the spec's hash stable.
    routes.sort_by_key(|route| route.destination);
    routes
}
