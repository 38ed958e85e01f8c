//! What a new node of a pool would be: what it allows is taken from a node that the pool has, or else from its instance
//! type; labels, taints and zone are the record's, because that is what new nodes really get.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;
use sampan_store::{
    Versioned,
    model::{Cluster, Machine, MultiAzPolicy, NewMachine, NodePool, Timestamp},
};

use super::{
    model::{CPU, HOST_NAME, MEMORY, Node, NodeTaint, PODS, Resources, ZONE},
    observe::View,
    simulate::{Group, NODES_PER_PASS_MAX, Template, admits},
};
use crate::{
    kubernetes::{HostFacts, max_pods, node_labels},
    service::instance_type,
};

/// What the kubelet keeps free before it evicts pods.
const MEMORY_FREE_MIN: i64 = 100 << 20;
/// What it keeps for the system where pods may own whole cores.
const STATIC_POLICY_RESERVE: i64 = 100;
/// Space on disk: it is the host's, so every node has the same.
const DISK: &str = "ephemeral-storage";
/// Taints that Kubernetes itself puts on nodes and takes away again.
const TRANSIENT: &str = "node.kubernetes.io/";
/// Stands for the id of a machine that does not exist yet.
const NEW: &str = "new";

/// What templates are made from.
pub(super) struct Foundry<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) machines: &'a [Arc<Versioned<Machine>>],
    pub(super) view: &'a View,
    pub(super) host: &'a HostFacts,
    /// Zones by vSwitch.
    pub(super) zones: &'a BTreeMap<String, String>,
}

