//! Machines as containers of the local Docker engine.
//!
//! Start at [`DockerProvider`]. [`engine`] is the connection and what it knows of the host, [`machine`], [`network`]
//! and [`host_service`] are one kind of thing each, [`create`] is the one place that says what a machine may do,
//! [`errors`] turns what the engine says into what an operator can act on.

mod create;
mod engine;
mod errors;
mod events;
mod facts;
mod headroom;
mod host_service;
mod machine;
mod network;
mod ranges;

pub use headroom::available_memory;

use std::{future::Future, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use ipnet::Ipv4Net;
use tokio::sync::Mutex;

use crate::{
    HostCapacity, HostServiceSpec, Inventory, MachineProvider, MachineSpec, MachineStatus, NetworkSpec, ProviderError,
    ProviderEvent,
};
use engine::Engine;

/// Makes machines in the local Docker engine. Clones share one connection.
#[derive(Clone)]
pub struct DockerProvider {
    shared: Arc<Shared>,
    memory_reserve_mib: u64,
}

struct Shared {
    owner: String,
    socket: String,
    /// Empty until the first call and again after the engine stopped answering, because an engine that comes back may
    /// be another version on a changed host.
    engine: Mutex<Option<Arc<Engine>>>,
}

impl DockerProvider {
    /// Prepares the provider for one installation; it talks to the engine at the first call only, so that a server
    /// starts while the engine is down. The engine is found at `DOCKER_HOST` (`unix://…` only) or at the usual socket.
    ///
    /// # Errors
    /// `DOCKER_HOST` names something that is not a local socket, or the installation id cannot be a label.
    pub fn connect(installation_id: &str) -> Result<Self, ProviderError> {
        let host = std::env::var("DOCKER_HOST").ok();
        Self::at(installation_id, &engine::socket_of(host.as_deref())?)
    }

    /// As [`DockerProvider::connect`], at this socket.
    ///
    /// # Errors
    /// The installation id cannot be a label.
    pub fn at(installation_id: &str, socket: &str) -> Result<Self, ProviderError> {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if installation_id.is_empty() || installation_id.len() > 63 || !installation_id.chars().all(valid) {
            return Err(ProviderError::Failed(format!(
                "the installation id {installation_id:?} cannot be a label: use 1 to 63 of A-Z a-z 0-9 - _"
            )));
        }
        let shared = Shared { owner: installation_id.to_owned(), socket: socket.to_owned(), engine: Mutex::new(None) };
        Ok(Self { shared: Arc::new(shared), memory_reserve_mib: 0 })
    }

    /// Makes further machines only while the host has at least so much memory available, in MiB; 0 asks for nothing.
    /// Machines that exist are started all the same.
    #[must_use]
    pub fn with_memory_reserve(self, memory_reserve_mib: u64) -> Self {
        Self { memory_reserve_mib, ..self }
    }

    /// Where the engine keeps images and volumes, as a path on its host.
    ///
    /// # Errors
    /// Unavailable when the engine does not answer.
    pub async fn root_dir(&self) -> Result<Option<PathBuf>, ProviderError> {
        self.on_engine(|engine| async move { engine.root_dir().await }).await
    }

    /// Whether the engine has this image.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn has_image(&self, image: &str) -> Result<bool, ProviderError> {
        self.on_engine(|engine| async move { engine.has_image(image).await }).await
    }

    /// The engine, connected to when it is not.
    async fn engine(&self) -> Result<Arc<Engine>, ProviderError> {
        let mut slot = self.shared.engine.lock().await;
        if let Some(engine) = slot.as_ref() {
            return Ok(engine.clone());
        }
        let engine = Arc::new(Engine::connect(&self.shared.owner, &self.shared.socket).await?);
        *slot = Some(engine.clone());
        Ok(engine)
    }

    /// Runs a call, and drops the connection when the engine did not answer it.
    async fn on_engine<T, F>(&self, call: impl FnOnce(Arc<Engine>) -> F) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ProviderError>>,
    {
        let engine = self.engine().await?;
        let result = call(engine.clone()).await;
        if matches!(result, Err(ProviderError::Unavailable(_))) {
            let mut slot = self.shared.engine.lock().await;
            if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, &engine)) {
                *slot = None;
            }
        }
        result
    }
}

#[async_trait]
impl MachineProvider for DockerProvider {
    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<(), ProviderError> {
        self.on_engine(|engine| async move { engine.ensure_network(spec).await }).await
    }

    async fn delete_network(&self, name: &str) -> Result<(), ProviderError> {
        self.on_engine(|engine| async move { engine.delete_network(name).await }).await
    }

    async fn ensure_machine(&self, spec: &MachineSpec) -> Result<MachineStatus, ProviderError> {
        self.on_engine(|engine| async move { engine.ensure_machine(spec, self.memory_reserve_mib).await }).await
    }

    async fn machine(&self, name: &str) -> Result<Option<MachineStatus>, ProviderError> {
        self.on_engine(|engine| async move { engine.machine(name).await }).await
    }

    async fn restart_machine(&self, name: &str) -> Result<(), ProviderError> {
        self.on_engine(|engine| async move { engine.restart_machine(name).await }).await
    }

    async fn stop_machine(&self, name: &str) -> Result<(), ProviderError> {
        self.on_engine(|engine| async move { engine.stop_machine(name).await }).await
    }

    async fn unmake_machine(&self, name: &str) -> Result<(), ProviderError> {
        self.on_engine(|engine| async move { engine.unmake_machine(name).await }).await
    }

    async fn delete_machine(&self, name: &str) -> Result<(), ProviderError> {
        self.on_engine(|engine| async move { engine.delete_machine(name).await }).await
    }

    async fn delete_volume(&self, name: &str) -> Result<(), ProviderError> {
        self.on_engine(|engine| async move { engine.delete_volume(name).await }).await
    }

    async fn console(&self, name: &str, lines: u32) -> Result<String, ProviderError> {
        self.on_engine(|engine| async move { engine.console(name, lines).await }).await
    }

    async fn ensure_host_service(&self, spec: &HostServiceSpec) -> Result<(), ProviderError> {
        self.on_engine(|engine| async move { Box::pin(engine.ensure_host_service(spec)).await }).await
    }

    async fn delete_host_service(&self, name: &str) -> Result<(), ProviderError> {
        self.on_engine(|engine| async move { engine.delete_host_service(name).await }).await
    }

    async fn inventory(&self) -> Result<Inventory, ProviderError> {
        self.on_engine(|engine| async move { engine.inventory().await }).await
    }

    async fn foreign_ranges(&self) -> Result<Vec<Ipv4Net>, ProviderError> {
        self.on_engine(|engine| async move { engine.foreign_ranges().await }).await
    }

    async fn capacity(&self) -> Result<HostCapacity, ProviderError> {
        self.on_engine(|engine| async move { engine.capacity().await }).await
    }

    fn events(&self) -> BoxStream<'static, ProviderEvent> {
        events::stream(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_id_must_be_a_label() {
        assert!(DockerProvider::at("c0ffee-1", "/s").is_ok());
        for bad in ["", "a b", "a=b", &"x".repeat(64)] {
            assert!(DockerProvider::at(bad, "/s").is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn an_absent_engine_is_unavailable_and_says_what_to_do() {
        let provider = DockerProvider::at("c0ffee", "/nonexistent/docker.sock").unwrap();
        let error = provider.machine("sampan-c0ffee-m1").await.unwrap_err();
        assert!(matches!(error, ProviderError::Unavailable(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("/nonexistent/docker.sock") && text.contains("start it"), "{text}");
    }
}
