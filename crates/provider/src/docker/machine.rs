//! Machines: making, looking at, restarting and removing them, with their volumes.

use std::{net::Ipv4Addr, time::Duration};

use bollard::{
    container::LogOutput,
    models::{
        ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary, NetworkConnectRequest,
        NetworkDisconnectRequest,
    },
    query_parameters::{
        CreateContainerOptions, InspectContainerOptions, ListContainersOptions, ListNetworksOptions,
        ListVolumesOptions, LogsOptions, RemoveContainerOptions, RemoveVolumeOptions, RenameContainerOptions,
        RestartContainerOptions, StartContainerOptions, StopContainerOptions,
    },
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    create::{self, MACHINE_LABEL},
    engine::{CHANGE_SECONDS, Engine, LOOK_SECONDS, STOP_SECONDS},
    errors::CallError,
    headroom,
};
use crate::{Inventory, MachinePower, MachineSpec, MachineStatus, ProviderError};

/// How often a busy thing (being removed, being made by a call that we gave up on) is looked at again.
const BUSY_LOOKS: u32 = 40;
/// Between two looks, at most.
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(500);
/// Most bytes of console output handed out; the end is kept.
const CONSOLE_BYTES_MAX: usize = 1 << 20;
/// Looks at ended machines at once, for an inventory.
const LOOKS_AT_ONCE: usize = 8;

