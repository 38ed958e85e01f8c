//! What the fake engine has.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::{MemoryMachine, gateway};
use crate::{
    HostCapacity, HostServiceSpec, Inventory, KIND_LABEL, MachinePower, MachineSpec, MachineStatus, NetworkSpec,
    OWNER_LABEL, ProviderError,
};

/// Console lines kept for each machine.
const CONSOLE_LINES_MAX: usize = 1000;

pub(super) struct State {
    networks: BTreeMap<String, (String, NetworkSpec)>,
    machines: BTreeMap<String, Container>,
    volumes: BTreeMap<String, Volume>,
    host_services: BTreeMap<String, (String, HostServiceSpec, u64)>,
    host_services_made: u64,
    pub(super) images: Option<BTreeSet<String>>,
    pub(super) host_routes: Vec<Ipv4Net>,
    pub(super) stale_endpoints: bool,
    pub(super) capacity: HostCapacity,
    /// Machines that events are due for.
    pub(super) changed: Vec<String>,
}

struct Container {
    owner: String,
    spec: MachineSpec,
    power: MachinePower,
    exit_code: Option<i64>,
    starts: u32,
    console: Vec<String>,
}

struct Volume {
    owner: String,
    machine: String,
    /// What the machine keeps on it: how often it was booted.
    boots: u32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            networks: BTreeMap::new(),
            machines: BTreeMap::new(),
            volumes: BTreeMap::new(),
            host_services: BTreeMap::new(),
            host_services_made: 0,
            images: None,
            host_routes: Vec::new(),
            stale_endpoints: false,
            capacity: HostCapacity { cpus: 64, memory_bytes: 256 << 30 },
            changed: Vec::new(),
        }
    }
}

impl State {
    pub(super) fn ensure_network(&mut self, owner: &str, spec: &NetworkSpec) -> Result<(), ProviderError> {
        if spec.bridge.is_empty() || spec.bridge.len() > 15 {
            return Err(ProviderError::Failed(format!("{:?} cannot name a bridge", spec.bridge)));
        }
        if spec.cidr.prefix_len() > 29 {
            return Err(ProviderError::Failed(format!("range {} is too small", spec.cidr)));
        }
        if let Some((found_owner, found)) = self.networks.get(&spec.name) {
            must_own(&spec.name, owner, found_owner)?;
            if found.cidr == spec.cidr && found.bridge == spec.bridge {
                return Ok(());
            }
            return Err(ProviderError::Conflict(format!("network {} exists with range {}", spec.name, found.cidr)));
        }
        let clash = self.networks.values().find(|(_, other)| {
            other.bridge == spec.bridge || other.cidr.contains(&spec.cidr) || spec.cidr.contains(&other.cidr)
        });
        if let Some((_, other)) = clash {
            return Err(ProviderError::Conflict(format!("range {} is taken by network {}", spec.cidr, other.name)));
        }
        self.networks.insert(spec.name.clone(), (owner.to_owned(), spec.clone()));
        Ok(())
    }

    pub(super) fn delete_network(&mut self, owner: &str, name: &str) -> Result<(), ProviderError> {
        let Some((found_owner, _)) = self.networks.get(name) else {
            return Ok(());
        };
        must_own(name, owner, found_owner)?;
        let user = self.machines.values().find(|machine| machine.is_on(name));
        if let Some(user) = user {
            return Err(ProviderError::Conflict(format!("network {name} is in use by container {}", user.spec.name)));
        }
        if self.stale_endpoints {
            return Err(ProviderError::Failed(format!("network {name} has active endpoints")));
        }
        self.networks.remove(name);
        Ok(())
    }

    /// Makes the container and its volumes, or finds them.
    pub(super) fn make_machine(&mut self, owner: &str, spec: &MachineSpec) -> Result<(), ProviderError> {
        if let Some(found) = self.machines.get(&spec.name) {
            must_own(&spec.name, owner, &found.owner)?;
            let same = found.spec.image == spec.image && found.spec.ip == spec.ip && found.spec.network == spec.network;
            if same {
                return Ok(());
            }
            if found.power != MachinePower::Created {
                return Err(ProviderError::Conflict(format!(
                    "machine {} exists, but with image {} and address {}",
                    spec.name, found.spec.image, found.spec.ip
                )));
            }
        }
        self.must_have_image(&spec.image)?;
        for suffix in spec.volumes.values() {
            let volume = Volume { owner: owner.to_owned(), machine: spec.name.clone(), boots: 0 };
            self.volumes.entry(format!("{}-{suffix}", spec.name)).or_insert(volume);
        }
        for name in spec.shared_volumes.values() {
            let volume = Volume { owner: owner.to_owned(), machine: String::new(), boots: 0 };
            self.volumes.entry(name.clone()).or_insert(volume);
        }
        let container = Container {
            owner: owner.to_owned(),
            spec: spec.clone(),
            power: MachinePower::Created,
            exit_code: None,
            starts: 0,
            console: Vec::new(),
        };
        self.machines.insert(spec.name.clone(), container);
        self.changed.push(spec.name.clone());
        Ok(())
    }

