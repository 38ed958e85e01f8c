//! One change: everything that a use case writes, as one batch.

use std::{collections::HashSet, sync::Arc};

use sampan_store::{
    Batch, Document, Store, Versioned,
    model::{
        ALLOCATION_GUARD, Event, Fault, FaultKind, Level, LogLine, Outcome, ResultStatus, Setting, Stage, StageState,
        Task, TaskResult, TaskState, TaskType, Timestamp, new_uuid,
    },
};

use super::{RequestContext, Service, network::allocate::Ledger};

/// Attempts of a change that others get in the way of.
const ATTEMPTS_MAX: usize = 20;

/// Everything that a use case writes.
pub(super) struct Change<'a> {
    pub(super) store: &'a Store,
    pub(super) ctx: &'a RequestContext,
    pub(super) now: Timestamp,
    batch: Batch,
    allocation: Option<Allocation>,
    /// Machines of the inventory that this change uses.
    claimed: HashSet<String>,
    /// Names that this change gives to nodes.
    node_names: HashSet<String>,
}

struct Allocation {
    /// Revision and value of the guard before.
    guard: Option<(u64, u64)>,
    ledger: Ledger,
}

/// What an event is about.
#[derive(Clone, Copy)]
pub(super) enum About<'a> {
    /// A cluster.
    Cluster(&'a str),
    /// A node pool.
    NodePool { cluster_id: &'a str, id: &'a str },
}

/// What users must know about a request that was accepted; it becomes an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    /// One word.
    pub(super) reason: &'static str,
    /// In words.
    pub(super) message: String,
}

impl Notice {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Fields that the operation does not know.
    pub(super) fn unknown_fields(fields: &[String]) -> Option<Self> {
        (!fields.is_empty()).then(|| {
            Self::new(
                "FieldsIgnored",
                format!("the request has fields that are not known and were ignored: {}", fields.join(", ")),
            )
        })
    }
}

/// A task that is to be recorded.
pub(super) struct NewTask<'a> {
    pub(super) id: &'a str,
    pub(super) cluster_id: &'a str,
    pub(super) task_type: TaskType,
    pub(super) stages: &'a [&'a str],
    pub(super) resources: Vec<String>,
    pub(super) node_pool_id: Option<String>,
    pub(super) deadline_minutes: u32,
    /// Nothing is left to do: the task ends as it begins.
    pub(super) done: bool,
}

impl Service {
    /// Plans a change and commits it; plans again when somebody else was faster.
    pub(super) async fn change<T>(
        &self,
        ctx: &RequestContext,
        mut plan: impl FnMut(&mut Change<'_>) -> Outcome<T> + Send,
    ) -> Outcome<T> {
        let _one_at_a_time = self.planning.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            let mut change = Change::new(&self.store, ctx, self.now());
            let answer = plan(&mut change)?;
            match self.store.commit(change.into_batch()).await.map_err(Fault::from) {
                Ok(()) => return Ok(answer),
                Err(fault) if fault.kind == FaultKind::Conflict => {}
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::new(FaultKind::Conflict, "this is being changed by many requests at once; try again"))
    }
}

impl<'a> Change<'a> {
    fn new(store: &'a Store, ctx: &'a RequestContext, now: Timestamp) -> Self {
        Self {
            store,
            ctx,
            now,
            batch: Batch::new(),
            allocation: None,
            claimed: HashSet::new(),
            node_names: HashSet::new(),
        }
    }
}

impl Change<'_> {
    fn into_batch(mut self) -> Batch {
        if let Some(nonce) = &self.ctx.nonce {
            self.batch.nonce(&nonce.access_key_id, &nonce.value, nonce.expires);
        }
        if let Some(Allocation { guard, mut ledger }) = self.allocation.take() {
            let (vpcs, vswitches) = ledger.take_new();
            vpcs.iter().for_each(|vpc| {
                self.batch.create(vpc);
            });
            vswitches.iter().for_each(|vswitch| {
                self.batch.create(vswitch);
            });
            let count = guard.map_or(0, |(_, count)| count);
            let next = Setting { id: ALLOCATION_GUARD.into(), value: (count + 1).into() };
            match guard {
                Some((revision, _)) => self.batch.update(revision, &next),
                None => self.batch.create(&next),
            };
        }
        self.batch
    }

    /// What is taken now. Whatever is allocated on it is written with this change.
    pub(super) fn ledger(&mut self) -> &mut Ledger {
        let store = self.store;
        let allocation = self.allocation.get_or_insert_with(|| {
            // The guard is read first: an allocation written in between makes the commit fail.
            let guard =
                store.get::<Setting>(ALLOCATION_GUARD).map(|g| (g.revision, g.value.value.as_u64().unwrap_or(0)));
            Allocation { guard, ledger: Ledger::load(store) }
        });
        &mut allocation.ledger
    }

