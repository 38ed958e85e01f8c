//! `cargo xtask up` and `down`: a server, a cluster with two nodes and a web workload; and all of it gone.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::place::{Place, http_get};
use crate::progress::seconds;
use crate::{build, host, paths, process};

/// Name of the cluster that `up` makes.
const CLUSTER: &str = "demo";
/// The server listens here, or on the next free port.
const PORT: u16 = 8180;
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

/// The installation in `SAMPAN_DATA_DIR`, else where the `sampan` command looks without `--data-dir`.
fn find() -> Result<Place> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data_dir = match variable("SAMPAN_DATA_DIR") {
        Some(dir) => dir,
        None => variable("XDG_DATA_HOME")
            .or_else(|| Some(variable("HOME")?.join(".local/share")))
            .context("set HOME, XDG_DATA_HOME or SAMPAN_DATA_DIR: the server needs a data directory")?
            .join("sampan"),
    };
    Ok(Place { data_dir, cluster: CLUSTER, port: PORT, bundle: paths::bundle() })
}

/// Builds, starts the server, makes the cluster, runs the workload, and says what was done.
///
/// # Errors
/// The first step that fails, with the end of the log that explains it.
pub(crate) fn up(options: &build::Options) -> Result<()> {
    let begun = Instant::now();
    build::run(options)?;
    let built = begun.elapsed();
    let place = find()?;
    place.start_server()?;
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
    place.write_kubeconfig()?;
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
    match find()?.remove()? {
        true => eprintln!("everything of this installation is gone"),
        false => eprintln!("nothing is up"),
    }
    host::stop_docker()
}
