//! NFS, where the kernel has a client.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{
    net::lookup_host,
    process::Command,
    time::{Instant, timeout_at},
};

use crate::volumes::{mounter::Problem, options::Quoted};

const PORT: u16 = 2049;
const LIMIT: Duration = Duration::from_secs(30);
const MODULE_LIMIT: Duration = Duration::from_secs(5);
const WORDS_MAX: usize = 400;
/// Tried in this order.
const VERSIONS: [(&str, &str); 4] = [("nfs4", "4.2"), ("nfs4", "4.1"), ("nfs4", "4.0"), ("nfs", "3")];

/// Whether this can be the name or address of a server.
pub(super) fn check_host(host: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = (1..=253).contains(&host.len()) && !host.starts_with(['-', '.']) && host.bytes().all(fits);
    if is_name || host.parse::<Ipv6Addr>().is_ok() {
        return Ok(());
    }
    Err(format!("the option host: {} is neither a name nor an address of an NFS server", Quoted(host)))
}

/// Mounts an export.
pub(super) async fn mount(host: &str, path: &str, at: &Path) -> Result<(), Problem> {
    let known = client().await;
    if known.is_empty() {
        return Err(Problem::Lasting(format!(
            "the NFS server '{host}' cannot be mounted: the kernel of this machine has no NFS client (no nfs in \
             /proc/filesystems). Load the module nfs on the host, or leave host empty for a file system that the \
             cluster keeps itself"
        )));
    }
    let deadline = Instant::now() + LIMIT;
    let failed = |why: &str| format!("{path} of the NFS server '{host}' cannot be mounted: {why}");
    let late = || Problem::Passing(failed(&format!("no answer within {} s", LIMIT.as_secs())));
    let found = timeout_at(deadline, lookup_host((host, PORT))).await.map_err(|_| late())?;
    let address = found
        .map_err(|error| Problem::Passing(failed(&error.to_string())))?
        .next()
        .ok_or_else(|| Problem::Passing(failed("its name has no address")))?
        .ip();
    let local = local_address(address).map_err(|error| Problem::Passing(failed(&error.to_string())))?;
    let mut reason = String::new();
    for (kind, version) in VERSIONS.into_iter().filter(|(kind, _)| known.iter().any(|known| known == kind)) {
        let options = options(version, address, local);
        let mut command = Command::new("mount");
        // Without its helper, which is in packages that start more services than they bring use here.
        command.args(["-i", "-t", kind, "-o", &options]).arg(source(host, path)).arg(at);
        command.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout_at(deadline, command.output()).await.map_err(|_| late())?;
        let output = output.map_err(|error| Problem::Lasting(failed(&format!("mount: {error}"))))?;
        if output.status.success() {
            return Ok(());
        }
        let said: String = String::from_utf8_lossy(&output.stderr).chars().take(WORDS_MAX).collect();
        reason = said.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    Err(Problem::Passing(failed(&reason)))
}

fn source(host: &str, path: &str) -> String {
    if host.contains(':') { format!("[{host}]:{path}") } else { format!("{host}:{path}") }
}

fn options(version: &str, server: IpAddr, local: IpAddr) -> String {
    match version {
        // The kernel asks the server's mount daemon itself; nobody here would answer for locks.
        "3" => format!("vers=3,proto=tcp,nolock,addr={server},mountaddr={server},mountproto=tcp"),
        version => format!("vers={version},proto=tcp,addr={server},clientaddr={local}"),
    }
}

/// Which of our addresses the server sees.
fn local_address(server: IpAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    // Sends nothing.
    socket.connect((server, PORT))?;
    Ok(socket.local_addr()?.ip())
}

/// Types of NFS that the kernel knows, after an attempt to load its module.
async fn client() -> Vec<String> {
    let known = known();
    if !known.is_empty() {
        return known;
    }
    let mut load = Command::new("modprobe");
    load.args(["-a", "nfs", "nfsv4"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    // Mostly it cannot; what counts is what the kernel knows afterwards.
    let _ = tokio::time::timeout(MODULE_LIMIT, load.status()).await;
    self::known()
}

fn known() -> Vec<String> {
    let listed = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let names = listed.lines().filter_map(|line| line.split_whitespace().last());
    names.filter(|name| matches!(*name, "nfs" | "nfs4")).map(str::to_owned).collect()
}
