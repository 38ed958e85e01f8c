//! What volumes ask of the node that their pod runs on.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{
        NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim, TopologySelectorTerm,
    },
    storage::v1 as storage,
};

use super::{Pod, quantity::amount};

/// Provisioner of classes whose volumes somebody makes by hand.
const BY_HAND: &str = "kubernetes.io/no-provisioner";
/// Labels by which older volumes say where they are.
const PLACES: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// A claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Claim {
    /// The volume it has.
    pub(crate) volume: Option<String>,
    /// Its class; `None`: there is none, and no default.
    pub(crate) class: Option<String>,
    /// Bytes that it asks for.
    pub(crate) size: i64,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Volume {
    /// Nodes that can have it: one of these terms; `None`: all.
    pub(crate) terms: Option<Vec<NodeSelectorTerm>>,
    pub(crate) class: String,
    /// Bytes.
    pub(crate) size: i64,
    /// No claim has it.
    pub(crate) free: bool,
}

/// A storage class.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StorageClass {
    /// Volumes are made before a pod needs them.
    pub(crate) immediate: bool,
    /// Somebody makes them by hand.
    pub(crate) by_hand: bool,
    /// Where they can be made: one of these terms; `None`: everywhere.
    pub(crate) terms: Option<Vec<NodeSelectorTerm>>,
}

impl Claim {
    pub(crate) fn of(claim: &PersistentVolumeClaim) -> Self {
        let spec = claim.spec.as_ref();
        let requests = spec.and_then(|spec| spec.resources.as_ref()).and_then(|resources| resources.requests.as_ref());
        let size = requests.and_then(|requests| requests.get("storage"));
        Self {
            volume: spec.and_then(|spec| spec.volume_name.clone()).filter(|name| !name.is_empty()),
            class: spec.and_then(|spec| spec.storage_class_name.clone()),
            size: size.map_or(0, |size| amount("storage", &size.0)),
        }
    }
}

impl Volume {
    pub(crate) fn of(volume: &PersistentVolume) -> Self {
        let spec = volume.spec.as_ref();
        let affinity = spec.and_then(|spec| spec.node_affinity.as_ref());
        let terms = affinity.and_then(|affinity| affinity.required.as_ref());
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let size = spec.and_then(|spec| spec.capacity.as_ref()).and_then(|capacity| capacity.get("storage"));
        Self {
            terms: terms.map(|selector| selector.node_selector_terms.clone()).or_else(|| by_labels(volume)),
            class: spec.and_then(|spec| spec.storage_class_name.clone()).unwrap_or_default(),
            size: size.map_or(0, |size| amount("storage", &size.0)),
            free: phase == Some("Available"),
        }
    }
}

/// A volume without affinity that has labels of a place is there.
fn by_labels(volume: &PersistentVolume) -> Option<Vec<NodeSelectorTerm>> {
    let labels = volume.metadata.labels.as_ref()?;
    let places = PLACES.iter().filter_map(|key| labels.get_key_value(*key));
    // Several zones are joined by two underscores.
    let wanted = places.map(|(key, value)| requirement(key, value.split("__").map(str::to_owned).collect()));
    let wanted: Vec<_> = wanted.collect();
    (!wanted.is_empty()).then(|| vec![NodeSelectorTerm { match_expressions: Some(wanted), match_fields: None }])
}

fn requirement(key: &str, values: Vec<String>) -> NodeSelectorRequirement {
    NodeSelectorRequirement { key: key.to_owned(), operator: "In".to_owned(), values: Some(values) }
}

impl StorageClass {
    pub(crate) fn of(class: &storage::StorageClass) -> Self {
        let terms = class.allowed_topologies.as_ref().filter(|terms| !terms.is_empty());
        Self {
            immediate: class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer"),
            by_hand: class.provisioner == BY_HAND,
            terms: terms.map(|terms| terms.iter().map(of_topology).collect()),
        }
    }
}

fn of_topology(term: &TopologySelectorTerm) -> NodeSelectorTerm {
    let wanted = term.match_label_expressions.iter().flatten();
    let wanted = wanted.map(|expression| requirement(&expression.key, expression.values.clone()));
    NodeSelectorTerm { match_expressions: Some(wanted.collect()), match_fields: None }
}

/// All of a cluster's storage, as far as it decides where pods can run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Volumes {
    /// By `namespace/name`.
    pub(crate) claims: BTreeMap<String, Claim>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) classes: BTreeMap<String, StorageClass>,
}

impl Volumes {
    /// Writes into the pod what its claims ask of a node, or why it cannot run at all.
    pub(crate) fn resolve(&self, pod: &mut Pod) {
        pod.volume_terms.clear();
        for name in &pod.claims {
            match self.terms(&format!("{}/{name}", pod.namespace)) {
                Ok(None) => {}
                Ok(Some(terms)) => pod.volume_terms.push(terms),
                Err(why) => pod.hindrance = Some(why),
            }
        }
    }

