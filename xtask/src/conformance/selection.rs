//! Which of upstream's conformance tests are run.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::paths;

/// Names of the tests that are run unless others are asked for, one per line.
const SELECTED: &str = "selected.txt";
/// Tests that cannot be run here, and why.
const EXCLUDED: &str = "excluded.toml";

/// A test that cannot be run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Excluded {
    pub(crate) name: String,
    pub(crate) reason: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ExcludedFile {
    #[serde(default)]
    test: Vec<Excluded>,
}

/// What a run is about.
pub(crate) struct Selection {
    /// The tests that have to be run, when they are known by name.
    pub(crate) names: Vec<String>,
    pub(crate) excluded: Vec<Excluded>,
    expression: Option<String>,
}

impl Selection {
    /// The tests of the list; or those that match an expression; or all.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub(crate) fn of(expression: Option<&str>, all: bool) -> Result<Self> {
        let excluded: ExcludedFile =
            toml::from_str(&read(EXCLUDED)?).with_context(|| format!("{} is wrong", path(EXCLUDED).display()))?;
        let names = match expression.is_none() && !all {
            true => listed(&read(SELECTED)?),
            false => Vec::new(),
        };
        Ok(Self { names, excluded: excluded.test, expression: expression.map(str::to_owned) })
    }

    /// The expression that matches the names of these tests.
    pub(crate) fn focus(&self) -> String {
        if let Some(expression) = &self.expression {
            return expression.clone();
        }
        if self.names.is_empty() {
            return r"\[Conformance\]".to_owned();
        }
        let names: Vec<String> = self.names.iter().map(|name| escaped(name)).collect();
        format!("(?:{})$", names.join("|"))
    }

    /// The expressions of the tests that are not run. A name that is asked for by itself is run.
    pub(crate) fn skips(&self) -> Vec<String> {
        match self.names.is_empty() && self.expression.is_none() {
            true => self.excluded.iter().map(|test| format!("{}$", escaped(&test.name))).collect(),
            false => Vec::new(),
        }
    }
}

fn path(file: &str) -> PathBuf {
    paths::workspace().join("tests/conformance").join(file)
}

fn read(file: &str) -> Result<String> {
    let path = path(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The names of a list, without comments and empty lines.
fn listed(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// The expression that matches exactly this text.
fn escaped(text: &str) -> String {
    let mut expression = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            expression.push('\\');
        }
        expression.push(character);
    }
    expression
}

#[cfg(test)]
mod tests {
    use super::{Selection, escaped, listed};

    #[test]
    fn names_become_one_expression() {
        assert_eq!(escaped("[sig-node] a (b) c+d.e $x"), r"\[sig-node\] a \(b\) c\+d\.e \$x");
        let names = listed("# why\n\n [a] one \nb two\n");
        assert_eq!(names, ["[a] one", "b two"]);
        let selection = Selection { names, excluded: Vec::new(), expression: None };
        assert_eq!(selection.focus(), r"(?:\[a\] one|b two)$");
        assert!(selection.skips().is_empty());
    }

    #[test]
    fn the_lists_can_be_read() -> anyhow::Result<()> {
        let selection = Selection::of(None, false)?;
        let mut names = selection.names.clone();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), selection.names.len(), "a name stands twice");
        assert!(names.len() >= 150, "{} names", names.len());
        assert!(selection.names.iter().all(|name| name.starts_with("[sig-") && name.ends_with("[Conformance]")));
        assert!(selection.excluded.iter().all(|test| !test.reason.is_empty() && !names.contains(&test.name)));
        Ok(())
    }
}
