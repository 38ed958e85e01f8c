//! Who has which address: ranges of VPCs and vSwitches, addresses of machines, virtual IPs, ports, pod networks.
//!
//! A [`Ledger`] is what is taken as of one moment, read from the store. Allocations are made on it and written together with
//! the records that use them; the commit is refused when another allocation was written meanwhile (see `Change`), so that
//! nothing is given away twice. An address is taken exactly as long as the record that holds it exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, TcpListener},
    ops::RangeInclusive,
};

use ipnet::Ipv4Net;
use sampan_store::{
    Store,
    model::{Cluster, ClusterState, Fault, FaultKind, Machine, Outcome, Timestamp, VSwitch, Vpc},
};

use super::cidr::overlap;

/// Prefix length of a VPC.
const VPC_PREFIX: u8 = 20;
/// Prefix length of a vSwitch.
const VSWITCH_PREFIX: u8 = 23;
/// Addresses at the beginning of a vSwitch that machines do not get (network, gateway, two in reserve).
const RESERVED_FIRST: u32 = 4;

/// What is taken as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    vpcs: BTreeMap<String, Vpc>,
    vswitches: BTreeMap<String, VSwitch>,
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
    /// Pod networks of nodes, by cluster.
    pods: BTreeMap<String, BTreeSet<Ipv4Net>>,
    /// Next numbers of nodes, by Swarm cluster.
    node_indexes: BTreeMap<String, u32>,
    new_vpcs: Vec<Vpc>,
    new_vswitches: Vec<VSwitch>,
}

/// An address of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineAddress {
    /// Address.
    pub ip: Ipv4Addr,
    /// MAC address; it follows from the address, so that neighbours' caches stay right when an address is used again.
    pub mac: String,
}

impl Ledger {
    /// Reads what is taken now.
    pub fn load(store: &Store) -> Self {
        let mut ledger = Self::default();
        for vpc in store.list::<Vpc>() {
            ledger.vpcs.insert(vpc.id.clone(), vpc.value.clone());
        }
        for vswitch in store.list::<VSwitch>() {
            ledger.vswitches.insert(vswitch.id.clone(), vswitch.value.clone());
        }
        for machine in store.list::<Machine>() {
            ledger.note_machine(&machine);
        }
        for cluster in store.list::<Cluster>() {
            ledger.note_cluster(&cluster);
        }
        ledger
    }

    fn note_machine(&mut self, machine: &Machine) {
        self.addresses.insert(machine.ip);
        if let Some((membership, range)) = machine.membership.as_ref().and_then(|m| Some((m, m.pod_cidr?))) {
            self.pods.entry(membership.cluster_id.clone()).or_default().insert(range);
        }
    }

    fn note_cluster(&mut self, cluster: &Cluster) {
        // A deleted cluster's record is only kept for its logs; its addresses are free.
        if cluster.state == ClusterState::Deleted {
            return;
        }
        self.addresses.insert(cluster.network.api_vip);
        self.ports.extend(cluster.network.api_public_port);
        if let Some(options) = &cluster.swarm {
            self.node_indexes.insert(cluster.id.clone(), options.next_node_index);
            self.ports.extend(options.routing_public_port);
            self.ports.extend(options.listeners.values().map(|listener| listener.public_port));
        }
    }

    /// A VPC, stored or new.
    pub fn vpc(&self, id: &str) -> Option<&Vpc> {
        self.vpcs.get(id)
    }

    /// A vSwitch, stored or new.
    pub fn vswitch(&self, id: &str) -> Option<&VSwitch> {
        self.vswitches.get(id)
    }

    /// VPCs and vSwitches that were made on this ledger; they belong into the same batch.
    pub fn take_new(&mut self) -> (Vec<Vpc>, Vec<VSwitch>) {
        (std::mem::take(&mut self.new_vpcs), std::mem::take(&mut self.new_vswitches))
    }

    /// Makes a VPC: the lowest free /20 of `pool` that touches neither another VPC nor anything of `avoid`.
    ///
    /// # Errors
    /// Unavailable when the pool is used up.
    pub fn add_vpc(&mut self, vpc: NewVpc<'_>, pool: Ipv4Net, avoid: &[Ipv4Net]) -> Outcome<Vpc> {
        let used_up = || {
            Fault::new(
                FaultKind::Unavailable,
                format!(
                    "the machine pool {pool} has no free range for another VPC; delete a cluster, or give [network] \
                     machine_pool a larger range and restart the server"
                ),
            )
        };
        let mut ranges = pool.subnets(VPC_PREFIX).map_err(|_| used_up())?;
        let taken = |range: &Ipv4Net| {
            self.vpcs.values().any(|v| overlap(&v.cidr, range)) || avoid.iter().any(|a| overlap(a, range))
        };
        let cidr = ranges.find(|range| !taken(range)).ok_or_else(used_up)?;
        let made = Vpc {
            id: vpc.id.to_owned(),
            account_id: vpc.account_id.to_owned(),
            region_id: vpc.region_id.to_owned(),
            cidr,
            created: vpc.created,
            ephemeral: vpc.ephemeral,
        };
        self.vpcs.insert(made.id.clone(), made.clone());
        self.new_vpcs.push(made.clone());
        Ok(made)
    }