impl Foundry<'_> {
    /// The node of a machine that has not registered, or is not in service yet.
    pub(super) fn coming(&self, pool: &NodePool, machine: &Machine, registered: Option<&Node>) -> Option<Template> {
        let name = machine.membership.as_ref().map_or("", |member| &member.node_name);
        let mut node = self.node(pool, machine, name)?;
        if let Some(seen) = registered {
            node.labels.extend(seen.labels.clone());
            if seen.allocatable.get(CPU) > 0 {
                node.allocatable = seen.allocatable.clone();
            }
            let lasting = seen.taints.iter().filter(|taint| !taint.key.starts_with(TRANSIENT)).cloned();
            node.taints = lasting.collect();
            node.unschedulable = seen.unschedulable;
        }
        Some(self.with_daemons(node))
    }

    /// The pool as something that can grow, and each of its zones, if it has several.
    pub(super) fn groups(&self, pool: &NodePool, barred: Option<String>) -> (Group, Vec<Group>) {
        let own = if pool.vswitch_ids.is_empty() { &self.cluster.network.vswitch_ids } else { &pool.vswitch_ids };
        let mut templates: BTreeMap<&str, Arc<Template>> = BTreeMap::new();
        for vswitch in own {
            let Some(zone) = self.zones.get(vswitch) else { continue };
            if let Some(template) = self.fresh(pool, vswitch, zone) {
                templates.entry(zone).or_insert_with(|| Arc::new(template));
            }
        }
        let order = self.order(pool, own).into_iter().filter_map(|vswitch| {
            let zone = self.zones.get(vswitch)?;
            templates.get(zone.as_str()).cloned()
        });
        let group = |zone: Option<String>, order: Vec<Arc<Template>>| Group {
            pool_id: pool.id.clone(),
            zone,
            order,
            barred: barred.clone(),
        };
        let whole = group(None, order.collect());
        let zonal = templates.iter().filter(|_| templates.len() > 1);
        (whole, zonal.map(|(zone, template)| group(Some((*zone).to_owned()), vec![Arc::clone(template)])).collect())
    }

    /// The vSwitches in which the pool's next machines will be, by its own policy.
    fn order<'a>(&self, pool: &NodePool, own: &'a [String]) -> Vec<&'a String> {
        if pool.multi_az_policy == MultiAzPolicy::Priority {
            return own.first().into_iter().collect();
        }
        let mine = |machine: &&Arc<Versioned<Machine>>| {
            machine.membership.as_ref().is_some_and(|member| member.node_pool_id.as_ref() == Some(&pool.id))
        };
        let mut load: Vec<(&String, usize)> = own
            .iter()
            .map(|id| (id, self.machines.iter().filter(mine).filter(|machine| machine.vswitch_id == *id).count()))
            .collect();
        let mut order = Vec::new();
        for _ in 0..NODES_PER_PASS_MAX {
            let Some(least) = load.iter_mut().min_by_key(|(_, count)| *count) else { break };
            least.1 += 1;
            order.push(least.0);
        }
        order
    }

    fn fresh(&self, pool: &NodePool, vswitch_id: &str, zone: &str) -> Option<Template> {
        let machine = NewMachine {
            id: NEW.into(),
            account_id: self.cluster.account_id.clone(),
            region_id: self.cluster.region_id.clone(),
            zone_id: zone.to_owned(),
            vpc_id: self.cluster.network.vpc_id.clone(),
            vswitch_id: vswitch_id.to_owned(),
            ip: Ipv4Addr::UNSPECIFIED,
            mac: String::new(),
            instance_type: pool.instance_types.first().cloned().unwrap_or_default(),
            instance_name: String::new(),
            tags: Vec::new(),
            source: String::new(),
            created: Timestamp::UNIX_EPOCH,
        };
        let mut node = self.node(pool, &machine.kept(), NEW)?;
        node.unschedulable = pool.unschedulable;
        Some(self.with_daemons(node))
    }

    fn with_daemons(&self, node: Node) -> Template {
        let daemons = self.view.daemons.values().filter(|pod| admits(&node, pod).is_ok()).cloned().collect();
        Template { node, daemons }
    }

    fn node(&self, pool: &NodePool, machine: &Machine, name: &str) -> Option<Node> {
        let pool = pool.seen_by(machine);
        let labels = node_labels(self.cluster, Some(&pool), machine);
        let mut labels: BTreeMap<String, String> = labels.registered.into_iter().chain(labels.settled).collect();
        for (key, value) in [
            (HOST_NAME, name),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch()),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", arch()),
            ("beta.kubernetes.io/instance-type", &machine.instance_type),
            ("failure-domain.beta.kubernetes.io/region", &machine.region_id),
        ] {
            labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
        if let Some(zone) = labels.get(ZONE).cloned() {
            labels.entry("failure-domain.beta.kubernetes.io/zone".to_owned()).or_insert(zone);
        }
        let forbids = |effect: &str| matches!(effect, "NoSchedule" | "NoExecute");
        let taints = pool.taints.iter().filter(|taint| forbids(&taint.effect)).map(|taint| NodeTaint {
            key: taint.key.clone(),
            value: taint.value.clone(),
            effect: taint.effect.clone(),
        });
        Some(Node {
            name: name.to_owned(),
            labels,
            taints: taints.collect(),
            unschedulable: false,
            allocatable: self.allocatable(&pool, &machine.instance_type)?,
            ready: true,
            kept: false,
        })
    }

    /// What a node of the pool allows.
    fn allocatable(&self, pool: &NodePool, instance_type: &str) -> Option<Resources> {
        let like = |machine: &Machine| {
            let member = machine.membership.as_ref()?;
            let alike = member.node_pool_id.as_ref() == Some(&pool.id) && machine.instance_type == instance_type;
            let node = self.view.nodes.get(&member.node_name).filter(|node| alike && node.ready)?;
            (node.allocatable.get(CPU) > 0).then(|| node.allocatable.clone())
        };
        if let Some(found) = self.machines.iter().find_map(|machine| like(machine)) {
            return Some(found);
        }
        let shape = instance_type::shape("instance_type", instance_type).ok()?;
        let host = self.host;
        let (cpu, memory) = match host.memory_bytes {
            // A host of unknown size limits nothing.
            0 => (u64::from(shape.vcpus) * 1000, shape.memory_mib << 20),
            memory => shape.limits(host.cpus, memory),
        };
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let reserve = if pool.cpu_policy.as_deref() == Some("static") { STATIC_POLICY_RESERVE } else { 0 };
        let range = Ipv4Net::new(Ipv4Addr::UNSPECIFIED, self.cluster.network.node_cidr_mask).ok();
        let disk = self.view.nodes.values().map(|node| node.allocatable.get(DISK)).find(|amount| *amount > 0);
        let amounts = [
            (CPU, number(cpu) - reserve),
            (MEMORY, number(memory) - MEMORY_FREE_MIN),
            (PODS, range.map_or(0, |range| i64::from(max_pods(range)))),
        ];
        Some(amounts.into_iter().chain(disk.map(|amount| (DISK, amount))).collect())
    }
}

/// Kubernetes' word for the processors of this host, which are those of all machines.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
