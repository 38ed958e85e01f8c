//! One Docker swarm out of the engines: the manager's own, the nodes' membership, and the overlay that all share.
//! Level-triggered: each round compares what is with what shall be and does the next step.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use http::{Method, StatusCode};
use ipnet::Ipv4Net;
use sampan_agents::master::MasterConfig;
use serde_json::{Value, json};
use tokio::time;

use super::{Fleet, Member, cache::Membership, member::jitter, observe::text};
use crate::model::{CLUSTER_NETWORK, Refusal};

/// Joining waits for the manager to take the node in.
const JOIN_TIMEOUT: Duration = Duration::from_secs(40);
/// Nodes that join at the same time.
const JOINS_MAX: usize = 16;
/// Rounds when nothing seems to be wrong, and how the pause grows while something is.
const CALM_PAUSE: Duration = Duration::from_secs(10);
const RETRY_PAUSE: Duration = Duration::from_millis(300);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);
const STEP_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Bits of the networks taken from the address pool.
const POOL_SUBNET_BITS: u8 = 24;
const SWARM_PORT: u16 = 2377;
const GATEWAY_NETWORK: &str = "docker_gwbridge";

/// How far the swarm is.
#[derive(Clone, Debug, Default)]
pub(crate) struct SwarmState {
    /// The swarm and the cluster's overlay are there.
    pub(crate) ready: bool,
    /// What is missing, in words.
    pub(crate) message: String,
}

impl Fleet {
    /// Keeps the swarm, for ever.
    pub(crate) async fn keep_swarm(self: Arc<Self>) {
        let mut pause = RETRY_PAUSE;
        loop {
            let config = self.settings();
            let done = self.swarm_round(&config).await;
            let wait = match &done {
                Ok(true) => {
                    pause = RETRY_PAUSE;
                    CALM_PAUSE
                }
                // Somebody is on the way in or out.
                Ok(false) => {
                    let wait = pause;
                    pause = (pause * 3 / 2).min(STEP_PAUSE_MAX);
                    wait
                }
                Err(error) => {
                    tracing::warn!(error = error.message, "the swarm is not as it shall be");
                    let wait = pause;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                    wait
                }
            };
            self.note(|state| state.message = done.err().map(|error| error.message).unwrap_or_default());
            self.changed.notify_one();
            tokio::select! {
                () = time::sleep(wait.mul_f64(jitter())) => {}
                () = self.swarm_wake.notified() => {}
            }
        }
    }

    /// One round; `true` when nothing is left to do.
    async fn swarm_round(&self, config: &MasterConfig) -> Result<bool, Refusal> {
        let info = self.ensure_manager(config).await?;
        self.ensure_overlay(config).await?;
        self.note(|state| {
            state.ready = true;
            state.message.clear();
        });
        let listed = self.list_nodes().await?;
        let manager_id = text(&info, "/Swarm/NodeID").to_owned();
        let swarm = self.manager.get("/swarm").await?;
        let token = text(&swarm, "/JoinTokens/Worker").to_owned();
        let members = self.members();
        let rounds = members.iter().map(|member| self.member_round(member, config, &token, &listed));
        let settled: Vec<bool> = stream::iter(rounds).buffer_unordered(JOINS_MAX).collect().await;
        self.forget_strangers(&manager_id).await?;
        Ok(settled.into_iter().all(|settled| settled))
    }

    async fn ensure_manager(&self, config: &MasterConfig) -> Result<Value, Refusal> {
        let info = self.manager.get("/info").await?;
        match text(&info, "/Swarm/LocalNodeState") {
            "active" if info.pointer("/Swarm/ControlAvailable") == Some(&Value::Bool(true)) => return Ok(info),
            "inactive" => {}
            "pending" => return Err(Refusal::unavailable("the manager's engine is starting its swarm")),
            other => {
                let error = text(&info, "/Swarm/Error");
                tracing::warn!(
                    state = other,
                    error,
                    "the manager leaves a swarm that it cannot lead and begins a new one"
                );
                self.manager.post("/swarm/leave?force=1", &Value::Null).await?;
            }
        }
        self.ensure_gateway(&self.manager, config).await?;
        let body = json!({
            "ListenAddr": format!("0.0.0.0:{SWARM_PORT}"),
            "AdvertiseAddr": config.advertise.to_string(),
            "DefaultAddrPool": [config.address_pool.to_string()],
            "SubnetSize": POOL_SUBNET_BITS.max(config.address_pool.prefix_len()),
            // Not drained: the master's own way into the overlay is a container here. Swarm services, which could be put here,
            // are not offered.
            "Availability": "active",
            "ForceNewCluster": false,
            "Spec": {},
        });
        self.manager.call_within(Method::POST, "/swarm/init", Some(&body), JOIN_TIMEOUT).await?;
        tracing::info!(advertise = %config.advertise, "the manager began a swarm");
        // The routing mesh needs IPVS and is not used: services publish through the routers. Without it nodes join faster.
        if let Err(error) = self.manager.delete("/networks/ingress").await {
            tracing::debug!(error = error.message, "the ingress network stays");
        }
        self.manager.get("/info").await
    }

