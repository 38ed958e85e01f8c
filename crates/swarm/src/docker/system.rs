//! What the cluster is as a whole.

use std::collections::BTreeSet;

use futures::future::join_all;
use http::{HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Answer, Call, Docker, not_found, pass, version};
use crate::{
    fleet::{
        into_array,
        observe::{number, strings},
        wire,
    },
    model::{Container, ContainerState, Node, NodeHealth, View},
};

impl Docker {
    pub(super) async fn system(&self, call: Call, path: &str) -> Answer {
        match (call.method.as_str(), path) {
            ("GET" | "HEAD", "_ping") => Ok(ping()),
            ("GET", "version") => Ok(wire::answer(StatusCode::OK, &self.version())),
            ("GET", "info") => Ok(wire::answer(StatusCode::OK, &self.info())),
            ("GET", "system/df") => self.disk_usage(&call).await,
            ("POST", "auth") => {
                let members = self.fleet.some_healthy()?;
                let target = call.target("/auth");
                match members.first() {
                    Some(member) => pass::request(member, call.request, &target).await,
                    None => Err(not_found(&call)),
                }
            }
            _ => Err(not_found(&call)),
        }
    }

    fn version(&self) -> Value {
        let view = self.fleet.current();
        let settings = self.fleet.settings();
        let engine = view.nodes.iter().find(|node| !node.engine_version.is_empty());
        let engine_version = engine.map_or("", |node| node.engine_version.as_str());
        let kernel = engine.map_or("", |node| node.kernel_version.as_str());
        json!({
            "Platform": {"Name": format!("Sampan cluster {}", settings.cluster_id)},
            "Components": [
                {"Name": "Engine", "Version": engine_version, "Details": {
                    "ApiVersion": version::MAX_TEXT, "MinAPIVersion": version::MIN.to_string(), "Os": "linux",
                    "Arch": "amd64", "KernelVersion": kernel, "Experimental": "false"}},
                {"Name": "sampan", "Version": env!("CARGO_PKG_VERSION")},
            ],
            "Version": engine_version,
            "ApiVersion": version::MAX_TEXT,
            "MinAPIVersion": version::MIN.to_string(),
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": "amd64",
            "KernelVersion": kernel,
            "BuildTime": "",
        })
    }

    /// The sum of all nodes, and each of them in the lines under the storage driver, as Docker Swarm listed them.
    fn info(&self) -> Value {
        let view = self.fleet.current();
        let settings = self.fleet.settings();
        let members = self.fleet.members();
        let mut info = members
            .iter()
            .map(|member| member.cache().info())
            .find(|info| info.is_object())
            .map_or_else(Map::new, |info| info.as_object().cloned().unwrap_or_default());
        let images: BTreeSet<&str> =
            view.nodes.iter().flat_map(|node| node.images.iter().map(|image| image.id.as_str())).collect();
        let state = |state| view.containers.iter().filter(|container| container.state == state).count();
        let running = view.containers.iter().filter(|container| is_up(container)).count();
        let paused = state(ContainerState::Paused);
        let own = [
            ("ID", json!(settings.cluster_id)),
            ("Name", json!(settings.cluster_id)),
            ("Containers", json!(view.containers.len())),
            ("ContainersRunning", json!(running)),
            ("ContainersPaused", json!(paused)),
            ("ContainersStopped", json!(view.containers.len() - running - paused)),
            ("Images", json!(images.len())),
            ("Driver", json!("swarm")),
            ("DriverStatus", json!(node_lines(&view, &format!("{:?}", settings.strategy).to_ascii_lowercase()))),
            ("SystemStatus", Value::Null),
            ("SystemTime", json!(Timestamp::now().to_string())),
            ("NCPU", json!(view.nodes.iter().map(|node| node.cpus).sum::<u32>())),
            ("MemTotal", json!(view.nodes.iter().map(|node| node.memory).sum::<u64>())),
            ("Labels", json!([format!("region={}", settings.region_id)])),
            ("Swarm", inactive_swarm()),
            ("Warnings", Value::Null),
            ("NEventsListener", json!(0)),
            ("Plugins", self.plugins()),
        ];
        for (key, value) in own {
            info.insert(key.to_owned(), value);
        }
        Value::Object(info)
    }

    /// Drivers that any node has.
    fn plugins(&self) -> Value {
        let infos: Vec<_> = self.fleet.members().iter().map(|member| member.cache().info()).collect();
        let union = |kind: &str| -> BTreeSet<String> {
            infos.iter().flat_map(|info| strings(info.pointer(&format!("/Plugins/{kind}")))).collect()
        };
        json!({"Volume": union("Volume"), "Network": union("Network"), "Log": union("Log"), "Authorization": null})
    }

