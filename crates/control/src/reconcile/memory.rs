//! What the controllers remember between two looks. Nothing here is needed to be right: a fresh process, which remembers
//! nothing, asks again and arrives at the same end. It only saves repeated calls and repeated words.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sampan_agents::balancer::Config;
use sampan_provider::ProviderError;
use sampan_store::model::{Fault, Timestamp};
use tokio::{sync::OwnedMutexGuard, time::Instant};

use crate::ports::{BasePart, ComponentView};

/// Reason of a note, and so of an event: the host has too little of something.
pub(super) const EXHAUSTED: &str = "ResourcesExhausted";

/// More unused locks than this are thrown away.
const IDLE_LOCKS_MAX: usize = 256;

/// What hinders a machine now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// One word, as an event's reason.
    pub(super) reason: &'static str,
    /// In words.
    pub(super) message: String,
    /// Trying again cannot help.
    pub(super) permanent: bool,
}

impl Note {
    /// Something is waited for, nothing is wrong.
    pub(super) fn waiting(message: impl Into<String>) -> Self {
        Self { reason: Self::WAITING, message: message.into(), permanent: false }
    }

    const WAITING: &'static str = "Waiting";

    /// Whether it is a trouble that users should be told of.
    pub(super) fn is_trouble(&self) -> bool {
        self.reason != Self::WAITING
    }
}

impl From<ProviderError> for Note {
    fn from(error: ProviderError) -> Self {
        let reason = match &error {
            ProviderError::Unavailable(_) => "EngineUnavailable",
            ProviderError::Exhausted(_) => EXHAUSTED,
            ProviderError::Conflict(_) => "AddressConflict",
            ProviderError::Failed(_) => "EngineFailed",
        };
        Self { reason, message: error.to_string(), permanent: false }
    }
}

impl From<Fault> for Note {
    fn from(fault: Fault) -> Self {
        let permanent = !fault.retryable();
        let reason = if permanent { "Refused" } else { Self::WAITING };
        Self { reason, message: fault.message, permanent }
    }
}

/// What is remembered of a machine.
#[derive(Clone, Debug, Default)]
pub(super) struct MachineMemory {
    /// What hinders it now.
    pub(super) note: Option<Note>,
    /// The spec sent last, and when.
    pub(super) sent: Option<(String, Instant)>,
    /// What was in it but for its routes, as a hash.
    pub(super) substance: Option<u64>,
    /// The inputs whose spec is in force (see [`super::scope::Scope::topology`]).
    pub(super) in_force: Option<u64>,
    /// When we restarted it.
    pub(super) repaired: Option<Instant>,
    /// Since when its container runs without its agent being connected.
    pub(super) silent_since: Option<Instant>,
    /// Since when it is being drained.
    pub(super) draining_since: Option<Instant>,
    /// Users were told by what its drain is blocked.
    pub(super) drain_blocked: bool,
    /// Users were told that it is not repaired, and why.
    pub(super) held: Option<String>,
    /// When its drain for an upgrade went a round.
    pub(super) drain_round: Option<Instant>,
    /// Users were told that it goes without having been drained.
    pub(super) drain_given_up: bool,
    /// Labels and taints settled on its node, as a hash, and when.
    pub(super) settled: Option<(u64, Instant)>,
}

#[derive(Default)]
struct Inner {
    networks: HashSet<String>,
    networks_refused: HashMap<String, Instant>,
    certificates: HashMap<String, (Vec<Ipv4Addr>, Instant)>,
    turns: HashMap<String, (String, Instant)>,
    base: HashMap<String, BasePart>,
    accounts: HashSet<String>,
    topologies: HashMap<String, u64>,
    machines: HashMap<String, MachineMemory>,
    announced: HashMap<String, BTreeSet<String>>,
    rolled_back: HashSet<String>,
    serving: HashMap<String, bool>,
    ending: HashMap<String, Vec<(String, Timestamp)>>,
    components: HashMap<String, (Vec<ComponentView>, Instant)>,
    backup_failed: HashSet<String>,
    balancer: Option<(Config, Instant)>,
    balancer_troubles: BTreeMap<String, String>,
    balancer_doubts: u64,
    /// The doubts that were out of the way when it answered last.
    balancer_trusted: u64,
    locks: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
}

