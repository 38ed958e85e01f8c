//! The part of the suite about forgetting.

use std::time::Duration;

use super::samples::*;
use super::suite::Fixture;
use crate::StoreError;
use crate::model::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn days_ago(days: u32) -> Timestamp {
    noon() - DAY * days
}

pub(crate) async fn prune_forgets_nonces(fixture: &impl Fixture) {
    let store = fixture.open().await;
    commit(&store, |batch| batch.nonce("k", "old", days_ago(1)).nonce("k", "young", noon() + DAY)).await.unwrap();
    store.prune(noon()).await.unwrap();
    commit(&store, |batch| batch.nonce("k", "old", noon())).await.unwrap();
    let replay = commit(&store, |batch| batch.nonce("k", "young", noon())).await;
    assert_eq!(replay, Err(StoreError::NonceUsed));
}

pub(crate) async fn prune_forgets_finished_tasks(fixture: &impl Fixture) {
    let open = fixture.open_with(|options| {
        options.task_retention = 10 * DAY;
        options.finished_tasks_max = 300;
    });
    let store = open.await.unwrap();
    commit(&store, |batch| {
        batch.put(&cluster("c1", ClusterState::Running, days_ago(90)));
        batch.put(&task("T-create-c1", "c1", TaskState::Success, days_ago(90)));
        batch.put(&task("T-working", "c1", TaskState::Running, days_ago(90)));
        batch.put(&task("T-old", "c1", TaskState::Fail, days_ago(11)));
        for number in 0..600_u32 {
            let updated = noon() - Duration::from_secs(number.into());
            batch.put(&task(&format!("T-{number:03}"), "c1", TaskState::Success, updated));
        }
        batch
    })
    .await
    .unwrap();
    store.prune(noon()).await.unwrap();
    let kept: Vec<_> = store.list::<Task>().iter().map(|task| task.id.clone()).collect();
    assert_eq!(kept.len(), 302);
    assert_eq!((kept[0].as_str(), kept[299].as_str()), ("T-000", "T-299"), "the newest");
    assert_eq!(kept[300..], ["T-create-c1", "T-working"], "a cluster names one, the other is not finished");
    store.close().await;
    assert_eq!(fixture.open().await.list::<Task>().len(), 302);
}

pub(crate) async fn prune_forgets_deleted_clusters(fixture: &impl Fixture) {
    let store = fixture.open_with(|options| options.deleted_cluster_retention = 10 * DAY).await.unwrap();
    for (id, state, days) in [
        ("c-old", ClusterState::Deleted, 11),
        ("c-young", ClusterState::Deleted, 9),
        ("c-live", ClusterState::Running, 11),
        ("c-stuck", ClusterState::DeleteFailed, 11),
    ] {
        commit(&store, |batch| {
            batch
                .put(&cluster(id, state, days_ago(days)))
                .put(&node_pool(&format!("np-{id}"), id))
                .put(&credential(&format!("{id}/root"), id))
                .put(&task(&format!("T-create-{id}"), id, TaskState::Success, days_ago(1)))
                .log(log_line(id, "line"))
        })
        .await
        .unwrap();
    }
    store.prune(noon()).await.unwrap();
    let kept: Vec<_> = store.list::<Cluster>().iter().map(|cluster| cluster.id.clone()).collect();
    assert_eq!(kept, ["c-live", "c-stuck", "c-young"]);
    assert!(store.list_of::<NodePool>("c-old").is_empty());
    assert!(store.list_of::<KubeCredential>("c-old").is_empty());
    assert!(store.list_of::<Task>("c-old").is_empty());
    assert!(log_texts(&store, "c-old").await.is_empty());
    assert_eq!(store.list_of::<Task>("c-young").len(), 1);
    assert_eq!(log_texts(&store, "c-young").await, ["line"]);
}

pub(crate) async fn prune_bounds_events_and_logs(fixture: &impl Fixture) {
    let open = fixture.open_with(|options| {
        options.events_max = 3;
        options.log_lines_per_cluster_max = 2;
    });
    let store = open.await.unwrap();
    store.prune(noon()).await.unwrap();
    commit(&store, |batch| {
        batch.put(&cluster("c1", ClusterState::Running, noon()));
        batch.put(&cluster("c2", ClusterState::Running, noon()));
        for number in 0..5 {
            batch.event(event(&format!("E{number}"), "c1", "x"));
            batch.log(log_line("c1", &number.to_string()));
        }
        batch.log(log_line("c2", "alone")).log(log_line("c-unknown", "of nobody"));
        batch
    })
    .await
    .unwrap();
    for _ in 0..2 {
        store.prune(noon()).await.unwrap();
        assert_eq!(event_ids(&store).await, ["E4", "E3", "E2"]);
        assert_eq!(log_texts(&store, "c1").await, ["3", "4"]);
        assert_eq!(log_texts(&store, "c2").await, ["alone"]);
        assert!(log_texts(&store, "c-unknown").await.is_empty());
    }
    store.prune(Timestamp::MIN).await.unwrap();
    store.prune(Timestamp::MAX).await.unwrap();
}
