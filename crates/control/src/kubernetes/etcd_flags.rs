//! How an etcd member is told with whom it is.

use std::net::Ipv4Addr;

use sampan_store::model::{EtcdMember, EtcdStage};

use super::control_plane::ControlPlaneInputs;

/// Port for other members.
pub(crate) const PEER_PORT: u16 = 2380;
/// Port for clients, on the loopback address.
pub(crate) const CLIENT_PORT: u16 = 2379;

/// Members of one host share its disks: what is usual between machines (100 ms, 1 s) would elect anew whenever it is busy.
const HEARTBEAT_MS: u32 = 150;
/// A member that hears nothing from the leader for this time, and up to twice of it, stands for election.
const ELECTION_MS: u32 = 1500;

pub(super) type Flags = Vec<(&'static str, String)>;

/// Where a member serves its clients: on the machine itself, for the API server beside it and for the tunnel.
pub(crate) fn client_url() -> String {
    format!("https://127.0.0.1:{CLIENT_PORT}")
}

/// Where the member on the machine of that address speaks to others.
pub(crate) fn peer_url(ip: Ipv4Addr) -> String {
    format!("https://{ip}:{PEER_PORT}")
}

/// A member is named by its address, so that its successor there changes nobody else's command line.
pub(crate) fn member_name(ip: Ipv4Addr) -> String {
    format!("etcd-{}", ip.to_string().replace('.', "-"))
}

/// The only member.
pub(super) fn alone(inputs: &ControlPlaneInputs<'_>) -> Flags {
    let peer = peer_url(Ipv4Addr::LOCALHOST);
    vec![
        ("name", inputs.machine.id.clone()),
        ("initial-cluster", format!("{}={peer}", inputs.machine.id)),
        ("initial-advertise-peer-urls", peer.clone()),
        ("listen-peer-urls", peer),
        // A single member has nobody to wait for: it elects itself within half a second, while the API server starts.
        ("heartbeat-interval", "100".into()),
        ("election-timeout", "500".into()),
    ]
}

/// One of several. What is said of the initial cluster counts until it has data of its own.
pub(super) fn among(inputs: &ControlPlaneInputs<'_>, member: &EtcdMember) -> Flags {
    let own = inputs.machine.ip;
    let state = if member.stage == EtcdStage::Joined { "existing" } else { "new" };
    let mut flags = membership(own, &member.peers);
    flags.extend([
        ("initial-cluster-state", state.to_owned()),
        ("listen-peer-urls", peer_url(own)),
        ("heartbeat-interval", HEARTBEAT_MS.to_string()),
        ("election-timeout", ELECTION_MS.to_string()),
    ]);
    flags
}

/// Who it is, and who all are.
pub(super) fn membership(own: Ipv4Addr, all: &[Ipv4Addr]) -> Flags {
    let all: Vec<String> = all.iter().map(|ip| format!("{}={}", member_name(*ip), peer_url(*ip))).collect();
    vec![("name", member_name(own)), ("initial-cluster", all.join(",")), ("initial-advertise-peer-urls", peer_url(own))]
}