/// The memory.
#[derive(Default)]
pub(super) struct Memory {
    inner: Mutex<Inner>,
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every method leaves it whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else works on the thing of that name.
    pub(super) async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut inner = self.inner();
            if inner.locks.len() > IDLE_LOCKS_MAX {
                inner.locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            Arc::clone(inner.locks.entry(name.to_owned()).or_default())
        };
        lock.lock_owned().await
    }

    pub(super) fn network_is_up(&self, vpc_id: &str) -> bool {
        self.inner().networks.contains(vpc_id)
    }

    /// Answers whether that is news.
    pub(super) fn set_network(&self, vpc_id: &str, up: bool) -> bool {
        let networks = &mut self.inner().networks;
        if up { networks.insert(vpc_id.to_owned()) } else { networks.remove(vpc_id) }
    }

    /// For how long the engine has been refusing to remove the network: it just did.
    pub(super) fn network_refused_for(&self, vpc_id: &str) -> Duration {
        self.inner().networks_refused.entry(vpc_id.to_owned()).or_insert_with(Instant::now).elapsed()
    }

    /// The network is gone, or is wanted again.
    pub(super) fn forget_refusals(&self, vpc_id: &str) {
        self.inner().networks_refused.remove(vpc_id);
    }

    /// Time since the certificates were last looked at, if that was for these addresses.
    pub(super) fn certificates_age(&self, cluster_id: &str, ips: &[Ipv4Addr]) -> Option<Duration> {
        let inner = self.inner();
        inner.certificates.get(cluster_id).filter(|(named, _)| named == ips).map(|(_, at)| at.elapsed())
    }

    pub(super) fn set_certificates(&self, cluster_id: &str, ips: Vec<Ipv4Addr>) {
        self.inner().certificates.insert(cluster_id.to_owned(), (ips, Instant::now()));
    }

    /// Which machine of the cluster's control plane was disturbed last, and how long ago.
    pub(super) fn turn(&self, cluster_id: &str) -> Option<(String, Duration)> {
        self.inner().turns.get(cluster_id).map(|(machine_id, at)| (machine_id.clone(), at.elapsed()))
    }

    pub(super) fn set_turn(&self, cluster_id: &str, machine_id: &str) {
        self.inner().turns.insert(cluster_id.to_owned(), (machine_id.to_owned(), Instant::now()));
    }

    /// Whether this part of the base, and so those before it, were applied.
    pub(super) fn base_is_applied(&self, cluster_id: &str, part: BasePart) -> bool {
        self.inner().base.get(cluster_id).is_some_and(|applied| *applied >= part)
    }

    pub(super) fn set_base(&self, cluster_id: &str, part: BasePart) {
        self.inner().base.insert(cluster_id.to_owned(), part);
    }

    /// Whether the cluster had its default service account already.
    pub(super) fn account_was_seen(&self, cluster_id: &str) -> bool {
        self.inner().accounts.contains(cluster_id)
    }

    pub(super) fn set_account_seen(&self, cluster_id: &str) {
        self.inner().accounts.insert(cluster_id.to_owned());
    }

    /// Answers whether the topology is another than before.
    pub(super) fn set_topology(&self, cluster_id: &str, topology: u64) -> bool {
        self.inner().topologies.insert(cluster_id.to_owned(), topology) != Some(topology)
    }

    pub(super) fn machine(&self, machine_id: &str) -> MachineMemory {
        self.inner().machines.get(machine_id).cloned().unwrap_or_default()
    }

    pub(super) fn with_machine<R>(&self, machine_id: &str, change: impl FnOnce(&mut MachineMemory) -> R) -> R {
        change(self.inner().machines.entry(machine_id.to_owned()).or_default())
    }

    /// Answers whether the note is another than before.
    pub(super) fn set_note(&self, machine_id: &str, note: Option<Note>) -> bool {
        self.with_machine(machine_id, |machine| std::mem::replace(&mut machine.note, note.clone()) != note)
    }

    pub(super) fn forget_machine(&self, machine_id: &str) {
        self.inner().machines.remove(machine_id);
    }

    /// Whether the cluster's API served us when it was asked last; `false` also before that.
    pub(super) fn api_serves(&self, cluster_id: &str) -> bool {
        self.inner().serving.get(cluster_id).copied().unwrap_or(false)
    }

    pub(super) fn set_api_serves(&self, cluster_id: &str, serves: bool) {
        self.inner().serving.insert(cluster_id.to_owned(), serves);
    }

    pub(super) fn forget_cluster(&self, cluster_id: &str) {
        let mut inner = self.inner();
        inner.serving.remove(cluster_id);
        inner.certificates.remove(cluster_id);
        inner.turns.remove(cluster_id);
        inner.base.remove(cluster_id);
        inner.accounts.remove(cluster_id);
        inner.topologies.remove(cluster_id);
        inner.announced.remove(cluster_id);
        inner.rolled_back.remove(cluster_id);
        inner.ending.remove(cluster_id);
        inner.components.remove(cluster_id);
        inner.backup_failed.remove(cluster_id);
    }

    /// Authorities whose end is near.
    pub(super) fn ending(&self, cluster_id: &str) -> Vec<(String, Timestamp)> {
        self.inner().ending.get(cluster_id).cloned().unwrap_or_default()
    }

    pub(super) fn set_ending(&self, cluster_id: &str, ending: Vec<(String, Timestamp)>) {
        self.inner().ending.insert(cluster_id.to_owned(), ending);
    }

    /// The parts of the base are applied again: something that they hold is another now.
    pub(super) fn forget_base(&self, cluster_id: &str) {
        self.inner().base.remove(cluster_id);
    }

    /// How the parts behind the API were when they were looked at last, and how long ago.
    pub(super) fn components(&self, cluster_id: &str) -> Option<(Vec<ComponentView>, Duration)> {
        self.inner().components.get(cluster_id).map(|(seen, at)| (seen.clone(), at.elapsed()))
    }

    pub(super) fn set_components(&self, cluster_id: &str, seen: Vec<ComponentView>) {
        self.inner().components.insert(cluster_id.to_owned(), (seen, Instant::now()));
    }

    /// Remembers whether the last periodic backup failed; answers whether that is news.
    pub(super) fn set_backup_failed(&self, cluster_id: &str, failed: bool) -> bool {
        let clusters = &mut self.inner().backup_failed;
        if failed { clusters.insert(cluster_id.to_owned()) } else { clusters.remove(cluster_id) }
    }

    /// What users of the cluster were told is wrong now.
    pub(super) fn announced(&self, cluster_id: &str) -> BTreeSet<String> {
        self.inner().announced.get(cluster_id).cloned().unwrap_or_default()
    }

    pub(super) fn set_announced(&self, cluster_id: &str, announced: BTreeSet<String>) {
        self.inner().announced.insert(cluster_id.to_owned(), announced);
    }

    /// Remembers that a failed creation was rolled back; answers whether that is news.
    pub(super) fn set_rolled_back(&self, cluster_id: &str) -> bool {
        self.inner().rolled_back.insert(cluster_id.to_owned())
    }

    /// The configuration that the balancer took last, and how long ago.
    pub(super) fn balancer(&self) -> Option<(Config, Duration)> {
        self.inner().balancer.as_ref().map(|(config, at)| (config.clone(), at.elapsed()))
    }

    /// What the balancer holds now, and what it could not do (by listener or address); answers whether that is news.
    pub(super) fn set_balancer(&self, config: Option<Config>, troubles: BTreeMap<String, String>) -> bool {
        let mut inner = self.inner();
        let held = inner.balancer.take().map(|(held, _)| held);
        let news = held != config || inner.balancer_troubles != troubles;
        inner.balancer = config.map(|config| (config, Instant::now()));
        inner.balancer_troubles = troubles;
        news
    }

    /// What the balancer was seen to hold may not be so any more, until it answers again.
    pub(super) fn doubt_balancer(&self) {
        self.inner().balancer_doubts += 1;
    }

    /// How often the balancer was doubted.
    pub(super) fn balancer_doubts(&self) -> u64 {
        self.inner().balancer_doubts
    }

    /// The balancer was asked after so many doubts, and has answered; says whether that is news.
    pub(super) fn trust_balancer(&self, doubts: u64) -> bool {
        let mut inner = self.inner();
        std::mem::replace(&mut inner.balancer_trusted, doubts) != doubts
    }

    pub(super) fn is_balancer_doubted(&self) -> bool {
        let inner = self.inner();
        inner.balancer_doubts != inner.balancer_trusted
    }

    pub(super) fn balancer_troubles(&self) -> BTreeMap<String, String> {
        self.inner().balancer_troubles.clone()
    }
}
