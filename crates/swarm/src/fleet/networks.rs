//! Networks of the cluster: overlays that containers of all nodes attach to.

use std::time::Duration;

use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time;

use super::{Fleet, member::jitter, observe::text};
use crate::model::{CLUSTER_NETWORK, Refusal};

/// How long the manager may take to notice that the last container has left a network.
const REMOVE_PATIENCE: Duration = Duration::from_secs(15);

/// Networks that every engine has.
pub(crate) const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

impl Fleet {
    /// Creates a network: no driver or `bridge` means an overlay of the cluster. Other drivers make one on every node.
    pub(crate) async fn create_network(&self, body: Value) -> Result<Value, Refusal> {
        let Value::Object(mut body) = body else {
            return Err(Refusal::bad("a network needs at least a Name"));
        };
        let name = body.get("Name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(Refusal::bad("a network needs a Name"));
        }
        if PREDEFINED.contains(&name.as_str()) || matches!(name.as_str(), "default" | "ingress" | "docker_gwbridge") {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                format!("operation is not permitted on predefined {name} network"),
            ));
        }
        let driver = body.get("Driver").and_then(Value::as_str).unwrap_or_default().to_owned();
        match driver.as_str() {
            "" | "default" | "bridge" | "overlay" => {
                self.refuse_taken(&name).await?;
                make_overlay(&mut body);
                self.manager.post("/networks/create", &Value::Object(body)).await
            }
            _ => self.create_everywhere(&name, &Value::Object(body)).await,
        }
    }

    async fn refuse_taken(&self, name: &str) -> Result<(), Refusal> {
        match self.manager.get(&format!("/networks/{name}")).await {
            Ok(network) if text(&network, "/Name") == name => {
                Err(Refusal::conflict(format!("network with name {name} already exists")))
            }
            Ok(_) => Ok(()),
            Err(refusal) if refusal.status == StatusCode::SERVICE_UNAVAILABLE => Err(refusal),
            Err(_) => Ok(()),
        }
    }

    async fn create_everywhere(&self, name: &str, body: &Value) -> Result<Value, Refusal> {
        let members = self.some_healthy()?;
        let made = join_all(members.iter().map(|member| member.client.post("/networks/create", body))).await;
        if let Some(refusal) = made.iter().find_map(|made| made.as_ref().err()) {
            let refusal = refusal.clone();
            for (member, made) in members.iter().zip(&made) {
                if let Ok(made) = made {
                    member.client.delete(&format!("/networks/{}", text(made, "/Id"))).await?;
                }
            }
            return Err(refusal);
        }
        tracing::debug!(name, "a network was made on every node");
        made.into_iter().flatten().next().ok_or_else(|| Refusal::internal("no node answered"))
    }

    /// Removes a network of the cluster, or one of that name from every node.
    pub(crate) async fn delete_network(&self, key: &str) -> Result<(), Refusal> {
        let forbidden = |name: &str| {
            let message = format!("{name} is a pre-defined network and cannot be removed");
            Refusal::new(StatusCode::FORBIDDEN, message)
        };
        if PREDEFINED.contains(&key) {
            return Err(forbidden(key));
        }
        match self.manager.get(&format!("/networks/{key}")).await {
            Ok(network) if text(&network, "/Scope") == "swarm" => {
                let name = text(&network, "/Name");
                if name == CLUSTER_NETWORK || name == "ingress" {
                    return Err(forbidden(name));
                }
                self.delete_overlay(text(&network, "/Id")).await
            }
            Err(refusal) if refusal.status == StatusCode::SERVICE_UNAVAILABLE => Err(refusal),
            _ => self.delete_everywhere(key).await,
        }
    }

    /// The manager learns of containers that left with a delay.
    async fn delete_overlay(&self, id: &str) -> Result<(), Refusal> {
        let begun = time::Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let removed = self.manager.call(Method::DELETE, &format!("/networks/{id}"), None).await;
            match removed {
                Err(refusal) if refusal.message.contains("in use by task") && begun.elapsed() < REMOVE_PATIENCE => {
                    if self.attached_to(id) {
                        return Err(Refusal::new(StatusCode::FORBIDDEN, refusal.message));
                    }
                    time::sleep(pause.mul_f64(jitter())).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                other => return other.map(|_| ()),
            }
        }
    }

    /// Whether a running container is attached to a network, by its id.
    pub(crate) fn attached_to(&self, network: &str) -> bool {
        let view = self.current();
        let running = view.containers.iter().filter(|container| container.is_running());
        running.into_iter().any(|container| {
            let networks = container.inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
            networks.into_iter().flatten().any(|(_, endpoint)| text(endpoint, "/NetworkID") == network)
        })
    }

    async fn delete_everywhere(&self, key: &str) -> Result<(), Refusal> {
        let members = self.some_healthy()?;
        let path = format!("/networks/{key}");
        let removed = join_all(members.iter().map(|member| member.client.call(Method::DELETE, &path, None))).await;
        let mut outcome = Err(Refusal::missing(format!("network {key} not found")));
        for result in removed {
            match result {
                Ok(_) => outcome = Ok(()),
                Err(refusal) if refusal.status == StatusCode::NOT_FOUND => {}
                Err(refusal) => return Err(refusal),
            }
        }
        outcome
    }
}

/// An attachable overlay; options of the bridge driver mean nothing to it.
fn make_overlay(body: &mut Map<String, Value>) {
    body.insert("Driver".to_owned(), json!("overlay"));
    body.insert("Attachable".to_owned(), json!(true));
    body.insert("CheckDuplicate".to_owned(), json!(true));
    body.remove("Scope");
    body.remove("Ingress");
    if let Some(options) = body.get_mut("Options").and_then(Value::as_object_mut) {
        options.retain(|key, _| !key.starts_with("com.docker.network.bridge."));
    }
}
