//! `/networks/…`: the cluster's overlays as the manager knows them, and what every engine has.

use std::collections::BTreeMap;

use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    Answer, Call, Docker, JSON_MAX,
    filters::{Filters, matches},
    not_found,
};
use crate::{
    fleet::{
        into_array,
        observe::{number, string_map, text},
        wire,
    },
    model::{CLUSTER_NETWORK, Refusal, View},
};

/// Networks that are the engines' own business.
const HIDDEN: [&str; 2] = ["docker_gwbridge", "ingress"];
/// Networks that every engine has.
const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];
const FILTERS: [&str; 9] = ["dangling", "driver", "id", "label", "name", "scope", "type", "node", "label!"];

impl Docker {
    pub(super) async fn networks(&self, call: Call, rest: &str) -> Answer {
        let (key, action) = rest.rsplit_once('/').unwrap_or((rest, ""));
        match (call.method.as_str(), rest, action) {
            ("GET", "", _) => self.list_networks(&call).await,
            ("POST", "create", _) => {
                let created = self.fleet.create_network(call.json().await?).await?;
                Ok(wire::answer(StatusCode::CREATED, &created))
            }
            ("POST", "prune", _) => self.prune_networks(&call).await,
            ("POST", _, "connect" | "disconnect") => {
                let (key, action) = (key.to_owned(), action.to_owned());
                self.attach_network(call, &key, &action).await
            }
            ("GET", key, _) => {
                let network = self.find_network(key).await?;
                Ok(wire::answer(StatusCode::OK, &network))
            }
            ("DELETE", key, _) => self.remove_network(key).await,
            _ => Err(not_found(&call)),
        }
    }

    async fn remove_network(&self, key: &str) -> Answer {
        let mut network = self.find_network(key).await?;
        let users = users_of(&network);
        if !users.is_empty() {
            // The picture follows events: who has just gone may still be in it.
            self.fleet.refresh_all(users.into_iter().map(|(id, _)| id)).await;
            network = self.find_network(key).await?;
        }
        let users = users_of(&network);
        if !users.is_empty() {
            let names: Vec<&str> = users.values().map(|user| text(user, "/Name")).collect();
            let names = names.join(", ");
            let message = format!("error while removing network: network {key} has active endpoints: {names}");
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        }
        let exact = if text(&network, "/Scope") == "swarm" { text(&network, "/Id") } else { text(&network, "/Name") };
        self.fleet.delete_network(exact).await?;
        Ok(wire::empty(StatusCode::NO_CONTENT))
    }

    /// Every network once: overlays from the manager, others from the nodes, by name.
    async fn all_networks(&self) -> Result<Vec<Value>, Refusal> {
        let (overlays, own) = tokio::join!(self.fleet.manager.get("/networks"), async {
            let members = self.fleet.healthy();
            join_all(members.iter().map(|member| member.client.get("/networks"))).await
        });
        let own: Vec<Value> = own.into_iter().filter_map(Result::ok).flat_map(into_array).collect();
        let mut networks: BTreeMap<String, Value> = BTreeMap::new();
        let (overlays, known) = match overlays {
            Ok(overlays) => (into_array(overlays), true),
            Err(error) => {
                tracing::warn!(error = error.message, "overlays are listed as the nodes know them");
                (Vec::new(), false)
            }
        };
        let swarm = overlays.into_iter().filter(|network| text(network, "/Scope") == "swarm");
        // What a node still knows of an overlay is older than what the manager says.
        let own = own.into_iter().filter(|network| !known || text(network, "/Scope") != "swarm");
        for network in swarm.chain(own) {
            let name = text(&network, "/Name").to_owned();
            if !HIDDEN.contains(&name.as_str()) {
                networks.entry(name).or_insert(network);
            }
        }
        let view = self.fleet.current();
        let mut networks: Vec<Value> = networks.into_values().collect();
        for network in &mut networks {
            let users = containers_in(&view, text(network, "/Id"), text(network, "/Name"));
            network["Containers"] = Value::Object(users);
            if let Some(map) = network.as_object_mut() {
                map.remove("Peers");
            }
        }
        Ok(networks)
    }

    async fn list_networks(&self, call: &Call) -> Answer {
        let filters = Filters::of(&call.query, &FILTERS)?;
        let mut networks = self.all_networks().await?;
        networks.retain(|network| takes(&filters, network));
        Ok(wire::answer(StatusCode::OK, &networks))
    }

