//! What came of a run of the tests.

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::selection::Selection;
use crate::progress::seconds;

/// Ginkgo's own report, in the folder of the results.
pub(crate) const FILE: &str = "report.json";
/// Upstream's mark of conformance tests.
const LABEL: &str = "Conformance";
pub(crate) const MARK: &str = "[Conformance]";
/// The slowest tests are named.
const SLOWEST: usize = 10;

/// One suite of Ginkgo's report.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Report {
    #[serde(default)]
    special_suite_failure_reasons: Option<Vec<String>>,
    #[serde(default)]
    spec_reports: Option<Vec<Spec>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    #[serde(default)]
    leaf_node_labels: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    /// Nanoseconds.
    run_time: u64,
    #[serde(default)]
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

impl Spec {
    fn name(&self) -> String {
        let mut words: Vec<&str> = self.container_hierarchy_texts.iter().flatten().map(String::as_str).collect();
        words.push(&self.leaf_node_text);
        words.join(" ")
    }

    fn is_conformance(&self) -> bool {
        self.leaf_node_type == "It"
            && (self.leaf_node_labels.iter().flatten().any(|label| label == LABEL)
                || self.leaf_node_text.contains(MARK))
    }

    fn message(&self) -> &str {
        self.failure.as_ref().map_or("", |failure| &failure.message)
    }
}

/// Reads Ginkgo's report.
///
/// # Errors
/// When there is none, or it is not one.
pub(crate) fn read(path: &Path) -> Result<Vec<Report>> {
    let file = File::open(path).with_context(|| format!("there is no report {}", path.display()))?;
    serde_json::from_reader(BufReader::new(file)).with_context(|| format!("{} is no report", path.display()))
}

/// A test and what it said.
type Told = (String, String);

/// The figures of a run.
#[derive(Default)]
pub(crate) struct Summary {
    /// All tests that upstream calls conformance tests.
    all: usize,
    passed: Vec<(Duration, String)>,
    failed: Vec<Told>,
    /// The test itself found that it cannot be run.
    skipped: Vec<Told>,
    /// Cannot be run here.
    excluded: Vec<Told>,
    /// Asked for and not run: the time was over, or there is no such test.
    absent: Vec<String>,
    /// What went wrong beside tests.
    trouble: Vec<String>,
}

impl Summary {
    /// Counts.
    pub(crate) fn of(reports: &[Report], selection: &Selection) -> Self {
        let mut summary = Self::default();
        for report in reports {
            summary.trouble.extend(report.special_suite_failure_reasons.iter().flatten().cloned());
            for spec in report.spec_reports.iter().flatten() {
                summary.count(spec);
            }
        }
        let has = |list: &[Told], name: &String| list.iter().any(|(there, _)| there == name);
        let ran = |name: &String| {
            summary.passed.iter().any(|(_, there)| there == name)
                || has(&summary.failed, name)
                || has(&summary.skipped, name)
        };
        summary.absent = selection.names.iter().filter(|name| !ran(name)).cloned().collect();
        let excluded = selection.excluded.iter().filter(|test| !ran(&test.name));
        summary.excluded = excluded.map(|test| (test.name.clone(), test.reason.clone())).collect();
        summary.passed.sort_by(|a, b| b.cmp(a));
        summary
    }

    fn count(&mut self, spec: &Spec) {
        let failed = !matches!(spec.state.as_str(), "passed" | "skipped" | "pending");
        if !spec.is_conformance() {
            // Preparations and ends of the suite.
            if failed {
                self.trouble.push(format!("{} {}: {}", spec.leaf_node_type, spec.name(), first_line(spec.message())));
            }
            return;
        }
        self.all += 1;
        let told = |spec: &Spec| (spec.name(), first_line(spec.message()).to_owned());
        match spec.state.as_str() {
            "passed" => self.passed.push((Duration::from_nanos(spec.run_time), spec.name())),
            // Those that nobody asked for are skipped without words.
            "skipped" | "pending" if spec.message().is_empty() => {}
            "skipped" => self.skipped.push(told(spec)),
            _ => self.failed.push(told(spec)),
        }
    }

