//! Small helpers for building a [`NodeSpec`](sampan_agents::spec::NodeSpec).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sampan_agents::spec::{File, Process, Route};
use sampan_store::model::Machine;

use super::certificate::CertifiedKey;

/// Folder of the cluster's certificates and kubeconfigs on a machine.
pub(crate) const PKI_DIR: &str = "/etc/kubernetes/pki";

/// A file that everybody may read.
pub(crate) fn public_file(path: impl Into<String>, content: impl AsRef<[u8]>) -> File {
    File { path: path.into(), mode: 0o644, content: STANDARD.encode(content) }
}

/// A file that only root may read.
pub(crate) fn secret_file(path: impl Into<String>, content: impl AsRef<[u8]>) -> File {
    File { path: path.into(), mode: 0o600, content: STANDARD.encode(content) }
}

/// `<stem>.crt` and `<stem>.key`.
pub(crate) fn pair_files(stem: &str, pair: &CertifiedKey) -> [File; 2] {
    [public_file(format!("{stem}.crt"), &pair.certificate), secret_file(format!("{stem}.key"), &pair.key)]
}

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

/// A process without conditions.
pub(crate) fn process(name: &str, command: Vec<String>) -> Process {
    Process {
        name: name.to_owned(),
        command,
        env: BTreeMap::new(),
        after: Vec::new(),
        wait_for: None,
        ready: None,
        restart_on: Vec::new(),
        oneshot: false,
    }
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

/// Routes to the pods of these workers, as seen from `own` (which needs none to itself).
pub(crate) fn pod_routes(own: &Machine, workers: &[Machine]) -> Vec<Route> {
    let mut routes: Vec<Route> = workers
        .iter()
        .filter(|worker| worker.id != own.id)
        .filter_map(|worker| {
            let destination = worker.membership.as_ref()?.pod_cidr?;
            Some(Route { destination, via: worker.ip })
        })
        .collect();
    // A stable order keeps the spec's hash stable.
    routes.sort_by_key(|route| route.destination);
    routes
}
