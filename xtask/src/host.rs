//! What the build needs from the host: programs, packages, a Docker engine.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{paths, process};

/// How long a freshly started Docker engine may take to answer.
const DOCKER_START: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const DOCKER_STOP: Duration = Duration::from_secs(60);

/// Something that must be on the host, and the Debian packages that bring it.
struct Need {
    what: &'static str,
    there: fn() -> bool,
    packages: &'static [&'static str],
}

const NEEDS: &[Need] = &[
    Need { what: "dockerd", there: || docker_answers() || process::in_path("dockerd"), packages: &["docker.io"] },
    Need { what: "docker", there: || process::in_path("docker"), packages: &["docker.io"] },
    Need {
        what: "containerd",
        there: || docker_answers() || process::in_path("containerd"),
        packages: &["containerd"],
    },
    Need { what: "runc", there: || docker_answers() || process::in_path("runc"), packages: &["runc"] },
    Need { what: "iptables", there: || process::in_path("iptables"), packages: &["iptables"] },
    Need { what: "ip", there: || process::in_path("ip"), packages: &["iproute2"] },
    Need { what: "mmdebstrap", there: || process::in_path("mmdebstrap"), packages: &["mmdebstrap"] },
    Need {
        what: "Debian's archive keys",
        there: || Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists(),
        packages: &["debian-archive-keyring"],
    },
    Need { what: "cc", there: || process::in_path("cc"), packages: &["gcc", "libc6-dev"] },
    Need { what: "pkg-config", there: || process::in_path("pkg-config"), packages: &["pkg-config"] },
    Need {
        what: "libseccomp's headers",
        there: || process::succeeds(Command::new("pkg-config").args(["--exists", "libseccomp"])),
        packages: &["libseccomp-dev"],
    },
];

/// The tests drive the official clients with Python, look at certificates, and make an engine and a disk of their own.
const TEST_NEEDS: &[Need] = &[
    Need {
        what: "python3 with venv",
        there: || process::succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])),
        packages: &["python3", "python3-venv", "python3-pip"],
    },
    Need { what: "openssl", there: || process::in_path("openssl"), packages: &["openssl"] },
    Need { what: "curl", there: || process::in_path("curl"), packages: &["curl"] },
    Need { what: "docker-compose", there: || process::in_path("docker-compose"), packages: &["docker-compose"] },
    Need { what: "script", there: || process::in_path("script"), packages: &["bsdutils"] },
    Need {
        what: "a Java compiler and Apache's HTTP client",
        there: || process::in_path("javac") && Path::new("/usr/share/java/httpclient.jar").exists(),
        packages: &["default-jdk-headless", "libhttpclient-java", "libbcpkix-java"],
    },
    Need { what: "ps", there: || process::in_path("ps"), packages: &["procps"] },
    Need { what: "setpriv", there: || process::in_path("setpriv"), packages: &["util-linux"] },
    Need { what: "mount", there: || process::in_path("mount"), packages: &["mount"] },
    Need { what: "mkfs.ext4", there: || process::in_path("mkfs.ext4"), packages: &["e2fsprogs"] },
];

/// Makes sure that every program and package is there; as root by installing what is missing.
///
/// # Errors
/// When something is missing and cannot be installed; the error says what to install.
pub(crate) fn ensure_tools() -> Result<()> {
    for (program, hint) in [("go", "https://go.dev/doc/install"), ("cargo", "https://rustup.rs")] {
        if !process::in_path(program) {
            bail!("{program} is not in the PATH: install it first, see {hint}");
        }
    }
    ensure(NEEDS)
}

/// Makes sure of what the end-to-end tests call beside the project's own programs.
///
/// # Errors
/// As [`ensure_tools`].
pub(crate) fn ensure_test_tools() -> Result<()> {
    ensure(TEST_NEEDS)
}

fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what: Vec<&str> = missing.iter().map(|need| need.what).collect();
    let mut packages: Vec<&str> = missing.iter().flat_map(|need| need.packages.iter().copied()).collect();
    packages.sort_unstable();
    packages.dedup();
    if !is_root() || !process::in_path("apt-get") {
        bail!("missing on this host: {}. Install: apt-get install {}", what.join(", "), packages.join(" "));
    }
    eprintln!("installing {}", packages.join(" "));
    install(&packages)
}

