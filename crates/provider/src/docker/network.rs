//! Networks: one bridge for each VPC.

use std::collections::HashMap;

use bollard::{
    models::{Ipam, IpamConfig, Network, NetworkCreateRequest, NetworkDisconnectRequest, NetworkInspect},
    query_parameters::{InspectNetworkOptions, ListNetworksOptions},
};
use ipnet::Ipv4Net;

use super::engine::{CHANGE_SECONDS, Engine, LOOK_SECONDS};
use crate::{NetworkSpec, ProviderError};

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// What the kernel takes as a name of an interface.
const BRIDGE_NAME_LEN_MAX: usize = 15;

impl Engine {
    /// Makes a network, or finds it.
    pub(super) async fn ensure_network(&self, spec: &NetworkSpec) -> Result<(), ProviderError> {
        let request = self.network_request(spec)?;
        if self.find_network(spec).await? {
            return Ok(());
        }
        let _turn = self.turn().await?;
        let call = self.docker.create_network(request);
        let Err(error) = self.call(format!("make network {}", spec.name), CHANGE_SECONDS, call).await else {
            return Ok(());
        };
        let taken = ["already exists", "overlaps", "conflicts with network"];
        if !taken.iter().any(|words| error.says(words)) {
            return Err(error.into());
        }
        // A call of ours that we gave up on may have made it meanwhile.
        if self.find_network(spec).await? {
            return Ok(());
        }
        Err(self.conflict(spec, error.into()).await)
    }

    /// Removes a network.
    pub(super) async fn delete_network(&self, name: &str) -> Result<(), ProviderError> {
        let Some(network) = self.inspect_network(name).await? else {
            return Ok(());
        };
        if !self.owns(network.labels.as_ref()) {
            return Err(not_ours(name));
        }
        for (container, endpoint) in network.containers.unwrap_or_default() {
            let shown = endpoint.name.unwrap_or_else(|| container.clone());
            self.must_be_leftover(name, &container, &shown).await?;
            let request = NetworkDisconnectRequest {
                // An endpoint without a container is known by the name it had.
                container: shown.clone(),
                force: Some(true),
            };
            let call = self.docker.disconnect_network(name, request);
            let doing = format!("disconnect {shown} from network {name}");
            match self.call(doing, CHANGE_SECONDS, call).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => tracing::warn!(network = name, endpoint = shown, "removed a stale endpoint"),
            }
        }
        let _turn = self.turn().await?;
        let call = self.docker.remove_network(name);
        match self.call(format!("remove network {name}"), CHANGE_SECONDS, call).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// All networks of the engine.
    pub(super) async fn networks(&self) -> Result<Vec<Network>, ProviderError> {
        let call = self.docker.list_networks(None::<ListNetworksOptions>);
        Ok(self.call("list networks", LOOK_SECONDS, call).await?)
    }

    fn network_request(&self, spec: &NetworkSpec) -> Result<NetworkCreateRequest, ProviderError> {
        if spec.bridge.is_empty() || spec.bridge.len() > BRIDGE_NAME_LEN_MAX {
            return Err(ProviderError::Failed(format!(
                "network {}: {:?} cannot name a bridge: 1 to {BRIDGE_NAME_LEN_MAX} characters",
                spec.name, spec.bridge
            )));
        }
        let gateway = gateway(spec)?;
        let options = [
            (BRIDGE_NAME, spec.bridge.as_str()),
            ("com.docker.network.bridge.enable_icc", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "true"),
        ];
        let range =
            IpamConfig { subnet: Some(spec.cidr.trunc().to_string()), gateway: Some(gateway), ..IpamConfig::default() };
        Ok(NetworkCreateRequest {
            name: spec.name.clone(),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam { driver: Some("default".to_owned()), config: Some(vec![range]), ..Ipam::default() }),
            options: Some(options.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            labels: Some(self.labels("network", &spec.labels)),
            ..NetworkCreateRequest::default()
        })
    }