impl Engine {
    /// Makes and starts a machine, or finds and starts it. One that is not there is made only while the host has
    /// `memory_reserve_mib` MiB of memory available.
    pub(super) async fn ensure_machine(
        &self,
        spec: &MachineSpec,
        memory_reserve_mib: u64,
    ) -> Result<MachineStatus, ProviderError> {
        let _turn = self.turn().await?;
        for look in 0..BUSY_LOOKS {
            let Some(found) = self.inspect(&spec.name).await? else {
                headroom::check(&spec.name, memory_reserve_mib)?;
                match self.create(&spec.name, create::machine(self, spec)).await {
                    Ok(()) => self.start_machine(&spec.name, &Place::wanted(spec)).await?,
                    // Another call of ours is making or removing it this moment.
                    Err(error) if error.is_conflict() && error.says("already in use by container") => {
                        pause(look).await;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
                return self.status_of(&spec.name).await;
            };
            self.must_own(&spec.name, &found)?;
            match next_step(spec, &found)? {
                Step::Nothing => return Ok(status(&spec.name, &found)),
                Step::Start => self.start_machine(&spec.name, &Place::wanted(spec)).await?,
                Step::Unpause => {
                    let call = self.docker.unpause_container(&spec.name);
                    self.call(format!("unpause machine {}", spec.name), CHANGE_SECONDS, call).await?;
                }
                Step::Replace => {
                    tracing::warn!(machine = spec.name, "replacing a machine that was never started or is dead");
                    self.remove(&spec.name).await?;
                    continue;
                }
                Step::Wait => {
                    pause(look).await;
                    continue;
                }
            }
            return self.status_of(&spec.name).await;
        }
        Err(busy(&spec.name))
    }

    /// Looks at one machine.
    pub(super) async fn machine(&self, name: &str) -> Result<Option<MachineStatus>, ProviderError> {
        let Some(found) = self.inspect(name).await? else {
            return Ok(None);
        };
        self.must_own(name, &found)?;
        Ok(Some(status(name, &found)))
    }

    /// Stops a machine and starts it again.
    pub(super) async fn restart_machine(&self, name: &str) -> Result<(), ProviderError> {
        let found = self.existing(name).await?;
        let _turn = self.turn().await?;
        let place = Place::of(&found);
        if let Some(place) = place.as_ref().filter(|place| !place.is_known_to_engine) {
            // A former try was cut short.
            return self.attach_and_start(name, place).await;
        }
        let options = RestartContainerOptions { signal: None, t: i32::try_from(STOP_SECONDS).ok() };
        let call = self.docker.restart_container(name, Some(options));
        match (self.call(format!("restart machine {name}"), STOP_SECONDS + CHANGE_SECONDS, call).await, place) {
            (Err(error), Some(place)) if has_lost_its_place(&error) => self.attach_and_start(name, &place).await,
            (result, _) => Ok(result?),
        }
    }

    /// Stops a machine in good order.
    pub(super) async fn stop_machine(&self, name: &str) -> Result<(), ProviderError> {
        let _turn = self.turn().await?;
        self.stop(name).await.map(drop)
    }

    /// Stops a machine in good order and removes it; its volumes stay.
    pub(super) async fn unmake_machine(&self, name: &str) -> Result<(), ProviderError> {
        let _turn = self.turn().await?;
        if self.stop(name).await? { self.remove(name).await } else { Ok(()) }
    }

    /// Stops a machine, if it is there; answers whether it is.
    async fn stop(&self, name: &str) -> Result<bool, ProviderError> {
        let Some(found) = self.inspect(name).await? else { return Ok(false) };
        self.must_own(name, &found)?;
        let options = StopContainerOptions { signal: None, t: i32::try_from(STOP_SECONDS).ok() };
        let call = self.docker.stop_container(name, Some(options));
        match self.call(format!("stop machine {name}"), STOP_SECONDS + CHANGE_SECONDS, call).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(true),
        }
    }

    /// Removes a machine with its volumes.
    pub(super) async fn delete_machine(&self, name: &str) -> Result<(), ProviderError> {
        let _turn = self.turn().await?;
        if let Some(found) = self.inspect(name).await? {
            self.must_own(name, &found)?;
            self.remove(name).await?;
        }
        for volume in self.volumes_of(Some(name)).await? {
            self.remove_volume(&volume).await?;
        }
        Ok(())
    }

    /// Removes a volume that machines shared.
    pub(super) async fn delete_volume(&self, name: &str) -> Result<(), ProviderError> {
        let _turn = self.turn().await?;
        let call = self.docker.inspect_volume(name);
        let Some(found) = self.look(format!("look at volume {name}"), call).await? else { return Ok(()) };
        if !self.owns(Some(&found.labels)) {
            return Err(ProviderError::Conflict(format!(
                "a volume named {name} exists that this installation did not make; remove it"
            )));
        }
        self.remove_volume(name).await
    }

    /// The end of what a machine wrote.
    pub(super) async fn console(&self, name: &str, lines: u32) -> Result<String, ProviderError> {
        self.existing(name).await?;
        let options = LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..LogsOptions::default() };
        let output = self.docker.logs(name, Some(options)).try_fold(Vec::new(), append_end);
        let output = self.call(format!("read the console of machine {name}"), LOOK_SECONDS, output).await?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// Everything of ours.
    pub(super) async fn inventory(&self) -> Result<Inventory, ProviderError> {
        let options = ListContainersOptions {
            all: true,
            filters: self.ours(Some("machine")),
            ..ListContainersOptions::default()
        };
        let call = self.docker.list_containers(Some(options));
        let containers = self.call("list our machines", LOOK_SECONDS, call).await?;
        let looks = containers.into_iter().map(|summary| self.listed(summary));
        let machines: Vec<Option<MachineStatus>> = stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
        let options = ListNetworksOptions { filters: self.ours(None) };
        let call = self.docker.list_networks(Some(options));
        let networks = self.call("list our networks", LOOK_SECONDS, call).await?;
        let mut inventory = Inventory {
            machines: machines.into_iter().flatten().collect(),
            networks: networks.into_iter().filter_map(|network| network.name).collect(),
            volumes: self.volumes_of(None).await?,
        };
        inventory.machines.sort_by(|a, b| a.name.cmp(&b.name));
        inventory.networks.sort();
        inventory.volumes.sort();
        Ok(inventory)
    }

    /// The status of a listed container. The list says all there is of a running one; of others we want the exit code.
    async fn listed(&self, summary: ContainerSummary) -> Result<Option<MachineStatus>, ProviderError> {
        let names = summary.names.unwrap_or_default();
        let Some(name) = names.iter().find_map(|name| name.strip_prefix('/')) else {
            return Ok(None);
        };
        if summary.state != Some(bollard::models::ContainerSummaryStateEnum::RUNNING) {
            // It may be gone by now.
            return self.machine(name).await;
        }
        let networks = summary.network_settings.and_then(|settings| settings.networks);
        let mut endpoints = networks.into_iter().flatten();
        Ok(Some(MachineStatus {
            name: name.to_owned(),
            image: summary.image.unwrap_or_default(),
            power: MachinePower::Running,
            ip: endpoints.find_map(|(_, endpoint)| address(&endpoint)),
            exit_code: None,
            error: None,
            labels: summary.labels.unwrap_or_default().into_iter().collect(),
        }))
    }

    /// Looks at a container; `None` when there is none.
    pub(super) async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>, ProviderError> {
        let call = self.docker.inspect_container(name, None::<InspectContainerOptions>);
        self.look(format!("look at container {name}"), call).await
    }

    async fn status_of(&self, name: &str) -> Result<MachineStatus, ProviderError> {
        self.machine(name).await?.ok_or_else(|| absent(name))
    }

    /// A container of ours that must be there.
    async fn existing(&self, name: &str) -> Result<ContainerInspectResponse, ProviderError> {
        let found = self.inspect(name).await?.ok_or_else(|| absent(name))?;
        self.must_own(name, &found)?;
        Ok(found)
    }

    /// Refuses to touch what somebody else made under our name.
    pub(super) fn must_own(&self, name: &str, found: &ContainerInspectResponse) -> Result<(), ProviderError> {
        let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
        if self.owns(labels) {
            return Ok(());
        }
        Err(ProviderError::Conflict(format!(
            "a container named {name} exists that this installation did not make; remove or rename it"
        )))
    }

    /// Makes a container.
    pub(super) async fn create(&self, name: &str, body: bollard::models::ContainerCreateBody) -> Result<(), CallError> {
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() };
        let call = self.docker.create_container(Some(options), body);
        self.call(format!("make container {name}"), CHANGE_SECONDS, call).await?;
        Ok(())
    }

