//! `cargo xtask conformance`: upstream's conformance tests against a real cluster of this build.

mod report;
mod selection;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::place::Place;
use crate::progress::seconds;
use crate::{build, host, paths, process};
use selection::Selection;

/// Name of the cluster.
const CLUSTER: &str = "conformance";
/// The server listens here, or on the next free port; not where `up` begins.
const PORT: u16 = 8380;
/// Tests want two nodes that pods can be put on.
const WORKERS: u32 = 2;
/// How long the selected tests may take, and how long all of them.
const MINUTES: u32 = 60;
const MINUTES_OF_ALL: u32 = 240;
/// Taints of masters: the tests do not wait for pods on such nodes.
const MASTER_TAINTS: &str = "node-role.kubernetes.io/control-plane,node-role.kubernetes.io/master";

/// The kind of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One hidden control plane.
    Managed,
    /// Three masters that are nodes.
    Dedicated,
}

/// What is tested.
#[derive(Args)]
pub(crate) struct Options {
    /// Kind of the cluster
    #[arg(long = "type", value_enum, default_value = "managed")]
    kind: Kind,
    /// Conformance tests whose name matches this expression, instead of those in tests/conformance/selected.txt
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "all")]
    focus: Option<String>,
    /// Every conformance test except those in tests/conformance/excluded.toml
    #[arg(long)]
    all: bool,
    /// Stop after so many minutes: 60, or 240 with --all
    #[arg(long)]
    minutes: Option<u32>,
    /// Tests that run side by side
    #[arg(long, default_value_t = 2)]
    procs: u32,
    /// Do not compile the Rust binary: take the last one
    #[arg(long)]
    no_rust: bool,
    /// Build nothing: take what the last run built
    #[arg(long)]
    no_build: bool,
    /// Leave the server and the cluster for a look; the next run removes them
    #[arg(long)]
    keep: bool,
}

/// Builds, makes a cluster, runs the tests, says what came of them, and removes the cluster.
///
/// # Errors
/// When a test fails, or fewer were run than wanted.
pub(crate) fn run(options: &Options) -> Result<()> {
    let begun = Instant::now();
    let build = build::Options { no_rust: options.no_rust, conformance: true, ..build::Options::default() };
    match options.no_build {
        true => host::ensure_docker()?,
        false => build::run(&build)?,
    }
    let selection = Selection::of(options.focus.as_deref(), options.all)?;
    let place = place(options.kind);
    if place.remove()? {
        eprintln!("what a former run had left is removed");
    }
    let _ = fs::remove_dir_all(results(options.kind));
    let outcome = tried(options, &selection, &place);
    match options.keep {
        true => eprintln!(
            "server and cluster stay: SAMPAN_DATA_DIR={} KUBECONFIG={}",
            place.data_dir.display(),
            place.kubeconfig().display()
        ),
        false => drop(place.remove().context("the cluster could not be removed")?),
    }
    eprintln!("everything {}", seconds(begun.elapsed()));
    outcome
}

fn place(kind: Kind) -> Place {
    Place {
        data_dir: results(kind).join("data"),
        cluster: CLUSTER,
        port: PORT,
        bundle: paths::conformance().join("bundle"),
    }
}

/// Where reports and logs of the runs against that kind of cluster are.
fn results(kind: Kind) -> PathBuf {
    paths::conformance().join(match kind {
        Kind::Managed => "managed",
        Kind::Dedicated => "dedicated",
    })
}

fn tried(options: &Options, selection: &Selection, place: &Place) -> Result<()> {
    place.start_server()?;
    let creating = Instant::now();
    create(options.kind, place)?;
    eprintln!("cluster: create to running {}", seconds(creating.elapsed()));
    let dir = results(options.kind);
    let testing = Instant::now();
    let status = test(options, selection, place, &dir)?;
    let results = report::read(&dir.join(report::FILE))
        .with_context(|| format!("the tests ended with {status}; see {}", log(&dir).display()))?;
    let summary = report::Summary::of(&results, selection);
    println!("{summary}");
    println!("{} of testing; JUnit and log: {}", seconds(testing.elapsed()), dir.display());
    summary.verdict()?;
    if !status.success() {
        bail!("the tests ended with {status}; see {}", log(&dir).display());
    }
    Ok(())
}

fn log(dir: &Path) -> PathBuf {
    dir.join("e2e.log")
}

