//! `docs/api-coverage.md` says what the tables of this crate say.

use sampan_api::coverage::{State, coverage};

const PAGE: &str = include_str!("../../../docs/api-coverage.md");

/// The page's table of sections: section, request, what is said of it.
fn rows() -> Vec<(String, String, String)> {
    let cells =
        |line: &str| -> Vec<String> { line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect() };
    let is_section = |line: &&str| line.starts_with("| k8s-") || line.starts_with("| swarm ");
    let row = |cells: Vec<String>| (cells[0].clone(), cells[2].clone(), cells[cells.len() - 1].clone());
    PAGE.lines().filter(is_section).map(cells).map(row).collect()
}

#[test]
fn every_section_is_said_to_be_what_it_is() {
    let (rows, all) = (rows(), coverage());
    assert_eq!(rows.len(), all.len());
    for (said, is) in rows.iter().zip(&all) {
        let entry = is.entry;
        let word = match is.state {
            State::Offered => "yes",
            State::OtherKind => "other kinds only",
            State::NotOffered => "no",
        };
        assert_eq!((said.0.as_str(), said.1.as_str()), (entry.section, &*format!("{} `{}`", entry.method, entry.path)));
        assert!(said.2 == word || word == "yes" && said.2.starts_with("yes, "), "{}: {word}, not {}", said.0, said.2);
    }
    for (state, words) in [
        (State::Offered, "are offered as described"),
        (State::OtherKind, "share a method and a path"),
        (State::NotOffered, "are not offered"),
    ] {
        let count = all.iter().filter(|coverage| coverage.state == state).count();
        assert!(PAGE.contains(&format!("- {count} {words}")), "{count} {words}");
    }
}
