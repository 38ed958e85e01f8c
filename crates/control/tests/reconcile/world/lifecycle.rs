//! What happens to clusters as a whole: certificates, backups, returns to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::atomic::Ordering,
    time::Duration,
};

use sampan_agents::spec::{NodeSpec, ProcessState, ProcessStatus};
use sampan_control::{
    backup::{Backup, Writer},
    reconcile::Renewal,
};
use sampan_store::model::{Cluster, Machine, Outcome, Timestamp};

use super::{World, now};

/// Where a control plane is told how far a return to a backup is.
pub(super) const RESTORE: &str = "/restore";
/// Where machines have their certificates.
pub(crate) const CERTIFICATES: &str = "/certificates";
/// How long those are valid.
pub(crate) const LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// How long before their end they are issued again.
pub(crate) const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);

#[derive(Default)]
pub(crate) struct Lifecycle {
    /// When the certificates of clusters end, and how often they were issued.
    pub(crate) certificates: BTreeMap<String, (Timestamp, u32)>,
    /// Authorities of clusters that end soon.
    pub(crate) ending: BTreeMap<String, Timestamp>,
    /// Machines that have received a snapshot.
    pub(super) received: BTreeSet<String>,
    /// Machines whose data was made from a snapshot.
    new_data: BTreeSet<String>,
    /// Backups that etcd cannot be made from.
    pub(crate) unusable_backups: bool,
    /// Backups with which the API server does not come up.
    pub(crate) spoiled_backups: bool,
    /// How often each cluster's data was replaced, and put back.
    pub(crate) replaced: BTreeMap<String, (u32, u32)>,
}

impl Lifecycle {
    /// Whether the API is away because its data is replaced, or does not come up with it.
    pub(super) fn is_away(&self, machine_id: &str, spec: Option<&NodeSpec>) -> bool {
        let is_replaced = spec.is_some_and(|spec| {
            spec.files.iter().any(|file| {
                file.path == RESTORE && (file.content.starts_with("Replace") || file.content.starts_with("TakeBack"))
            })
        });
        is_replaced || self.spoiled_backups && self.new_data.contains(machine_id)
    }

    pub(super) fn renew(&mut self, cluster_id: &str, now: Timestamp) -> Renewal {
        let ending = self.ending.get(cluster_id).map(|at| ("cluster-ca".to_owned(), *at));
        let mut renewal = Renewal { renewed: None, ending: ending.into_iter().collect() };
        if let Some((until, issued)) = self.certificates.get_mut(cluster_id)
            && now + RENEW_BEFORE >= *until
        {
            *until = now + LIFETIME;
            *issued += 1;
            renewal.renewed = Some(*until);
        }
        renewal
    }
}

impl World {
    /// Moves the clock ahead, without the time passing.
    pub(crate) fn move_clock(&self, by: Duration) {
        self.ahead.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    /// What the machine does to be put back to a backup.
    pub(super) fn restore_process(&self, machine_id: &str) -> Option<ProcessStatus> {
        let mut guard = self.state();
        let state = &mut *guard;
        let content = state.specs.get(machine_id)?.files.iter().find(|file| file.path == RESTORE)?.content.clone();
        let (phase, cluster_id) = content.split_once('/')?;
        let (name, state) = match phase {
            "Receive" if state.lifecycle.received.contains(machine_id) => ("etcd-receive", ProcessState::Ready),
            "Receive" => ("etcd-receive", ProcessState::Starting),
            "Replace" if state.lifecycle.unusable_backups => ("etcd-replace", ProcessState::BackOff),
            "Replace" => {
                if state.lifecycle.received.remove(machine_id) {
                    state.lifecycle.new_data.insert(machine_id.to_owned());
                    state.lifecycle.replaced.entry(cluster_id.to_owned()).or_default().0 += 1;
                    let restore = self.store.get::<Cluster>(cluster_id).and_then(|cluster| cluster.restore.clone());
                    if let (Some(etcd), Some(restore)) = (state.etcd.get_mut(cluster_id), restore) {
                        // The data is of a membership that begins with these.
                        etcd.members.retain(|member| restore.members.contains(&member.ip));
                        if let Some(machine) = self.store.get::<Machine>(machine_id) {
                            etcd.give_data(machine.ip, machine_id);
                        }
                    }
                }
                ("etcd-replace", ProcessState::Ready)
            }
            "TakeBack" => {
                state.lifecycle.received.remove(machine_id);
                if state.lifecycle.new_data.remove(machine_id) {
                    state.lifecycle.replaced.entry(cluster_id.to_owned()).or_default().1 += 1;
                }
                ("etcd-take-back", ProcessState::Ready)
            }
            _ => return None,
        };
        let restarts = if state == ProcessState::BackOff { 3 } else { 0 };
        let last_exit = Some("exit code 1: the snapshot is of another world".to_owned());
        Some(ProcessStatus { name: name.to_owned(), state, pid: None, restarts, last_exit })
    }

    pub(super) fn take_snapshot(&self, cluster: &Cluster, to: &Path) -> Outcome<u64> {
        let backup = Backup {
            id: to.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
            cluster_id: cluster.id.clone(),
            kubernetes_version: cluster.version.clone(),
            created: now(self),
            revision: 0,
            size: 0,
            sha256: String::new(),
            salt: String::new(),
        };
        let mut writer = Writer::create(to, self.shelf.key(), backup)?;
        writer.write(b"everything")?;
        writer.finish(7).map(|backup| backup.size)
    }
}
