//! A step of an upgrade as it will be recorded: the cluster, its machines and what is told of it, as one batch.

use sampan_store::{
    Batch,
    model::{Cluster, Fault, FaultKind, Level, Machine, Outcome, Task, Timestamp, Upgrade, UpgradePhase},
};

use crate::reconcile::{allocation::Guard, cluster, context::Context, journal::Journal, scope::Scope};

/// Type of the events.
const EVENT: &str = "cluster_upgrade";

/// How the records shall be.
pub(in crate::reconcile) struct Draft {
    pub(in crate::reconcile) now: Timestamp,
    pub(in crate::reconcile) cluster: Cluster,
    pub(super) machines: Vec<Machine>,
    pub(super) new_machines: Vec<Machine>,
    pub(super) new_task: Option<Task>,
    /// Addresses were taken.
    pub(super) guard: Option<Guard>,
    pub(in crate::reconcile) journal: Journal,
}

impl Draft {
    pub(in crate::reconcile) fn of(scope: &Scope, now: Timestamp) -> Self {
        Self {
            now,
            cluster: scope.cluster.value.clone(),
            machines: scope.machines.iter().map(|machine| machine.value.clone()).collect(),
            new_machines: Vec::new(),
            new_task: None,
            guard: None,
            journal: Journal::of(&scope.cluster, now),
        }
    }

    /// Changes the upgrade; that counts as a step of it.
    pub(super) fn upgrade(&mut self, change: impl FnOnce(&mut Upgrade)) {
        let now = self.now;
        if let Some(upgrade) = &mut self.cluster.upgrade {
            change(upgrade);
            upgrade.since = now;
            self.cluster.updated = now;
        }
    }

    /// Says what is being done; that is no step of it.
    pub(super) fn say(&mut self, message: impl Into<String>) {
        if let Some(upgrade) = &mut self.cluster.upgrade {
            upgrade.message = message.into();
        }
    }

    pub(super) fn enter(&mut self, phase: UpgradePhase) {
        self.upgrade(|upgrade| {
            upgrade.phase = phase;
            upgrade.message.clear();
        });
    }

    /// A step failed: what was begun is ended, then the upgrade has failed.
    pub(super) fn halt(&mut self, why: impl Into<String>) {
        let why = why.into();
        self.upgrade(|upgrade| {
            upgrade.halt.get_or_insert(why);
        });
    }

    pub(super) fn machine(&mut self, id: &str, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.machines.iter_mut().find(|machine| machine.id == id) {
            change(machine);
        }
    }

    pub(super) fn tell(&mut self, level: Level, reason: &str, message: impl Into<String>) {
        self.journal.cluster_event(EVENT, level, reason, message);
    }

    /// Writes what differs. Answers whether there was anything to write, or somebody else was faster: then everything has to
    /// be looked at again.
    pub(in crate::reconcile) async fn commit(self, ctx: &Context, scope: &Scope) -> Outcome<bool> {
        let mut batch = Batch::new();
        cluster::update(&mut batch, std::slice::from_ref(&scope.cluster), std::slice::from_ref(&self.cluster));
        cluster::update(&mut batch, &scope.machines, &self.machines);
        self.new_machines.iter().for_each(|machine| {
            batch.create(machine);
        });
        self.new_task.iter().for_each(|task| {
            batch.create(task);
        });
        if batch.is_empty() && self.journal.events.is_empty() && self.journal.lines.is_empty() {
            return Ok(false);
        }
        if let Some(guard) = &self.guard {
            guard.rewrite(&mut batch);
        }
        self.journal.write_to(&mut batch);
        match ctx.store.commit(batch).await.map_err(Fault::from) {
            Err(fault) if fault.kind != FaultKind::Conflict => Err(fault),
            _ => Ok(true),
        }
    }
}
