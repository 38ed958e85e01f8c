//! What a container was made with, kept on the container itself: while a service rolls, old and new containers differ.

use serde::{Deserialize, Serialize};

use super::names::MARKS;
use crate::{
    compose::template::{Extensions, LoadBalancer, Probe, Routing},
    model::Container,
};

/// Probe, routes and listeners of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Marks {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probe: Option<Probe>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) routing: Vec<Routing>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) sticky: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lb: Vec<LoadBalancer>,
}

impl Marks {
    pub(crate) fn of_service(extensions: &Extensions) -> Self {
        Self {
            probe: extensions.probe.clone(),
            routing: extensions.routing.clone(),
            sticky: extensions.session_sticky,
            lb: extensions.lb.clone(),
        }
    }

    /// Whether somebody is asked before it counts as serving: a probe, or the port that requests are sent to.
    pub(crate) fn asks(&self) -> bool {
        self.probe.is_some() || self.first_port().is_some()
    }

    /// A port that routers connect to.
    pub(crate) fn first_port(&self) -> Option<u16> {
        let ports = self.routing.iter().map(|routing| routing.port);
        ports.chain(self.lb.iter().map(|listener| listener.container_port)).next()
    }

    /// Those of a container; nothing for one without.
    pub(crate) fn of(container: &Container) -> Self {
        container.labels.get(MARKS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}
