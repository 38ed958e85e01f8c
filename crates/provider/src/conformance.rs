//! The contract as a behavioural suite: what every provider passes, the fake and the real ones.
//!
//! It fails by panicking with the contract's rule that was broken. It needs two installations on one engine, because
//! much of the contract is about leaving alone what is not ours.
#![allow(clippy::panic, clippy::expect_used, reason = "a test suite; it is in the library because two tests share it")]

use std::{collections::BTreeMap, fmt::Debug, net::Ipv4Addr, path::PathBuf, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, future::join_all};
use ipnet::Ipv4Net;

use crate::{
    CPU_WEIGHT, HostService, HostServiceSpec, KIND_LABEL, MachinePower, MachineProvider, MachineSpec, MachineStatus,
    NetworkSpec, OWNER_LABEL, ProviderError, ProviderEvent,
};

/// How long anything may take before the suite gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the suite must see or do beside the contract.
#[async_trait]
pub trait Witness: Send + Sync {
    /// The MAC address of a running machine.
    async fn mac(&self, machine: &str) -> String;
    /// Ends a machine from outside, so that it stays ended.
    async fn kill(&self, machine: &str);
    /// Something that changes when the balancer is made anew; `None` when there is none that runs.
    async fn balancer(&self, name: &str) -> Option<String>;
}

/// What the suite runs on.
pub struct Bench<'a> {
    /// The provider under test.
    pub provider: &'a dyn MachineProvider,
    /// Another installation on the same engine.
    pub neighbour: &'a dyn MachineProvider,
    /// Installation ids of the two.
    pub ids: [&'a str; 2],
    /// Eyes and hands.
    pub witness: &'a dyn Witness,
    /// An image whose machines print `boot N` on their console, N being the number of boots that they count on their
    /// volume at `/data`. It serves as the balancer's image too.
    pub image: &'a str,
    /// Another such image.
    pub other_image: &'a str,
    /// Free ranges, /24: ours and the neighbour's.
    pub ranges: [Ipv4Net; 2],
    /// A directory for the balancer.
    pub state_dir: PathBuf,
}

/// Runs everything, and leaves nothing behind when it succeeds.
pub async fn suite(bench: &Bench<'_>) {
    bench.absent_things().await;
    bench.networks().await;
    bench.machines().await;
    bench.restarts_keep_identity_and_disks().await;
    bench.conflicts().await;
    bench.shared_volumes_outlive_machines().await;
    bench.leftovers_are_started().await;
    bench.ended_machines_are_started().await;
    bench.parallel_calls_agree().await;
    bench.others_are_left_alone().await;
    bench.events_are_seen().await;
    bench.host_services().await;
    bench.nothing_is_left().await;
}

