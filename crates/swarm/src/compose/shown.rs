//! Extensions as the API shows them.

use serde_json::{Map, Value, json};

use super::template::{Extensions, Probe, ProbeCheck};

impl Extensions {
    /// What the API shows as `extensions`: `scale` always, `logs` and the others under the names of their labels if they are
    /// set, unknown labels as they stand.
    pub fn shown(&self) -> Map<String, Value> {
        let mut map = Map::new();
        let mut show = |key: &str, value: Value| map.insert(key.to_owned(), value);
        if self.global {
            show("global", json!(true));
        } else {
            show("scale", json!(self.scale.unwrap_or(1)));
        }
        if !self.logs.is_empty() {
            show("logs", json!(self.logs));
        }
        if self.latest_image {
            show("latest_image", json!(true));
        }
        if !self.routing.is_empty() {
            let routes = self.routing.iter().map(|route| {
                let path = if route.path == "/" { "" } else { &route.path };
                json!({"port": route.port, "domain": route.domain, "path": path})
            });
            show("routing", routes.collect());
        }
        if self.session_sticky {
            show("session_sticky", json!(true));
        }
        if !self.lb.is_empty() {
            let listeners = self
                .lb
                .iter()
                .map(|lb| json!({"port": lb.container_port, "listener": format!("tcp://{}:{}", lb.name, lb.port)}));
            show("lb", listeners.collect());
        }
        if self.rolling_updates {
            show("rolling_updates", json!({"parallelism": self.parallelism.max(1)}));
        }
        if let Some(probe) = &self.probe {
            show("probe", shown_probe(probe));
        }
        if let Some(scaling) = &self.auto_scaling {
            let mut shown = json!(scaling);
            if let Some(shown) = shown.as_object_mut() {
                shown.retain(|_, value| !value.is_null());
            }
            show("auto_scaling", shown);
        }
        if let Some(address) = &self.influxdb {
            show("monitoring.addon.influxdb", json!(address));
        }
        for (key, value) in &self.unknown {
            show(key, json!(value));
        }
        map
    }
}

fn shown_probe(probe: &Probe) -> Value {
    let (key, value) = match &probe.check {
        ProbeCheck::Http { port, path } => ("url", format!("http://container:{port}{path}")),
        ProbeCheck::Tcp { port } => ("url", format!("tcp://container:{port}")),
        ProbeCheck::Command(command) => ("cmd", command.clone()),
    };
    let mut shown = json!({
        "initial_delay_seconds": probe.initial_delay_seconds,
        "timeout_seconds": probe.timeout_seconds,
    });
    shown[key] = json!(value);
    shown
}