    /// Starts a machine that was made; one that runs stays as it is.
    pub(super) fn start_machine(&mut self, name: &str) -> Result<MachineStatus, ProviderError> {
        let Some(machine) = self.machines.get(name) else {
            return Err(absent(name));
        };
        if machine.power != MachinePower::Running {
            self.may_start(machine)?;
            let boots = self.boot(name);
            if let Some(machine) = self.machines.get_mut(name) {
                machine.power = MachinePower::Running;
                machine.exit_code = None;
                machine.starts += 1;
                machine.console.push(format!("boot {boots}"));
                let excess = machine.console.len().saturating_sub(CONSOLE_LINES_MAX);
                machine.console.drain(..excess);
            }
            self.changed.push(name.to_owned());
        }
        self.machines.get(name).map(Container::status).ok_or_else(|| absent(name))
    }

    fn may_start(&self, machine: &Container) -> Result<(), ProviderError> {
        let spec = &machine.spec;
        let Some((_, network)) = self.networks.get(&spec.network) else {
            return Err(ProviderError::Failed(format!("there is no network {}", spec.network)));
        };
        if !network.cidr.contains(&spec.ip) {
            return Err(ProviderError::Failed(format!("{} is not in {}", spec.ip, network.cidr)));
        }
        let other = self
            .machines
            .values()
            .find(|other| other.spec.name != spec.name && other.is_on(&spec.network) && other.spec.ip == spec.ip);
        if other.is_some() || gateway(&network.cidr) == Some(spec.ip) {
            return Err(ProviderError::Conflict(format!("address {} is already in use", spec.ip)));
        }
        Ok(())
    }

    /// Counts a boot on each volume of a machine.
    fn boot(&mut self, name: &str) -> u32 {
        let volumes = self.volumes.values_mut().filter(|volume| volume.machine == name);
        let boots = volumes.map(|volume| {
            volume.boots += 1;
            volume.boots
        });
        boots.max().unwrap_or(1)
    }

    pub(super) fn stop_machine(&mut self, owner: &str, name: &str) -> Result<(), ProviderError> {
        let Some(machine) = self.machines.get_mut(name) else {
            return Err(absent(name));
        };
        must_own(name, owner, &machine.owner)?;
        if machine.power == MachinePower::Running {
            machine.power = MachinePower::Exited;
            machine.exit_code = Some(0);
            self.changed.push(name.to_owned());
        }
        Ok(())
    }

    pub(super) fn kill(&mut self, name: &str) -> bool {
        match self.machines.get_mut(name) {
            Some(machine) if machine.power == MachinePower::Running => {
                machine.power = MachinePower::Exited;
                machine.exit_code = Some(137);
                true
            }
            _ => false,
        }
    }

    pub(super) fn stop_all(&mut self) {
        let names: Vec<String> = self.machines.keys().cloned().collect();
        for name in names {
            self.kill(&name);
        }
    }

    pub(super) fn remove_container(&mut self, owner: &str, name: &str) -> Result<(), ProviderError> {
        if let Some(machine) = self.machines.get(name) {
            must_own(name, owner, &machine.owner)?;
            self.machines.remove(name);
            self.changed.push(name.to_owned());
        }
        Ok(())
    }

    pub(super) fn remove_volumes(&mut self, owner: &str, machine: &str) {
        self.volumes.retain(|_, volume| volume.machine != machine || volume.owner != owner);
    }

    pub(super) fn delete_volume(&mut self, owner: &str, name: &str) -> Result<(), ProviderError> {
        let Some(volume) = self.volumes.get(name) else {
            return Ok(());
        };
        must_own(name, owner, &volume.owner)?;
        let user = self.machines.values().find(|machine| machine.spec.shared_volumes.values().any(|used| used == name));
        if let Some(user) = user {
            return Err(ProviderError::Conflict(format!("volume {name} is in use by container {}", user.spec.name)));
        }
        self.volumes.remove(name);
        Ok(())
    }

    pub(super) fn machine(&self, owner: &str, name: &str) -> Result<Option<MachineStatus>, ProviderError> {
        let Some(machine) = self.machines.get(name) else {
            return Ok(None);
        };
        must_own(name, owner, &machine.owner)?;
        Ok(Some(machine.status()))
    }

