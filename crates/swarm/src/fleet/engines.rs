//! The fleet as applications see it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::watch;

use super::{Fleet, Member, WhenMissing, client::CALL_TIMEOUT, observe::text};
use crate::model::{Container, CreateContainer, Engines, ExecOutcome, Refusal, Usage, View};

/// Removing a container with much in it takes the engine a while.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(120);

impl Fleet {
    /// A container and its node.
    pub(crate) fn locate(&self, key: &str) -> Result<(Arc<Container>, Arc<Member>), Refusal> {
        let view = self.current();
        let container = view.find(key)?.clone();
        let member = self.member_of(&container)?;
        Ok((container, member))
    }

    /// A call about a container, after which it is looked at.
    async fn act(&self, id: &str, method: Method, path: &str, limit: Duration) -> Result<(), Refusal> {
        let (container, member) = self.locate(id)?;
        let path = format!("/containers/{}{path}", container.id);
        let result = member.client.call_within(method, &path, None, limit).await;
        self.refresh(&member, &container.id).await;
        result.map(|_| ())
    }
}

fn or_gone(result: Result<(), Refusal>) -> Result<(), Refusal> {
    match result {
        Err(refusal) if refusal.status == StatusCode::NOT_FOUND => Ok(()),
        other => other,
    }
}

#[async_trait]
impl Engines for Fleet {
    fn view(&self) -> Arc<View> {
        self.current()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    async fn create(&self, wanted: CreateContainer) -> Result<String, Refusal> {
        let created = self.create_container(wanted, WhenMissing::Pull, "").await?;
        Ok(text(&created, "/Id").to_owned())
    }

    async fn start(&self, id: &str) -> Result<(), Refusal> {
        let (container, member) = self.locate(id)?;
        self.start_container(&member, &container).await
    }

    async fn stop(&self, id: &str, timeout: Duration) -> Result<(), Refusal> {
        let path = format!("/stop?t={}", timeout.as_secs());
        self.act(id, Method::POST, &path, timeout + CALL_TIMEOUT).await
    }

    async fn kill(&self, id: &str, signal: &str) -> Result<(), Refusal> {
        if !signal.chars().all(|next| next.is_ascii_alphanumeric() || matches!(next, '+' | '-')) {
            return Err(Refusal::bad(format!("Invalid signal: {signal}")));
        }
        self.act(id, Method::POST, &format!("/kill?signal={signal}"), CALL_TIMEOUT).await
    }

    async fn remove(&self, id: &str, force: bool, volumes: bool) -> Result<(), Refusal> {
        let path = format!("?force={force}&v={volumes}");
        or_gone(self.act(id, Method::DELETE, &path, REMOVE_TIMEOUT).await)
    }

    async fn rename(&self, id: &str, name: &str) -> Result<(), Refusal> {
        self.rename_container(id, name).await
    }

    async fn exec(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<ExecOutcome, Refusal> {
        self.run_exec(id, &command, timeout).await
    }

    async fn pull(&self, image: &str, registry_auth: Option<&str>) -> Result<(), Refusal> {
        self.pull_everywhere(image, registry_auth).await
    }

    async fn image_id(&self, image: &str) -> Option<String> {
        let member = self.holder_of(image).await?;
        match Self::image_on(&member, image) {
            Some(id) => Some(id),
            None => {
                let image = member.client.get(&format!("/images/{image}/json")).await.ok()?;
                Some(text(&image, "/Id").to_owned())
            }
        }
    }

    async fn ensure_network(&self, body: Value) -> Result<(), Refusal> {
        let name = text(&body, "/Name").to_owned();
        match self.manager.get(&format!("/networks/{name}")).await {
            Ok(_) => return Ok(()),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => {}
            Err(refusal) => return Err(refusal),
        }
        match self.create_network(body).await {
            // Somebody else was faster.
            Err(refusal) if refusal.status == StatusCode::CONFLICT => Ok(()),
            other => other.map(|_| ()),
        }
    }

    async fn remove_network(&self, name: &str) -> Result<(), Refusal> {
        or_gone(self.delete_network(name).await)
    }

    async fn ensure_volume(&self, body: Value) -> Result<(), Refusal> {
        let local = matches!(text(&body, "/Driver"), "" | super::volumes::LOCAL_DRIVER);
        let name = text(&body, "/Name");
        let plain = body.get("DriverOpts").and_then(Value::as_object).is_none_or(|options| options.is_empty());
        if local && plain {
            // The engine makes it with the container that mounts it. Made everywhere, it would not say where the data is.
            return Ok(());
        }
        let view = self.current();
        if view.nodes.iter().any(|node| node.volumes.contains(name)) && self.kept.volume(name).is_some() {
            return Ok(());
        }
        self.create_volume(&body).await.map(|_| ())
    }

    async fn remove_volume(&self, name: &str) -> Result<(), Refusal> {
        or_gone(self.delete_volume(name, None, false).await)
    }

    async fn usage(&self) -> BTreeMap<String, Usage> {
        self.measure().await
    }
}
