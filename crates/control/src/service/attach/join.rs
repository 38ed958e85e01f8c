//! A host joins: the token is used up and the machine recorded in one transaction.

use std::net::Ipv4Addr;

use sampan_store::{
    Versioned,
    model::{
        Cluster, Fault, FaultKind, HostMachine, HostReport, JOIN_TOKEN_PREFIX, JoinToken, Level, Machine,
        MachineWanted, NewMachine, NodePool, Outcome, Setting, TaskType, VSwitch, Vpc, new_machine_id, new_task_id,
        new_uuid,
    },
};

use super::{Begun, SOURCE, pool_of, refuse_above_maximum, script, system_name};
use crate::{
    hosts::token_hash,
    service::{
        RequestContext, Service,
        change::{About, Change},
        network::allocate::mac_of,
        quota,
    },
};

/// Instance type of a host: it is as large as it is.
pub const HOST_TYPE: &str = "host";
/// Longest host name that is recorded.
const NAME_MAX: usize = 128;

/// A host that wants to join.
#[derive(Clone, Debug)]
pub struct HostJoin {
    /// What it was given.
    pub token: String,
    /// The address by which it reaches the server.
    pub ip: Option<Ipv4Addr>,
    /// Where the server sees it come from.
    pub peer: std::net::IpAddr,
    /// What it says of itself.
    pub report: HostReport,
}

/// A host that is a machine now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostJoined {
    /// Which.
    pub machine_id: String,
    /// The name of its node.
    pub node_name: String,
    /// The host name that it shall have; `None`: its own.
    pub hostname: Option<String>,
    /// Its containers' data goes to an unused disk.
    pub format_disk: bool,
}

impl Service {
    /// Makes the host with that token a machine of the token's pool.
    ///
    /// # Errors
    /// Forbidden when the token is none, used or expired; ClusterState, QuotaExceeded, and InvalidParameter of what is
    /// wrong.
    pub async fn host_join(&self, input: &HostJoin) -> Outcome<HostJoined> {
        let id = format!("{JOIN_TOKEN_PREFIX}{}", token_hash(&input.token));
        let ip = address(input)?;
        let known = self.store.get::<Setting>(&id).and_then(|setting| script::read(&setting)).ok_or_else(unknown)?;
        let ctx = RequestContext {
            account_id: known.account_id.clone(),
            principal: "host".into(),
            is_root: false,
            request_id: new_uuid(),
            region_id: self.settings.region_id.clone(),
            nonce: None,
        };
        self.change(&ctx, |change| {
            let setting = change.store.get::<Setting>(&id).ok_or_else(unknown)?;
            let token = script::read(&setting).ok_or_else(unknown)?;
            refuse_spent(&token, change)?;
            let cluster = self.changeable_cluster(change.ctx, &token.cluster_id)?;
            let pool = pool_of(change, &cluster, Some(&token.node_pool_id))?;
            self.check_node_quota(change.ctx, quota::staying_workers(change.store, &cluster.id), 1)?;
            let task_id = new_task_id();
            let machine = record(change, &cluster, &pool, &token, (ip, &input.report), &task_id)?;
            let used = JoinToken { used_by: Some(machine.id.clone()), ..token.clone() };
            let value = serde_json::to_value(&used)
                .map_err(|error| Fault::internal(format!("a join token cannot be written as JSON: {error}")))?;
            change.update(&setting, &Setting { id: id.clone(), value });
            let text =
                format!("Host {} ({ip}, {}) joins node pool {}", input.report.hostname, input.report.os, pool.name);
            let resources = vec![machine.id.clone()];
            let begun = Begun { cluster: &cluster, pool: &pool, task_id: &task_id, resources, text, notices: &[] };
            self.begin_attach(change, begun);
            warn_outside(change, &cluster, &pool, &machine);
            let membership = machine.membership.as_ref();
            Ok(HostJoined {
                node_name: membership.map_or_else(String::new, |member| member.node_name.clone()),
                hostname: (!token.keep_instance_name).then(|| system_name(&cluster.id)),
                format_disk: token.format_disk,
                machine_id: machine.id,
            })
        })
        .await
    }
}

fn unknown() -> Fault {
    let text = "this join token is not known here, or has expired; ask for a new attach line";
    Fault::new(FaultKind::Forbidden, text)
}

