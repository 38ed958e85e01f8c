//! `sampan doctor`: checks the host before the first cluster, and says what is missing and what to do.

use std::{fs, path::Path};

use sampan_provider::{MachineProvider as _, docker::DockerProvider};
use serde_json::{Value, json};

use crate::{
    Global,
    bundle::Bundle,
    output::{Column, print_list, scalar},
};

/// What a first cluster with two nodes needs.
const MEMORY_BYTES_MIN: u64 = 2 << 30;
const DISK_BYTES_MIN: u64 = 5 << 30;
const INOTIFY_INSTANCES_MIN: u64 = 512;
const INOTIFY_WATCHES_MIN: u64 = 65_536;
const OPEN_FILES_MIN: u64 = 65_536;
const PIDS_MIN: u64 = 32_768;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Warning,
    Bad,
}

struct Finding {
    what: &'static str,
    verdict: Verdict,
    text: String,
}

pub(crate) async fn run(global: &Global) -> anyhow::Result<()> {
    let mut findings = vec![kernel(), cgroups(), memory(), forwarding()];
    findings.push(limit(
        "inotify instances",
        "/proc/sys/fs/inotify/max_user_instances",
        INOTIFY_INSTANCES_MIN,
        "fs.inotify.max_user_instances",
    ));
    findings.push(limit(
        "inotify watches",
        "/proc/sys/fs/inotify/max_user_watches",
        INOTIFY_WATCHES_MIN,
        "fs.inotify.max_user_watches",
    ));
    findings.push(limit("open files", "/proc/sys/fs/file-max", OPEN_FILES_MIN, "fs.file-max"));
    findings.push(limit("processes", "/proc/sys/kernel/pid_max", PIDS_MIN, "kernel.pid_max"));
    findings.push(disk(&super::data_dir(global)?));
    let docker = docker().await;
    findings.extend(docker);
    let values: Vec<Value> = findings.iter().map(Finding::to_json).collect();
    let columns: [Column; 3] = [
        ("CHECK", |finding| scalar(&finding["check"])),
        ("RESULT", |finding| scalar(&finding["result"])),
        ("DETAIL", |finding| scalar(&finding["detail"])),
    ];
    print_list(global.output, &Value::from(values.clone()), &values, &columns)?;
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    anyhow::ensure!(bad == 0, "{bad} of {} checks failed; the lines above say what to do", findings.len());
    Ok(())
}

impl Finding {
    fn new(what: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { what, verdict, text: text.into() }
    }

    fn to_json(&self) -> Value {
        let result = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Warning => "warning",
            Verdict::Bad => "FAILED",
        };
        json!({ "check": self.what, "result": result, "detail": self.text })
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease");
    let overlay = read("/proc/filesystems").contains("overlay");
    if overlay {
        Finding::new("kernel", Verdict::Good, release)
    } else {
        Finding::new("kernel", Verdict::Warning, format!("{release}: overlayfs is not loaded yet; `modprobe overlay`"))
    }
}

fn cgroups() -> Finding {
    let version = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 2 } else { 1 };
    let mounted = Path::new("/sys/fs/cgroup").exists();
    let verdict = if mounted { Verdict::Good } else { Verdict::Bad };
    Finding::new("cgroups", verdict, format!("version {version}"))
}

fn memory() -> Finding {
    let text = read("/proc/meminfo");
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .unwrap_or_default();
    let gib = kib as f64 / f64::from(1 << 20);
    if kib * 1024 >= MEMORY_BYTES_MIN {
        Finding::new("memory", Verdict::Good, format!("{gib:.1} GiB available"))
    } else {
        let text = format!("{gib:.1} GiB available; a first cluster needs about 1 GiB: end other programs");
        Finding::new("memory", Verdict::Bad, text)
    }
}

fn forwarding() -> Finding {
    match read("/proc/sys/net/ipv4/ip_forward").as_str() {
        "1" => Finding::new("IP forwarding", Verdict::Good, "on"),
        _ => Finding::new("IP forwarding", Verdict::Warning, "off; Docker turns it on when it starts"),
    }
}

fn limit(what: &'static str, path: &str, min: u64, parameter: &str) -> Finding {
    match read(path).parse::<u64>() {
        Ok(value) if value >= min => Finding::new(what, Verdict::Good, value.to_string()),
        Ok(value) => Finding::new(
            what,
            Verdict::Warning,
            format!("{value}; many clusters need more: sysctl -w {parameter}={min}"),
        ),
        Err(_) => Finding::new(what, Verdict::Warning, format!("{path} cannot be read")),
    }
}

fn disk(dir: &Path) -> Finding {
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(existing) {
        Ok(stat) => {
            let bytes = stat.blocks_available() * stat.fragment_size();
            let text = format!("{:.1} GiB free at {}", bytes as f64 / f64::from(1 << 30), existing.display());
            let verdict = if bytes >= DISK_BYTES_MIN { Verdict::Good } else { Verdict::Bad };
            Finding::new("disk", verdict, text)
        }
        Err(error) => Finding::new("disk", Verdict::Warning, format!("{}: {error}", existing.display())),
    }
}

async fn docker() -> Vec<Finding> {
    let provider = match DockerProvider::connect("doctor") {
        Ok(provider) => provider,
        Err(error) => {
            let text = format!("{error}; install the package docker.io and start dockerd, or set DOCKER_HOST");
            return vec![Finding::new("Docker", Verdict::Bad, text)];
        }
    };
    let engine = match provider.capacity().await {
        Ok(capacity) => {
            let gib = capacity.memory_bytes as f64 / f64::from(1 << 30);
            Finding::new("Docker", Verdict::Good, format!("answers; {} cores, {gib:.1} GiB", capacity.cpus))
        }
        Err(error) => Finding::new("Docker", Verdict::Bad, error.to_string()),
    };
    let image = match Bundle::load(None) {
        Err(error) => Finding::new("node image", Verdict::Bad, format!("{error:#}")),
        Ok(bundle) => match provider.has_image(&bundle.node_image).await {
            Ok(true) => Finding::new("node image", Verdict::Good, bundle.node_image),
            Ok(false) => {
                let text = format!("{} is not in Docker: run `cargo xtask build`", bundle.node_image);
                Finding::new("node image", Verdict::Bad, text)
            }
            Err(error) => Finding::new("node image", Verdict::Bad, error.to_string()),
        },
    };
    vec![engine, image]
}