    /// Starts a machine. One that was stopped remembers its network by id: when the network was removed and made again
    /// meanwhile (`docker network prune` does that to stopped installations), it is attached anew.
    async fn start_machine(&self, name: &str, place: &Place) -> Result<(), ProviderError> {
        let call = self.docker.start_container(name, None::<StartContainerOptions>);
        match self.call(format!("start container {name}"), CHANGE_SECONDS, call).await {
            Err(error) if has_lost_its_place(&error) => self.attach_and_start(name, place).await,
            result => Ok(result?),
        }
    }

    /// Attaches a machine that does not run to its network anew, at its pinned addresses, and starts it.
    async fn attach_and_start(&self, name: &str, place: &Place) -> Result<(), ProviderError> {
        tracing::warn!(machine = name, network = place.network, "attaching a machine to its network anew");
        self.detach(name, &place.network).await?;
        self.attach(name, place).await?;
        let call = self.docker.start_container(name, None::<StartContainerOptions>);
        match self.call(format!("start container {name}"), CHANGE_SECONDS, call).await {
            // What a power cut leaves in the network itself.
            Err(error) if is_stale_endpoint(&error) => self.remove_stale_endpoint(name, &place.network).await?,
            result => return Ok(result?),
        }
        self.start(name).await
    }

    /// Removes an endpoint that the engine keeps in a network under the name of a machine that does not run. It lets go
    /// of it only when no container has that name, so the machine is called something else meanwhile.
    async fn remove_stale_endpoint(&self, name: &str, network: &str) -> Result<(), ProviderError> {
        let aside = format!("{name}-detached");
        self.rename(name, &aside).await?;
        let removed = self.detach(name, network).await;
        self.rename(&aside, name).await?;
        removed
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), ProviderError> {
        let options = RenameContainerOptions { name: to.to_owned() };
        let call = self.docker.rename_container(from, options);
        Ok(self.call(format!("rename container {from} to {to}"), CHANGE_SECONDS, call).await?)
    }

    /// Takes whatever is called `name` out of the network; none is fine, a missing network is not.
    async fn detach(&self, name: &str, network: &str) -> Result<(), ProviderError> {
        let request = NetworkDisconnectRequest { container: name.to_owned(), force: Some(true) };
        let call = self.docker.disconnect_network(network, request);
        match self.call(format!("detach machine {name}"), CHANGE_SECONDS, call).await {
            Err(error) if error.says("not connected to") || error.says("endpoint") => Ok(()),
            Err(error) if error.is_not_found() => {
                Err(ProviderError::Failed(format!("cannot start machine {name}: its network {network} does not exist")))
            }
            result => Ok(result?),
        }
    }

    async fn attach(&self, name: &str, place: &Place) -> Result<(), ProviderError> {
        let endpoint = create::endpoint(place.ip, place.mac.as_deref());
        let request = NetworkConnectRequest { container: name.to_owned(), endpoint_config: Some(endpoint) };
        let call = self.docker.connect_network(&place.network, request);
        Ok(self.call(format!("attach machine {name}"), CHANGE_SECONDS, call).await?)
    }

