//! Machines of a control plane: the masters of a dedicated cluster, and the hidden machines of a managed one.

use std::borrow::Cow;

use sampan_store::model::{
    Cluster, EtcdMember, Fault, Machine, MachineRole, Membership, NewMachine, Outcome, new_machine_id,
};

use super::create::ClusterCreate;
use crate::service::{
    Settings,
    change::{Change, Notice},
    fields, instance_type,
    network::allocate::MachineAddress,
    node_pool::{self, Naming, NodePoolOptions},
};

/// Machines of a highly available control plane that users do not see.
const HIDDEN: u32 = 3;
/// How many masters a dedicated cluster may have: fewer have no quorum without one of them, and others cost more than they
/// bring.
const COUNTS: [i64; 2] = [3, 5];
/// Masters when their number is not given.
const COUNT_DEFAULT: i64 = 3;

/// The `master_…` fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MastersWanted {
    /// `master_count`.
    pub count: Option<i64>,
    /// Instance types and vSwitches, one for each master or fewer, used in turn; disks; charges.
    pub options: NodePoolOptions,
}

/// One zone of the bodies that describe a cluster by its zones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneWanted {
    /// `vswitch_id_a`.
    pub vswitch_id: Option<String>,
    /// `master_instance_type_a`.
    pub master_instance_type: Option<String>,
    /// `worker_instance_type_a`.
    pub worker_instance_type: Option<String>,
    /// `num_of_nodes_a`.
    pub num_of_nodes: Option<i64>,
}

/// Checked masters.
#[derive(Clone, Debug)]
pub(super) struct Masters {
    pub(super) count: u32,
    /// Used in turn; empty: the cluster's.
    pub(super) vswitch_ids: Vec<String>,
    /// Used in turn; at least one.
    instance_types: Vec<String>,
    pub(super) notices: Vec<Notice>,
}

/// Workers of one zone.
#[derive(Clone, Debug)]
pub(super) struct ZoneWorkers {
    /// `None`: the cluster's vSwitch of that place.
    pub(super) vswitch_id: Option<String>,
    pub(super) instance_type: Option<String>,
    pub(super) count: u32,
}

/// A request that describes zones, in the words of one that does not.
pub(super) fn without_zones(input: &ClusterCreate) -> Cow<'_, ClusterCreate> {
    if input.zones.is_empty() {
        return Cow::Borrowed(input);
    }
    let given = |pick: fn(&ZoneWanted) -> &Option<String>| -> Vec<String> {
        input.zones.iter().filter_map(|zone| fields::given(pick(zone)).map(str::to_owned)).collect()
    };
    let mut plain = input.clone();
    if plain.vswitch_ids.is_empty() {
        plain.vswitch_ids = given(|zone| &zone.vswitch_id);
    }
    if plain.masters.options.instance_types.is_empty() {
        plain.masters.options.instance_types = given(|zone| &zone.master_instance_type);
    }
    if plain.workers.instance_types.is_empty() {
        plain.workers.instance_types = given(|zone| &zone.worker_instance_type);
    }
    let counts: Vec<i64> = input.zones.iter().filter_map(|zone| zone.num_of_nodes).collect();
    if plain.num_of_nodes.is_none() && !counts.is_empty() {
        // A negative one is refused by its own name, see [`zone_workers`].
        plain.num_of_nodes = Some(counts.iter().sum());
    }
    Cow::Owned(plain)
}

/// Workers by zones, where the request gives them so: beside their sum in `num_of_nodes`, or without it. Zeros say nothing.
pub(super) fn zone_workers(input: &ClusterCreate) -> Outcome<Vec<ZoneWorkers>> {
    let suffixes = ["a", "b", "c"];
    let worker = |(zone, suffix): (&ZoneWanted, &str)| {
        let field = format!("num_of_nodes_{suffix}");
        Ok(ZoneWorkers {
            vswitch_id: fields::given(&zone.vswitch_id).map(str::to_owned),
            instance_type: fields::given(&zone.worker_instance_type).map(str::to_owned),
            count: fields::number(&field, zone.num_of_nodes.unwrap_or(0), 0..=300)?,
        })
    };
    let workers: Vec<ZoneWorkers> = input.zones.iter().zip(suffixes).map(worker).collect::<Outcome<_>>()?;
    let sum: i64 = workers.iter().map(|zone| i64::from(zone.count)).sum();
    match input.num_of_nodes {
        _ if sum == 0 => Ok(Vec::new()),
        Some(asked) if asked != sum => Err(Fault::invalid(
            "num_of_nodes",
            format!("num_of_nodes is {asked}, and num_of_nodes_a, _b and _c make {sum}: leave one of them out"),
        )),
        _ => Ok(workers),
    }
}