    /// Nodes that a pod with the claim can run on; `None`: all.
    fn terms(&self, key: &str) -> Result<Option<Vec<NodeSelectorTerm>>, String> {
        let claim = self.claims.get(key).ok_or_else(|| format!("its volume claim {key} does not exist"))?;
        if let Some(volume) = &claim.volume {
            let volume = self.volumes.get(volume).ok_or_else(|| format!("the volume of its claim {key} is gone"))?;
            return Ok(volume.terms.clone());
        }
        let class_name = claim.class.as_deref().unwrap_or_default();
        let class = self.classes.get(class_name);
        if class.is_none_or(|class| class.immediate) {
            return Err(format!("its volume claim {key} has no volume yet; that does not depend on nodes"));
        }
        let by_hand = class.is_none_or(|class| class.by_hand);
        if !by_hand {
            return Ok(class.and_then(|class| class.terms.clone()));
        }
        let candidates = self.volumes.values().filter(|v| v.free && v.class == class_name && v.size >= claim.size);
        let mut terms = Vec::new();
        for volume in candidates {
            match &volume.terms {
                None => return Ok(None),
                Some(own) => terms.extend(own.iter().cloned()),
            }
        }
        Ok(Some(terms))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn storage() -> Volumes {
        let class = |provisioner: &str, mode: &str| {
            StorageClass::of(
                &serde_json::from_value(json!({"provisioner": provisioner, "volumeBindingMode": mode})).unwrap(),
            )
        };
        let zonal: storage::StorageClass = serde_json::from_value(json!({
            "provisioner": "csi", "volumeBindingMode": "WaitForFirstConsumer",
            "allowedTopologies": [{"matchLabelExpressions": [{"key": "topology.kubernetes.io/zone", "values": ["a"]}]}],
        }))
        .unwrap();
        let volume = |value: serde_json::Value| Volume::of(&serde_json::from_value(value).unwrap());
        let local = json!({
            "spec": {"storageClassName": "local", "capacity": {"storage": "10Gi"}, "nodeAffinity": {"required": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]}}},
            "status": {"phase": "Available"},
        });
        let labelled = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "a__b"}}, "spec": {}});
        let claim = |volume: Option<&str>, class: &str, size: &str| {
            Claim::of(
                &serde_json::from_value(json!({"spec": {
                "volumeName": volume, "storageClassName": class, "resources": {"requests": {"storage": size}}}}))
                .unwrap(),
            )
        };
        Volumes {
            claims: [
                ("d/bound", claim(Some("labelled"), "", "1Gi")),
                ("d/lost", claim(Some("gone"), "", "1Gi")),
                ("d/waits", claim(None, "now", "1Gi")),
                ("d/later", claim(None, "later", "1Gi")),
                ("d/zonal", claim(None, "zonal", "1Gi")),
                ("d/local", claim(None, "local", "1Gi")),
                ("d/large", claim(None, "local", "1Ti")),
            ]
            .map(|(name, claim)| (name.to_owned(), claim))
            .into(),
            volumes: [("local".to_owned(), volume(local)), ("labelled".to_owned(), volume(labelled))].into(),
            classes: [
                ("now".to_owned(), class("csi", "Immediate")),
                ("later".to_owned(), class("csi", "WaitForFirstConsumer")),
                ("local".to_owned(), class(BY_HAND, "WaitForFirstConsumer")),
                ("zonal".to_owned(), StorageClass::of(&zonal)),
            ]
            .into(),
        }
    }

    #[test]
    fn claims_say_where_a_pod_can_run() {
        let storage = storage();
        let check = |claim: &str, groups: usize, hindered: bool| {
            let mut pod = Pod { namespace: "d".into(), claims: vec![claim.into()], ..Pod::default() };
            storage.resolve(&mut pod);
            assert_eq!((pod.volume_terms.len(), pod.hindrance.is_some()), (groups, hindered), "{claim}");
            pod.volume_terms.concat()
        };
        let bound = check("bound", 1, false);
        let zones = bound[0].match_expressions.as_ref().unwrap()[0].values.clone();
        assert_eq!(zones, Some(vec!["a".to_owned(), "b".to_owned()]));
        check("lost", 0, true);
        check("none", 0, true);
        check("waits", 0, true);
        check("later", 0, false);
        assert_eq!(check("zonal", 1, false).len(), 1);
        assert_eq!(check("local", 1, false).len(), 1);
        assert!(check("large", 1, false).is_empty(), "no volume is large enough, so no node will do");
    }
}
