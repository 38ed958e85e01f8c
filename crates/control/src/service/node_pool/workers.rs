//! Machines for a pool: vSwitches, addresses, records.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use sampan_store::{
    Versioned,
    model::{
        Cluster, Fault, Machine, MachineRole, MachineWanted, Membership, MultiAzPolicy, NewMachine, NodePool, Outcome,
        Tag, new_machine_id,
    },
};

use crate::service::{Settings, change::Change, fields};

/// Source of machines that were in the inventory before.
pub(super) const ATTACHED: &str = "ess_attach";

/// What new machines of a pool are like.
#[derive(Clone, Debug)]
pub(crate) struct WorkerTemplate<'a> {
    /// First choice first.
    pub(crate) instance_types: &'a [String],
    /// Used in turn.
    pub(crate) vswitch_ids: &'a [String],
    /// Nobody named the vSwitches: machines of the inventory may be in any of the VPC.
    pub(crate) any_vswitch: bool,
    /// Beside the pool's.
    pub(crate) tags: &'a [Tag],
    /// How they come to be.
    pub(crate) source: &'a str,
    /// Names the field in refusals about room.
    pub(crate) field: &'a str,
}

/// Where vSwitches of a request belong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home<'a> {
    pub(crate) vpc_id: &'a str,
    /// Zones for new vSwitches, in turn; empty: the VPC's own order.
    pub(crate) zones: &'a [String],
}