    async fn ensure_overlay(&self, config: &MasterConfig) -> Result<(), Refusal> {
        let path = format!("/networks/{CLUSTER_NETWORK}");
        match self.manager.get(&path).await {
            Ok(network) => {
                let subnet = text(&network, "/IPAM/Config/0/Subnet").to_owned();
                if subnet == config.subnet.to_string() {
                    return Ok(());
                }
                Err(Refusal::conflict(format!(
                    "the network {CLUSTER_NETWORK} has the subnet {subnet} and not {}; remove all containers for it to be \
                     made anew",
                    config.subnet
                )))
            }
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => {
                let body = json!({
                    "Name": CLUSTER_NETWORK,
                    "CheckDuplicate": true,
                    "Driver": "overlay",
                    "Attachable": true,
                    "IPAM": {"Driver": "default", "Config": [{"Subnet": config.subnet.to_string()}]},
                });
                self.manager.post("/networks/create", &body).await.map(|_| ())
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn list_nodes(&self) -> Result<BTreeMap<String, (String, String)>, Refusal> {
        let nodes = self.manager.get("/nodes").await?;
        let nodes = nodes.as_array().map(Vec::as_slice).unwrap_or_default();
        let entry = |node: &Value| {
            let state = text(node, "/Status/State").to_owned();
            (text(node, "/ID").to_owned(), (state, text(node, "/Status/Addr").to_owned()))
        };
        let listed: BTreeMap<_, _> = nodes.iter().map(entry).collect();
        Ok(listed)
    }

    /// Brings one node where it shall be; `true` when it is there.
    async fn member_round(
        &self,
        member: &Member,
        config: &MasterConfig,
        token: &str,
        listed: &BTreeMap<String, (String, String)>,
    ) -> bool {
        if !member.is_reachable() {
            // It comes back by itself; the heartbeat wakes us.
            return true;
        }
        let done = if member.spec().leaving {
            self.release(member).await
        } else {
            self.admit(member, config, token, listed).await
        };
        match done {
            Ok(membership) => {
                let settled = matches!(membership, Membership::Member | Membership::Left);
                member.cache().set_membership(membership);
                self.changed.notify_one();
                settled
            }
            Err(error) => {
                tracing::warn!(node = member.name, error = error.message, "a node could not join the swarm");
                member.cache().set_membership(Membership::Outside(error.message));
                self.changed.notify_one();
                false
            }
        }
    }

    /// Joins a node unless it is a member.
    async fn admit(
        &self,
        member: &Member,
        config: &MasterConfig,
        token: &str,
        listed: &BTreeMap<String, (String, String)>,
    ) -> Result<Membership, Refusal> {
        member.refresh_info().await?;
        let info = member.cache().info();
        let state = text(&info, "/Swarm/LocalNodeState");
        let known = listed.get(text(&info, "/Swarm/NodeID"));
        match (state, known) {
            ("active", Some((state, _))) if state == "ready" => return Ok(Membership::Member),
            // The manager was restarted, or the node was; they find each other.
            ("active", Some((state, _))) => {
                return Ok(match member.cache().membership() {
                    Membership::Member => Membership::Member,
                    _ => Membership::Outside(format!("the swarm's manager sees it as {state}")),
                });
            }
            ("pending", _) => return Ok(Membership::Outside("it is joining the swarm".to_owned())),
            ("inactive", _) => {}
            (other, _) => {
                tracing::warn!(node = member.name, state = other, "a node leaves a swarm that is not this cluster's");
                member.client.post("/swarm/leave?force=1", &Value::Null).await?;
            }
        }
        self.ensure_gateway(&member.client, config).await?;
        let body = json!({
            "ListenAddr": format!("0.0.0.0:{SWARM_PORT}"),
            "AdvertiseAddr": member.spec().ip.to_string(),
            "RemoteAddrs": [format!("{}:{SWARM_PORT}", config.advertise)],
            "JoinToken": token,
        });
        member.client.call_within(Method::POST, "/swarm/join", Some(&body), JOIN_TIMEOUT).await?;
        tracing::info!(node = member.name, "a node joined the swarm");
        member.refresh_info().await?;
        Ok(Membership::Member)
    }

    /// Docker's gateway bridge keeps out of the cluster's ranges: it is made before Docker makes it anywhere.
    async fn ensure_gateway(&self, engine: &super::Client, config: &MasterConfig) -> Result<(), Refusal> {
        let taken = [config.subnet, config.address_pool];
        match engine.get(&format!("/networks/{GATEWAY_NETWORK}")).await {
            Ok(network) => {
                let subnet = text(&network, "/IPAM/Config/0/Subnet").parse::<Ipv4Net>();
                if subnet.is_ok_and(|subnet| taken.iter().all(|range| !overlap(range, &subnet))) {
                    return Ok(());
                }
                engine.delete(&format!("/networks/{GATEWAY_NETWORK}")).await?;
            }
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => {}
            Err(refusal) => return Err(refusal),
        }
        let subnet = self.gateway_range(engine, config).await?;
        let body = json!({
            "Name": GATEWAY_NETWORK,
            "Driver": "bridge",
            "IPAM": {"Driver": "default", "Config": [{"Subnet": subnet.to_string()}]},
            "Options": {
                "com.docker.network.bridge.name": GATEWAY_NETWORK,
                "com.docker.network.bridge.enable_icc": "false",
                "com.docker.network.bridge.enable_ip_masquerade": "true",
            },
        });
        engine.post("/networks/create", &body).await.map(|_| ())
    }

    /// A range that neither the cluster nor this engine uses.
    async fn gateway_range(&self, engine: &super::Client, config: &MasterConfig) -> Result<Ipv4Net, Refusal> {
        let mut taken = vec![config.subnet, config.address_pool];
        let networks = engine.get("/networks").await?;
        for network in networks.as_array().into_iter().flatten() {
            for part in network.pointer("/IPAM/Config").and_then(Value::as_array).into_iter().flatten() {
                taken.extend(text(part, "/Subnet").parse::<Ipv4Net>());
            }
        }
        let machines = config.nodes.iter().map(|node| node.ip).chain([config.advertise]);
        taken.extend(machines.filter_map(|ip| Ipv4Net::new(ip, 20).ok()).map(|range| range.trunc()));
        let candidates =
            (16..32u8).map(|second| [172, second, 0, 0]).chain((0..16).map(|third| [192, 168, third * 16, 0]));
        let candidates = candidates.chain((100..120).map(|second| [10, second, 0, 0]));
        let ranges = candidates.filter_map(|octets| Ipv4Net::new(octets.into(), 20).ok());
        let mut free = ranges.filter(|range| taken.iter().all(|other| !overlap(other, range)));
        free.next().ok_or_else(|| Refusal::conflict("every private range is taken; docker_gwbridge has no place"))
    }

    /// Removes from the manager's list who is no member any more.
    async fn forget_strangers(&self, manager_id: &str) -> Result<(), Refusal> {
        for (id, (state, address)) in self.list_nodes().await? {
            if id == manager_id || self.is_expected(&id, &state, &address) {
                continue;
            }
            tracing::info!(id, address, state, "the manager forgets a node that is no member any more");
            self.manager.delete(&format!("/nodes/{id}?force=1")).await?;
        }
        Ok(())
    }

    /// Whether a node of the manager's list is a member's, or may be: a member that has not said yet which one it is, or does
    /// not answer, is known by its address. One there that is up may just have joined.
    pub(super) fn is_expected(&self, id: &str, state: &str, address: &str) -> bool {
        self.members().iter().any(|member| {
            let (info, has_left) = {
                let cache = member.cache();
                (cache.info(), *cache.membership() == Membership::Left)
            };
            let known = text(&info, "/Swarm/NodeID");
            let may_be = state != "down" || !member.is_reachable() || (!has_left && known.is_empty());
            (!has_left && known == id) || (may_be && member.spec().ip.to_string() == address)
        })
    }

    fn note(&self, change: impl FnOnce(&mut SwarmState)) {
        change(&mut self.swarm.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether the manager answers and leads.
    pub(crate) fn swarm_state(&self) -> SwarmState {
        self.swarm.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}
