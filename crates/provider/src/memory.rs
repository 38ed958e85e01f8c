//! A fake engine in memory, for tests of whoever uses the contract.
//!
//! It keeps what it made while its callers die: clones share one engine, so a test drops the caller at any instant and
//! starts another. [`FaultPlan`] decides which calls fail, or never return, before, in the middle of or after their
//! effect. Nothing in it takes time.

mod faults;
mod state;

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use ipnet::Ipv4Net;
use tokio::sync::{Notify, broadcast};

pub use faults::{Fault, FaultPlan, FaultPoint};
use state::State;

use crate::{
    HostCapacity, HostServiceSpec, Inventory, MachineProvider, MachineSpec, MachineStatus, NetworkSpec, ProviderError,
    ProviderEvent,
};

/// Events that a slow listener may be behind before it is told to look at everything.
const EVENTS_MAX: usize = 1024;

/// One call, as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Method of the contract.
    pub op: &'static str,
    /// Name of the machine, network or balancer; empty where there is none.
    pub name: String,
    /// What was done to it.
    pub fault: Option<Fault>,
}

/// A machine of the fake, as tests want to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryMachine {
    /// As it was ordered.
    pub spec: MachineSpec,
    /// As the contract shows it.
    pub status: MachineStatus,
    /// How often it was started.
    pub starts: u32,
}

/// The fake. Clones share one engine.
#[derive(Clone)]
pub struct MemoryProvider {
    owner: String,
    engine: Arc<MemoryEngine>,
}

struct MemoryEngine {
    state: Mutex<State>,
    faults: Mutex<FaultPlan>,
    calls: Mutex<Vec<Call>>,
    hung: Notify,
    events: broadcast::Sender<ProviderEvent>,
}

impl MemoryProvider {
    /// An empty engine that has every image.
    pub fn new(installation_id: &str) -> Self {
        let engine = MemoryEngine {
            state: Mutex::new(State::default()),
            faults: Mutex::new(FaultPlan::none()),
            calls: Mutex::new(Vec::new()),
            hung: Notify::new(),
            events: broadcast::channel(EVENTS_MAX).0,
        };
        Self { owner: installation_id.to_owned(), engine: Arc::new(engine) }
    }

    /// Another installation on the same engine.
    pub fn neighbour(&self, installation_id: &str) -> Self {
        Self { owner: installation_id.to_owned(), engine: self.engine.clone() }
    }

    /// From now on only these images exist.
    pub fn set_images<'a>(&self, images: impl IntoIterator<Item = &'a str>) {
        self.state().images = Some(images.into_iter().map(str::to_owned).collect());
    }

    /// Ranges that routes of the host use.
    pub fn set_host_routes(&self, ranges: Vec<Ipv4Net>) {
        self.state().host_routes = ranges;
    }

    /// What the host has.
    pub fn set_capacity(&self, capacity: HostCapacity) {
        self.state().capacity = capacity;
    }

    /// Whether networks keep an endpoint of a machine that is gone, as Docker's sometimes do: then none can be removed.
    pub fn set_stale_endpoints(&self, stale: bool) {
        self.state().stale_endpoints = stale;
    }

    /// Decides which calls fail from now on.
    pub fn set_faults(&self, plan: FaultPlan) {
        *guard(&self.engine.faults) = plan;
    }

    /// Waits until a call has been made that never returns ([`Fault::Hang`]); the test then drops the caller.
    pub async fn hung(&self) {
        self.engine.hung.notified().await;
    }

    /// Kills a machine: it is `Exited` with code 137, and an event says so. `false` when it did not run.
    pub fn kill_machine(&self, name: &str) -> bool {
        let killed = self.state().kill(name);
        if killed {
            self.tell(name);
        }
        killed
    }

    /// As if the engine had come back: everything stopped (`power_cut`) or nothing changed, and an event without a name.
    pub fn restart_engine(&self, power_cut: bool) {
        if power_cut {
            self.state().stop_all();
        }
        self.tell("");
    }

    /// Our machines, by name.
    pub fn machines(&self) -> Vec<MemoryMachine> {
        self.state().machines_of(&self.owner)
    }

    /// Our host_services, with the number of times each was made.
    pub fn host_services(&self) -> Vec<(HostServiceSpec, u64)> {
        self.state().host_services_of(&self.owner)
    }

    /// Whether nothing at all of ours is left.
    pub fn is_empty(&self) -> bool {
        self.state().is_empty(&self.owner)
    }

    /// All calls so far, of all installations.
    pub fn calls(&self) -> Vec<Call> {
        guard(&self.engine.calls).clone()
    }

    /// Number of calls so far.
    pub fn call_count(&self) -> usize {
        guard(&self.engine.calls).len()
    }

    /// Forgets the calls.
    pub fn clear_calls(&self) {
        guard(&self.engine.calls).clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        guard(&self.engine.state)
    }

    fn tell(&self, name: &str) {
        // Nobody listening is no error.
        let _ = self.engine.events.send(ProviderEvent { name: name.to_owned() });
    }

    /// One call: `midway` is the part of `effect` that an engine has done when it dies in the middle.
    async fn call<T>(
        &self,
        op: &'static str,
        name: &str,
        midway: impl FnOnce(&mut State) + Send,
        effect: impl FnOnce(&mut State) -> Result<T, ProviderError> + Send,
    ) -> Result<T, ProviderError> {
        let fault = guard(&self.engine.faults).next(op, name);
        guard(&self.engine.calls).push(Call { op, name: name.to_owned(), fault });
        let result = match fault.map(Fault::point) {
            Some(FaultPoint::Before) => None,
            Some(FaultPoint::Midway) => {
                midway(&mut self.state());
                None
            }
            Some(FaultPoint::After) | None => Some(effect(&mut self.state())),
        };
        for changed in std::mem::take(&mut self.state().changed) {
            self.tell(&changed);
        }
        match (fault, result) {
            (None, Some(result)) | (Some(_), Some(result @ Err(_))) => result,
            (Some(Fault::Hang(_)), _) => {
                self.engine.hung.notify_one();
                std::future::pending().await
            }
            (fault, _) => Err(ProviderError::Unavailable(format!("injected fault {fault:?} in {op} {name}"))),
        }
    }

    async fn simple<T>(
        &self,
        op: &'static str,
        name: &str,
        effect: impl FnOnce(&mut State) -> Result<T, ProviderError> + Send,
    ) -> Result<T, ProviderError> {
        self.call(op, name, |_| (), effect).await
    }
}