/// Makes the cluster and waits until it runs.
fn create(kind: Kind, place: &Place) -> Result<()> {
    let version = fs::read_to_string(paths::conformance().join("version")).context("no version was built")?;
    let request = place.data_dir.join("create.json");
    fs::write(&request, body(kind, &version).to_string())
        .with_context(|| format!("cannot write {}", request.display()))?;
    let mut command = place.sampan();
    command.args(["cs", "POST", "/clusters", "--body-file"]).arg(&request);
    let answer: Value = serde_json::from_str(&process::output(&mut command)?).context("the answer is not JSON")?;
    let task = answer["task_id"].as_str().context("the answer names no task")?;
    let status = place.sampan().args(["task", "watch", task]).status()?;
    if !status.success() {
        bail!("the cluster was not created; the server's log is {}", place.log().display());
    }
    place.write_kubeconfig()
}

/// The request that makes the cluster.
fn body(kind: Kind, version: &str) -> Value {
    let mut body = json!({
        "name": CLUSTER,
        "region_id": "cn-hangzhou",
        "kubernetes_version": version,
        "snat_entry": true,
        "num_of_nodes": WORKERS,
        "worker_instance_types": ["ecs.g6.large"],
        "worker_system_disk_category": "cloud_efficiency",
        "worker_system_disk_size": 40,
        "key_pair": "sampan",
    });
    match kind {
        Kind::Managed => body["cluster_type"] = json!("ManagedKubernetes"),
        Kind::Dedicated => {
            body["cluster_type"] = json!("Kubernetes");
            body["vpcid"] = json!("vpc-conformance");
            let switches = ["vsw-conformance-1", "vsw-conformance-2", "vsw-conformance-3"];
            body["master_count"] = json!(switches.len());
            body["master_vswitch_ids"] = json!(switches);
            body["worker_vswitch_ids"] = json!(switches);
            body["master_instance_types"] = json!(["ecs.g6.large", "ecs.g6.large", "ecs.g6.large"]);
            body["master_system_disk_category"] = json!("cloud_efficiency");
            body["master_system_disk_size"] = json!(40);
        }
    }
    body
}

/// Runs the tests with their output in the log, a line for each on stderr.
fn test(options: &Options, selection: &Selection, place: &Place, dir: &Path) -> Result<ExitStatus> {
    let mut child = command(options, selection, place, dir)?;
    let mut child = child.stdout(Stdio::piped()).spawn().context("cannot start ginkgo")?;
    let stdout = child.stdout.take().context("ginkgo has no output")?;
    let path = log(dir);
    let mut log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let begun = Instant::now();
    let mut heading: Option<String> = None;
    let mut done = 0;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read what ginkgo says")?;
        log.write_all(&line).and_then(|()| log.write_all(b"\n")).context("cannot write the log")?;
        let line = String::from_utf8_lossy(&line);
        // "• [3.141 seconds]" or "• [FAILED] [3.141 seconds]"; the name is in the next line.
        if let Some(verdict) = heading.take() {
            done += 1;
            // Labels follow.
            let line = line.find(report::MARK).map_or(&*line, |at| &line[..at]);
            eprintln!("{:>7}  {done:>3}  {verdict:<26} {line}", clock(begun.elapsed()));
        } else if let Some(verdict) = line.strip_prefix("• [") {
            heading = Some(verdict.trim_end().replace([']', '['], ""));
        }
    }
    child.wait().context("cannot wait for ginkgo")
}

fn clock(duration: Duration) -> String {
    format!("{}:{:02}", duration.as_secs() / 60, duration.as_secs() % 60)
}

fn command(options: &Options, selection: &Selection, place: &Place, dir: &Path) -> Result<Command> {
    let tools = paths::conformance();
    let minutes = options.minutes.unwrap_or(if options.all { MINUTES_OF_ALL } else { MINUTES });
    let path = dir.join("e2e.err");
    let errors = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new(tools.join("ginkgo"));
    command.current_dir(dir).stdin(Stdio::null()).stderr(errors);
    command.arg(format!("--procs={}", options.procs)).arg(format!("--timeout={minutes}m"));
    command.args(["--no-color", "-v", "--silence-skips"]);
    command.arg(format!("--json-report={}", report::FILE));
    command.arg("--label-filter=Conformance");
    command.arg(format!("--focus={}", selection.focus()));
    for excluded in selection.skips() {
        command.arg(format!("--skip={excluded}"));
    }
    command.arg(tools.join("e2e.test")).arg("--");
    command.arg(format!("--kubeconfig={}", place.kubeconfig().display()));
    command.arg(format!("--kubectl-path={}", paths::kubectl().display()));
    command.arg(format!("--report-dir={}", dir.display()));
    command.args(["--provider=skeleton", "--disable-log-dump"]);
    command.arg(format!("--non-blocking-taints={MASTER_TAINTS}"));
    // Test files are in the program; there is no checkout of upstream.
    command.arg("--repo-root=");
    Ok(command)
}