    /// Whether all is well.
    ///
    /// # Errors
    /// What is not.
    pub(crate) fn verdict(&self) -> Result<()> {
        if !self.failed.is_empty() {
            bail!("{} of {} tests failed", self.failed.len(), self.failed.len() + self.passed.len());
        }
        if let Some(trouble) = self.trouble.first() {
            bail!("the suite did not end well: {trouble}");
        }
        if let Some(first) = self.absent.first() {
            bail!("{} tests of the list were not run, such as {first}", self.absent.len());
        }
        if self.passed.is_empty() {
            bail!("no test was run");
        }
        Ok(())
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

impl Display for Summary {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let (passed, failed) = (self.passed.len(), self.failed.len());
        for (duration, name) in self.passed.iter().take(SLOWEST) {
            writeln!(to, "slow      {:>12}  {name}", seconds(*duration))?;
        }
        for (what, list) in [("excluded", &self.excluded), ("skipped", &self.skipped), ("FAILED", &self.failed)] {
            for (name, reason) in list {
                writeln!(to, "{what:<9} {name}: {reason}")?;
            }
        }
        for name in &self.absent {
            writeln!(to, "not run   {name}")?;
        }
        for trouble in &self.trouble {
            writeln!(to, "trouble   {trouble}")?;
        }
        write!(
            to,
            "{} conformance tests: {} run, {passed} passed, {failed} failed, {} skipped themselves, {} excluded, {} not asked for",
            self.all,
            passed + failed,
            self.skipped.len(),
            self.excluded.len(),
            self.all.saturating_sub(passed + failed + self.skipped.len() + self.excluded.len()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Summary};
    use crate::conformance::selection::Selection;

    fn reports(states: &[(&str, &str, &str)]) -> serde_json::Result<Vec<Report>> {
        let specs: Vec<_> = states
            .iter()
            .map(|(name, state, message)| {
                serde_json::json!({
                    "ContainerHierarchyTexts": ["[sig-node]"], "LeafNodeType": "It", "LeafNodeLabels": ["Conformance"],
                    "LeafNodeText": name, "State": state, "RunTime": 1_000_000, "Failure": { "Message": message },
                })
            })
            .collect();
        let suite = serde_json::json!({ "LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "",
            "ContainerHierarchyTexts": null, "LeafNodeLabels": null, "State": "passed", "RunTime": 1 });
        let specs: Vec<_> = specs.into_iter().chain([suite]).collect();
        serde_json::from_value(serde_json::json!([{ "SpecialSuiteFailureReasons": null, "SpecReports": specs }]))
    }

    #[test]
    fn counts_by_what_came_of_tests() -> anyhow::Result<()> {
        let selection = Selection::of(None, true)?;
        let states = [("a", "passed", ""), ("b", "skipped", ""), ("c", "skipped", "needs three nodes\nmore")];
        let summary = Summary::of(&reports(&states)?, &selection);
        assert!(summary.verdict().is_ok());
        let text = summary.to_string();
        assert!(text.contains("3 conformance tests: 1 run, 1 passed, 0 failed, 1 skipped themselves"), "{text}");
        assert!(text.contains("skipped   [sig-node] c: needs three nodes\n"), "{text}");
        let failed = Summary::of(&reports(&[("a", "passed", ""), ("b", "timedout", "too late")])?, &selection);
        assert!(failed.verdict().is_err());
        assert!(Summary::of(&reports(&[("b", "skipped", "")])?, &selection).verdict().is_err());
        Ok(())
    }

    #[test]
    fn a_listed_test_that_did_not_run_is_no_success() -> anyhow::Result<()> {
        let selection = Selection::of(None, false)?;
        assert!(Summary::of(&reports(&[("a", "passed", "")])?, &selection).verdict().is_err());
        Ok(())
    }
}