    /// Remembers that this change uses a machine of the inventory: the store does not show that before the commit.
    pub(super) fn claim(&mut self, machine_id: &str) {
        self.claimed.insert(machine_id.to_owned());
    }

    /// Remembers that a new node of this change has the name; `false`: another one has it already.
    pub(super) fn take_node_name(&mut self, name: &str) -> bool {
        self.node_names.insert(name.to_owned())
    }

    pub(super) fn is_claimed(&self, machine_id: &str) -> bool {
        self.claimed.contains(machine_id)
    }

    /// A task of the cluster that is in progress, of the types that are asked for.
    pub(super) fn running_task(
        &self,
        cluster_id: &str,
        is_meant: impl Fn(TaskType) -> bool,
    ) -> Option<Arc<Versioned<Task>>> {
        let tasks = self.store.list_of::<Task>(cluster_id);
        tasks.into_iter().find(|task| task.state == TaskState::Running && is_meant(task.task_type))
    }

    pub(super) fn create<T: Document>(&mut self, value: &T) {
        self.batch.create(value);
    }

    pub(super) fn update<T: Document>(&mut self, before: &Versioned<T>, value: &T) {
        self.batch.update(before.revision, value);
    }

    pub(super) fn put<T: Document>(&mut self, value: &T) {
        self.batch.put(value);
    }

    pub(super) fn delete<T: Document>(&mut self, before: &Versioned<T>) {
        self.batch.expect_revision::<T>(before.id(), Some(before.revision));
        self.batch.delete::<T>(before.id());
    }

    /// Removes all secrets under a prefix, which ends with a slash.
    pub(super) fn delete_secrets(&mut self, prefix: &str) {
        self.batch.delete_secrets_under(prefix);
    }

    /// Removes one secret.
    pub(super) fn delete_secret(&mut self, name: &str) {
        self.batch.delete_secret(name);
    }

    /// The change relies on this document staying as it is.
    pub(super) fn rely_on<T: Document>(&mut self, document: &Versioned<T>) {
        self.batch.expect_revision::<T>(document.id(), Some(document.revision));
    }

    pub(super) fn secret(&mut self, name: &str, value: &str) {
        self.batch.secret(name, value.as_bytes());
    }

    pub(super) fn log(&mut self, cluster_id: &str, text: impl Into<String>) {
        self.batch.log(LogLine { id: 0, cluster_id: cluster_id.to_owned(), text: text.into(), created: self.now });
    }

    /// An event, also a line of the cluster's log.
    pub(super) fn event(
        &mut self,
        about: About<'_>,
        task_type: TaskType,
        level: Level,
        reason: &str,
        message: impl Into<String>,
    ) {
        let message = message.into();
        let (source, cluster_id, subject) = match about {
            About::Cluster(id) => (format!("/clusters/{id}"), id, id),
            About::NodePool { cluster_id, id } => (format!("/clusters/{cluster_id}/nodepools"), cluster_id, id),
        };
        self.log(cluster_id, message.clone());
        self.batch.event(Event {
            id: new_uuid(),
            account_id: self.ctx.account_id.clone(),
            cluster_id: cluster_id.to_owned(),
            event_type: task_type.as_str().to_owned(),
            source,
            subject: subject.to_owned(),
            time: self.now,
            level,
            reason: reason.to_owned(),
            message,
        });
    }

    /// Tells what users must know about their request though it was accepted.
    pub(super) fn notices(&mut self, about: About<'_>, task_type: TaskType, notices: &[Notice]) {
        for notice in notices {
            self.event(about, task_type, Level::Info, notice.reason, notice.message.clone());
        }
    }

    /// Records a task.
    pub(super) fn task(&mut self, task: NewTask<'_>) -> Task {
        let (state, stage_state, status) = if task.done {
            (TaskState::Success, StageState::Success, ResultStatus::Success)
        } else {
            (TaskState::Running, StageState::Waiting, ResultStatus::Initial)
        };
        let at = task.done.then_some(self.now);
        let stage = |name: &&str| Stage {
            name: (*name).to_owned(),
            state: stage_state,
            started: at,
            finished: at,
            message: String::new(),
        };
        let minutes = jiff::SignedDuration::from_mins(i64::from(task.deadline_minutes));
        let recorded = Task {
            id: task.id.to_owned(),
            account_id: self.ctx.account_id.clone(),
            cluster_id: task.cluster_id.to_owned(),
            task_type: task.task_type,
            state,
            node_pool_id: task.node_pool_id,
            stages: task.stages.iter().map(stage).collect(),
            results: task.resources.into_iter().map(|data| TaskResult { data, status }).collect(),
            error: None,
            created: self.now,
            updated: self.now,
            deadline: self.now.checked_add(minutes).unwrap_or(Timestamp::MAX),
            lease: None,
            request_id: self.ctx.request_id.clone(),
        };
        self.create(&recorded);
        recorded
    }
}
