//! Events and log lines that belong to a change: written in the same transaction as the change, so each is told exactly
//! once and none is told of what did not happen.

use sampan_store::{
    Batch,
    model::{Cluster, Event, Level, LogLine, Machine, Task, Timestamp, new_uuid},
};

/// What is to be told about one cluster.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    account_id: String,
    cluster_id: String,
    now: Timestamp,
    /// Events so far.
    pub(super) events: Vec<Event>,
    /// Log lines so far.
    pub(super) lines: Vec<LogLine>,
}

impl Journal {
    pub(super) fn of(cluster: &Cluster, now: Timestamp) -> Self {
        let (account_id, cluster_id) = (cluster.account_id.clone(), cluster.id.clone());
        Self { account_id, cluster_id, now, events: Vec::new(), lines: Vec::new() }
    }

    /// A line of the cluster's log.
    pub(super) fn log(&mut self, text: impl Into<String>) {
        let (cluster_id, created) = (self.cluster_id.clone(), self.now);
        self.lines.push(LogLine { id: 0, cluster_id, text: text.into(), created });
    }

    /// An event about the cluster, also a line of its log.
    pub(super) fn cluster_event(&mut self, event_type: &str, level: Level, reason: &str, message: impl Into<String>) {
        let (source, subject) = (format!("/clusters/{}", self.cluster_id), self.cluster_id.clone());
        self.event(event_type, source, subject, level, reason, message.into());
    }

    /// The event that ends a task.
    pub(super) fn task_event(&mut self, task: &Task, level: Level, reason: &str, message: impl Into<String>) {
        let event_type = task.task_type.as_str();
        match &task.node_pool_id {
            Some(pool) => {
                let source = format!("/clusters/{}/nodepools", self.cluster_id);
                self.event(event_type, source, pool.clone(), level, reason, message.into());
            }
            None => self.cluster_event(event_type, level, reason, message),
        }
    }

    /// An event about a machine, also a line of the cluster's log.
    pub(super) fn machine_event(&mut self, machine: &Machine, level: Level, reason: &str, message: impl Into<String>) {
        let source = format!("/clusters/{}/nodes", self.cluster_id);
        self.event("cluster_modify", source, machine.id.clone(), level, reason, message.into());
    }

    pub(super) fn write_to(self, batch: &mut Batch) {
        self.events.into_iter().for_each(|event| {
            batch.event(event);
        });
        self.lines.into_iter().for_each(|line| {
            batch.log(line);
        });
    }

    fn event(&mut self, kind: &str, source: String, subject: String, level: Level, reason: &str, message: String) {
        self.log(message.clone());
        self.events.push(Event {
            id: new_uuid(),
            account_id: self.account_id.clone(),
            cluster_id: self.cluster_id.clone(),
            event_type: kind.to_owned(),
            source,
            subject,
            time: self.now,
            level,
            reason: reason.to_owned(),
            message,
        });
    }
}