    async fn inspect_network(&self, name: &str) -> Result<Option<NetworkInspect>, ProviderError> {
        let call = self.docker.inspect_network(name, None::<InspectNetworkOptions>);
        self.look(format!("look at network {name}"), call).await
    }

    /// Whether the network is there, and as wanted.
    async fn find_network(&self, spec: &NetworkSpec) -> Result<bool, ProviderError> {
        let Some(found) = self.inspect_network(&spec.name).await? else {
            return Ok(false);
        };
        if !self.owns(found.labels.as_ref()) {
            return Err(not_ours(&spec.name));
        }
        let ranges = ranges(found.ipam.as_ref());
        let bridge = found.options.as_ref().and_then(|options| options.get(BRIDGE_NAME));
        if ranges == [spec.cidr.trunc()] && bridge == Some(&spec.bridge) {
            return Ok(true);
        }
        Err(ProviderError::Conflict(format!(
            "network {} exists with range {ranges:?} and bridge {}, wanted {} and {}; delete it first",
            spec.name,
            bridge.map_or("none", String::as_str),
            spec.cidr,
            spec.bridge
        )))
    }

    /// Says who has the range or the bridge, when that can be found out.
    async fn conflict(&self, spec: &NetworkSpec, error: ProviderError) -> ProviderError {
        let Ok(networks) = self.networks().await else {
            return error;
        };
        let clashes = |network: &Network| {
            let same_bridge =
                network.options.as_ref().and_then(|options| options.get(BRIDGE_NAME)) == Some(&spec.bridge);
            same_bridge || ranges(network.ipam.as_ref()).iter().any(|range| overlap(range, &spec.cidr))
        };
        let names: Vec<String> =
            networks.iter().filter(|network| clashes(network)).filter_map(|network| network.name.clone()).collect();
        if names.is_empty() {
            return error;
        }
        ProviderError::Conflict(format!(
            "cannot make network {} with range {} and bridge {}: taken by network {}; choose another range",
            spec.name,
            spec.cidr,
            spec.bridge,
            names.join(", ")
        ))
    }

    /// An endpoint may be taken away only if its container is gone, or is ours and does not run.
    async fn must_be_leftover(&self, network: &str, container: &str, shown: &str) -> Result<(), ProviderError> {
        let Some(found) = self.inspect(container).await? else {
            return Ok(());
        };
        let ours = self.must_own(shown, &found).is_ok();
        let running = found.state.and_then(|state| state.running).unwrap_or(false);
        if ours && !running {
            return Ok(());
        }
        Err(ProviderError::Conflict(format!(
            "network {network} is in use by container {shown}{}; remove that first",
            if ours { "" } else { ", which this installation did not make" }
        )))
    }
}

/// IPv4 ranges of a network.
pub(super) fn ranges(ipam: Option<&Ipam>) -> Vec<Ipv4Net> {
    let configs = ipam.and_then(|ipam| ipam.config.as_deref()).unwrap_or_default();
    let subnets = configs.iter().filter_map(|config| config.subnet.as_deref());
    subnets.filter_map(|subnet| subnet.parse().ok()).collect()
}

/// The interface of a network on the host.
pub(super) fn bridge_of(network: &Network) -> Option<String> {
    let named = |options: &HashMap<String, String>| options.get(BRIDGE_NAME).cloned();
    let by_id = || network.id.as_ref().map(|id| format!("br-{}", id.get(..12).unwrap_or(id)));
    network.options.as_ref().and_then(named).or_else(by_id)
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

/// The first address of the range.
fn gateway(spec: &NetworkSpec) -> Result<String, ProviderError> {
    let first = spec.cidr.trunc().hosts().next();
    match first {
        Some(first) if spec.cidr.prefix_len() <= 29 => Ok(first.to_string()),
        _ => Err(ProviderError::Failed(format!(
            "network {}: range {} is too small; /29 is the smallest",
            spec.name, spec.cidr
        ))),
    }
}

fn not_ours(name: &str) -> ProviderError {
    ProviderError::Conflict(format!(
        "a network named {name} exists that this installation did not make; remove or rename it"
    ))
}
