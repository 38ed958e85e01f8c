//! The control plane: its certificates exist, its API answers.

use std::{collections::HashSet, time::Duration};

use futures::future::join_all;
use sampan_store::model::{Level, Machine, Outcome};

use super::{
    context::{Context, within},
    journal::Journal,
    machines::title,
    scope::Scope,
    settings::{ACCESS_CALL_MAX, LONG_CALL_MAX},
    status::Step,
};
use crate::ports::ApiReadiness;

/// One of several API servers is not waited for longer than this: the others serve.
const PART_CALL_MAX: Duration = Duration::from_secs(5);

/// Makes the certificates as far as they are missing.
pub(super) async fn certificates(ctx: &Context, scope: &Scope) -> Step {
    let cluster = &scope.cluster;
    let ips = scope.control_plane_ips();
    let age = ctx.memory.certificates_age(&cluster.id, &ips);
    if age.is_some_and(|age| age < ctx.settings.certificates_fresh) {
        return Step::Done;
    }
    let machines: Vec<Machine> = scope.control_planes().into_iter().cloned().collect();
    if machines.is_empty() {
        return Step::Refused("the cluster has no machine for its control plane; delete it and create it again".into());
    }
    let call = async {
        ctx.blueprints.ensure_pki(cluster, &machines).await?;
        renew(ctx, scope, &machines).await
    };
    match within(LONG_CALL_MAX, "making the certificates", call).await {
        Ok(()) => {
            ctx.memory.set_certificates(&cluster.id, ips);
            scope.machines.iter().for_each(|machine| ctx.wake_machine(&machine.id));
            Step::Done
        }
        Err(fault) if fault.retryable() => Step::Waiting(fault.message),
        Err(fault) => Step::Refused(fault.message),
    }
}

/// Renews what expires soon. Who uses a certificate learns of it by the specs of machines and the base of the cluster.
async fn renew(ctx: &Context, scope: &Scope, control_planes: &[Machine]) -> Outcome<()> {
    let cluster = &scope.cluster;
    let renewal = ctx.blueprints.renew(cluster, control_planes, ctx.now()).await?;
    ctx.memory.set_ending(&cluster.id, renewal.ending);
    let Some(until) = renewal.renewed else { return Ok(()) };
    ctx.memory.forget_base(&cluster.id);
    // Watches go on with the former certificate until they end, and what is asked beside them is refused after its end.
    ctx.access.forget(&cluster.id);
    let mut journal = Journal::of(cluster, ctx.now());
    let text = format!("the certificates of the control plane have been issued again; they are valid until {until}");
    journal.cluster_event("cluster_modify", Level::Info, "CertificatesRenewed", text);
    ctx.tell(journal).await
}

/// What was seen of a cluster's API.
pub(super) struct Api {
    /// Done when everybody is served.
    pub(super) step: Step,
    /// Whether we are served: there is work to do while the API server still prepares for others.
    pub(super) serves_us: bool,
    /// Machines whose API servers serve everybody.
    pub(super) ready: HashSet<String>,
}

impl Api {
    fn silent(step: Step) -> Self {
        Self { step, serves_us: false, ready: HashSet::new() }
    }
}

/// Whether the API answers; if so, the cluster's nodes are watched from now on. Of several API servers one is enough.
pub(super) async fn api(ctx: &Context, scope: &Scope) -> Api {
    let mut machines = scope.running_control_planes();
    let all = machines.len();
    machines.retain(|machine| machine.may_run_etcd());
    let limit = if all > 1 { PART_CALL_MAX } else { ACCESS_CALL_MAX };
    let asked = join_all(machines.iter().map(|machine| ask(ctx, scope, machine, limit))).await;
    let mut found = Api::silent(Step::Blocked("the cluster has no machine for its control plane".into()));
    for api in asked {
        found.ready.extend(api.ready);
        // The best of them, and of equals the first.
        let is_better = !found.serves_us && api.serves_us || found.step != Step::Done && api.step == Step::Done;
        if is_better || matches!(found.step, Step::Blocked(_)) {
            found.step = api.step;
        }
        found.serves_us |= api.serves_us;
    }
    if found.serves_us {
        ctx.access.watch(&scope.cluster);
    }
    found
}

/// Asks one machine.
async fn ask(ctx: &Context, scope: &Scope, machine: &Machine, limit: Duration) -> Api {
    let note = ctx.memory.machine(&machine.id).note;
    if !ctx.agents.is_connected(&machine.id) {
        let why = note.map_or_else(|| "its agent is not connected".to_owned(), |note| note.message);
        // Whoever goes through it must not wait for it.
        if machine.etcd().is_some() {
            ctx.access.avoid(&scope.cluster, &machine.id);
        }
        return Api::silent(Step::Waiting(format!("machine {}: {why}", machine.id)));
    }
    let call = ctx.access.readiness_on(&scope.cluster, &machine.id);
    match within(limit, &format!("asking the API server on {}", title(machine)), call).await {
        Ok(ApiReadiness::Ready) => {
            Api { step: Step::Done, serves_us: true, ready: HashSet::from([machine.id.clone()]) }
        }
        Ok(ApiReadiness::Starting(what)) => Api { step: Step::Waiting(what), serves_us: true, ready: HashSet::new() },
        Err(fault) => {
            if machine.etcd().is_some() {
                ctx.access.avoid(&scope.cluster, &machine.id);
            }
            let hint = note.map(|note| format!("; machine {}: {}", machine.id, note.message)).unwrap_or_default();
            Api::silent(Step::Waiting(format!("{}{hint}", fault.message)))
        }
    }
}
