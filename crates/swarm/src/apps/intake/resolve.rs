//! Real names: of a template's networks and volumes in the cluster.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    apps::record::Record,
    compose::template::{Network, Service, Template, Volume},
};

/// A template whose services name networks and volumes as they are called in the cluster.
pub(super) struct Resolved {
    pub(super) services: BTreeMap<String, Service>,
    /// To be made.
    pub(super) networks: BTreeMap<String, Network>,
    /// To be made.
    pub(super) volumes: BTreeMap<String, Volume>,
}

impl Resolved {
    pub(super) fn of(project: &str, template: Template) -> Self {
        let real = |key: &str, external: &Option<String>, name: &Option<String>| {
            external.clone().or_else(|| name.clone()).unwrap_or_else(|| format!("{project}_{key}"))
        };
        let network_name = |key: &String| {
            template
                .networks
                .get(key)
                .map_or_else(|| key.clone(), |network| real(key, &network.external, &network.name))
        };
        let volume_name = |key: &String| {
            template.volumes.get(key).map_or_else(|| key.clone(), |volume| real(key, &volume.external, &volume.name))
        };
        let services = template.services.iter().map(|(name, service)| {
            let mut service = service.clone();
            service.networks =
                service.networks.into_iter().map(|(key, attachment)| (network_name(&key), attachment)).collect();
            for (volume, _, _) in &mut service.volumes {
                *volume = volume_name(volume);
            }
            (name.clone(), service)
        });
        let services: BTreeMap<String, Service> = services.collect();
        let networks = template.networks.iter().filter(|(_, network)| network.external.is_none());
        let networks = networks.map(|(key, network)| (network_name(key), network.clone())).collect();
        let volumes = template.volumes.iter().filter(|(_, volume)| volume.external.is_none());
        let volumes = volumes.map(|(key, volume)| (volume_name(key), volume.clone())).collect();
        Self { services, networks, volumes }
    }

    /// Adds its networks and volumes to what an application wants.
    pub(super) fn note_in(&self, record: &mut Record) {
        record.networks.extend(self.networks.clone());
        record.volumes.extend(self.volumes.clone());
        record.made_networks.extend(self.networks.keys().cloned());
        let own = self.volumes.iter().filter(|(_, volume)| !volume.keep).map(|(name, _)| name.clone());
        record.made_volumes.extend(own);
    }
}

/// Networks and volumes that no service uses any more are not wanted any more. Volumes stay where they are until the
/// application is deleted with them.
pub(super) fn forget_unused(record: &mut Record) {
    let services = || record.services.values();
    let networks: BTreeSet<String> = services().flat_map(|service| service.service.networks.keys().cloned()).collect();
    let volumes: BTreeSet<String> =
        services().flat_map(|service| service.service.volumes.iter().map(|(name, _, _)| name.clone())).collect();
    record.networks.retain(|name, _| networks.contains(name));
    record.volumes.retain(|name, _| volumes.contains(name));
}
