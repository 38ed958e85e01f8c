//! Which of several pools that would help gets the new nodes.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use sampan_store::model::Expander;

use super::simulate::Offer;

/// Entries of the cluster's own list that are read.
const ENTRIES_MAX: usize = 1000;
/// Memory for one of its expressions.
const EXPRESSION_BYTES_MAX: usize = 64 << 10;

/// The cluster's own order of its pools: the higher the number, the sooner a pool grows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Priorities(BTreeMap<i32, Vec<Regex>>);

impl Priorities {
    /// Reads the key `priorities` of the ConfigMap: numbers with lists of expressions that a pool's id or name matches.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let read: BTreeMap<i32, Vec<String>> =
            serde_yaml_ng::from_str(text).map_err(|error| format!("priorities cannot be read: {error}"))?;
        if read.values().map(Vec::len).sum::<usize>() > ENTRIES_MAX {
            return Err(format!("priorities has more than {ENTRIES_MAX} entries"));
        }
        let compile = |pattern: &String| {
            RegexBuilder::new(pattern)
                .size_limit(EXPRESSION_BYTES_MAX)
                .build()
                .map_err(|error| format!("priorities: {pattern:?} is no expression: {error}"))
        };
        let compiled = read.iter().map(|(priority, patterns)| {
            patterns.iter().map(compile).collect::<Result<Vec<_>, _>>().map(|patterns| (*priority, patterns))
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// The highest number that one of these names has.
    fn of(&self, names: &[&str]) -> Option<i32> {
        let matches =
            |patterns: &Vec<Regex>| patterns.iter().any(|pattern| names.iter().any(|name| pattern.is_match(name)));
        self.0.iter().rev().find(|(_, patterns)| matches(patterns)).map(|(priority, _)| *priority)
    }
}

/// What a choice needs to know.
pub(crate) struct Choice<'a> {
    pub(crate) expander: Expander,
    /// For [`Expander::Priority`].
    pub(crate) priorities: Option<&'a Priorities>,
    /// Names of a pool: its ids, its name.
    pub(crate) names: &'a dyn Fn(&str) -> Vec<String>,
    /// A number below the given one.
    pub(crate) random: &'a mut dyn FnMut(usize) -> usize,
}

/// The number of the chosen offer. Where the strategy leaves several, the one that wastes least, then the first.
pub(crate) fn choose(offers: &[Offer], choice: &mut Choice<'_>) -> usize {
    let all: Vec<usize> = (0..offers.len()).collect();
    let left = match choice.expander {
        Expander::LeastWaste => all,
        Expander::Random => {
            let number = (choice.random)(offers.len().max(1));
            return number.min(offers.len().saturating_sub(1));
        }
        Expander::MostPods => best(&all, |number| offers.get(number).map_or(0, |offer| offer.pods.len())),
        Expander::Priority => {
            let priority = |number: usize| {
                let names = offers.get(number).map(|offer| (choice.names)(&offer.pool_id)).unwrap_or_default();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                choice.priorities.and_then(|priorities| priorities.of(&names))
            };
            // Without a list, and when it has none of them, all are left.
            best(&all, priority)
        }
    };
    let waste = |number: &usize| offers.get(*number).map_or(1.0, |offer| offer.waste);
    left.into_iter().min_by(|one, other| waste(one).total_cmp(&waste(other))).unwrap_or(0)
}

/// Those for which the value is greatest.
fn best<V: Ord>(numbers: &[usize], value: impl Fn(usize) -> V) -> Vec<usize> {
    let greatest = numbers.iter().map(|number| value(*number)).max();
    numbers.iter().copied().filter(|number| Some(value(*number)) == greatest).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn offer(pool_id: &str, pods: usize, waste: f64) -> Offer {
        Offer { group: 0, pool_id: pool_id.into(), nodes: 1, pods: vec![Arc::default(); pods], waste }
    }

    fn pick(expander: Expander, priorities: Option<&str>) -> String {
        let offers = [offer("np-a", 1, 0.5), offer("np-b", 3, 0.4), offer("np-c", 2, 0.1), offer("np-d", 3, 0.2)];
        let parsed = priorities.map(|text| Priorities::parse(text).unwrap());
        let mut choice = Choice {
            expander,
            priorities: parsed.as_ref(),
            names: &|id| vec![id.to_owned(), format!("name-of-{id}")],
            random: &mut |below| below - 1,
        };
        offers[choose(&offers, &mut choice)].pool_id.clone()
    }

    #[test]
    fn strategies() {
        assert_eq!(pick(Expander::LeastWaste, None), "np-c");
        assert_eq!(pick(Expander::Random, None), "np-d");
        assert_eq!(pick(Expander::MostPods, None), "np-d", "as many pods, less waste");
        assert_eq!(pick(Expander::Priority, None), "np-c", "no list");
        assert_eq!(pick(Expander::Priority, Some("10: ['np-c']\n20: ['np-a', 'np-b']")), "np-b");
        assert_eq!(pick(Expander::Priority, Some("10: ['.*']\n50: ['name-of-.*-a$']")), "np-a");
        assert_eq!(pick(Expander::Priority, Some("10: ['np-z']")), "np-c", "none of them");
        assert_eq!(pick(Expander::Priority, Some("-5: ['np-b']")), "np-b");
    }

    #[test]
    fn lists_that_are_wrong_say_so() {
        for wrong in ["[1, 2]", "ten: ['a']", "10: ['(']", "10: a", "10: ['a{1000}{1000}']"] {
            assert!(Priorities::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Priorities::parse("{}").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = Priorities::parse(&text);
        }
    }
}
