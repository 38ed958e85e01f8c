//! For the tests of other parts: an application that runs on engines in memory.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::{Inner, tests::world::World};
use crate::door::OverlayDialer;

/// A cluster with the application `app`.
pub(crate) struct Cluster {
    pub(crate) inner: Arc<Inner>,
    _world: World,
}

/// Starts it and waits until it runs.
pub(crate) async fn cluster(dialer: Arc<dyn OverlayDialer>, template: &str) -> Cluster {
    let world = World::with_dialer(2, dialer);
    world.create("app", template).await;
    world.state("app", "running").await;
    Cluster { inner: world.apps.inner.clone(), _world: world }
}
