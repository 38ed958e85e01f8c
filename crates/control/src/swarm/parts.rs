//! What the manager's machine and the nodes have in common: the engine.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sampan_agents::{
    master::TlsFiles,
    spec::{File, Probe, Process},
};
use sampan_store::model::{Cluster, Fault, Machine, Outcome, SwarmOptions};

use crate::{
    certificate::CertifiedKey,
    parts::{machine_id_file, pair_files, process, public_file},
};

/// Folder of certificates on a machine.
pub(super) const PKI_DIR: &str = "/etc/sampan/pki";
/// Where the engine keeps its data.
pub(super) const DATA_ROOT: &str = "/var/lib/docker";
/// Where the engine listens for the machine itself.
pub(super) const ENGINE_SOCKET: &str = "/var/run/docker.sock";

/// Prefix length of an engine's own bridges. One of them carries all containers of the machine to the outside.
const BRIDGE_PREFIX: u8 = 20;

/// Starts the engine. The file with the process id of one that was killed keeps the next one from starting.
const START_ENGINE: &str = "rm -f /var/run/docker.pid && exec /usr/sbin/dockerd \"$@\"";

/// The sampan command on a machine.
pub(super) const SAMPAN: &str = "/usr/local/bin/sampan";

/// What only Swarm clusters have.
pub(super) fn options(cluster: &Cluster) -> Outcome<&SwarmOptions> {
    cluster.swarm.as_ref().ok_or_else(|| Fault::internal(format!("cluster {} is no Swarm cluster", cluster.id)))
}

/// Where the files of a TLS end are.
pub(super) fn tls_files(ca: &str, pair: &str) -> TlsFiles {
    TlsFiles {
        ca: format!("{PKI_DIR}/{ca}.crt"),
        cert: format!("{PKI_DIR}/{pair}.crt"),
        key: format!("{PKI_DIR}/{pair}.key"),
    }
}

/// Paths of the files of a TLS end, for what must be started again when one changes.
pub(super) fn tls_paths(files: &TlsFiles) -> [String; 3] {
    [files.ca.clone(), files.cert.clone(), files.key.clone()]
}

/// An authority's certificate as a file.
pub(super) fn authority_file(name: &str, authority: &CertifiedKey) -> File {
    public_file(format!("{PKI_DIR}/{name}.crt"), &authority.certificate)
}

/// Certificate and key as files.
pub(super) fn pair(name: &str, pair: &CertifiedKey) -> [File; 2] {
    pair_files(&format!("{PKI_DIR}/{name}"), pair)
}

/// What every machine of a Swarm cluster has on its disk.
pub(super) fn common_files(machine: &Machine) -> Vec<File> {
    vec![public_file("/etc/machine-id", machine_id_file(machine))]
}

/// Kernel parameters of every machine.
pub(super) fn sysctls() -> std::collections::BTreeMap<String, String> {
    [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into()
}

/// An engine; `flags` are what is different between the manager's and the nodes'.
pub(super) fn engine(
    cluster: &Cluster,
    machine: &Machine,
    name_servers: &[Ipv4Addr],
    flags: &[String],
) -> Outcome<Process> {
    let pool = options(cluster)?.bridge_pool;
    let mut command: Vec<String> = ["/bin/sh", "-c", START_ENGINE, "dockerd"].map(str::to_owned).into();
    command.push(format!("--host=unix://{ENGINE_SOCKET}"));
    command.extend(flags.iter().cloned());
    command.extend([
        format!("--data-root={DATA_ROOT}"),
        format!("--bip={}", first_bridge(pool)?),
        format!("--default-address-pool=base={},size={BRIDGE_PREFIX}", other_bridges(pool)?),
        format!("--swarm-default-advertise-addr={}", machine.ip),
        "--storage-driver=overlay2".to_owned(),
        "--exec-opt=native.cgroupdriver=cgroupfs".to_owned(),
        "--log-driver=json-file".to_owned(),
        "--log-opt=max-size=10m".to_owned(),
        "--log-opt=max-file=3".to_owned(),
        "--log-level=warn".to_owned(),
        // Scores below that of the machine's other processes cannot be had everywhere.
        "--oom-score-adjust=0".to_owned(),
        // The machine is given ten seconds to stop.
        "--shutdown-timeout=5".to_owned(),
    ]);
    // Without a name server here, containers ask the machine's own, which only the engine can reach.
    command.extend(name_servers.iter().map(|server| format!("--dns={server}")));
    let mut engine = process("dockerd", command);
    engine.ready = Some(Probe::Unix(ENGINE_SOCKET.to_owned()));
    Ok(engine)
}

/// The engine's first bridge: an address in the first part of the pool.
fn first_bridge(pool: Ipv4Net) -> Outcome<Ipv4Net> {
    let first = halves(pool)?.0.hosts().next();
    first
        .and_then(|address| Ipv4Net::new(address, BRIDGE_PREFIX).ok())
        .ok_or_else(|| Fault::internal(format!("the range {pool} is too small for an engine's bridges")))
}

/// Where the engine takes further bridges from: the second half of the pool.
fn other_bridges(pool: Ipv4Net) -> Outcome<Ipv4Net> {
    Ok(halves(pool)?.1)
}

fn halves(pool: Ipv4Net) -> Outcome<(Ipv4Net, Ipv4Net)> {
    let small = || Fault::internal(format!("the range {pool} is too small for an engine's bridges"));
    let prefix = pool.prefix_len() + 1;
    if prefix >= BRIDGE_PREFIX {
        return Err(small());
    }
    let mut parts = pool.subnets(prefix).map_err(|_| small())?;
    parts.next().zip(parts.next()).ok_or_else(small)
}
