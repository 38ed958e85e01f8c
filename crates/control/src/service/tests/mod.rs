//! The use cases on a real store, with a clock and certificates of the tests' own.

mod attach;
mod create;
mod delete;
mod lifecycle;
mod masters;
mod modify;
mod nodes;
mod pools;
mod query;
mod swarm;
mod trigger;
mod upgrade;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use sampan_store::{
    Batch, Store,
    model::{Cluster, ClusterState, Fault, FaultKind, Machine, MachineState, Outcome, Task, Timestamp},
};
use serde_json::json;

use super::{
    RequestContext, Service, Settings,
    cluster::{ClusterCreate, ClusterTask},
    cluster_state_word,
    credentials::{Credentials, Issued},
};
use crate::ports::Clock;

/// Seconds since 2024, set by hand.
#[derive(Default)]
pub(super) struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_704_067_200 + self.0.load(Ordering::SeqCst)).expect("a time")
    }
}

impl ManualClock {
    pub(super) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

struct FakeCredentials;

#[async_trait]
impl Credentials for FakeCredentials {
    async fn issue(&self, _: &Cluster, user: &str, groups: &[String], not_after: Timestamp) -> Outcome<Issued> {
        Ok(Issued {
            certificate_pem: format!("certificate of {user} in {}", groups.join(",")),
            key_pem: "key".into(),
            ca_pem: "authority".into(),
            expires: not_after,
        })
    }
}

pub(super) struct World {
    pub(super) service: Service,
    pub(super) store: Store,
    pub(super) clock: Arc<ManualClock>,
    pub(super) ctx: RequestContext,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        let store = Store::open_temporary().await.expect("a store");
        let clock = Arc::new(ManualClock::default());
        let service = Service::new(store.clone(), settings, clock.clone(), Arc::new(FakeCredentials));
        Self { service, store, clock, ctx: context("1001") }
    }

    pub(super) async fn create(&self, input: &ClusterCreate) -> Outcome<ClusterTask> {
        self.service.cluster_create(&self.ctx, input).await
    }

    /// A running cluster with so many nodes, as the controllers would leave it.
    pub(super) async fn running(&self, name: &str, nodes: i64) -> String {
        let input = ClusterCreate { num_of_nodes: Some(nodes), ..minimal(name) };
        let made = self.create(&input).await.expect("accepted");
        self.settle(&made).await;
        made.cluster_id
    }

    /// Does what the controllers do when everything went well.
    pub(super) async fn settle(&self, work: &ClusterTask) {
        let now = self.clock.now();
        let mut batch = Batch::new();
        let cluster = self.cluster(&work.cluster_id);
        batch.put(&Cluster { state: ClusterState::Running, first_running: Some(now), ..cluster });
        let task = self.task(&work.task_id);
        batch.put(&Task { state: sampan_store::model::TaskState::Success, updated: now, ..task });
        for machine in self.store.list_of::<Machine>(&work.cluster_id) {
            let state = MachineState::Running;
            batch.put(&Machine { state, node_status: Some("Ready".into()), ..machine.value.clone() });
        }
        self.store.commit(batch).await.expect("written");
    }

    pub(super) fn cluster(&self, id: &str) -> Cluster {
        self.store.get::<Cluster>(id).expect("a cluster").value.clone()
    }

    pub(super) fn task(&self, id: &str) -> Task {
        self.store.get::<Task>(id).expect("a task").value.clone()
    }

    pub(super) fn workers(&self, cluster_id: &str) -> Vec<Machine> {
        let machines = self.store.list_of::<Machine>(cluster_id);
        machines.iter().filter(|m| m.is_worker_of(cluster_id)).map(|m| m.value.clone()).collect()
    }

    pub(super) async fn events(&self) -> Vec<(String, String)> {
        let query = sampan_store::EventQuery { account_id: "1001".into(), limit: 1000, ..Default::default() };
        let page = self.store.events(&query).await.expect("events");
        page.items.into_iter().rev().map(|event| (event.reason, event.message)).collect()
    }
}

pub(super) fn context(account_id: &str) -> RequestContext {
    RequestContext {
        account_id: account_id.into(),
        principal: account_id.into(),
        is_root: true,
        request_id: "00000000-0000-4000-A000-000000000000".into(),
        region_id: "cn-beijing".into(),
        nonce: None,
    }
}

/// The least that CreateCluster needs.
pub(super) fn minimal(name: &str) -> ClusterCreate {
    ClusterCreate {
        name: Some(name.into()),
        cluster_type: Some("ManagedKubernetes".into()),
        request: json!({"name": name, "cluster_type": "ManagedKubernetes"}),
        ..ClusterCreate::default()
    }
}

/// The field that a refusal names.
pub(super) fn field(fault: &Fault) -> String {
    match &fault.kind {
        FaultKind::InvalidParameter(field) | FaultKind::MissingParameter(field) => field.clone(),
        FaultKind::QuotaExceeded(quota) => format!("quota {quota}"),
        other => format!("{other:?}"),
    }
}