    /// Starts a container; one that runs stays as it is.
    pub(super) async fn start(&self, name: &str) -> Result<(), ProviderError> {
        let call = self.docker.start_container(name, None::<StartContainerOptions>);
        self.call(format!("start container {name}"), CHANGE_SECONDS, call).await?;
        Ok(())
    }

    /// Removes a container, running or not, and waits until it is gone.
    pub(super) async fn remove(&self, name: &str) -> Result<(), ProviderError> {
        let mut last = None;
        for look in 0..BUSY_LOOKS {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            let call = self.docker.remove_container(name, Some(options));
            match self.call(format!("remove container {name}"), CHANGE_SECONDS, call).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                // Another removal runs, or a mount inside is still being let go.
                Err(error) if error.is_conflict() || error.says("device or resource busy") => last = Some(error),
                Err(error) => return Err(error.into()),
            }
            pause(look).await;
        }
        Err(last.map_or_else(|| busy(name), ProviderError::from))
    }

    /// Names of our volumes: of one machine, or all.
    async fn volumes_of(&self, machine: Option<&str>) -> Result<Vec<String>, ProviderError> {
        let mut filters = self.ours(None).unwrap_or_default();
        if let Some(machine) = machine {
            filters.entry("label".to_owned()).or_default().push(format!("{MACHINE_LABEL}={machine}"));
        }
        let options = ListVolumesOptions { filters: Some(filters) };
        let call = self.docker.list_volumes(Some(options));
        let found = self.call("list our volumes", LOOK_SECONDS, call).await?;
        Ok(found.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect())
    }

    async fn remove_volume(&self, volume: &str) -> Result<(), ProviderError> {
        let mut last = None;
        for look in 0..BUSY_LOOKS {
            let call = self.docker.remove_volume(volume, None::<RemoveVolumeOptions>);
            match self.call(format!("remove volume {volume}"), CHANGE_SECONDS, call).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                // The engine lets go of a removed container's volumes a moment after it said that it is gone.
                Err(error) if error.is_conflict() => last = Some(error),
                Err(error) => return Err(error.into()),
            }
            pause(look).await;
        }
        Err(last.map_or_else(|| busy(volume), ProviderError::from))
    }
}

/// A machine's place in its network.
struct Place {
    network: String,
    ip: Ipv4Addr,
    mac: Option<String>,
    /// The engine knows the machine to be in the network, at a pinned address.
    is_known_to_engine: bool,
}

impl Place {
    fn wanted(spec: &MachineSpec) -> Self {
        Self { network: spec.network.clone(), ip: spec.ip, mac: Some(spec.mac.clone()), is_known_to_engine: true }
    }

    /// As a container says itself, whether it is attached now or not. `None` when it does not say.
    fn of(found: &ContainerInspectResponse) -> Option<Self> {
        let network = found.host_config.as_ref()?.network_mode.clone()?;
        let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
        let label = |name: &str| labels.and_then(|labels| labels.get(name)).cloned();
        let networks = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        let endpoint = networks.and_then(|networks| networks.get(&network));
        let ip = label(create::IP_LABEL).and_then(|ip| ip.parse().ok()).or_else(|| endpoint.and_then(address))?;
        let mac = label(create::MAC_LABEL).or_else(|| endpoint?.mac_address.clone()).filter(|mac| !mac.is_empty());
        Some(Self { network, ip, mac, is_known_to_engine: endpoint.and_then(address) == Some(ip) })
    }
}

/// Whether a start failed because the engine's idea of the machine's place in its network is out of date.
fn has_lost_its_place(error: &CallError) -> bool {
    is_stale_endpoint(error) || (error.says("network") && error.says("not found"))
}

fn is_stale_endpoint(error: &CallError) -> bool {
    error.says("endpoint with name")
}

/// What a machine that was found needs.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Start,
    Unpause,
    /// Remove and make again: there is nothing in it to lose.
    Replace,
    /// Something else is at work on it.
    Wait,
}