    /// Makes a vSwitch: the lowest free /23 of its VPC outside the virtual IPs. Without a zone, zones are used in turn.
    ///
    /// # Errors
    /// InvalidParameter of `field` when the VPC has no room or does not exist.
    pub fn add_vswitch(
        &mut self,
        field: &str,
        id: &str,
        vpc_id: &str,
        zone: Option<&str>,
        now: Timestamp,
    ) -> Outcome<VSwitch> {
        let vpc = self
            .vpcs
            .get(vpc_id)
            .ok_or_else(|| Fault::invalid(field, format!("{field}: the VPC {vpc_id} of {id} does not exist")))?;
        let mine: Vec<&VSwitch> = self.vswitches.values().filter(|v| v.vpc_id == vpc_id).collect();
        let vips = vpc.vip_range();
        let free = |range: &Ipv4Net| !overlap(range, &vips) && !mine.iter().any(|v| overlap(&v.cidr, range));
        let cidr = vpc.cidr.subnets(VSWITCH_PREFIX).ok().and_then(|mut ranges| ranges.find(free)).ok_or_else(|| {
            Fault::invalid(
                field,
                format!("{field}: the VPC {vpc_id} has no room for the vSwitch {id}; it has {} already", mine.len()),
            )
        })?;
        let letter = ["a", "b", "c"][mine.len() % 3];
        let zone_id = zone.map_or_else(|| format!("{}-{letter}", vpc.region_id), str::to_owned);
        let made = VSwitch { id: id.to_owned(), vpc_id: vpc_id.to_owned(), zone_id, cidr, created: now };
        self.vswitches.insert(made.id.clone(), made.clone());
        self.new_vswitches.push(made.clone());
        Ok(made)
    }

    /// Takes the lowest free address of a vSwitch.
    ///
    /// # Errors
    /// InvalidParameter of `field` when the vSwitch is full or does not exist.
    pub fn take_address(&mut self, field: &str, vswitch_id: &str) -> Outcome<MachineAddress> {
        let vswitch = self
            .vswitches
            .get(vswitch_id)
            .ok_or_else(|| Fault::invalid(field, format!("{field}: the vSwitch {vswitch_id} does not exist")))?;
        let cidr = vswitch.cidr;
        let (first, last) = (u32::from(cidr.network()) + RESERVED_FIRST, u32::from(cidr.broadcast()) - 1);
        let ip = self.lowest_free(first..=last).ok_or_else(|| {
            Fault::invalid(
                field,
                format!("{field}: the vSwitch {vswitch_id} ({cidr}) has no free address; name another one"),
            )
        })?;
        Ok(MachineAddress { ip, mac: mac_of(ip) })
    }

    /// Takes the lowest free virtual IP of a VPC.
    ///
    /// # Errors
    /// InvalidParameter of `vpcid` when none is left or the VPC does not exist.
    pub fn take_vip(&mut self, vpc_id: &str) -> Outcome<Ipv4Addr> {
        let full =
            || Fault::invalid("vpcid", format!("vpcid: the VPC {vpc_id} has no free virtual IP; use another VPC"));
        let range = self.vpcs.get(vpc_id).ok_or_else(full)?.vip_range();
        self.lowest_free(u32::from(range.network()) + 1..=u32::from(range.broadcast()) - 1).ok_or_else(full)
    }

    fn lowest_free(&mut self, range: RangeInclusive<u32>) -> Option<Ipv4Addr> {
        let ip = range.map(Ipv4Addr::from).find(|ip| !self.addresses.contains(ip))?;
        self.addresses.insert(ip);
        Some(ip)
    }

