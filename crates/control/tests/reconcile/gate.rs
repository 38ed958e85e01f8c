//! Chance, and the gate that every external call passes.

use std::sync::{Arc, Mutex, MutexGuard};

use sampan_provider::memory::{Fault as Injected, FaultPoint};

/// Small and good enough to choose by.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Where every external call passes: here it may fail, or the server may die in it.
pub(crate) struct Gate {
    inner: Mutex<GateState>,
}

struct GateState {
    calls: u64,
    kill_at: Option<u64>,
    dead: bool,
    faults_per_mille: u64,
    engine_is_down: bool,
    chance: Chance,
}

impl Gate {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let chance = Chance::new(seed);
        let inner =
            GateState { calls: 0, kill_at: None, dead: false, faults_per_mille: 0, engine_is_down: false, chance };
        Arc::new(Self { inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, GateState> {
        self.inner.lock().expect("no test panics while it holds this")
    }

    /// The server dies in the n-th call from now, before, during or after its effect.
    pub(crate) fn kill_after(&self, calls: u64) {
        let mut inner = self.inner();
        inner.kill_at = Some(inner.calls + calls);
    }

    pub(crate) fn never_kill(&self) {
        self.inner().kill_at = None;
    }

    /// So many of a thousand calls fail.
    pub(crate) fn set_faults(&self, per_mille: u64) {
        self.inner().faults_per_mille = per_mille;
    }

    /// The engine does not answer.
    pub(crate) fn set_engine_down(&self, down: bool) {
        self.inner().engine_is_down = down;
    }

    /// Whether the server has died.
    pub(crate) fn is_dead(&self) -> bool {
        self.inner().dead
    }

    /// The dead server is gone; another may start.
    pub(crate) fn revive(&self) {
        let mut inner = self.inner();
        inner.dead = false;
        inner.kill_at = None;
    }

    pub(crate) fn calls(&self) -> u64 {
        self.inner().calls
    }

    /// What happens to the next call; nothing, as a rule.
    pub(crate) fn next(&self, is_engine: bool) -> Option<Injected> {
        let mut inner = self.inner();
        if inner.dead {
            return Some(Injected::Hang(FaultPoint::Before));
        }
        inner.calls += 1;
        let point = match inner.chance.below(3) {
            0 => FaultPoint::Before,
            1 => FaultPoint::Midway,
            _ => FaultPoint::After,
        };
        if inner.kill_at.is_some_and(|at| inner.calls >= at) {
            inner.dead = true;
            return Some(Injected::Hang(point));
        }
        if is_engine && inner.engine_is_down {
            return Some(Injected::Fail(FaultPoint::Before));
        }
        let per_mille = inner.faults_per_mille;
        (inner.chance.below(1000) < per_mille).then_some(Injected::Fail(point))
    }
}
