//! Which calls fail, and when.

use std::fmt;

/// When, within a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultPoint {
    /// Nothing has happened yet.
    Before,
    /// Half of it has: a machine made but not started, stopped but not started again, removed but with its volumes left.
    Midway,
    /// All of it has, but the caller does not learn of it.
    After,
}

/// What a caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// An error.
    Fail(FaultPoint),
    /// Nothing, for ever: the instant at which a test kills the caller.
    Hang(FaultPoint),
}

impl Fault {
    /// When, within the call.
    pub fn point(self) -> FaultPoint {
        match self {
            Self::Fail(point) | Self::Hang(point) => point,
        }
    }
}

type Hook = Box<dyn FnMut(&str, &str) -> Option<Fault> + Send>;

/// Decides for each call whether it fails.
pub struct FaultPlan {
    hook: Hook,
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultPlan").finish_non_exhaustive()
    }
}

impl FaultPlan {
    /// Nothing fails.
    pub fn none() -> Self {
        Self::hook(|_, _| None)
    }

    /// Asks `decide` with the method and the name at each call.
    pub fn hook(decide: impl FnMut(&str, &str) -> Option<Fault> + Send + 'static) -> Self {
        Self { hook: Box::new(decide) }
    }

    /// Each call fails with this probability (0 to 1), at a point chosen by chance. The same seed gives the same faults
    /// for the same calls.
    pub fn random(seed: u64, probability: f64) -> Self {
        let mut state = seed;
        Self::hook(move |_, _| {
            let chance = next_random(&mut state) >> 11;
            #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
            let fails = (chance as f64) < probability * (1_u64 << 53) as f64;
            let point = match next_random(&mut state) % 3 {
                0 => FaultPoint::Before,
                1 => FaultPoint::Midway,
                _ => FaultPoint::After,
            };
            fails.then_some(Fault::Fail(point))
        })
    }

    /// The call with this number (from 0, counted from now) meets this fault, no other does.
    pub fn at_call(number: usize, fault: Fault) -> Self {
        let mut count = 0;
        Self::hook(move |_, _| {
            let hit = count == number;
            count += 1;
            hit.then_some(fault)
        })
    }

    pub(super) fn next(&mut self, op: &str, name: &str) -> Option<Fault> {
        (self.hook)(op, name)
    }
}

/// SplitMix64: small, and enough to choose faults by.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
