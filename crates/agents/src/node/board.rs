//! What the machine is doing, in one place: everything writes here, status requests wait here.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::spec::{NodeStatus, ProcessState, ProcessStatus};

/// The status board. Each write that changes something counts the revision up.
#[derive(Debug)]
pub(crate) struct Board {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    status: NodeStatus,
    /// Which run of a name may write its line: after a change of spec the old one may still be stopping.
    owners: BTreeMap<String, u64>,
    /// Problems by who found them.
    problems: BTreeMap<String, String>,
}

impl Board {
    pub(crate) fn new(boot_id: String) -> Self {
        let status = NodeStatus { revision: 1, boot_id, ..NodeStatus::default() };
        let state = State { status, owners: BTreeMap::new(), problems: BTreeMap::new() };
        Self { state: Mutex::new(state), revision: watch::Sender::new(1) }
    }

    /// The status now.
    pub(crate) fn status(&self) -> NodeStatus {
        self.lock().status.clone()
    }

    /// The revision; changes with every change of the status.
    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Sets which processes there are, in this order, each with the number of the run that may write its line. Lines of
    /// runs that stay are kept.
    pub(crate) fn set_processes(&self, processes: Vec<(String, u64)>) {
        self.change(|state| {
            let mut old: BTreeMap<String, ProcessStatus> =
                std::mem::take(&mut state.status.processes).into_iter().map(|line| (line.name.clone(), line)).collect();
            let owners = std::mem::take(&mut state.owners);
            for (name, run) in processes {
                let kept = old.remove(&name);
                let line = match kept {
                    Some(line) if owners.get(&name) == Some(&run) => line,
                    replaced => ProcessStatus {
                        name: name.clone(),
                        state: ProcessState::Waiting,
                        pid: None,
                        restarts: replaced.map_or(0, |line| line.restarts),
                        last_exit: None,
                    },
                };
                state.status.processes.push(line);
                state.owners.insert(name, run);
            }
        });
    }

    /// Changes the line of a process, unless the run has been replaced.
    pub(crate) fn update_process(&self, name: &str, run: u64, update: impl FnOnce(&mut ProcessStatus)) {
        self.change(|state| {
            if state.owners.get(name) == Some(&run)
                && let Some(line) = state.status.processes.iter_mut().find(|line| line.name == name)
            {
                update(line);
            }
        });
    }

    /// Records or clears what could not be done about `subject`.
    pub(crate) fn set_problem(&self, subject: &str, problem: Option<String>) {
        self.change(|state| {
            match problem {
                Some(problem) => state.problems.insert(subject.to_owned(), problem),
                None => state.problems.remove(subject),
            };
            state.status.problems = state.problems.values().cloned().collect();
        });
    }

    /// Records which spec is in force.
    pub(crate) fn set_spec_hash(&self, hash: &str) {
        self.change(|state| hash.clone_into(&mut state.status.spec_hash));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        let before = state.status.clone();
        change(&mut state);
        if state.status != before {
            state.status.revision += 1;
            self.revision.send_replace(state.status.revision);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_count() {
        let board = Board::new("boot".into());
        assert_eq!(board.status().revision, 1);
        board.set_spec_hash("h");
        board.set_spec_hash("h");
        board.set_problem("routes", None);
        assert_eq!(board.status().revision, 2);
        assert_eq!(*board.revision().borrow(), 2);
    }

    #[test]
    fn a_replaced_run_no_longer_writes() {
        let board = Board::new("boot".into());
        board.set_processes(vec![("a".into(), 1), ("b".into(), 2)]);
        board.update_process("a", 1, |line| line.state = ProcessState::Ready);
        board.set_processes(vec![("a".into(), 3), ("b".into(), 2)]);
        board.update_process("a", 1, |line| line.state = ProcessState::BackOff);
        assert_eq!(board.status().processes[0].state, ProcessState::Waiting);
        board.set_processes(vec![("b".into(), 2)]);
        assert_eq!(board.status().processes.len(), 1);
    }
}
