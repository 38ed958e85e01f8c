//! What every cluster of ours has from the start, and the DNS service that follows from it.

use std::time::Duration;

use futures::join;

use super::{
    context::{Context, within},
    scope::Scope,
    settings::{ACCESS_CALL_MAX, LONG_CALL_MAX},
    status::Step,
};
use crate::ports::BasePart;

/// Components are looked at again after this time.
const COMPONENTS_FRESH: Duration = Duration::from_secs(30);

/// Applies what every cluster has and says whether a new one can be used: pods can be made, and DNS answers.
pub(super) async fn components(ctx: &Context, scope: &Scope) -> Step {
    let essentials = apply(ctx, scope, BasePart::Essentials).await;
    let (accounts, dns) = join!(accounts(ctx, scope), dns(ctx, scope));
    let usable = Step::all([essentials, accounts, dns]);
    if usable == Step::Done { apply(ctx, scope, BasePart::Extras).await } else { usable }
}

/// Applies a part of the base once per run of the server: a newer server may bring a newer base.
async fn apply(ctx: &Context, scope: &Scope, part: BasePart) -> Step {
    let cluster = &scope.cluster;
    if ctx.memory.base_is_applied(&cluster.id, part) {
        return Step::Done;
    }
    match within(LONG_CALL_MAX, "installing the components", ctx.access.apply_base(cluster, part)).await {
        Ok(()) => {
            ctx.memory.set_base(&cluster.id, part);
            Step::Done
        }
        Err(fault) => Step::Waiting(fault.message),
    }
}

/// Looks how the parts behind the API are, now and then. What is seen is kept in memory for the cluster's conditions.
pub(super) async fn look(ctx: &Context, scope: &Scope) {
    let cluster = &scope.cluster;
    let is_fresh = ctx.memory.components(&cluster.id).is_some_and(|(_, age)| age < COMPONENTS_FRESH);
    if cluster.first_running.is_none() || is_fresh {
        return;
    }
    match within(ACCESS_CALL_MAX, "looking at the components", ctx.access.components(cluster)).await {
        Ok(seen) => ctx.memory.set_components(&cluster.id, seen),
        Err(fault) => tracing::debug!(cluster = cluster.id, error = %fault, "the components cannot be looked at"),
    }
}

/// Whether pods can be made: a cluster is not running before its users can begin. Asked only until then.
async fn accounts(ctx: &Context, scope: &Scope) -> Step {
    let cluster = &scope.cluster;
    if cluster.first_running.is_some() || ctx.memory.account_was_seen(&cluster.id) {
        return Step::Done;
    }
    let call = ctx.access.default_account_ready(cluster);
    match within(ACCESS_CALL_MAX, "asking for the default service account", call).await {
        Ok(()) => {
            ctx.memory.set_account_seen(&cluster.id);
            Step::Done
        }
        Err(fault) => Step::Waiting(fault.message),
    }
}

/// Whether DNS answers. Asked only until the cluster is running for the first time; a cluster without nodes has none.
async fn dns(ctx: &Context, scope: &Scope) -> Step {
    if scope.cluster.first_running.is_some() || scope.nodes().next().is_none() {
        return Step::Done;
    }
    match within(ACCESS_CALL_MAX, "asking for the DNS service", ctx.access.dns_ready(&scope.cluster)).await {
        Ok(()) => Step::Done,
        Err(fault) => Step::Waiting(fault.message),
    }
}