    pub(super) fn console(&self, owner: &str, name: &str, lines: u32) -> Result<String, ProviderError> {
        let machine = self.machines.get(name).ok_or_else(|| absent(name))?;
        must_own(name, owner, &machine.owner)?;
        let wanted = usize::try_from(lines).unwrap_or(usize::MAX);
        let skipped = machine.console.len().saturating_sub(wanted);
        let shown = machine.console.iter().skip(skipped);
        Ok(shown.map(|line| format!("{line}\n")).collect())
    }

    /// The first half of replacing a balancer.
    pub(super) fn remove_other_host_service(
        &mut self,
        owner: &str,
        spec: &HostServiceSpec,
    ) -> Result<(), ProviderError> {
        self.must_have_image(&spec.image)?;
        if let Some((found_owner, found, _)) = self.host_services.get(&spec.name) {
            must_own(&spec.name, owner, found_owner)?;
            if found != spec {
                self.host_services.remove(&spec.name);
            }
        }
        Ok(())
    }

    pub(super) fn ensure_host_service(&mut self, owner: &str, spec: &HostServiceSpec) -> Result<(), ProviderError> {
        self.remove_other_host_service(owner, spec)?;
        if !self.host_services.contains_key(&spec.name) {
            self.host_services_made += 1;
            let made = (owner.to_owned(), spec.clone(), self.host_services_made);
            self.host_services.insert(spec.name.clone(), made);
        }
        Ok(())
    }

    pub(super) fn delete_host_service(&mut self, owner: &str, name: &str) -> Result<(), ProviderError> {
        if let Some((found_owner, ..)) = self.host_services.get(name) {
            must_own(name, owner, found_owner)?;
            self.host_services.remove(name);
        }
        Ok(())
    }

    pub(super) fn inventory(&self, owner: &str) -> Inventory {
        let volumes = self.volumes.iter().filter(|(_, volume)| volume.owner == owner);
        let networks = self.networks.iter().filter(|(_, (found_owner, _))| found_owner == owner);
        Inventory {
            machines: self.machines_of(owner).into_iter().map(|machine| machine.status).collect(),
            networks: networks.map(|(name, _)| name.clone()).collect(),
            volumes: volumes.map(|(name, _)| name.clone()).collect(),
        }
    }

    pub(super) fn foreign_ranges(&self, owner: &str) -> Vec<Ipv4Net> {
        let others = self.networks.values().filter(|(found_owner, _)| found_owner != owner);
        let ranges = others.map(|(_, network)| network.cidr);
        let all: BTreeSet<Ipv4Net> = ranges.chain(self.host_routes.iter().copied()).collect();
        all.into_iter().collect()
    }

    pub(super) fn machines_of(&self, owner: &str) -> Vec<MemoryMachine> {
        let ours = self.machines.values().filter(|machine| machine.owner == owner);
        ours.map(|machine| MemoryMachine {
            spec: machine.spec.clone(),
            status: machine.status(),
            starts: machine.starts,
        })
        .collect()
    }

    pub(super) fn host_services_of(&self, owner: &str) -> Vec<(HostServiceSpec, u64)> {
        let ours = self.host_services.values().filter(|(found_owner, ..)| found_owner == owner);
        ours.map(|(_, spec, made)| (spec.clone(), *made)).collect()
    }

    pub(super) fn is_empty(&self, owner: &str) -> bool {
        self.inventory(owner) == Inventory::default() && self.host_services_of(owner).is_empty()
    }

    fn must_have_image(&self, image: &str) -> Result<(), ProviderError> {
        match &self.images {
            Some(images) if !images.contains(image) => {
                Err(ProviderError::Failed(format!("image {image} is not in the engine")))
            }
            _ => Ok(()),
        }
    }
}

impl Container {
    /// Holds an address of this network.
    fn is_on(&self, network: &str) -> bool {
        self.power == MachinePower::Running && self.spec.network == network
    }

    fn status(&self) -> MachineStatus {
        let mut labels = self.spec.labels.clone();
        labels.insert(OWNER_LABEL.to_owned(), self.owner.clone());
        labels.insert(KIND_LABEL.to_owned(), "machine".to_owned());
        MachineStatus {
            name: self.spec.name.clone(),
            image: self.spec.image.clone(),
            power: self.power,
            ip: Some(self.spec.ip),
            exit_code: self.exit_code,
            error: None,
            labels,
        }
    }
}

fn must_own(name: &str, owner: &str, found: &str) -> Result<(), ProviderError> {
    if owner == found {
        return Ok(());
    }
    Err(ProviderError::Conflict(format!("{name} exists, but this installation did not make it")))
}

fn absent(name: &str) -> ProviderError {
    ProviderError::Failed(format!("there is no machine {name}"))
}
