//! Repairs that were asked for, and repairs that must wait.

use std::time::Duration;

use sampan_provider::MachinePower;
use sampan_store::model::{Level, Machine, Outcome};
use tokio::sync::OwnedMutexGuard;

use super::{
    context::Context,
    journal::Journal,
    limits,
    machines::title,
    repair::{self, Seen, Step},
    scope::Scope,
};
use crate::ports::Limits;

/// A machine whose repair must wait is looked at again after this time.
pub(super) const HELD_FOR: Duration = Duration::from_secs(15);

/// What a repair that was asked for demands now: a restart first, another machine if that did not help in time.
pub(super) fn ordered(machine: &Machine, seen: &Seen, limits: &Limits) -> Option<Step> {
    let order = machine.repair.as_ref()?;
    if seen.power == Some(MachinePower::Running) && !order.restarted {
        return Some(Step::Restart(repair::ORDERED));
    }
    let repairs = if order.restarted { machine.repairs.max(limits.repairs_max) } else { machine.repairs };
    Some(repair::decide(&Machine { repairs, ..machine.clone() }, seen, limits))
}

/// A step that may be taken. As long as `alone` lasts, no other machine of the pool begins a repair: until it is recorded.
pub(super) struct Admitted {
    pub(super) step: Step,
    pub(super) alone: Option<OwnedMutexGuard<()>>,
}

/// Lets a step pass unless it is a repair that must wait. What ended is started in any case.
pub(super) async fn admit(ctx: &Context, scope: &Scope, machine: &Machine, step: Step) -> Outcome<Admitted> {
    let (reason, is_useless) = match &step {
        Step::Restart(reason) => (*reason, true),
        Step::Replace(reason) => (*reason, *reason != repair::EXITED && *reason != repair::LOST),
        _ => return Ok(Admitted { step, alone: None }),
    };
    // Control planes are in no pool.
    let Some(pool) = machine.membership.as_ref().and_then(|member| member.node_pool_id.as_ref()) else {
        return Ok(Admitted { step, alone: None });
    };
    let alone = ctx.memory.lock(&format!("repair/{pool}")).await;
    let Some(why) = limits::hold(ctx, scope, machine) else {
        ctx.memory.with_machine(&machine.id, |memory| memory.held = None);
        return Ok(Admitted { step, alone: Some(alone) });
    };
    tell(ctx, scope, machine, &why).await?;
    let step = if is_useless { Step::Hold(why) } else { Step::Start(reason) };
    Ok(Admitted { step, alone: None })
}

/// Says once for each reason that a repair must wait.
async fn tell(ctx: &Context, scope: &Scope, machine: &Machine, why: &str) -> Outcome<()> {
    let before = ctx.memory.with_machine(&machine.id, |memory| memory.held.replace(why.to_owned()));
    // Numbers in the reason change; the first words say whether it is another one.
    let beginning =
        |text: &str| text.trim_start_matches(|c: char| c.is_ascii_digit()).chars().take(12).collect::<String>();
    if before.is_some_and(|before| beginning(&before) == beginning(why)) {
        return Ok(());
    }
    let mut journal = Journal::of(&scope.cluster, ctx.now());
    journal.machine_event(
        machine,
        Level::Warning,
        "RepairHeld",
        format!("{} is not repaired now: {why}", title(machine)),
    );
    ctx.tell(journal).await
}
