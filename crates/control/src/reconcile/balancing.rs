//! The balancer's configuration: one, composed from all clusters, applied when it changes or could not be applied whole.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use sampan_agents::balancer::{Config, HealthCheck, Listener, VirtualIp};
use sampan_store::model::{Cluster, Halted, Level, Machine, MachineRole, MachineState, MachineWanted, Outcome};

use super::{
    context::{Context, within},
    doors::{self, Door, Target},
    driver::Status,
    journal::Journal,
    names::Names,
    public_port,
    scope::{Life, Scope, life, role},
    settings::BALANCER_CALL_MAX,
    status::Step,
};
use crate::kubernetes::API_PORT;

/// What could not be opened is asked for again after this time.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(5);
/// An unchanged configuration is applied again after this time, in case the balancer was replaced.
const FRESH_FOR: Duration = Duration::from_secs(60);
/// Key of a trouble that concerns all listeners.
const ALL: &str = "";

/// Brings the balancer up to date.
pub(super) async fn reconcile(ctx: &Context) -> Outcome<Status> {
    let config = compose(
        &ctx.store.list::<Cluster>().iter().map(|cluster| &cluster.value).collect::<Vec<_>>(),
        |cluster| backends(ctx, cluster),
        |vpc_id| ctx.memory.network_is_up(vpc_id),
        &ctx.names,
        ctx.settings.public_ip,
        ctx.settings.registry_port,
    );
    let (before, doubts) = (ctx.memory.balancer_troubles(), ctx.memory.balancer_doubts());
    let is_fresh = ctx.memory.balancer().is_some_and(|(held, age)| held == config && age < FRESH_FOR);
    if is_fresh && before.is_empty() && !ctx.memory.is_balancer_doubted() {
        return Ok(Status::Settled);
    }
    match within(BALANCER_CALL_MAX, "configuring the balancer", ctx.balancing.apply(&config)).await {
        Ok(report) => {
            let failures = report.failures.into_iter();
            let troubles: BTreeMap<String, String> = failures.map(|failure| (failure.name, failure.message)).collect();
            tell(ctx, &config, &before, &troubles).await?;
            public_port::evade(ctx, &troubles).await?;
            let is_whole = troubles.is_empty();
            let is_news = ctx.memory.set_balancer(Some(config), troubles);
            if ctx.memory.trust_balancer(doubts) || is_news {
                wake_clusters(ctx);
            }
            Ok(if is_whole {
                Status::Settled
            } else {
                Status::again(TROUBLE_INTERVAL, "listeners could not be opened")
            })
        }
        Err(fault) => {
            let held = ctx.memory.balancer().map(|(held, _)| held);
            if ctx.memory.set_balancer(held, [(ALL.to_owned(), fault.message.clone())].into()) {
                wake_clusters(ctx);
            }
            Err(fault)
        }
    }
}

fn wake_clusters(ctx: &Context) {
    for cluster in ctx.store.list::<Cluster>() {
        ctx.wake_cluster(&cluster.id);
    }
}

/// Where a cluster's connections go.
#[derive(Default)]
struct Backends {
    /// The control plane's machines.
    control_planes: Vec<Ipv4Addr>,
    /// Nodes with routers.
    nodes: Vec<Ipv4Addr>,
}

/// As recorded now.
fn backends(ctx: &Context, cluster: &Cluster) -> Backends {
    let machines = ctx.store.list_of::<Machine>(&cluster.id);
    let mut control_planes: Vec<Ipv4Addr> =
        machines.iter().filter(|machine| machine.is_control_plane_of(&cluster.id)).map(|machine| machine.ip).collect();
    control_planes.sort();
    if !cluster.is_swarm() {
        return Backends { control_planes, nodes: Vec::new() };
    }
    let mut serving: Vec<&Machine> = machines
        .iter()
        .map(|machine| &machine.value)
        .filter(|machine| role(machine) == Some(MachineRole::Worker) && machine.state == MachineState::Running)
        // One that leaves gets no new connections.
        .filter(|machine| machine.wanted == MachineWanted::Run)
        .collect();
    // Where no node is Ready, any is better than none: what nobody answers for is skipped.
    if serving.iter().any(|machine| is_ready(machine)) {
        serving.retain(|machine| is_ready(machine));
    }
    let mut nodes: Vec<Ipv4Addr> = serving.into_iter().map(|machine| machine.ip).collect();
    nodes.sort();
    Backends { control_planes, nodes }
}

fn is_ready(machine: &Machine) -> bool {
    machine.node_status.as_deref() == Some("Ready")
}

/// Several API servers are asked how they are, so that one that dies is out within seconds. A single one is tried anyway.
fn health_check(target: &Target, backends: &[SocketAddr]) -> Option<HealthCheck> {
    let is_api = matches!(target, Target::ControlPlane(API_PORT));
    (is_api && backends.len() > 1).then(|| HealthCheck { path: "/readyz".to_owned() })
}