/// A test that panicked while it held the lock has left whole values: every change is one assignment.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl MachineProvider for MemoryProvider {
    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<(), ProviderError> {
        self.simple("ensure_network", &spec.name, |state| state.ensure_network(&self.owner, spec)).await
    }

    async fn delete_network(&self, name: &str) -> Result<(), ProviderError> {
        self.simple("delete_network", name, |state| state.delete_network(&self.owner, name)).await
    }

    async fn ensure_machine(&self, spec: &MachineSpec) -> Result<MachineStatus, ProviderError> {
        let midway = |state: &mut State| {
            // Made, and not started; an order that would be refused leaves nothing.
            let _ = state.make_machine(&self.owner, spec);
        };
        self.call("ensure_machine", &spec.name, midway, |state| {
            state.make_machine(&self.owner, spec)?;
            state.start_machine(&spec.name)
        })
        .await
    }

    async fn machine(&self, name: &str) -> Result<Option<MachineStatus>, ProviderError> {
        self.simple("machine", name, |state| state.machine(&self.owner, name)).await
    }

    async fn restart_machine(&self, name: &str) -> Result<(), ProviderError> {
        let midway = |state: &mut State| {
            let _ = state.stop_machine(&self.owner, name);
        };
        self.call("restart_machine", name, midway, |state| {
            state.stop_machine(&self.owner, name)?;
            state.start_machine(name).map(drop)
        })
        .await
    }

    async fn stop_machine(&self, name: &str) -> Result<(), ProviderError> {
        self.simple("stop_machine", name, |state| {
            if state.machine(&self.owner, name)?.is_none() { Ok(()) } else { state.stop_machine(&self.owner, name) }
        })
        .await
    }

    async fn unmake_machine(&self, name: &str) -> Result<(), ProviderError> {
        let midway = |state: &mut State| {
            let _ = state.stop_machine(&self.owner, name);
        };
        self.call("unmake_machine", name, midway, |state| state.remove_container(&self.owner, name).map(drop)).await
    }

    async fn delete_machine(&self, name: &str) -> Result<(), ProviderError> {
        let midway = |state: &mut State| {
            let _ = state.remove_container(&self.owner, name);
        };
        self.call("delete_machine", name, midway, |state| {
            state.remove_container(&self.owner, name)?;
            state.remove_volumes(&self.owner, name);
            Ok(())
        })
        .await
    }

    async fn delete_volume(&self, name: &str) -> Result<(), ProviderError> {
        self.simple("delete_volume", name, |state| state.delete_volume(&self.owner, name)).await
    }

    async fn console(&self, name: &str, lines: u32) -> Result<String, ProviderError> {
        self.simple("console", name, |state| state.console(&self.owner, name, lines)).await
    }

    async fn ensure_host_service(&self, spec: &HostServiceSpec) -> Result<(), ProviderError> {
        let midway = |state: &mut State| {
            let _ = state.remove_other_host_service(&self.owner, spec);
        };
        self.call("ensure_host_service", &spec.name, midway, |state| state.ensure_host_service(&self.owner, spec)).await
    }

    async fn delete_host_service(&self, name: &str) -> Result<(), ProviderError> {
        self.simple("delete_host_service", name, |state| state.delete_host_service(&self.owner, name)).await
    }

    async fn inventory(&self) -> Result<Inventory, ProviderError> {
        self.simple("inventory", "", |state| Ok(state.inventory(&self.owner))).await
    }

    async fn foreign_ranges(&self) -> Result<Vec<Ipv4Net>, ProviderError> {
        self.simple("foreign_ranges", "", |state| Ok(state.foreign_ranges(&self.owner))).await
    }

    async fn capacity(&self) -> Result<HostCapacity, ProviderError> {
        self.simple("capacity", "", |state| Ok(state.capacity)).await
    }

    fn events(&self) -> BoxStream<'static, ProviderEvent> {
        let receiver = self.engine.events.subscribe();
        stream::unfold(receiver, |mut receiver| async move {
            let event = match receiver.recv().await {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(_)) => ProviderEvent { name: String::new() },
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((event, receiver))
        })
        .boxed()
    }
}

/// The first address of a range: the gateway's.
fn gateway(range: &Ipv4Net) -> Option<Ipv4Addr> {
    range.trunc().hosts().next()
}

#[cfg(test)]
mod tests;
