//! `cargo xtask up` and `down`: a server, a cluster with two nodes and a web workload; and all of it gone.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::progress::seconds;
use crate::{build, host, paths, process};

/// Name of the cluster that `up` makes.
const CLUSTER: &str = "demo";
/// The server listens here, or on the next free port.
const PORT: u16 = 8180;
const SERVER_START: Duration = Duration::from_secs(30);
const SERVER_STOP: Duration = Duration::from_secs(30);
const WORKLOAD_START: Duration = Duration::from_secs(120);

/// A web workload that needs no registry: two pods behind a node port.
const WORKLOAD: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: nginx
        image: nginx:alpine
        ports: [{containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, nodePort: 30080}]
"#;

/// Files of the installation that `up` makes.
struct Place {
    data_dir: PathBuf,
}

impl Place {
    /// `SAMPAN_DATA_DIR`, else where the `sampan` command looks without `--data-dir`.
    fn find() -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let data_dir = match variable("SAMPAN_DATA_DIR") {
            Some(dir) => dir,
            None => variable("XDG_DATA_HOME")
                .or_else(|| Some(variable("HOME")?.join(".local/share")))
                .context("set HOME, XDG_DATA_HOME or SAMPAN_DATA_DIR: the server needs a data directory")?
                .join("sampan"),
        };
        Ok(Self { data_dir })
    }

    fn pid_file(&self) -> PathBuf {
        self.data_dir.join("server.pid")
    }

    fn log(&self) -> PathBuf {
        self.data_dir.join("server.log")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join(format!("{CLUSTER}.kubeconfig"))
    }

    fn sampan(&self) -> Command {
        let mut command = Command::new(paths::release_binary());
        command.env("SAMPAN_DATA_DIR", &self.data_dir);
        command
    }

    fn kubectl(&self) -> Command {
        let mut command = Command::new(paths::bundle().join("bin/kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command
    }

    /// The process id of the server, if it runs.
    fn server(&self) -> Option<u32> {
        let pid: u32 = fs::read_to_string(self.pid_file()).ok()?.lines().next()?.trim().parse().ok()?;
        let executable = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        // A rebuilt binary shows as "… (deleted)"; another program behind a reused id does not have our name.
        executable.file_name()?.to_str()?.starts_with("sampan").then_some(pid)
    }

    /// Whether the server was started from this build.
    fn server_is_of(&self, build: &str) -> bool {
        fs::read_to_string(self.pid_file()).is_ok_and(|text| text.lines().nth(1) == Some(build))
    }

    fn stop_server(&self, pid: u32) -> Result<()> {
        process::output(Command::new("kill").arg(pid.to_string()))?;
        process::wait(SERVER_STOP, "the server stops", || Ok(self.server().is_none()))
    }
}

/// What a server is started from: its program, and what it hands to machines.
fn build_id() -> Result<String> {
    let mut hash = Sha256::new();
    for path in [paths::release_binary(), paths::bundle().join("bundle.json")] {
        hash.update(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Builds, starts the server, makes the cluster, runs the workload, and says what was done.
///
/// # Errors
/// The first step that fails, with the end of the log that explains it.
pub(crate) fn up(options: &build::Options) -> Result<()> {
    let begun = Instant::now();
    build::run(options)?;
    let built = begun.elapsed();
    let place = Place::find()?;
    start_server(&place)?;
    let creating = Instant::now();
    let made = make_cluster(&place)?;
    let created = creating.elapsed();
    let url = run_workload(&place)?;
    report(&place, &url)?;
    eprintln!("build {}", seconds(built));
    if made {
        eprintln!("cluster {CLUSTER}: create to running {}", seconds(created));
    } else {
        eprintln!("cluster {CLUSTER} was there already");
    }
    eprintln!("everything {}", seconds(begun.elapsed()));
    Ok(())
}

fn start_server(place: &Place) -> Result<()> {
    fs::create_dir_all(&place.data_dir).with_context(|| format!("cannot make {}", place.data_dir.display()))?;
    let build = build_id()?;
    if let Some(pid) = place.server() {
        if place.server_is_of(&build) {
            eprintln!("the server runs already (process {pid})");
            return Ok(());
        }
        eprintln!("the server (process {pid}) is of another build: restarting it; workloads run on");
        place.stop_server(pid)?;
    }
    let port = (PORT..PORT + 100)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no free port from 8180 to 8279")?;
    let log = File::create(place.log()).with_context(|| format!("cannot write {}", place.log().display()))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let child = Command::new(paths::release_binary())
        .arg("serve")
        .arg("--data-dir")
        .arg(&place.data_dir)
        .arg("--listen")
        .arg(address.to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the log")?)
        .stderr(log)
        // A group of its own: Ctrl-C at this command is not meant for the server.
        .process_group(0)
        .spawn()
        .context("cannot start the server")?;
    fs::write(place.pid_file(), format!("{}\n{build}\n", child.id()))
        .context("cannot write the server's process id")?;
    process::wait(SERVER_START, "the server answers", || Ok(http_get(address, "/readyz")?.starts_with("HTTP/1.1 200")))
        .with_context(|| format!("the end of {}:\n{}", place.log().display(), process::tail(&place.log())))
}

/// Makes the cluster unless it is there; says whether it was made now.
fn make_cluster(place: &Place) -> Result<bool> {
    let clusters = process::output(place.sampan().args(["cs", "GET", "/clusters"]))?;
    let clusters: Value = serde_json::from_str(&clusters).context("the list of clusters is not JSON")?;
    let there = clusters.as_array().into_iter().flatten().any(|cluster| cluster["name"] == CLUSTER);
    if !there {
        let status = place.sampan().args(["cluster", "create", CLUSTER, "--nodes", "2"]).status()?;
        if !status.success() {
            bail!("the cluster was not created; the server's log is {}", place.log().display());
        }
    }
    let kubeconfig = place.kubeconfig();
    let mut command = place.sampan();
    command.args(["cluster", "kubeconfig", CLUSTER, "--file"]).arg(&kubeconfig);
    process::output(&mut command)?;
    Ok(!there)
}

/// Runs the workload and fetches its page from the host; returns the address.
fn run_workload(place: &Place) -> Result<String> {
    let manifest = place.data_dir.join("web.yaml");
    fs::write(&manifest, WORKLOAD).with_context(|| format!("cannot write {}", manifest.display()))?;
    process::output(place.kubectl().arg("apply").arg("-f").arg(&manifest))?;
    process::output(place.kubectl().args(["rollout", "status", "deployment/web", "--timeout=120s"]))?;
    let path = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
    let ip = process::output(place.kubectl().args(["get", "nodes", "-o", path]))?;
    let ip: Ipv4Addr = ip.trim().parse().with_context(|| format!("the node's address {ip:?}"))?;
    let address = SocketAddr::from((ip, 30080));
    process::wait(WORKLOAD_START, "the web workload answers", || {
        Ok(http_get(address, "/")?.starts_with("HTTP/1.1 200"))
    })?;
    Ok(format!("http://{address}/"))
}

fn report(place: &Place, url: &str) -> Result<()> {
    let env = process::output(place.sampan().arg("env"))?;
    println!("The server's endpoint and credentials (`sampan env`):");
    println!("{}", env.trim_end());
    println!("\nKubeconfig: {}", place.kubeconfig().display());
    println!("Web workload: {url} answers");
    println!("\nTry:");
    println!("  export PATH=\"{}:$PATH\"", shown(&paths::target().join("release")));
    println!(
        "  export PATH=\"{}:$PATH\" KUBECONFIG={}",
        shown(&paths::bundle().join("bin")),
        shown(&place.kubeconfig())
    );
    println!("  kubectl get pods -A");
    println!("  sampan cluster list");
    println!("  curl {url}");
    println!("All of it goes away with `cargo xtask down`.");
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Stops the server and removes everything that it made; stops the Docker engine too if we started it.
///
/// # Errors
/// When the server does not stop or Docker refuses to remove something.
pub(crate) fn down() -> Result<()> {
    let place = Place::find()?;
    if !place.data_dir.join("installation").exists() && place.server().is_none() {
        eprintln!("nothing is up");
        return host::stop_docker();
    }
    if let Some(pid) = place.server() {
        place.stop_server(pid)?;
    }
    process::output(place.sampan().args(["purge", "--yes"]))?;
    fs::remove_dir_all(&place.data_dir).with_context(|| format!("cannot remove {}", place.data_dir.display()))?;
    eprintln!("everything of this installation is gone");
    host::stop_docker()
}

/// A plain GET; returns the whole answer as text.
fn http_get(address: SocketAddr, path: &str) -> Result<String> {
    use std::io::{Read, Write};
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