    /// Takes the lowest port that no record has and that `is_free` agrees to.
    ///
    /// # Errors
    /// Unavailable when there is none.
    pub fn take_port(&mut self, range: RangeInclusive<u16>, is_free: impl Fn(u16) -> bool) -> Outcome<u16> {
        let port = range.clone().find(|port| !self.ports.contains(port) && is_free(*port)).ok_or_else(|| {
            Fault::new(
                FaultKind::Unavailable,
                format!(
                    "no port from {} to {} is free for the public endpoint; give network.public_ports another range, or do \
                     without: endpoint_public_access false for a Kubernetes cluster, need_slb false for a Swarm cluster",
                    range.start(),
                    range.end()
                ),
            )
        })?;
        self.ports.insert(port);
        Ok(port)
    }

    /// Takes the next number of a Swarm cluster's nodes; none is given twice. The cluster's record must say so too, see
    /// [`Ledger::next_node_index`].
    pub fn take_node_index(&mut self, cluster_id: &str) -> u32 {
        let next = self.node_indexes.entry(cluster_id.to_owned()).or_insert(1);
        let taken = *next;
        *next = next.saturating_add(1);
        taken
    }

    /// The number that the next node of a Swarm cluster will have.
    pub fn next_node_index(&self, cluster_id: &str) -> u32 {
        self.node_indexes.get(cluster_id).copied().unwrap_or(1)
    }

    /// Takes the lowest free part of a cluster's pod network.
    ///
    /// # Errors
    /// InvalidParameter of `field` when the pod network is used up.
    pub fn take_pod_range(&mut self, field: &str, cluster_id: &str, pods: Ipv4Net, node_mask: u8) -> Outcome<Ipv4Net> {
        let used = self.pods.entry(cluster_id.to_owned()).or_default();
        let full = || {
            Fault::invalid(
                field,
                format!(
                    "{field}: the pod network {pods} has no room for another node ({} have a /{node_mask} of it)",
                    used.len()
                ),
            )
        };
        let range =
            pods.subnets(node_mask).ok().and_then(|mut ranges| ranges.find(|r| !used.contains(r))).ok_or_else(full)?;
        used.insert(range);
        Ok(range)
    }
}

/// A VPC that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewVpc<'a> {
    /// Id, as given or new.
    pub id: &'a str,
    /// Account.
    pub account_id: &'a str,
    /// Region.
    pub region_id: &'a str,
    /// It goes away with its last cluster.
    pub ephemeral: bool,
    /// Now.
    pub created: Timestamp,
}