    /// A network by id, name, or a beginning of its id.
    async fn find_network(&self, key: &str) -> Result<Value, Refusal> {
        let networks = self.all_networks().await?;
        let exact = networks.iter().find(|network| text(network, "/Name") == key || text(network, "/Id") == key);
        if let Some(network) = exact {
            return Ok(network.clone());
        }
        let mut begun = networks.iter().filter(|network| !key.is_empty() && text(network, "/Id").starts_with(key));
        match (begun.next(), begun.next()) {
            (Some(network), None) => Ok(network.clone()),
            (Some(_), Some(_)) => Err(Refusal::bad(format!("network {key} is ambiguous (several ids begin so)"))),
            (None, _) => Err(Refusal::missing(format!("network {key} not found"))),
        }
    }

    /// Connects and disconnects at the container's node.
    async fn attach_network(&self, call: Call, key: &str, action: &str) -> Answer {
        let network = self.find_network(key).await?;
        let prefix = call.target("");
        let prefix = prefix.split('?').next().unwrap_or_default().to_owned();
        let mut body = wire::read_json(call.request.into_body(), JSON_MAX).await?;
        let (container, member) = self.fleet.locate(text(&body, "/Container"))?;
        body["Container"] = json!(container.id);
        let mut name = text(&network, "/Name").to_owned();
        if name == "bridge" {
            CLUSTER_NETWORK.clone_into(&mut name);
        }
        let path = format!("{prefix}/networks/{name}/{action}");
        let done =
            member.client.call_within(Method::POST, &path, Some(&body), std::time::Duration::from_secs(60)).await;
        self.fleet.refresh(&member, &container.id).await;
        done.map(|_| wire::empty(StatusCode::OK))
    }

    /// Removes networks that no container uses. The cluster's own stays.
    async fn prune_networks(&self, call: &Call) -> Answer {
        let filters = Filters::of(&call.query, &["until", "label", "label!"])?;
        let mut deleted = Vec::new();
        for network in self.all_networks().await? {
            let name = text(&network, "/Name");
            let used = network.get("Containers").and_then(Value::as_object).is_some_and(|users| !users.is_empty());
            let kept = used || name == CLUSTER_NETWORK || PREDEFINED.contains(&name);
            if kept || !filters.labels(&string_map(network.get("Labels"))) || !old_enough(&filters, &network) {
                continue;
            }
            match self.fleet.delete_network(name).await {
                Ok(()) => deleted.push(name.to_owned()),
                Err(error) => tracing::debug!(name, error = error.message, "a network stays"),
            }
        }
        Ok(wire::answer(StatusCode::OK, &json!({"NetworksDeleted": deleted})))
    }
}

fn users_of(network: &Value) -> Map<String, Value> {
    network.get("Containers").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn old_enough(filters: &Filters, network: &Value) -> bool {
    let Some(until) = filters.values("until").first() else { return true };
    let limit =
        until.parse::<i64>().ok().or_else(|| until.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second));
    let created = text(network, "/Created").parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
    limit.zip(created).is_some_and(|(limit, created)| created < limit)
}

fn takes(filters: &Filters, network: &Value) -> bool {
    let name = text(network, "/Name");
    let predefined = PREDEFINED.contains(&name);
    let used = network.get("Containers").and_then(Value::as_object).is_some_and(|users| !users.is_empty());
    filters.any("name", |wanted| matches(wanted, name))
        && filters.any("id", |id| text(network, "/Id").starts_with(id))
        && filters.any("driver", |driver| text(network, "/Driver") == driver)
        && filters.any("scope", |scope| text(network, "/Scope") == scope)
        && filters.any("type", |kind| (kind == "builtin") == predefined)
        && filters.any("dangling", |wanted| matches!(wanted, "true" | "1") == (!used && !predefined))
        && filters.labels(&string_map(network.get("Labels")))
}

/// The containers of all nodes in a network, as an inspection lists them. Networks of nodes are the same by name.
fn containers_in(view: &View, id: &str, name: &str) -> Map<String, Value> {
    let mut users = Map::new();
    for container in view.containers.iter().filter(|container| container.is_running()) {
        let networks = container.inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
        let endpoint = networks.into_iter().flatten().find(|(own, endpoint)| {
            text(endpoint, "/NetworkID") == id
                || (own.as_str() == name && text(endpoint, "/NetworkID").is_empty())
                || (own.as_str() == name && PREDEFINED.contains(&name))
        });
        if let Some((_, endpoint)) = endpoint {
            let address = match text(endpoint, "/IPAddress") {
                "" => String::new(),
                address => format!("{address}/{}", number(endpoint, "/IPPrefixLen")),
            };
            users.insert(
                container.id.clone(),
                json!({"Name": container.name, "EndpointID": text(endpoint, "/EndpointID"),
                    "MacAddress": text(endpoint, "/MacAddress"), "IPv4Address": address, "IPv6Address": ""}),
            );
        }
    }
    users
}