/// Checks the `master_…` fields.
pub(super) fn check(settings: &Settings, wanted: &MastersWanted) -> Outcome<Masters> {
    let count = wanted.count.unwrap_or(COUNT_DEFAULT);
    if !COUNTS.contains(&count) {
        return Err(Fault::invalid(
            "master_count",
            format!(
                "master_count {count} is not one of 3, 5: a dedicated cluster needs an odd number of masters, of which \
                     one may be lost"
            ),
        ));
    }
    let settled = node_pool::settle(settings, &Naming::Master, &wanted.options)?;
    let list = |values: &[String]| -> Vec<String> {
        values.iter().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()).collect()
    };
    let vswitch_ids = list(&wanted.options.vswitch_ids);
    let mut instance_types = list(&wanted.options.instance_types);
    for (field, given) in [("master_vswitch_ids", vswitch_ids.len()), ("master_instance_types", instance_types.len())] {
        if i64::try_from(given).unwrap_or(i64::MAX) > count {
            return Err(Fault::invalid(
                field,
                format!("{field}: {given} are given for {count} masters; give one for each"),
            ));
        }
    }
    for instance_type in &instance_types {
        instance_type::shape("master_instance_types", instance_type)?;
    }
    if instance_types.is_empty() {
        instance_types.push(settings.control_plane_instance_type.clone());
    }
    let count = u32::try_from(count).unwrap_or(0);
    Ok(Masters { count, vswitch_ids, instance_types, notices: settled.notices })
}

/// A machine of a control plane before it is recorded.
struct Draft<'a> {
    role: MachineRole,
    vswitch_id: String,
    address: MachineAddress,
    instance_type: &'a str,
    etcd: Option<EtcdMember>,
}

