//! A cluster as last seen, kept up to date by its watches.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::DaemonSet, core::v1 as core, policy::v1::PodDisruptionBudget, storage::v1 as storage,
};
use kube::ResourceExt as _;

use crate::autoscale::model::{self, Budget, Claim, Namespaces, Node, Pod, StorageClass, Volume, Volumes};

/// Pods of one cluster that are kept; above that nothing is decided about it.
pub(super) const PODS_MAX: usize = 30_000;
/// Objects of every other kind.
pub(super) const OBJECTS_MAX: usize = 10_000;

/// What was seen. Cheap to clone: what does not change is shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) nodes: Arc<BTreeMap<String, Arc<Node>>>,
    /// By uid.
    pub(crate) pods: Arc<BTreeMap<String, Arc<Pod>>>,
    /// By `namespace/name`.
    pub(crate) budgets: Arc<BTreeMap<String, Budget>>,
    /// The pods that daemon sets put on each node, by `namespace/name`.
    pub(crate) daemons: Arc<BTreeMap<String, Arc<Pod>>>,
    pub(crate) namespaces: Arc<Namespaces>,
    pub(crate) volumes: Arc<Volumes>,
    /// More objects than are kept.
    pub(crate) overflows: bool,
}

/// Kinds that are watched, as bits.
pub(super) const ALL_KINDS: u16 = (1 << 8) - 1;

/// An object that is watched.
pub(super) trait Watched: kube::Resource<DynamicType = ()> + Sized {
    /// Its bit.
    const BIT: u16;
    /// Takes it in; answers whether anything is different.
    fn put(view: &mut View, object: &Self) -> bool;
    /// Forgets it.
    fn remove(view: &mut View, object: &Self) -> bool;
    /// Takes all of its kind from another view, instead of its own.
    fn adopt(view: &mut View, fresh: View);
}

fn insert<V: PartialEq>(map: &mut BTreeMap<String, V>, key: String, value: V, most: usize) -> Result<bool, ()> {
    if map.get(&key) == Some(&value) {
        return Ok(false);
    }
    if map.len() >= most && !map.contains_key(&key) {
        return Err(());
    }
    map.insert(key, value);
    Ok(true)
}

fn key<K: kube::Resource<DynamicType = ()>>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

/// A kind that is kept in one of the view's maps.
macro_rules! watched {
    ($kind:ty, $bit:expr, $most:expr, $key:expr, $read:expr, |$view:ident| $map:expr) => {
        impl Watched for $kind {
            const BIT: u16 = 1 << $bit;

            fn put($view: &mut View, object: &Self) -> bool {
                let Some(value) = $read(object) else { return false };
                match insert($map, $key(object), value, $most) {
                    Ok(changed) => changed,
                    Err(()) => !std::mem::replace(&mut $view.overflows, true),
                }
            }

            fn remove($view: &mut View, object: &Self) -> bool {
                $map.remove(&$key(object)).is_some()
            }

            fn adopt(view: &mut View, mut $view: View) {
                let $view = &mut $view;
                let taken = std::mem::take($map);
                view.overflows |= $view.overflows;
                let $view = view;
                *$map = taken;
            }
        }
    };
}

fn uid(pod: &core::Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

fn labels(namespace: &core::Namespace) -> Option<BTreeMap<String, String>> {
    Some(namespace.metadata.labels.clone().unwrap_or_default())
}

watched!(core::Node, 0, OBJECTS_MAX, key, |node| Some(Arc::new(model::node(node))), |view| Arc::make_mut(
    &mut view.nodes
));
watched!(core::Pod, 1, PODS_MAX, uid, |pod| Some(Arc::new(model::pod(pod))), |view| Arc::make_mut(&mut view.pods));
watched!(PodDisruptionBudget, 2, OBJECTS_MAX, key, |budget| Some(model::budget(budget)), |view| Arc::make_mut(
    &mut view.budgets
));
watched!(DaemonSet, 3, OBJECTS_MAX, key, |set| model::daemon(set).map(Arc::new), |view| Arc::make_mut(
    &mut view.daemons
));
watched!(core::Namespace, 4, OBJECTS_MAX, key, labels, |view| Arc::make_mut(&mut view.namespaces));
watched!(core::PersistentVolumeClaim, 5, OBJECTS_MAX, key, |claim| Some(Claim::of(claim)), |view| &mut Arc::make_mut(
    &mut view.volumes
)
.claims);
watched!(core::PersistentVolume, 6, OBJECTS_MAX, key, |volume| Some(Volume::of(volume)), |view| &mut Arc::make_mut(
    &mut view.volumes
)
.volumes);
watched!(storage::StorageClass, 7, OBJECTS_MAX, key, |class| Some(StorageClass::of(class)), |view| &mut Arc::make_mut(
    &mut view.volumes
)
.classes);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_matters_is_a_change() {
        let mut view = View::default();
        let node = |heartbeat: &str, cpu: &str| -> core::Node {
            serde_json::from_value(json!({
                "metadata": {"name": "n"},
                "status": {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat}]},
            }))
            .unwrap()
        };
        assert!(core::Node::put(&mut view, &node("2026-01-01T00:00:00Z", "2")));
        assert!(!core::Node::put(&mut view, &node("2026-01-01T00:05:00Z", "2")), "only a heartbeat");
        assert!(core::Node::put(&mut view, &node("2026-01-01T00:05:00Z", "4")));
        assert!(core::Node::remove(&mut view, &node("2026-01-01T00:05:00Z", "4")));
        assert!(view.nodes.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut map = BTreeMap::new();
        assert_eq!(insert(&mut map, "a".into(), 1, 2), Ok(true));
        assert_eq!(insert(&mut map, "b".into(), 1, 2), Ok(true));
        assert_eq!(insert(&mut map, "c".into(), 1, 2), Err(()));
        assert_eq!(insert(&mut map, "b".into(), 2, 2), Ok(true));
    }
}