fn refuse_spent(token: &JoinToken, change: &Change<'_>) -> Outcome<()> {
    if token.expires <= change.now {
        return Err(unknown());
    }
    match &token.used_by {
        Some(machine) => {
            let text = format!("this join token was used already, by machine {machine}; ask for a new attach line");
            Err(Fault::new(FaultKind::Forbidden, text))
        }
        None => Ok(()),
    }
}

/// The host's own address; one that others do not see it under is of no use to a cluster.
fn address(input: &HostJoin) -> Outcome<Ipv4Addr> {
    let ip =
        input.ip.filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()).ok_or_else(|| {
            Fault::invalid(
                "ip",
                "this host reaches the server by no IPv4 address that other machines could reach it by",
            )
        })?;
    if input.peer != std::net::IpAddr::V4(ip) {
        let text = format!(
            "this host is {ip}, but comes from {}: its address is translated on the way, so machines of the cluster could \
             not reach it",
            input.peer
        );
        return Err(Fault::invalid("ip", text));
    }
    Ok(ip)
}

/// The machine of the host: the record of a bare host that has its address, or a new one.
fn record(
    change: &mut Change<'_>,
    cluster: &Versioned<Cluster>,
    pool: &Versioned<NodePool>,
    token: &JoinToken,
    (ip, report): (Ipv4Addr, &HostReport),
    task_id: &str,
) -> Outcome<Machine> {
    let machines = change.store.list::<Machine>();
    let same = machines.iter().find(|machine| machine.ip == ip);
    let vpc = change.store.get::<Vpc>(&cluster.network.vpc_id);
    let on_link = vpc.is_some_and(|vpc| vpc.cidr.contains(&ip));
    refuse_above_maximum(change, pool, "nodepool_id", 1)?;
    let membership = change.worker_membership(cluster, pool, ip, task_id)?;
    let hostname: String = report.hostname.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
    let name = if token.keep_instance_name { hostname } else { system_name(&cluster.id) };
    let with_host = |machine: Machine, bare: bool| Machine {
        instance_name: name.clone(),
        source: SOURCE.to_owned(),
        host: Some(HostMachine { bare, report: Some(report.clone()), on_link, left: false }),
        ..machine
    };
    match same {
        Some(bare) if is_free_host(bare, cluster) => {
            let machine = with_host(bare.joining(membership), true);
            change.update(bare, &machine);
            Ok(machine)
        }
        Some(taken) => {
            let text = format!(
                "the address {ip} belongs to machine {}, which is no free host of this cluster's VPC",
                taken.id
            );
            Err(Fault::invalid("ip", text))
        }
        None => {
            let switches = change.store.list_of::<VSwitch>(&cluster.network.vpc_id);
            let switch = switches.iter().find(|switch| switch.cidr.contains(&ip)).or_else(|| switches.first());
            let new = NewMachine {
                id: new_machine_id(),
                account_id: cluster.account_id.clone(),
                region_id: cluster.region_id.clone(),
                zone_id: switch.map_or_else(|| cluster.zone_id.clone(), |switch| switch.zone_id.clone()),
                vpc_id: cluster.network.vpc_id.clone(),
                vswitch_id: switch.map_or_else(String::new, |switch| switch.id.clone()),
                ip,
                mac: mac_of(ip),
                instance_type: HOST_TYPE.to_owned(),
                instance_name: String::new(),
                tags: Vec::new(),
                source: SOURCE.to_owned(),
                created: change.now,
            };
            let machine = with_host(new.joining(membership), false);
            change.create(&machine);
            Ok(machine)
        }
    }
}

fn is_free_host(machine: &Machine, cluster: &Cluster) -> bool {
    machine.account_id == cluster.account_id
        && machine.vpc_id == cluster.network.vpc_id
        && machine.membership.is_none()
        && machine.wanted == MachineWanted::Keep
        && machine.host.as_ref().is_some_and(|host| host.bare)
}

/// Says that pods of a host outside the VPC's range have no way to pods of other nodes.
fn warn_outside(change: &mut Change<'_>, cluster: &Cluster, pool: &NodePool, machine: &Machine) {
    if machine.host.as_ref().is_some_and(|host| host.on_link) {
        return;
    }
    let about = About::NodePool { cluster_id: &cluster.id, id: &pool.id };
    let text = format!(
        "Host {} is outside the range of VPC {}: machines there cannot use it as a next hop, so its pods and those of other \
         nodes do not reach each other. Attach the host to the VPC's network to have that",
        machine.ip, cluster.network.vpc_id
    );
    change.event(about, TaskType::ClusterAttach, Level::Warning, "HostOutsideVpc", text);
}
