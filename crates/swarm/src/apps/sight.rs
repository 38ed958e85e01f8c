//! How long nodes have been away.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::scene::NodeSight;
use crate::model::{NodeHealth, View};

/// A node that does not answer for this long is lost: what may move is made anew elsewhere. Longer than an engine takes to
/// restart.
pub(crate) const NODE_LOST_AFTER: Duration = Duration::from_secs(10);

/// Remembers since when nodes do not answer.
#[derive(Default)]
pub(crate) struct Sight {
    away: Mutex<HashMap<String, Instant>>,
}

impl Sight {
    /// The nodes of a picture.
    pub(crate) fn look(&self, view: &View) -> BTreeMap<String, NodeSight> {
        let now = Instant::now();
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.retain(|name, _| view.nodes.iter().any(|node| node.name == *name && node.health != NodeHealth::Healthy));
        let see = |node: &std::sync::Arc<crate::model::Node>| {
            let healthy = node.health == NodeHealth::Healthy;
            let lost = !healthy && now.duration_since(*away.entry(node.name.clone()).or_insert(now)) >= NODE_LOST_AFTER;
            (node.name.clone(), NodeSight { healthy, lost, schedulable: node.schedulable, index: node.index })
        };
        view.nodes.iter().map(see).collect()
    }

    /// When the next node will be lost.
    pub(crate) fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.values().map(|since| *since + NODE_LOST_AFTER).filter(|at| *at > now).min()
    }
}