    /// `GET /system/df`: the lists of all nodes together.
    async fn disk_usage(&self, call: &Call) -> Answer {
        let members = self.fleet.some_healthy()?;
        let target = call.target("/system/df");
        let answers = join_all(members.iter().map(|member| async {
            let limit = std::time::Duration::from_secs(120);
            member.client.call_within(Method::GET, &target, None, limit).await
        }));
        let mut layers = 0;
        let mut lists: Map<String, Value> = Map::new();
        for (member, answer) in members.iter().zip(answers.await) {
            let mut answer = answer?;
            layers += number(&answer, "/LayersSize");
            for key in ["Images", "Containers", "Volumes", "BuildCache"] {
                let entries =
                    into_array(answer[key].take()).into_iter().filter_map(|entry| shown(entry, key, &member.name));
                if let Value::Array(list) = lists.entry(key).or_insert_with(|| json!([])) {
                    list.extend(entries);
                }
            }
        }
        lists.insert("LayersSize".to_owned(), json!(layers));
        Ok(wire::answer(StatusCode::OK, &lists))
    }
}

/// An entry of a node's disk usage; what is ours is hidden, containers get their node.
fn shown(mut entry: Value, key: &str, node: &str) -> Option<Value> {
    if entry.pointer(&format!("/Labels/{}", crate::model::labels::SYSTEM)).is_some() {
        return None;
    }
    if key == "Containers" {
        let names: Vec<String> = strings(entry.get("Names"))
            .iter()
            .map(|name| format!("/{node}/{}", name.trim_start_matches('/')))
            .collect();
        entry["Names"] = json!(names);
    }
    Some(entry)
}

fn is_up(container: &Container) -> bool {
    matches!(container.state, ContainerState::Running | ContainerState::Restarting)
}

fn inactive_swarm() -> Value {
    json!({"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
        "RemoteManagers": null})
}

fn ping() -> http::Response<wire::Body> {
    let mut response = http::Response::new(wire::full("OK"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    // The classic builder: its context is one stream to one node.
    headers.insert("builder-version", HeaderValue::from_static("1"));
    response
}

fn node_lines(view: &View, strategy: &str) -> Vec<[String; 2]> {
    let line = |key: &str, value: String| [key.to_owned(), value];
    let mut lines = vec![
        line("Role", "primary".to_owned()),
        line("Strategy", strategy.to_owned()),
        line("Filters", "health, port, containerslots, dependency, affinity, constraint".to_owned()),
        line("Nodes", view.nodes.len().to_string()),
    ];
    for node in &view.nodes {
        let here: Vec<_> = view.containers.iter().filter(|container| container.node == node.name).collect();
        let up = here.iter().filter(|container| is_up(container)).count();
        let cpus: u64 = here.iter().map(|container| container.nano_cpus).sum();
        let memory: u64 = here.iter().map(|container| container.memory).sum();
        lines.push(line(&format!(" {}", node.name), node.ip.to_string()));
        lines.push(line("  └ ID", node.id.clone()));
        lines.push(line("  └ Status", state(node).to_owned()));
        lines.push(line("  └ Containers", format!("{} ({up} Running)", here.len())));
        lines.push(line("  └ Reserved CPUs", format!("{} / {}", cpus.div_ceil(1_000_000_000), node.cpus)));
        lines.push(line("  └ Reserved Memory", format!("{} / {}", bytes(memory), bytes(node.memory))));
        let labels: Vec<String> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        lines.push(line("  └ Labels", labels.join(", ")));
        lines.push(line("  └ Error", node.error.clone().unwrap_or_else(|| "(none)".to_owned())));
        lines.push(line("  └ ServerVersion", node.engine_version.clone()));
    }
    lines
}

fn state(node: &Node) -> &'static str {
    match node.health {
        NodeHealth::Healthy if !node.schedulable => "Draining",
        NodeHealth::Healthy => "Healthy",
        NodeHealth::Pending => "Pending",
        NodeHealth::Unhealthy => "Unhealthy",
    }
}

/// A size in binary units.
fn bytes(size: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[allow(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut value = size as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let rounded = format!("{value:.3}");
    let rounded = rounded.trim_end_matches('0').trim_end_matches('.');
    format!("{rounded} {}", UNITS.get(unit).copied().unwrap_or_default())
}
