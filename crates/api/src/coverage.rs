//! What of the reference documents is offered: the catalogue compared with the table of operations.

use crate::catalogue::{CATALOGUE, Entry, same_shape};
use crate::operation::Operation;
use crate::operations::OPERATIONS;

/// Sections that are offered beside the signed API: applications at a Swarm cluster's own endpoint, and the links of triggers.
const UNSIGNED: [&str; 2] = ["swarm 4.8.", "swarm 4.9."];

/// How far a section of the documents is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As the section describes it.
    Offered,
    /// The method and path are served, but not with the body or kind of cluster of this section.
    OtherKind,
    /// Not at all.
    NotOffered,
}

/// A section and what is offered of it.
#[derive(Clone, Copy, Debug)]
pub struct Coverage {
    /// The section.
    pub entry: &'static Entry,
    /// The operation that serves its method and path.
    pub operation: Option<&'static Operation>,
    /// How far it is offered.
    pub state: State,
}

/// The state of every section, in the order of the catalogue.
pub fn coverage() -> Vec<Coverage> {
    CATALOGUE
        .iter()
        .map(|entry| {
            let serves = |operation: &&&Operation| {
                operation.method == entry.method && operation.paths().any(|path| same_shape(entry.path, path))
            };
            let operation = OPERATIONS.iter().find(serves).copied();
            let state = match operation {
                Some(operation) if operation.sections.contains(&entry.section) => State::Offered,
                Some(_) => State::OtherKind,
                None if UNSIGNED.iter().any(|prefix| entry.section.starts_with(prefix)) => State::Offered,
                None => State::NotOffered,
            };
            Coverage { entry, operation, state }
        })
        .collect()
}

/// The report as Markdown: a summary and a table.
pub fn report() -> String {
    let all = coverage();
    let count = |state| all.iter().filter(|coverage| coverage.state == state).count();
    let mut report = format!(
        "# Coverage of the reference documents\n\nOf {} sections {} are offered as described, {} share a path with \
         an offered operation but\nneed another body or kind of cluster, {} are not offered.\n\n| Section | \
         Operation | Request | About | Offered |\n|---|---|---|---|---|\n",
        all.len(),
        count(State::Offered),
        count(State::OtherKind),
        count(State::NotOffered),
    );
    for Coverage { entry, state, .. } in &all {
        let offered = match state {
            State::Offered => "yes",
            State::OtherKind => "other kinds only",
            State::NotOffered => "no",
        };
        let Entry { section, operation, method, path, title } = entry;
        report.push_str(&format!("| {section} | {operation} | {method} `{path}` | {title} | {offered} |\n"));
    }
    report
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::operation::placeholders;

    #[test]
    fn every_operation_names_sections_of_the_catalogue_with_its_method_and_path() {
        let all = coverage();
        for operation in OPERATIONS {
            for section in operation.sections {
                let entry = all.iter().find(|coverage| coverage.entry.section == *section);
                let entry = entry.unwrap_or_else(|| panic!("{} names {section}", operation.name));
                assert_eq!(entry.operation.map(|found| found.name), Some(operation.name), "{section}");
                assert!(
                    operation.is_named(entry.entry.operation),
                    "{} is not {}",
                    entry.entry.operation,
                    operation.name
                );
            }
        }
    }

    #[test]
    fn sections_are_unique_but_for_triggers_that_take_two_methods() {
        let mut seen = HashSet::new();
        for entry in CATALOGUE {
            assert!(seen.insert((entry.section, entry.method)), "{}", entry.section);
        }
        assert_eq!(CATALOGUE.len(), 129);
    }

    #[test]
    fn the_table_is_in_order() {
        let (mut routes, mut names) = (HashSet::new(), HashSet::new());
        for operation in OPERATIONS {
            for path in operation.paths() {
                assert!(routes.insert((operation.method, path)), "{path}");
                assert!(path.starts_with('/') && !path.ends_with('/'), "{path}");
                assert!(operation.path_parameters().eq(placeholders(path)), "{path}");
            }
            for name in std::iter::once(&operation.name).chain(operation.aliases) {
                assert!(names.insert(name.to_ascii_lowercase()), "{name}");
            }
            assert!(
                operation
                    .ram_actions
                    .iter()
                    .all(|action| action.starts_with("cs:") || operation.path.starts_with("/sampan/")),
                "{}",
                operation.name
            );
            assert!(!operation.ram_actions.is_empty() && !operation.summary.is_empty(), "{}", operation.name);
            assert_eq!(operation.cluster_scoped, operation.path.contains("{ClusterId}"), "{}", operation.name);
            assert!(operation.method != crate::Method::Get || operation.request.is_none(), "{}", operation.name);
        }
    }

    #[test]
    fn the_report_lists_every_section() {
        assert_eq!(report().lines().filter(|line| line.starts_with("| ")).count(), CATALOGUE.len() + 1);
    }
}