impl Bench<'_> {
    fn name(&self, what: &str) -> String {
        format!("sampan-{}-{what}", self.ids[0])
    }

    fn network(&self) -> NetworkSpec {
        network(self.ids[0], self.ranges[0])
    }

    fn spec(&self, what: &str, host: u32) -> MachineSpec {
        machine(self.ids[0], what, self.image, self.ranges[0], host)
    }

    async fn absent_things(&self) {
        let name = self.name("absent");
        assert_eq!(ok("look at an absent machine", self.provider.machine(&name).await), None);
        ok("delete an absent machine", self.provider.delete_machine(&name).await);
        ok("stop an absent machine", self.provider.stop_machine(&name).await);
        ok("delete an absent network", self.provider.delete_network(&name).await);
        ok("delete an absent balancer", self.provider.delete_host_service(&name).await);
        failed("restart an absent machine", self.provider.restart_machine(&name).await);
        failed("read an absent machine's console", self.provider.console(&name, 10).await);
        let capacity = ok("capacity", self.provider.capacity().await);
        assert!(capacity.cpus > 0 && capacity.memory_bytes > 0, "{capacity:?}");
    }

    async fn networks(&self) {
        let network = self.network();
        ok("make a network", self.provider.ensure_network(&network).await);
        ok("find a network", self.provider.ensure_network(&network).await);
        let mut other_range = network.clone();
        other_range.cidr = self.ranges[1];
        conflict("a network with another range", self.provider.ensure_network(&other_range).await);
        let mut overlapping = network.clone();
        overlapping.name = self.name("overlapping");
        overlapping.bridge = "br-overlapping".to_owned();
        let error = conflict("an overlapping network", self.provider.ensure_network(&overlapping).await);
        assert!(error.contains(&network.name), "a conflict names who has the range: {error}");
        let mut long_bridge = network.clone();
        long_bridge.name = self.name("long");
        long_bridge.bridge = "sixteen-letters.".to_owned();
        failed("a bridge with too long a name", self.provider.ensure_network(&long_bridge).await);
        ok("delete a network", self.provider.delete_network(&network.name).await);
        ok("delete it again", self.provider.delete_network(&network.name).await);
        ok("make it again", self.provider.ensure_network(&network).await);
    }

    async fn machines(&self) {
        let spec = self.spec("m1", 10);
        let status = ok("make a machine", self.provider.ensure_machine(&spec).await);
        assert_eq!(status.power, MachinePower::Running, "{status:?}");
        assert_eq!((status.ip, status.exit_code), (Some(spec.ip), None), "{status:?}");
        for (key, value) in [(OWNER_LABEL, self.ids[0]), (KIND_LABEL, "machine"), ("test", "m1")] {
            assert_eq!(status.labels.get(key).map(String::as_str), Some(value), "label {key}");
        }
        let again = ok("find a machine", self.provider.ensure_machine(&spec).await);
        assert_eq!(again, status);
        assert_eq!(ok("look at it", self.provider.machine(&spec.name).await), Some(status.clone()));
        let inventory = ok("inventory", self.provider.inventory().await);
        assert_eq!(inventory.machines, [status]);
        assert_eq!(inventory.networks, [spec.network.as_str()]);
        assert_eq!(inventory.volumes, [format!("{}-data", spec.name)]);
        self.boots(&spec.name, 1).await;
        conflict("delete a network in use", self.provider.delete_network(&spec.network).await);
        ok("delete a machine", self.provider.delete_machine(&spec.name).await);
        ok("delete it again", self.provider.delete_machine(&spec.name).await);
        let inventory = ok("inventory", self.provider.inventory().await);
        assert!(inventory.machines.is_empty() && inventory.volumes.is_empty(), "{inventory:?}");
        assert_eq!(ok("look at it", self.provider.machine(&spec.name).await), None);
    }

    async fn shared_volumes_outlive_machines(&self) {
        let shared = self.name("cluster-shared");
        let mut specs = [self.spec("s1", 20), self.spec("s2", 21)];
        for spec in &mut specs {
            spec.shared_volumes.insert("/shared".to_owned(), shared.clone());
            ok("make a machine with a shared volume", self.provider.ensure_machine(spec).await);
        }
        for spec in &specs {
            ok("delete a machine with a shared volume", self.provider.delete_machine(&spec.name).await);
            let inventory = ok("inventory", self.provider.inventory().await);
            assert!(inventory.volumes.contains(&shared), "{inventory:?}");
        }
        ok("delete a shared volume", self.provider.delete_volume(&shared).await);
        ok("delete it again", self.provider.delete_volume(&shared).await);
        let inventory = ok("inventory", self.provider.inventory().await);
        assert!(inventory.volumes.is_empty(), "{inventory:?}");
    }

    async fn restarts_keep_identity_and_disks(&self) {
        let spec = self.spec("m2", 11);
        let other = MachineSpec { image: self.other_image.to_owned(), ..spec.clone() };
        ok("make a machine", self.provider.ensure_machine(&spec).await);
        assert_eq!(self.witness.mac(&spec.name).await, spec.mac, "the MAC address is pinned");
        ok("restart it", self.provider.restart_machine(&spec.name).await);
        self.boots(&spec.name, 2).await;
        let status = ok("look", self.provider.machine(&spec.name).await).expect("a restarted machine is there");
        assert_eq!((status.power, status.ip), (MachinePower::Running, Some(spec.ip)), "{status:?}");
        assert_eq!(self.witness.mac(&spec.name).await, spec.mac, "the MAC address stays");
        let last = ok("the console's last line", self.provider.console(&spec.name, 1).await);
        assert_eq!(last, "boot 2\n");
        ok("stop it", self.provider.stop_machine(&spec.name).await);
        ok("stop it again", self.provider.stop_machine(&spec.name).await);
        let status = ok("look", self.provider.machine(&spec.name).await).expect("a stopped machine is there");
        assert_eq!(status.power, MachinePower::Exited, "{status:?}");
        ok("start it", self.provider.restart_machine(&spec.name).await);
        self.boots(&spec.name, 3).await;
        let status = ok("look", self.provider.machine(&spec.name).await).expect("a started machine is there");
        assert_eq!((status.power, status.ip), (MachinePower::Running, Some(spec.ip)), "{status:?}");
        ok("unmake it", self.provider.unmake_machine(&spec.name).await);
        ok("unmake it again", self.provider.unmake_machine(&spec.name).await);
        assert_eq!(ok("look at it", self.provider.machine(&spec.name).await), None);
        let made = ok("make it of another image", self.provider.ensure_machine(&other).await);
        assert_eq!((made.image.as_str(), made.ip), (self.other_image, Some(spec.ip)));
        self.boots(&spec.name, 4).await;
        ok("delete it", self.provider.delete_machine(&spec.name).await);
        ok("make it again", self.provider.ensure_machine(&spec).await);
        self.boots(&spec.name, 1).await;
        ok("delete it", self.provider.delete_machine(&spec.name).await);
    }

    async fn conflicts(&self) {
        let spec = self.spec("m3", 12);
        ok("make a machine", self.provider.ensure_machine(&spec).await);
        let mut other = spec.clone();
        other.image = self.other_image.to_owned();
        conflict("the machine with another image", self.provider.ensure_machine(&other).await);
        let mut other = spec.clone();
        other.ip = host(self.ranges[0], 13);
        conflict("the machine with another address", self.provider.ensure_machine(&other).await);
        let same_address = self.spec("m4", 12);
        conflict("another machine with the address", self.provider.ensure_machine(&same_address).await);
        ok("delete what was half made", self.provider.delete_machine(&same_address.name).await);
        let mut no_image = self.spec("m5", 14);
        no_image.image = "sampan-conformance-absent:none".to_owned();
        let error = failed("a machine without an image", self.provider.ensure_machine(&no_image).await);
        assert!(error.contains(&no_image.image), "the error names the image: {error}");
        ok("delete what was half made", self.provider.delete_machine(&no_image.name).await);
        let found = ok("look", self.provider.machine(&spec.name).await).expect("conflicts change nothing");
        assert_eq!(found.power, MachinePower::Running);
        ok("delete it", self.provider.delete_machine(&spec.name).await);
    }

    /// A machine whose network is missing is made at most by half; once the network is there it is completed.
    async fn leftovers_are_started(&self) {
        let spec = self.spec("m6", 15);
        ok("delete the network", self.provider.delete_network(&spec.network).await);
        failed("a machine without its network", self.provider.ensure_machine(&spec).await);
        if let Some(half) = ok("look", self.provider.machine(&spec.name).await) {
            assert_eq!(half.power, MachinePower::Created, "{half:?}");
        }
        ok("make the network", self.provider.ensure_network(&self.network()).await);
        let status = ok("complete the machine", self.provider.ensure_machine(&spec).await);
        assert_eq!((status.power, status.ip), (MachinePower::Running, Some(spec.ip)), "{status:?}");
        ok("delete it", self.provider.delete_machine(&spec.name).await);
    }

    async fn ended_machines_are_started(&self) {
        let spec = self.spec("m7", 16);
        ok("make a machine", self.provider.ensure_machine(&spec).await);
        self.boots(&spec.name, 1).await;
        self.witness.kill(&spec.name).await;
        let ended =
            self.until("the machine is seen to have ended", &spec.name, |status| status.power == MachinePower::Exited);
        let ended = ended.await;
        assert_eq!(ended.exit_code, Some(137), "{ended:?}");
        assert_eq!(ended.ip, Some(spec.ip), "an ended machine keeps its address");
        let inventory = ok("inventory", self.provider.inventory().await);
        assert_eq!(inventory.machines, [ended], "the inventory shows the same");
        let status = ok("start it", self.provider.ensure_machine(&spec).await);
        assert_eq!((status.power, status.exit_code), (MachinePower::Running, None), "{status:?}");
        self.boots(&spec.name, 2).await;
        ok("delete it", self.provider.delete_machine(&spec.name).await);
    }

    async fn parallel_calls_agree(&self) {
        let spec = self.spec("m8", 17);
        let same = join_all((0..4).map(|_| self.provider.ensure_machine(&spec))).await;
        for status in same {
            assert_eq!(ok("make it four times at once", status).power, MachinePower::Running);
        }
        let specs: Vec<MachineSpec> = (0..4).map(|n| self.spec(&format!("p{n}"), 20 + n)).collect();
        let made = join_all(specs.iter().map(|spec| self.provider.ensure_machine(spec))).await;
        for status in made {
            assert_eq!(ok("make four at once", status).power, MachinePower::Running);
        }
        assert_eq!(ok("inventory", self.provider.inventory().await).machines.len(), 5);
        let names = specs.iter().chain([&spec]).chain([&spec]).map(|spec| spec.name.as_str());
        for deleted in join_all(names.map(|name| self.provider.delete_machine(name))).await {
            ok("delete them at once, one of them twice", deleted);
        }
        let inventory = ok("inventory", self.provider.inventory().await);
        assert!(inventory.machines.is_empty() && inventory.volumes.is_empty(), "{inventory:?}");
    }

    async fn others_are_left_alone(&self) {
        let their_network = network(self.ids[1], self.ranges[1]);
        ok("their network", self.neighbour.ensure_network(&their_network).await);
        let theirs = machine(self.ids[1], "m1", self.image, self.ranges[1], 10);
        ok("their machine", self.neighbour.ensure_machine(&theirs).await);
        let inventory = ok("inventory", self.provider.inventory().await);
        assert!(inventory.machines.is_empty() && inventory.volumes.is_empty(), "{inventory:?}");
        assert_eq!(inventory.networks, [self.network().name]);
        conflict("look at theirs", self.provider.machine(&theirs.name).await);
        conflict("make theirs", self.provider.ensure_machine(&theirs).await);
        conflict("restart theirs", self.provider.restart_machine(&theirs.name).await);
        conflict("stop theirs", self.provider.stop_machine(&theirs.name).await);
        conflict("delete theirs", self.provider.delete_machine(&theirs.name).await);
        conflict("read theirs", self.provider.console(&theirs.name, 1).await);
        conflict("make their network", self.provider.ensure_network(&their_network).await);
        conflict("delete their network", self.provider.delete_network(&their_network.name).await);
        let foreign = ok("foreign ranges", self.provider.foreign_ranges().await);
        assert!(foreign.contains(&self.ranges[1]), "theirs is foreign: {foreign:?}");
        assert!(!foreign.contains(&self.ranges[0]), "ours is not: {foreign:?}");
        let status = ok("look", self.neighbour.machine(&theirs.name).await).expect("theirs is there");
        assert_eq!(status.power, MachinePower::Running);
        ok("they delete it", self.neighbour.delete_machine(&theirs.name).await);
        ok("they delete it", self.neighbour.delete_network(&their_network.name).await);
    }

    async fn events_are_seen(&self) {
        let spec = self.spec("m9", 18);
        let mut events = self.provider.events();
        ok("make a machine", self.provider.ensure_machine(&spec).await);
        seen("a start", &mut events, &spec.name).await;
        // Later events may tell of the start still; only those of a stream made now are of the end.
        self.witness.kill(&spec.name).await;
        seen("an end", &mut events, &spec.name).await;
        let _rest = events.next().now_or_never();
        ok("delete it", self.provider.delete_machine(&spec.name).await);
        seen("a removal", &mut events, &spec.name).await;
    }

    async fn host_services(&self) {
        let mut spec = HostServiceSpec {
            service: HostService::Balancer,
            config_hash: String::new(),
            name: self.name("balancer"),
            image: self.image.to_owned(),
            state_dir: self.state_dir.clone(),
        };
        ok("make a balancer", self.provider.ensure_host_service(&spec).await);
        let first = self.witness.balancer(&spec.name).await.expect("the balancer runs");
        ok("find it", self.provider.ensure_host_service(&spec).await);
        assert_eq!(self.witness.balancer(&spec.name).await.as_ref(), Some(&first), "it is the same");
        let inventory = ok("inventory", self.provider.inventory().await);
        assert!(inventory.machines.is_empty(), "a balancer is no machine: {inventory:?}");
        spec.config_hash = "another".to_owned();
        ok("change its configuration", self.provider.ensure_host_service(&spec).await);
        let reconfigured = self.witness.balancer(&spec.name).await.expect("the reconfigured balancer runs");
        assert_ne!(first, reconfigured, "it was replaced");
        spec.image = self.other_image.to_owned();
        ok("change its image", self.provider.ensure_host_service(&spec).await);
        let second = self.witness.balancer(&spec.name).await.expect("the new balancer runs");
        assert_ne!(reconfigured, second, "it was replaced");
        let mut no_image = spec.clone();
        no_image.image = "sampan-conformance-absent:none".to_owned();
        failed("a balancer without an image", self.provider.ensure_host_service(&no_image).await);
        assert_eq!(self.witness.balancer(&spec.name).await, Some(second), "the old one lives on");
        conflict("they delete ours", self.neighbour.delete_host_service(&spec.name).await);
        ok("delete it", self.provider.delete_host_service(&spec.name).await);
        ok("delete it again", self.provider.delete_host_service(&spec.name).await);
        assert_eq!(self.witness.balancer(&spec.name).await, None);
    }

    async fn nothing_is_left(&self) {
        ok("delete the network", self.provider.delete_network(&self.network().name).await);
        for provider in [self.provider, self.neighbour] {
            assert_eq!(ok("inventory", provider.inventory().await), crate::Inventory::default());
        }
    }

    /// Waits until the console says that this machine has booted so often.
    async fn boots(&self, name: &str, times: u32) {
        let wanted = format!("boot {times}\n");
        eventually(&format!("{name} prints {wanted:?}"), async || {
            let console = ok("read the console", self.provider.console(name, 100).await);
            console.ends_with(&wanted).then_some(())
        })
        .await;
    }

    async fn until(&self, what: &str, name: &str, good: impl Fn(&MachineStatus) -> bool) -> MachineStatus {
        eventually(what, async || ok(what, self.provider.machine(name).await).filter(|status| good(status))).await
    }
}