impl Change<'_> {
    /// Makes sure that the vSwitches exist in that VPC; makes missing ones when the installation allows it.
    pub(crate) fn ensure_vswitches(
        &mut self,
        settings: &Settings,
        field: &str,
        home: Home<'_>,
        ids: &[String],
    ) -> Outcome<()> {
        let now = self.now;
        for (index, id) in ids.iter().enumerate() {
            fields::resource_id(field, id)?;
            match self.ledger().vswitch(id) {
                Some(vswitch) if vswitch.vpc_id == home.vpc_id => {}
                Some(vswitch) => {
                    let vpc = vswitch.vpc_id.clone();
                    return Err(Fault::invalid(
                        field,
                        format!("{field}: the vSwitch {id} is in the VPC {vpc}, not in {}", home.vpc_id),
                    ));
                }
                None if settings.create_referenced => {
                    let zone = (!home.zones.is_empty()).then(|| home.zones[index % home.zones.len()].clone());
                    self.ledger().add_vswitch(field, id, home.vpc_id, zone.as_deref(), now)?;
                }
                None => return Err(Fault::invalid(field, format!("{field}: the vSwitch {id} does not exist"))),
            }
        }
        Ok(())
    }

    /// Records `count` more workers of a pool: machines of the inventory first, then new ones.
    pub(crate) fn add_workers(
        &mut self,
        cluster: &Cluster,
        pool: &NodePool,
        template: &WorkerTemplate<'_>,
        count: u32,
        task_id: &str,
    ) -> Outcome<Vec<Machine>> {
        let mut made = Vec::with_capacity(count as usize);
        // Machines of the inventory become nodes of a Swarm cluster only when they are named.
        let kept = if cluster.is_swarm() { Vec::new() } else { self.kept_machines(cluster, template) };
        let mut load = self.load_of(&pool.id, template.vswitch_ids);
        for kept in kept.into_iter().take(count as usize) {
            if let Some(count) = load.get_mut(&kept.vswitch_id) {
                *count += 1;
            }
            made.push(self.attach(cluster, pool, template, &kept, task_id)?);
        }
        for _ in made.len()..count as usize {
            let (vswitch_id, address) = self.next_address(template, pool.multi_az_policy, &mut load)?;
            let zone_id = self.ledger().vswitch(&vswitch_id).map_or_else(String::new, |v| v.zone_id.clone());
            let machine = NewMachine {
                id: new_machine_id(),
                account_id: cluster.account_id.clone(),
                region_id: cluster.region_id.clone(),
                zone_id,
                vpc_id: cluster.network.vpc_id.clone(),
                vswitch_id,
                ip: address.ip,
                mac: address.mac,
                instance_type: template.instance_types.first().cloned().unwrap_or_default(),
                instance_name: format!(
                    "{}-for-cs-{}",
                    if cluster.is_swarm() { "node-swarm" } else { "worker-k8s" },
                    cluster.id
                ),
                tags: template.tags.to_vec(),
                source: template.source.to_owned(),
                created: self.now,
            }
            .joining(self.worker_membership(cluster, pool, address.ip, task_id)?);
            self.create(&machine);
            made.push(machine);
        }
        Ok(made)
    }

    /// Machines of the inventory that would do, the first choice first. Those taken before in this change are left out.
    fn kept_machines(&self, cluster: &Cluster, template: &WorkerTemplate<'_>) -> Vec<Arc<Versioned<Machine>>> {
        let preference = |machine: &Machine| template.instance_types.iter().position(|t| *t == machine.instance_type);
        let mut machines = self.store.list::<Machine>();
        machines.retain(|m| {
            m.account_id == cluster.account_id
                && m.vpc_id == cluster.network.vpc_id
                && m.membership.is_none()
                // A host joins by itself.
                && m.host.is_none()
                && m.wanted == MachineWanted::Keep
                && preference(m).is_some()
                && (template.any_vswitch || template.vswitch_ids.contains(&m.vswitch_id))
                && !self.is_claimed(&m.id)
        });
        machines.sort_by_key(|m| (preference(m), m.created, m.ip));
        machines
    }

    /// Takes a machine out of the inventory, into the pool. Its container is made from scratch: nothing of it is left.
    pub(crate) fn attach(
        &mut self,
        cluster: &Cluster,
        pool: &NodePool,
        template: &WorkerTemplate<'_>,
        kept: &Versioned<Machine>,
        task_id: &str,
    ) -> Outcome<Machine> {
        let attached = Machine {
            tags: merged(&kept.tags, template.tags),
            source: ATTACHED.to_owned(),
            ..kept.joining(self.worker_membership(cluster, pool, kept.ip, task_id)?)
        };
        self.claim(&kept.id);
        self.update(kept, &attached);
        self.log(&cluster.id, format!("machine {} ({}) of the inventory is used again", kept.id, kept.ip));
        Ok(attached)
    }

    pub(in crate::service) fn worker_membership(
        &mut self,
        cluster: &Cluster,
        pool: &NodePool,
        ip: Ipv4Addr,
        task_id: &str,
    ) -> Outcome<Membership> {
        let network = &cluster.network;
        let (pod_cidr, node_index) = if cluster.is_swarm() {
            (None, Some(self.ledger().take_node_index(&cluster.id)))
        } else {
            let (pods, mask) = (network.pod_cidr, network.node_cidr_mask);
            (Some(self.ledger().take_pod_range("container_cidr", &cluster.id, pods, mask)?), None)
        };
        Ok(Membership {
            cluster_id: cluster.id.clone(),
            node_pool_id: Some(pool.id.clone()),
            role: MachineRole::Worker,
            node_name: self.node_name(cluster, pool, ip)?,
            pod_cidr,
            node_index,
            etcd: None,
            task_id: task_id.to_owned(),
            version: None,
        })
    }

    /// The name of a new node. Two addresses may have the same last digits: the second such node is refused.
    fn node_name(&mut self, cluster: &Cluster, pool: &NodePool, ip: Ipv4Addr) -> Outcome<String> {
        let Some(mode) = &pool.node_name_mode else { return Ok(format!("{}.{ip}", cluster.region_id)) };
        let name = mode.name(ip);
        let machines = self.store.list_of::<Machine>(&cluster.id);
        let is_taken = machines.iter().filter_map(|m| m.membership.as_ref()).any(|m| m.node_name == name);
        if is_taken || !self.take_node_name(&name) {
            let field = "kubernetes_config.node_name_mode";
            let text = format!(
                "{field} of node pool {} gives the address {ip} the name {name}, which another node has; let it take more \
                 digits of the address",
                pool.name
            );
            return Err(Fault::invalid(field, text));
        }
        Ok(name)
    }

    /// Records the machine that runs the control plane; users do not see it.
    pub(crate) fn add_control_plane(&mut self, settings: &Settings, cluster: &Cluster) -> Outcome<Machine> {
        let vswitch_id = cluster.network.vswitch_ids.first().cloned().unwrap_or_default();
        let address = self.ledger().take_address("vswitch_ids", &vswitch_id)?;
        let membership = Membership {
            cluster_id: cluster.id.clone(),
            node_pool_id: None,
            role: MachineRole::ControlPlane,
            node_name: format!("{}.{}", cluster.region_id, address.ip),
            pod_cidr: None,
            node_index: None,
            etcd: None,
            task_id: cluster.creation_task_id.clone(),
            version: None,
        };
        let machine = NewMachine {
            id: new_machine_id(),
            account_id: cluster.account_id.clone(),
            region_id: cluster.region_id.clone(),
            zone_id: cluster.zone_id.clone(),
            vpc_id: cluster.network.vpc_id.clone(),
            vswitch_id,
            ip: address.ip,
            mac: address.mac,
            instance_type: settings.control_plane_instance_type.clone(),
            instance_name: format!("control-plane-for-cs-{}", cluster.id),
            tags: Vec::new(),
            source: "manual".into(),
            created: self.now,
        }
        .joining(membership);
        self.create(&machine);
        Ok(machine)
    }

    /// How many machines of the pool each vSwitch has.
    fn load_of(&self, pool_id: &str, vswitch_ids: &[String]) -> BTreeMap<String, usize> {
        let mut load: BTreeMap<String, usize> = vswitch_ids.iter().map(|id| (id.clone(), 0)).collect();
        for machine in self.store.list::<Machine>() {
            let mine = machine.membership.as_ref().is_some_and(|m| m.node_pool_id.as_deref() == Some(pool_id));
            if let Some(count) = load.get_mut(&machine.vswitch_id).filter(|_| mine) {
                *count += 1;
            }
        }
        load
    }

    /// An address in the least used vSwitch that has one left, or in the first one if the pool wants it so.
    fn next_address(
        &mut self,
        template: &WorkerTemplate<'_>,
        policy: MultiAzPolicy,
        load: &mut BTreeMap<String, usize>,
    ) -> Outcome<(String, crate::service::network::allocate::MachineAddress)> {
        let mut order: Vec<&String> = template.vswitch_ids.iter().collect();
        if policy != MultiAzPolicy::Priority {
            order.sort_by_key(|id| load.get(*id).copied().unwrap_or(0));
        }
        let mut refusal = Fault::missing(template.field);
        for id in order {
            match self.ledger().take_address(template.field, id) {
                Ok(address) => {
                    *load.entry(id.clone()).or_default() += 1;
                    return Ok((id.clone(), address));
                }
                Err(fault) => refusal = fault,
            }
        }
        Err(refusal)
    }
}

/// A machine's own tags; those of the request go before them.
pub(in crate::service) fn merged(own: &[Tag], wanted: &[Tag]) -> Vec<Tag> {
    let stays = own.iter().filter(|tag| wanted.iter().all(|other| other.key != tag.key));
    stays.chain(wanted).cloned().collect()
}
