//! Shares by weight, exact and smooth.
//!
//! Turn `n` stands at `n * stride mod total`, and every group owns as many of the `total` positions as its weight (weights
//! divided by what they have in common). The stride has no divisor in common with the total, so any `total` turns in a row
//! visit every position once: shares are exact over every such window. It is close to the golden section of the total, so
//! positions of one group are visited evenly and not in bursts. A turn costs one atomic addition.

use std::sync::atomic::{AtomicU64, Ordering};

/// Positions of groups.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// For each group that gets something: end of its positions, and its index.
    ends: Vec<(u64, usize)>,
    total: u64,
    stride: u64,
}

impl Shares {
    /// Shares of groups by their weights.
    pub(super) fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Vec<(usize, u64)> =
            weights.into_iter().enumerate().map(|(index, weight)| (index, u64::from(weight))).collect();
        let common = weights.iter().fold(0, |common, (_, weight)| gcd(common, *weight)).max(1);
        let mut total = 0;
        let mut ends = Vec::with_capacity(weights.len());
        for (index, weight) in weights {
            if weight > 0 {
                total += weight / common;
                ends.push((total, index));
            }
        }
        Self { ends, total, stride: stride(total) }
    }

    /// Index of the group whose turn it is; `None` if no group has a weight.
    pub(super) fn at(&self, turn: u64) -> Option<usize> {
        let position = u128::from(turn) * u128::from(self.stride) % u128::from(self.total.max(1));
        self.ends.iter().find(|(end, _)| position < u128::from(*end)).map(|(_, index)| *index)
    }

    /// Indices of all groups that get something.
    pub(super) fn groups(&self) -> impl Iterator<Item = usize> {
        self.ends.iter().map(|(_, index)| *index)
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn stride(total: u64) -> u64 {
    // 0.618 of the total or the next number above it that has no divisor in common with it.
    let first = (total / 1000 * 618 + total % 1000 * 618 / 1000).max(1);
    (first..=total.max(first)).find(|stride| gcd(*stride, total) == 1).unwrap_or(1)
}

/// Whose turn it is; outlives changes of the table.
#[derive(Debug, Default)]
pub(super) struct Turns(AtomicU64);

impl Turns {
    /// The next turn.
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use proptest::prelude::*;

    use super::*;

    fn sequence(weights: &[u32], from: u64, count: u64) -> Vec<usize> {
        let shares = Shares::new(weights.iter().copied());
        (from..from + count).map(|turn| shares.at(turn).unwrap()).collect()
    }

    #[test]
    fn equal_weights_alternate_and_small_ones_are_spread() {
        assert_eq!(sequence(&[50, 50], 0, 4), [0, 1, 0, 1]);
        let ninety = sequence(&[90, 10], 3, 20);
        assert_eq!(ninety.iter().filter(|index| **index == 1).count(), 2);
        assert_eq!(Shares::new([0, 0]).at(7), None);
        assert_eq!(Shares::new([]).at(7), None);
        assert_eq!(sequence(&[0, 100], 0, 3), [1, 1, 1]);
    }

    proptest! {
        #[test]
        fn every_window_is_exact(weights in prop::collection::vec(0u32..=100, 1..5), from in 0u64..1 << 40) {
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            let turns = sequence(&weights, from, u64::from(sum));
            for (index, weight) in weights.iter().enumerate() {
                prop_assert_eq!(turns.iter().filter(|turn| **turn == index).count(), *weight as usize);
            }
        }

        #[test]
        fn it_is_smooth(weight in 1u32..100, from in 0u64..1 << 40) {
            // In any ten turns nobody is further than two from its share.
            let turns = sequence(&[weight, 100 - weight], from, 10);
            let first = turns.iter().filter(|turn| **turn == 0).count() as f64;
            prop_assert!((first - f64::from(weight) / 10.0).abs() <= 2.0, "{turns:?}");
        }

        #[test]
        fn any_weights_are_fine(weights in prop::collection::vec(any::<u32>(), 0..6), turn in any::<u64>()) {
            let shares = Shares::new(weights.iter().copied());
            match shares.at(turn) {
                Some(index) => prop_assert!(weights[index] > 0),
                None => prop_assert!(weights.iter().all(|weight| *weight == 0)),
            }
        }
    }
}