impl Change<'_> {
    /// Records the masters; answers their ids.
    pub(super) fn add_masters(&mut self, cluster: &Cluster, masters: &Masters) -> Outcome<Vec<String>> {
        let own = &masters.vswitch_ids;
        let vswitch_ids = if own.is_empty() { &cluster.network.vswitch_ids } else { own };
        let field = if own.is_empty() { "vswitch_ids" } else { "master_vswitch_ids" };
        let places = self.places(field, vswitch_ids, masters.count)?;
        let peers = addresses(&places);
        let mut ids = Vec::with_capacity(places.len());
        for ((vswitch_id, address), instance_type) in places.into_iter().zip(masters.instance_types.iter().cycle()) {
            let etcd = Some(EtcdMember::founder(&peers));
            let draft = Draft { role: MachineRole::Master, vswitch_id, address, instance_type, etcd };
            ids.push(self.add_part(cluster, draft, &cluster.creation_task_id)?);
        }
        Ok(ids)
    }

    /// Records the hidden machines of a new managed cluster's control plane.
    pub(super) fn add_hidden_control_plane(&mut self, settings: &Settings, cluster: &Cluster) -> Outcome<()> {
        if cluster.spec != PRO {
            return self.add_control_plane(settings, cluster).map(drop);
        }
        let places = self.places("vswitch_ids", &cluster.network.vswitch_ids, HIDDEN)?;
        let peers = addresses(&places);
        for (vswitch_id, address) in places {
            let instance_type = &settings.control_plane_instance_type;
            let etcd = Some(EtcdMember::founder(&peers));
            let draft = Draft { role: MachineRole::ControlPlane, vswitch_id, address, instance_type, etcd };
            self.add_part(cluster, draft, &cluster.creation_task_id)?;
        }
        Ok(())
    }

    /// Gives a control plane of one machine as many as a highly available one has; answers the ids of the new ones. They
    /// join its etcd one after the other.
    pub(super) fn widen_control_plane(
        &mut self,
        settings: &Settings,
        cluster: &Cluster,
        task_id: &str,
    ) -> Outcome<Vec<String>> {
        let machines = self.store.list_of::<Machine>(&cluster.id);
        let present: Vec<_> = machines.iter().filter(|machine| machine.is_control_plane_of(&cluster.id)).collect();
        let missing = HIDDEN.saturating_sub(u32::try_from(present.len()).unwrap_or(HIDDEN));
        for only in present.iter().filter(|machine| machine.etcd().is_none()) {
            let mut founder = only.value.clone();
            if let Some(membership) = &mut founder.membership {
                membership.etcd = Some(EtcdMember::founder(&[only.ip]));
            }
            self.update(only, &founder);
        }
        // Beginning with the vSwitch after the one that the first machine is in.
        let mut vswitch_ids = cluster.network.vswitch_ids.clone();
        let first = present.len().min(vswitch_ids.len());
        vswitch_ids.rotate_left(first);
        let mut ids = Vec::new();
        for (vswitch_id, address) in self.places("vswitch_ids", &vswitch_ids, missing)? {
            let instance_type = &settings.control_plane_instance_type;
            let etcd = Some(EtcdMember::newcomer(false));
            let draft = Draft { role: MachineRole::ControlPlane, vswitch_id, address, instance_type, etcd };
            ids.push(self.add_part(cluster, draft, task_id)?);
        }
        Ok(ids)
    }

    /// Addresses for so many machines, in turn in these vSwitches.
    fn places(&mut self, field: &str, vswitch_ids: &[String], count: u32) -> Outcome<Vec<(String, MachineAddress)>> {
        let mut places = Vec::new();
        for vswitch_id in vswitch_ids.iter().cycle().take(count as usize) {
            places.push((vswitch_id.clone(), self.ledger().take_address(field, vswitch_id)?));
        }
        Ok(places)
    }

    fn add_part(&mut self, cluster: &Cluster, draft: Draft<'_>, task_id: &str) -> Outcome<String> {
        let Draft { role, vswitch_id, address, instance_type, etcd } = draft;
        let network = &cluster.network;
        let is_node = role.is_node();
        let pod_cidr = if is_node {
            let (pods, mask) = (network.pod_cidr, network.node_cidr_mask);
            Some(self.ledger().take_pod_range("container_cidr", &cluster.id, pods, mask)?)
        } else {
            None
        };
        let membership = Membership {
            cluster_id: cluster.id.clone(),
            node_pool_id: None,
            role,
            node_name: format!("{}.{}", cluster.region_id, address.ip),
            pod_cidr,
            node_index: None,
            etcd,
            task_id: task_id.to_owned(),
            version: None,
        };
        let zone_id = self.ledger().vswitch(&vswitch_id).map_or_else(String::new, |vswitch| vswitch.zone_id.clone());
        let kind = if is_node { "master-k8s" } else { "control-plane" };
        let machine = NewMachine {
            id: new_machine_id(),
            account_id: cluster.account_id.clone(),
            region_id: cluster.region_id.clone(),
            zone_id,
            vpc_id: network.vpc_id.clone(),
            vswitch_id,
            ip: address.ip,
            mac: address.mac,
            instance_type: instance_type.to_owned(),
            instance_name: format!("{kind}-for-cs-{}", cluster.id),
            tags: Vec::new(),
            source: "manual".into(),
            created: self.now,
        }
        .joining(membership);
        self.create(&machine);
        Ok(machine.id)
    }
}

fn addresses(places: &[(String, MachineAddress)]) -> Vec<std::net::Ipv4Addr> {
    let mut ips: Vec<_> = places.iter().map(|(_, address)| address.ip).collect();
    ips.sort();
    ips
}

/// `cluster_spec` of a managed cluster with a highly available control plane.
pub(super) const PRO: &str = "ack.pro.small";