/// Compares what is wanted with what was found.
fn next_step(spec: &MachineSpec, found: &ContainerInspectResponse) -> Result<Step, ProviderError> {
    use ContainerStateStatusEnum as State;
    let state = found.state.as_ref().and_then(|state| state.status);
    let difference = difference(spec, found);
    match (state, difference) {
        (Some(State::REMOVING), _) => Ok(Step::Wait),
        (Some(State::CREATED), None) => Ok(Step::Start),
        (Some(State::CREATED), Some(_)) => Ok(Step::Replace),
        (_, Some(difference)) => {
            Err(ProviderError::Conflict(format!("machine {} exists, but {difference}; delete it first", spec.name)))
        }
        (Some(State::DEAD), None) => Ok(Step::Replace),
        (Some(State::PAUSED), None) => Ok(Step::Unpause),
        // The engine starts it again by itself.
        (Some(State::RUNNING | State::RESTARTING), None) => Ok(Step::Nothing),
        (_, None) => Ok(Step::Start),
    }
}

/// What cannot be changed about a machine and differs, in words.
fn difference(spec: &MachineSpec, found: &ContainerInspectResponse) -> Option<String> {
    let image = found.config.as_ref().and_then(|config| config.image.as_deref());
    if image != Some(&spec.image) {
        return Some(format!("with image {}, not {}", image.unwrap_or("unknown"), spec.image));
    }
    let networks = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let Some(endpoint) = networks.and_then(|networks| networks.get(&spec.network)) else {
        return Some(format!("not in network {}", spec.network));
    };
    match address(endpoint) {
        Some(ip) if ip == spec.ip => None,
        Some(ip) => Some(format!("with address {ip}, not {}", spec.ip)),
        None => Some(format!("without the pinned address {}", spec.ip)),
    }
}

/// The pinned address, which a stopped machine has too.
fn address(endpoint: &bollard::models::EndpointSettings) -> Option<Ipv4Addr> {
    let pinned = endpoint.ipam_config.as_ref().and_then(|ipam| ipam.ipv4_address.as_deref());
    pinned.or(endpoint.ip_address.as_deref())?.parse().ok()
}

fn status(name: &str, found: &ContainerInspectResponse) -> MachineStatus {
    use ContainerStateStatusEnum as State;
    let state = found.state.clone().unwrap_or_default();
    let power = match state.status {
        Some(State::CREATED) => MachinePower::Created,
        Some(State::RUNNING) => MachinePower::Running,
        _ => MachinePower::Exited,
    };
    let networks = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let labels = found.config.as_ref().and_then(|config| config.labels.clone());
    MachineStatus {
        name: name.to_owned(),
        image: found.config.as_ref().and_then(|config| config.image.clone()).unwrap_or_default(),
        power,
        ip: networks.and_then(|networks| networks.values().find_map(address)),
        exit_code: state.exit_code.filter(|_| power == MachinePower::Exited),
        error: trouble(&state).filter(|_| power != MachinePower::Running),
        labels: labels.unwrap_or_default().into_iter().collect(),
    }
}

/// Why a machine does not run, in words.
fn trouble(state: &ContainerState) -> Option<String> {
    use ContainerStateStatusEnum as State;
    if let Some(error) = state.error.as_deref().filter(|error| !error.is_empty()) {
        return Some(error.to_owned());
    }
    if state.oom_killed == Some(true) {
        return Some("out of memory".to_owned());
    }
    match state.status {
        Some(State::PAUSED) => Some("paused".to_owned()),
        Some(State::RESTARTING) => Some("ended; the engine starts it again".to_owned()),
        Some(State::REMOVING) => Some("being removed".to_owned()),
        Some(State::DEAD) => Some("dead: the engine could not remove it".to_owned()),
        _ => None,
    }
}

/// Adds output and forgets its beginning once it is too much.
async fn append_end(mut all: Vec<u8>, output: LogOutput) -> Result<Vec<u8>, bollard::errors::Error> {
    all.extend_from_slice(&output.into_bytes());
    if all.len() > 2 * CONSOLE_BYTES_MAX {
        all.drain(..all.len() - CONSOLE_BYTES_MAX);
    }
    Ok(all)
}

/// Waits a little longer each time.
async fn pause(look: u32) {
    let wait = Duration::from_millis(10 << look.min(6));
    tokio::time::sleep(wait.min(BUSY_PAUSE_MAX)).await;
}

fn absent(name: &str) -> ProviderError {
    ProviderError::Failed(format!("there is no machine {name}"))
}

fn busy(name: &str) -> ProviderError {
    ProviderError::Failed(format!(
        "{name} is being changed or removed by another call and does not come to rest; look at `docker ps -a`"
    ))
}
