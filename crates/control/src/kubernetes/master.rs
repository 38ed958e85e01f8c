//! What a master of a dedicated cluster must be: a part of the control plane, and a node.

use std::collections::BTreeSet;

use sampan_agents::spec::NodeSpec;
use sampan_store::model::{Outcome, Taint};

use super::{
    control_plane::{self, ControlPlaneInputs},
    worker::{WorkerInputs, worker_spec},
};

/// Labels of masters; clients of all times look for one of them.
pub(crate) const ROLE_LABELS: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// What keeps ordinary pods away from masters.
pub(crate) fn role_taint() -> Taint {
    Taint { key: ROLE_LABELS[0].to_owned(), value: String::new(), effect: "NoSchedule".to_owned() }
}

/// Says what the machine must be. Its kubelet and kube-proxy speak to the API server beside them: they work as long as that
/// does, whatever becomes of the balancer.
///
/// # Errors
/// As [`control_plane::control_plane_spec`] and [`worker_spec`].
pub fn master_spec(inputs: &WorkerInputs<'_>) -> Outcome<NodeSpec> {
    let parts = ControlPlaneInputs {
        cluster: inputs.cluster,
        pki: inputs.pki,
        machine: inputs.machine,
        workers: inputs.workers,
        certificate_lifetime: inputs.certificate_lifetime,
    };
    let mut spec = worker_spec(inputs)?;
    let present: BTreeSet<String> = spec.files.iter().map(|file| file.path.clone()).collect();
    // Both have the cluster's authority, at the same place.
    spec.files.extend(control_plane::files(&parts).into_iter().filter(|file| !present.contains(&file.path)));
    let node = std::mem::take(&mut spec.processes);
    spec.processes = control_plane::processes(&parts)?;
    spec.processes.extend(node);
    Ok(spec)
}