fn install(packages: &[&str]) -> Result<()> {
    process::logged("apt-update", Command::new("apt-get").args(["update", "-q"]).stdin(Stdio::null()))?;
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-q", "-y", "--no-install-recommends"]).args(packages);
    process::logged("apt-install", apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()))
}

/// Raises the kernel's limit of inotify instances: the usual 128 are used up by about ten clusters. Where it may not be
/// changed that is said, and `sampan doctor` says it again.
fn raise_limits() {
    const PATH: &str = "/proc/sys/fs/inotify/max_user_instances";
    const WANTED: u64 = 8192;
    let current = fs::read_to_string(PATH).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if current.is_some_and(|current| current < WANTED) {
        match fs::write(PATH, WANTED.to_string()) {
            Ok(()) => eprintln!("fs.inotify.max_user_instances raised to {WANTED} until the next boot"),
            Err(error) => eprintln!("fs.inotify.max_user_instances is low and cannot be raised: {error}"),
        }
    }
}

/// Makes sure that a Docker engine answers, starting one when none does.
///
/// # Errors
/// When none answers and none can be started; the error says why and where the log is.
pub(crate) fn ensure_docker() -> Result<()> {
    raise_limits();
    if docker_answers() {
        return Ok(());
    }
    if !is_root() {
        bail!(
            "no Docker engine answers to this user: start it (as root: systemctl start docker) \
             and join the group docker"
        );
    }
    eprintln!("starting the Docker engine");
    // Where systemd runs it must own the engine, or the engine would die with this session.
    let log = process::log_file("dockerd")?;
    if Path::new("/run/systemd/system").exists() {
        process::output(Command::new("systemctl").args(["start", "docker"]))?;
    } else {
        start_dockerd(&log)?;
    }
    process::wait(DOCKER_START, "the Docker engine answers", || Ok(docker_answers()))
        .with_context(|| format!("the end of {}:\n{}", log.display(), process::tail(&log)))
}

/// Removes what a killed engine left behind when the process id in it belongs to another program by now: the engine would
/// take that program for itself, or for its containerd, and not start.
fn remove_stale_pid_files() {
    for (path, program) in
        [("/var/run/docker.pid", "dockerd"), ("/var/run/docker/containerd/containerd.pid", "containerd")]
    {
        let Ok(pid) = fs::read_to_string(path) else { continue };
        if !pid.trim().parse().is_ok_and(|pid| runs(pid, program)) {
            let _ = fs::remove_file(path);
        }
    }
}

fn start_dockerd(log: &Path) -> Result<()> {
    remove_stale_pid_files();
    let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let errors = file.try_clone().context("cannot share the log file")?;
    // A process group of its own: an interrupt at the terminal must not stop it.
    let engine = Command::new("dockerd")
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .context("cannot start dockerd")?;
    let path = engine_file()?;
    fs::write(&path, engine.id().to_string()).with_context(|| format!("cannot write {}", path.display()))
}

/// Remembers the process id of the engine that we started.
fn engine_file() -> Result<PathBuf> {
    Ok(paths::cache()?.join("dockerd.pid"))
}

/// Stops the Docker engine if we started it and no container runs any more; says what it did. An engine that the host's
/// own service manager started is left alone.
///
/// # Errors
/// When the engine does not stop.
pub(crate) fn stop_docker() -> Result<()> {
    let path = engine_file()?;
    let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let Some(pid) = pid.filter(|pid| runs(*pid, "dockerd")) else {
        let _ = fs::remove_file(&path);
        return Ok(());
    };
    // The one that we started listens where engines listen by default.
    let mut running = Command::new("docker");
    running.args(["ps", "--quiet"]).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
    let containers = process::output(&mut running)?.lines().count();
    if containers > 0 {
        eprintln!(
            "the Docker engine (process {pid}) was started by us and runs on: {containers} containers of others run"
        );
        return Ok(());
    }
    process::output(Command::new("kill").arg(pid.to_string()))?;
    let what = format!("the Docker engine (process {pid}) stops");
    process::wait(DOCKER_STOP, &what, || Ok(!runs(pid, "dockerd")))?;
    let _ = fs::remove_file(&path);
    eprintln!("the Docker engine that we started is stopped");
    Ok(())
}

/// Whether a process runs, and runs that program.
fn runs(pid: u32, program: &str) -> bool {
    let executable = fs::read_link(format!("/proc/{pid}/exe"));
    executable.is_ok_and(|path| path.file_name().is_some_and(|name| name == program))
}

fn docker_answers() -> bool {
    process::succeeds(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]))
}

fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