/// A network of an installation; the bridge is named after the installation.
pub fn network(id: &str, range: Ipv4Net) -> NetworkSpec {
    NetworkSpec {
        name: format!("sampan-{id}-net"),
        cidr: range,
        bridge: format!("b-{id}"),
        labels: [("test".to_owned(), "network".to_owned())].into(),
    }
}

/// A machine of an installation, at this place of the range.
pub fn machine(id: &str, what: &str, image: &str, range: Ipv4Net, place: u32) -> MachineSpec {
    let ip = host(range, place);
    let [a, b, c, d] = ip.octets();
    MachineSpec {
        name: format!("sampan-{id}-{what}"),
        hostname: format!("region.{ip}"),
        image: image.to_owned(),
        network: format!("sampan-{id}-net"),
        ip,
        mac: format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}"),
        env: BTreeMap::new(),
        mounts: Vec::new(),
        volumes: [("/data".to_owned(), "data".to_owned())].into(),
        shared_volumes: BTreeMap::new(),
        cpu_millis: Some(1000),
        cpu_weight: CPU_WEIGHT,
        memory_bytes: Some(256 << 20),
        labels: [("test".to_owned(), what.to_owned())].into(),
    }
}

fn host(range: Ipv4Net, place: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()) + place)
}

/// Looks again and again until there is an answer.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let Ok(found) = tokio::time::timeout(PATIENCE, looking).await else {
        panic!("not within {PATIENCE:?}: {what}");
    };
    found
}

async fn seen(what: &str, events: &mut (impl StreamExt<Item = ProviderEvent> + Unpin), name: &str) {
    let waiting = async {
        while let Some(event) = events.next().await {
            if event.name == name {
                return;
            }
        }
        panic!("the stream of events ended");
    };
    assert!(
        tokio::time::timeout(PATIENCE, waiting).await.is_ok(),
        "no event of {name} within {PATIENCE:?} after {what}"
    );
}

#[track_caller]
fn ok<T>(what: &str, result: Result<T, ProviderError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}

#[track_caller]
fn failed<T: Debug>(what: &str, result: Result<T, ProviderError>) -> String {
    match result {
        Err(error @ (ProviderError::Failed(_) | ProviderError::Conflict(_))) => error.to_string(),
        other => panic!("{what}: must be refused, got {other:?}"),
    }
}

#[track_caller]
fn conflict<T: Debug>(what: &str, result: Result<T, ProviderError>) -> String {
    match result {
        Err(ProviderError::Conflict(text)) => text,
        other => panic!("{what}: must be a conflict, got {other:?}"),
    }
}
