//! `sampan doctor`: checks the host before the first cluster, and says what is missing and what to do.

use std::{fs, path::Path};

use sampan_provider::{
    MachineProvider as _,
    docker::{DockerProvider, available_memory},
};
use serde_json::{Value, json};

use crate::{
    Global,
    bundle::Bundle,
    output::{Column, print_list, scalar},
};

/// What a first cluster with two nodes needs.
const MEMORY_BYTES_MIN: u64 = 2 << 30;
/// The database, images that users load, the server's log.
const DATA_BYTES_MIN: u64 = 1 << 30;
/// Images and the machines' volumes.
const DOCKER_BYTES_MIN: u64 = 5 << 30;
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
    let elsewhere = "free some, or give --data-dir another place";
    findings.push(disk("data directory", &super::data_dir(global)?, DATA_BYTES_MIN, elsewhere));
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
    let bytes = available_memory().unwrap_or_default();
    let available = gibibytes(bytes);
    if bytes >= MEMORY_BYTES_MIN {
        Finding::new("memory", Verdict::Good, format!("{available} available"))
    } else {
        let min = gibibytes(MEMORY_BYTES_MIN);
        let text =
            format!("{available} available, a cluster with two nodes and its pods needs {min}: end other programs");
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

/// Whether there is room on the disk of a directory, or of the directory that it will be made in.
fn disk(what: &'static str, dir: &Path, bytes_min: u64, remedy: &str) -> Finding {
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(existing) {
        Ok(stat) => {
            let bytes = stat.blocks_available() * stat.fragment_size();
            let text = format!("{} free at {}", gibibytes(bytes), existing.display());
            if bytes >= bytes_min {
                Finding::new(what, Verdict::Good, text)
            } else {
                let min = gibibytes(bytes_min);
                Finding::new(what, Verdict::Bad, format!("{text}, a first cluster needs {min}: {remedy}"))
            }
        }
        Err(error) => Finding::new(what, Verdict::Warning, format!("{}: {error}", existing.display())),
    }
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// The disk of the engine's directory, which is seldom that of the data directory.
async fn docker_disk(provider: &DockerProvider) -> Option<Finding> {
    const WHAT: &str = "Docker's directory";
    let dir = match provider.root_dir().await {
        Ok(dir) => dir?,
        // That the engine does not answer is said by its own check.
        Err(_) => return None,
    };
    if dir.exists() {
        let remedy = "`docker system df` says what uses it; or set `data-root` of dockerd";
        Some(disk(WHAT, &dir, DOCKER_BYTES_MIN, remedy))
    } else {
        Some(Finding::new(WHAT, Verdict::Warning, format!("{} cannot be seen from here", dir.display())))
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
            let memory = gibibytes(capacity.memory_bytes);
            Finding::new("Docker", Verdict::Good, format!("answers; {} cores, {memory}", capacity.cpus))
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
    [Some(engine), docker_disk(&provider).await, Some(image)].into_iter().flatten().collect()
}