/// Everything the balancer shall do for these clusters.
fn compose(
    clusters: &[&Cluster],
    backends: impl Fn(&Cluster) -> Backends,
    network_is_up: impl Fn(&str) -> bool,
    names: &Names,
    public_ip: Ipv4Addr,
    registry_port: Option<u16>,
) -> Config {
    let mut config = Config::default();
    for cluster in clusters {
        // A cluster in service keeps its listeners while a fresh server has not looked at its network yet.
        let has_bridge = cluster.first_running.is_some() || network_is_up(&cluster.network.vpc_id);
        let is_off = cluster.power.as_ref().is_some_and(|power| power.halted == Halted::All);
        let is_wanted =
            !is_off && matches!(life(cluster), Life::Alive | Life::Stopping | Life::Restoring | Life::Frozen);
        let found = backends(cluster);
        if !has_bridge || !is_wanted || found.control_planes.is_empty() {
            continue;
        }
        let network = &cluster.network;
        config.virtual_ips.push(VirtualIp { ip: network.api_vip, bridge: names.bridge(&network.vpc_id) });
        let mut listen = |door: Door, ip: Ipv4Addr, port: u16| {
            let to = |ip: &Ipv4Addr, port: u16| SocketAddr::new(IpAddr::V4(*ip), port);
            let backends = match door.target {
                Target::ControlPlane(port) => found.control_planes.iter().map(|ip| to(ip, port)).collect(),
                Target::Host(port) => vec![to(&Ipv4Addr::LOCALHOST, port)],
                Target::Nodes(port) => found.nodes.iter().map(|ip| to(ip, port)).collect(),
            };
            let listen = SocketAddr::new(IpAddr::V4(ip), port);
            let check = health_check(&door.target, &backends);
            config.listeners.push(Listener { name: door.name, listen, backends, check });
        };
        for door in doors::internal(cluster).chain(doors::registry(cluster, registry_port)) {
            let port = door.port;
            listen(door, network.api_vip, port);
        }
        for door in doors::public(cluster) {
            let port = door.port;
            listen(door, public_ip, port);
        }
    }
    config
}

/// Events for listeners that could not be opened, and log lines for those that now could.
async fn tell(
    ctx: &Context,
    config: &Config,
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Outcome<()> {
    for cluster in ctx.store.list::<Cluster>() {
        let mut journal = Journal::of(&cluster, ctx.now());
        for (name, message) in now.iter().filter(|(name, _)| concerns(name, &cluster) && !before.contains_key(*name)) {
            let what = describe(config, name);
            let stays = doors::public(&cluster).any(|door| door.name == *name) && cluster.first_running.is_some();
            let why = if stays { "it keeps its port, which users know, and " } else { "it " };
            let text = format!("{what} could not be opened: {message}; {why}is tried again until it can be");
            journal.cluster_event("cluster_modify", Level::Warning, "EndpointUnavailable", text);
        }
        for name in before.keys().filter(|name| concerns(name, &cluster) && !now.contains_key(*name)) {
            journal.log(format!("{} is open now", describe(config, name)));
        }
        ctx.tell(journal).await?;
    }
    Ok(())
}

/// Whether a trouble of that name is one of this cluster.
fn concerns(name: &str, cluster: &Cluster) -> bool {
    let of_listener = name.strip_prefix(&cluster.id).is_some_and(|rest| rest.starts_with('/'));
    of_listener || name == cluster.network.api_vip.to_string()
}

fn describe(config: &Config, name: &str) -> String {
    match config.listeners.iter().find(|listener| listener.name == name) {
        Some(listener) => format!("the endpoint {} ({name})", listener.listen),
        None => format!("the endpoints' address {name}"),
    }
}

/// Whether the cluster's endpoints are open.
pub(super) fn endpoint(ctx: &Context, scope: &Scope) -> Step {
    let cluster = &scope.cluster;
    let troubles = ctx.memory.balancer_troubles();
    if let Some((name, message)) = troubles.iter().find(|(name, _)| concerns(name, cluster)) {
        return Step::Waiting(format!("{name}: {message}"));
    }
    if is_held(ctx, &cluster.id) && !ctx.memory.is_balancer_doubted() {
        return Step::Done;
    }
    Step::Waiting(troubles.get(ALL).cloned().unwrap_or_else(|| "the balancer is being configured".to_owned()))
}

/// Whether the balancer holds listeners of that cluster, as far as we know.
pub(super) fn is_held(ctx: &Context, cluster_id: &str) -> bool {
    let name = doors::api_internal(cluster_id);
    ctx.memory.balancer().is_some_and(|(held, _)| held.listeners.iter().any(|listener| listener.name == name))
}