/// The MAC address that goes with an address: locally administered, unicast.
pub fn mac_of(ip: Ipv4Addr) -> String {
    let [a, b, c, d] = ip.octets();
    format!("02:5a:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Whether a port can be opened now.
pub fn can_listen(address: IpAddr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn pool() -> Ipv4Net {
        "10.200.0.0/13".parse().expect("a range")
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn new_vpc(id: &str) -> NewVpc<'_> {
        NewVpc { id, account_id: "1", region_id: "cn-beijing", ephemeral: true, created: now() }
    }

    fn with_vpc() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.add_vpc(new_vpc("vpc-1"), pool(), &[]).expect("room");
        ledger
    }

    #[test]
    fn a_vpc_and_its_parts() {
        let mut ledger = with_vpc();
        let second =
            ledger.add_vpc(new_vpc("vpc-2"), pool(), &["10.200.16.0/24".parse().expect("a range")]).expect("room");
        assert_eq!(second.cidr.to_string(), "10.200.32.0/20", "10.200.16.0/20 touches a foreign network");
        let zones: Vec<String> = (0..7)
            .map(|n| ledger.add_vswitch("vswitch_ids", &format!("vsw-{n}"), "vpc-1", None, now()).expect("room"))
            .map(|v| format!("{} {}", v.zone_id, v.cidr))
            .collect();
        assert_eq!(zones[0], "cn-beijing-a 10.200.0.0/23");
        assert_eq!(zones[1], "cn-beijing-b 10.200.2.0/23");
        assert_eq!(zones[3], "cn-beijing-a 10.200.6.0/23");
        let full = ledger
            .add_vswitch("vswitch_ids", "vsw-8", "vpc-1", None, now())
            .expect_err("the last /23 has the virtual IPs");
        assert!(full.message.contains("no room"), "{}", full.message);
        let first = ledger.take_address("vswitch_ids", "vsw-0").expect("room");
        assert_eq!((first.ip.to_string().as_str(), first.mac.as_str()), ("10.200.0.4", "02:5a:0a:c8:00:04"));
        assert_eq!(ledger.take_vip("vpc-1").expect("room").to_string(), "10.200.15.1");
        assert_eq!(ledger.take_vip("vpc-1").expect("room").to_string(), "10.200.15.2");
        assert_eq!(ledger.take_new().0.len(), 2);
    }

    #[test]
    fn a_full_pool_is_said() {
        let mut ledger = Ledger::default();
        let tiny: Ipv4Net = "10.200.0.0/19".parse().expect("a range");
        for id in ["vpc-1", "vpc-2"] {
            ledger.add_vpc(new_vpc(id), tiny, &[]).expect("room for two");
        }
        let fault = ledger.add_vpc(new_vpc("vpc-3"), tiny, &[]).expect_err("full");
        assert_eq!(fault.kind, FaultKind::Unavailable);
        assert!(Ledger::default().add_vpc(new_vpc("v"), "10.0.0.0/24".parse().expect("a range"), &[]).is_err());
    }

    #[test]
    fn ports_are_probed() {
        let mut ledger = Ledger::default();
        let port = |ledger: &mut Ledger| ledger.take_port(100..=103, |p| p != 101);
        assert_eq!(port(&mut ledger), Ok(100));
        assert_eq!(port(&mut ledger), Ok(102));
        assert_eq!(port(&mut ledger), Ok(103));
        assert_eq!(port(&mut ledger).map_err(|f| f.kind), Err(FaultKind::Unavailable));
        let held = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = held.local_addr().expect("bound").port();
        assert!(!can_listen(Ipv4Addr::LOCALHOST.into(), port));
        drop(held);
        assert!(can_listen(Ipv4Addr::LOCALHOST.into(), port));
    }

    proptest! {
        /// Taking and giving back in any order never gives an address to two, and what was given back is used again.
        #[test]
        fn nothing_is_given_twice(steps in proptest::collection::vec((any::<bool>(), 0usize..64, 0usize..3), 1..200)) {
            let mut ledger = with_vpc();
            for n in 0..3 {
                ledger.add_vswitch("v", &format!("vsw-{n}"), "vpc-1", None, now()).expect("room");
            }
            let pods: Ipv4Net = "172.20.0.0/20".parse().expect("a range");
            let mut held: Vec<(Ipv4Addr, Ipv4Net)> = Vec::new();
            for (take, index, vswitch) in steps {
                if take && held.len() < 32 {
                    let address = ledger.take_address("v", &format!("vsw-{vswitch}")).expect("room");
                    let range = ledger.take_pod_range("c", "c1", pods, 25).expect("room");
                    let home = ledger.vswitches[&format!("vsw-{vswitch}")].cidr;
                    prop_assert!(home.contains(&address.ip));
                    prop_assert!(!ledger.vpcs["vpc-1"].vip_range().contains(&address.ip));
                    held.push((address.ip, range));
                } else if !held.is_empty() {
                    // What a deleted record held is no longer in the ledger that is read next.
                    let (ip, range) = held.remove(index % held.len());
                    ledger.addresses.remove(&ip);
                    ledger.pods.get_mut("c1").expect("known").remove(&range);
                }
                let distinct: HashSet<_> = held.iter().map(|(ip, _)| ip).collect();
                prop_assert_eq!(distinct.len(), held.len());
                for (i, (_, a)) in held.iter().enumerate() {
                    prop_assert!(held.iter().skip(i + 1).all(|(_, b)| !overlap(a, b)));
                }
            }
            if let Some((ip, range)) = held.pop() {
                let home = ledger.vswitches.values().find(|v| v.cidr.contains(&ip)).expect("home").id.clone();
                ledger.addresses.remove(&ip);
                ledger.pods.get_mut("c1").expect("known").remove(&range);
                let again = ledger.take_address("v", &home).expect("room").ip;
                prop_assert!(again <= ip, "the lowest free one is used: {} > {}", again, ip);
                prop_assert!(ledger.take_pod_range("c", "c1", pods, 25).expect("room") <= range);
            }
        }

        #[test]
        fn vpcs_never_overlap(foreign in proptest::collection::vec((200u8..208, any::<u8>(), 16u8..28), 0..12), count in 1usize..20) {
            let avoid: Vec<Ipv4Net> = foreign.iter().map(|(b, c, p)| Ipv4Net::new_assert([10, *b, *c, 0].into(), *p).trunc()).collect();
            let mut ledger = Ledger::default();
            for n in 0..count {
                ledger.add_vpc(new_vpc(&format!("vpc-{n}")), pool(), &avoid).expect("room");
            }
            let ranges: Vec<Ipv4Net> = ledger.vpcs.values().map(|v| v.cidr).collect();
            for (i, a) in ranges.iter().enumerate() {
                prop_assert!(ranges.iter().skip(i + 1).all(|b| !overlap(a, b)));
                prop_assert!(avoid.iter().all(|b| !overlap(a, b)));
                prop_assert!(pool().contains(a));
            }
        }
    }
}
