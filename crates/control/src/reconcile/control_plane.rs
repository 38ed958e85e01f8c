//! The control plane: its certificates exist, its API answers.

use std::time::Duration;

use super::{
    context::{Context, within},
    scope::Scope,
    settings::{ACCESS_CALL_MAX, LONG_CALL_MAX},
    status::Step,
};
use crate::ports::ApiReadiness;

/// Certificates are looked at again after this time, so that what expires can be renewed.
const CERTIFICATES_FRESH: Duration = Duration::from_secs(600);

/// Makes the certificates as far as they are missing.
pub(super) async fn certificates(ctx: &Context, scope: &Scope) -> Step {
    let cluster = &scope.cluster;
    if ctx.memory.certificates_age(&cluster.id).is_some_and(|age| age < CERTIFICATES_FRESH) {
        return Step::Done;
    }
    let Some(machine) = scope.control_plane() else {
        return Step::Refused("the cluster has no machine for its control plane; delete it and create it again".into());
    };
    let call = ctx.blueprints.ensure_pki(cluster, machine);
    match within(LONG_CALL_MAX, "making the certificates", call).await {
        Ok(()) => {
            ctx.memory.set_certificates(&cluster.id);
            scope.machines.iter().for_each(|machine| ctx.wake_machine(&machine.id));
            Step::Done
        }
        Err(fault) if fault.retryable() => Step::Waiting(fault.message),
        Err(fault) => Step::Refused(fault.message),
    }
}

/// What was seen of a cluster's API.
pub(super) struct Api {
    /// Done when everybody is served.
    pub(super) step: Step,
    /// Whether we are served: there is work to do while the API server still prepares for others.
    pub(super) serves_us: bool,
}

impl Api {
    fn silent(step: Step) -> Self {
        Self { step, serves_us: false }
    }
}

/// Whether the API answers; if so, the cluster's nodes are watched from now on.
pub(super) async fn api(ctx: &Context, scope: &Scope) -> Api {
    let Some(machine) = scope.control_plane() else {
        return Api::silent(Step::Blocked("the cluster has no machine for its control plane".into()));
    };
    let note = ctx.memory.machine(&machine.id).note;
    if !ctx.agents.is_connected(&machine.id) {
        let why = note.map_or_else(|| "its agent is not connected".to_owned(), |note| note.message);
        return Api::silent(Step::Waiting(format!("machine {}: {why}", machine.id)));
    }
    match within(ACCESS_CALL_MAX, "asking the API server", ctx.access.readiness(&scope.cluster)).await {
        Ok(readiness) => {
            ctx.access.watch(&scope.cluster);
            let step = match readiness {
                ApiReadiness::Ready => Step::Done,
                ApiReadiness::Starting(what) => Step::Waiting(what),
            };
            Api { step, serves_us: true }
        }
        Err(fault) => {
            let hint = note.map(|note| format!("; machine {}: {}", machine.id, note.message)).unwrap_or_default();
            Api::silent(Step::Waiting(format!("{}{hint}", fault.message)))
        }
    }
}
