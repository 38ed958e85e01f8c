//! What every database must do. A new one passes by `behavioural_suite!(ItsFixture)`.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::samples::*;
use crate::model::*;
use crate::{Batch, Change, EventQuery, Kind, Store, StoreError, StoreOptions};

/// A place for data that outlives the stores opened on it.
pub(super) trait Fixture: Sized {
    fn new() -> Self;
    async fn open_with(&self, adapt: impl FnOnce(&mut StoreOptions)) -> Result<Store, StoreError>;

    async fn open(&self) -> Store {
        self.open_with(|_| {}).await.unwrap()
    }
}

macro_rules! behavioural_suite {
    ($fixture:ty: $($test:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let fixture = <$fixture as crate::tests::suite::Fixture>::new();
            crate::tests::suite::$test(&fixture).await;
        })*
    };
    ($fixture:ty) => {
        crate::tests::suite::behavioural_suite!($fixture:
            documents_are_created_read_and_deleted
            creating_twice_conflicts
            an_update_needs_the_newest_revision
            a_batch_is_written_whole_or_not_at_all
            expectations_look_at_what_was_there_before
            a_nonce_works_once
            secrets_come_back
            nothing_that_cannot_be_kept_is_taken
            children_follow_their_parent
            watchers_hear_of_changes_in_order
            events_are_filtered_and_paged
            logs_are_the_newest_lines
            modify_begins_anew_when_somebody_was_faster
            modify_writes_only_what_the_closure_wants
            a_refused_batch_harms_no_other
            abandoned_commits_leave_memory_and_disk_equal
            everything_is_there_after_reopening
            revisions_never_come_back
            a_closed_store_can_be_read_but_not_changed
            prune_forgets_nonces
            prune_forgets_finished_tasks
            prune_forgets_deleted_clusters
            prune_bounds_events_and_logs
        );
    };
}
pub(super) use behavioural_suite;

// The retention tests belong to the suite, but fill a file of their own.
pub(super) use super::retention::*;

fn conflict(kind: Kind, id: &str) -> StoreError {
    StoreError::Conflict { kind, id: id.to_owned() }
}

pub(super) async fn documents_are_created_read_and_deleted(fixture: &impl Fixture) {
    let store = fixture.open().await;
    assert_eq!(store.get::<Setting>("a"), None);
    commit(&store, |batch| batch.create(&setting("b", 2)).create(&setting("a", 1)).put(&vswitch("vsw-1", "vpc-1")))
        .await
        .unwrap();
    let a = store.get::<Setting>("a").unwrap();
    assert_eq!((&a.value, a.id.as_str()), (&setting("a", 1), "a"));
    let ids: Vec<_> = store.list::<Setting>().iter().map(|setting| setting.id.clone()).collect();
    assert_eq!(ids, ["a", "b"], "in the order of ids");
    assert_eq!(store.list::<VSwitch>().len(), 1, "kinds are apart");
    assert_eq!(store.get::<VSwitch>("a"), None);

    commit(&store, |batch| batch.delete::<Setting>("a").delete::<Setting>("never was")).await.unwrap();
    assert_eq!(store.get::<Setting>("a"), None);
    assert_eq!(value_of(&store, "b"), Some(2));
    store.commit(Batch::new()).await.unwrap();
}

pub(super) async fn creating_twice_conflicts(fixture: &impl Fixture) {
    let store = fixture.open().await;
    commit(&store, |batch| batch.create(&setting("a", 1))).await.unwrap();
    let again = commit(&store, |batch| batch.create(&setting("a", 2))).await;
    assert_eq!(again, Err(conflict(Kind::Setting, "a")));
    let twice_at_once = commit(&store, |batch| batch.create(&setting("c", 1)).create(&setting("c", 2))).await;
    assert_eq!(twice_at_once, Err(conflict(Kind::Setting, "c")));
    assert_eq!((value_of(&store, "a"), value_of(&store, "c")), (Some(1), None));
}

pub(super) async fn an_update_needs_the_newest_revision(fixture: &impl Fixture) {
    let store = fixture.open().await;
    commit(&store, |batch| batch.create(&setting("a", 1))).await.unwrap();
    let first = store.get::<Setting>("a").unwrap().revision;
    commit(&store, |batch| batch.update(first, &setting("a", 2))).await.unwrap();
    let second = store.get::<Setting>("a").unwrap().revision;
    assert!(second > first);
    for stale in [0, first, second + 1, u64::MAX] {
        let refused = commit(&store, |batch| batch.update(stale, &setting("a", 3))).await;
        assert_eq!(refused, Err(conflict(Kind::Setting, "a")));
    }
    let absent = commit(&store, |batch| batch.update(second, &setting("b", 3))).await;
    assert_eq!(absent, Err(conflict(Kind::Setting, "b")));
    assert_eq!(store.get::<Setting>("a").unwrap().revision, second);
    commit(&store, |batch| batch.put(&setting("a", 4))).await.unwrap();
    assert_eq!(value_of(&store, "a"), Some(4));
}

pub(super) async fn a_batch_is_written_whole_or_not_at_all(fixture: &impl Fixture) {
    let store = fixture.open().await;
    commit(&store, |batch| batch.create(&setting("there", 1)).secret("kept", b"old")).await.unwrap();
    let refused = commit(&store, |batch| {
        batch
            .create(&setting("new", 1))
            .put(&setting("there", 2))
            .event(event("E1", "c1", "cluster_create"))
            .log(log_line("c1", "line"))
            .secret("new", b"new")
            .delete_secrets_under("ke")
            .nonce("key", "nonce", noon())
            .create(&setting("there", 3))
    })
    .await;
    assert_eq!(refused, Err(conflict(Kind::Setting, "there")));
    assert_nothing_happened(&store).await;
    store.close().await;
    assert_nothing_happened(&fixture.open().await).await;
}

async fn assert_nothing_happened(store: &Store) {
    assert_eq!((value_of(store, "new"), value_of(store, "there")), (None, Some(1)));
    assert!(event_ids(store).await.is_empty());
    assert!(log_texts(store, "c1").await.is_empty());
    assert_eq!(secret_text(store, "new").await, None);
    assert_eq!(secret_text(store, "kept").await.as_deref(), Some("old"));
    // The nonce is free still; asked in a batch that is refused itself, so that asking changes nothing.
    let asked = commit(store, |batch| batch.nonce("key", "nonce", noon()).create(&setting("there", 3))).await;
    assert_eq!(asked, Err(conflict(Kind::Setting, "there")));
}

pub(super) async fn expectations_look_at_what_was_there_before(fixture: &impl Fixture) {
    let store = fixture.open().await;
    commit(&store, |batch| batch.create(&setting("a", 1))).await.unwrap();
    let revision = store.get::<Setting>("a").unwrap().revision;
    commit(&store, |batch| {
        batch
            .delete::<Setting>("a")
            .create(&setting("b", 1))
            .expect_revision::<Setting>("b", None)
            .expect_revision::<Setting>("a", Some(revision))
    })
    .await
    .unwrap();
    for (id, expected) in [("a", Some(revision)), ("b", None), ("b", Some(revision))] {
        let refused =
            commit(&store, |batch| batch.put(&setting("c", 1)).expect_revision::<Setting>(id, expected)).await;
        assert_eq!(refused, Err(conflict(Kind::Setting, id)));
    }
    assert_eq!(store.get::<Setting>("c"), None);
}

pub(super) async fn a_nonce_works_once(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let with_nonce =
        |key: &'static str, nonce: &'static str| commit(&store, move |batch| batch.nonce(key, nonce, noon()));
    with_nonce("k1", "n1").await.unwrap();
    with_nonce("k1", "n2").await.unwrap();
    with_nonce("k2", "n1").await.unwrap();
    assert_eq!(with_nonce("k1", "n1").await, Err(StoreError::NonceUsed));
    // A replay is called a replay, even though what it asks for is there already.
    commit(&store, |batch| batch.create(&setting("a", 1)).nonce("k3", "n1", noon())).await.unwrap();
    let replay = commit(&store, |batch| batch.create(&setting("a", 1)).nonce("k3", "n1", noon())).await;
    assert_eq!(replay, Err(StoreError::NonceUsed));
    store.close().await;
    let store = fixture.open().await;
    let replay = commit(&store, |batch| batch.nonce("k1", "n1", noon())).await;
    assert_eq!(replay, Err(StoreError::NonceUsed));
    assert!(store.nonce_used("k1", "n1").await.unwrap());
    assert!(!store.nonce_used("k1", "n3").await.unwrap());
}

pub(super) async fn secrets_come_back(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let binary: Vec<u8> = (0..=255).collect();
    commit(&store, |batch| {
        batch
            .secret("c1/ca", b"first")
            .secret("c1/binary", &binary)
            .secret("c1/empty", b"")
            .secret("c10/ca", b"other")
            .secret("c1_/ca", b"wildcards mean nothing")
    })
    .await
    .unwrap();
    commit(&store, |batch| batch.secret("c1/ca", b"second")).await.unwrap();
    store.close().await;

    let store = fixture.open().await;
    assert_eq!(secret_text(&store, "c1/ca").await.as_deref(), Some("second"));
    assert_eq!(&*store.secret("c1/binary").await.unwrap().unwrap(), &binary[..]);
    assert_eq!(secret_text(&store, "c1/empty").await.as_deref(), Some(""));
    assert_eq!(secret_text(&store, "c2/ca").await, None);

    commit(&store, |batch| batch.delete_secrets_under("c1/").delete_secret("absent")).await.unwrap();
    assert_eq!(secret_text(&store, "c1/ca").await, None);
    assert_eq!(secret_text(&store, "c1/empty").await, None);
    assert_eq!(secret_text(&store, "c10/ca").await.as_deref(), Some("other"));
    commit(&store, |batch| batch.delete_secrets_under("c1_/")).await.unwrap();
    assert_eq!(secret_text(&store, "c1_/ca").await, None);
    commit(&store, |batch| batch.delete_secret("c10/ca")).await.unwrap();
    assert_eq!(secret_text(&store, "c10/ca").await, None);
}

pub(super) async fn nothing_that_cannot_be_kept_is_taken(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let nameless = commit(&store, |batch| batch.put(&setting("a", 1)).put(&setting("", 1))).await;
    assert!(matches!(nameless, Err(StoreError::Invalid(_))), "{nameless:?}");
    let everything = commit(&store, |batch| batch.put(&setting("a", 1)).delete_secrets_under("")).await;
    assert!(matches!(everything, Err(StoreError::Invalid(_))), "{everything:?}");
    assert_eq!(value_of(&store, "a"), None);
}

pub(super) async fn children_follow_their_parent(fixture: &impl Fixture) {
    let store = fixture.open().await;
    commit(&store, |batch| {
        batch
            .put(&machine("i-1", "c1"))
            .put(&machine("i-2", "c1"))
            .put(&machine("i-3", ""))
            .put(&node_pool("np1", "c1"))
    })
    .await
    .unwrap();
    let members = |store: &Store, cluster: &str| -> Vec<String> {
        store.list_of::<Machine>(cluster).iter().map(|machine| machine.id.clone()).collect()
    };
    assert_eq!(members(&store, "c1"), ["i-1", "i-2"]);
    assert_eq!(store.list_of::<NodePool>("c1").len(), 1);
    let mut changes = store.watch();
    commit(&store, |batch| batch.put(&machine("i-1", "c2"))).await.unwrap();
    assert_eq!((members(&store, "c1"), members(&store, "c2")), (vec!["i-2".to_owned()], vec!["i-1".to_owned()]));
    let heard = |change: Change| change.parent.map(|parent| parent.to_string());
    assert_eq!(heard(changes.recv().await.unwrap()).as_deref(), Some("c1"), "the old cluster hears of it");
    assert_eq!(heard(changes.recv().await.unwrap()).as_deref(), Some("c2"));
    commit(&store, |batch| batch.put(&machine("i-1", "")).delete::<Machine>("i-2")).await.unwrap();
    assert_eq!(heard(changes.recv().await.unwrap()).as_deref(), Some("c2"));
    assert_eq!(heard(changes.recv().await.unwrap()), None);
    assert_eq!(heard(changes.recv().await.unwrap()).as_deref(), Some("c1"), "a deletion names the last parent");
    assert!(members(&store, "c1").is_empty() && members(&store, "c2").is_empty());
    store.close().await;
    let store = fixture.open().await;
    assert!(members(&store, "c1").is_empty());
    assert_eq!(store.list::<Machine>().len(), 2);
}

pub(super) async fn watchers_hear_of_changes_in_order(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let mut changes = store.watch();
    let mut commits = JoinSet::new();
    for number in 0..100 {
        let store = store.clone();
        commits.spawn(async move {
            let id = format!("s{number}");
            commit(&store, |batch| batch.create(&setting(&id, number))).await.unwrap();
        });
    }
    let mut last = 0;
    for _ in 0..100 {
        let change = changes.recv().await.unwrap();
        assert_eq!(change.kind, Kind::Setting);
        let revision = store.get::<Setting>(&change.id).expect("memory has it before the watcher hears").revision;
        assert!(revision > last, "revision {revision} was told after {last}");
        last = revision;
    }
    commits.join_all().await;
    let refused = commit(&store, |batch| batch.create(&setting("s0", 1))).await;
    assert!(refused.is_err());
    commit(&store, |batch| batch.delete::<Setting>("absent").event(event("E1", "c1", "x"))).await.unwrap();
    assert!(changes.try_recv().is_err(), "nobody hears of what did not happen");
}

pub(super) async fn events_are_filtered_and_paged(fixture: &impl Fixture) {
    let store = fixture.open().await;
    for number in 0..10 {
        let (cluster, kind) = (if number < 6 { "c1" } else { "c2" }, ["cluster_create", "cluster_delete"][number % 2]);
        commit(&store, |batch| batch.event(event(&format!("E{number}"), cluster, kind))).await.unwrap();
    }
    let mut foreign = event("F", "c1", "cluster_create");
    foreign.account_id = "2".to_owned();
    commit(&store, |batch| batch.event(foreign)).await.unwrap();

    let ask = |cluster: Option<&str>, kind: Option<&str>, offset, limit| EventQuery {
        account_id: "1".to_owned(),
        cluster_id: cluster.map(str::to_owned),
        event_type: kind.map(str::to_owned),
        offset,
        limit,
    };
    for (query, expected, total) in [
        (ask(None, None, 0, 3), vec!["E9", "E8", "E7"], 10),
        (ask(None, None, 8, 3), vec!["E1", "E0"], 10),
        (ask(None, None, u64::MAX, 3), vec![], 10),
        (ask(Some("c1"), None, 0, 2), vec!["E5", "E4"], 6),
        (ask(None, Some("CLUSTER_Delete"), 0, 2), vec!["E9", "E7"], 5),
        (ask(Some("c2"), Some("cluster_create"), 0, 9), vec!["E8", "E6"], 2),
        (ask(Some("c3"), None, 0, 9), vec![], 0),
    ] {
        let page = store.events(&query).await.unwrap();
        let ids: Vec<_> = page.items.iter().map(|event| event.id.as_str()).collect();
        assert_eq!((ids, page.total), (expected, total), "{query:?}");
    }
    let newest = store.events(&ask(None, None, 0, 1)).await.unwrap().items.remove(0);
    assert_eq!(newest, event("E9", "c2", "cluster_delete"), "it comes back as it was given");
}

pub(super) async fn logs_are_the_newest_lines(fixture: &impl Fixture) {
    let store = fixture.open().await;
    for text in ["one", "two", "three"] {
        commit(&store, |batch| batch.log(log_line("c1", text)).log(log_line("c2", text))).await.unwrap();
    }
    let lines = store.logs("c1", 2).await.unwrap();
    let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["two", "three"], "oldest first");
    assert!(lines[0].id > 0 && lines[0].id < lines[1].id);
    assert_eq!((lines[0].created, lines[0].cluster_id.as_str()), (noon(), "c1"));
    assert!(store.logs("c3", 5).await.unwrap().is_empty());
    assert!(store.logs("c1", 0).await.unwrap().is_empty());
    assert_eq!(store.logs("c1", u32::MAX).await.unwrap().len(), 3);
}

pub(super) async fn modify_begins_anew_when_somebody_was_faster(fixture: &impl Fixture) {
    const WRITERS: u64 = 64;
    let store = fixture.open().await;
    commit(&store, |batch| batch.create(&setting("counter", 0))).await.unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            let count = |setting: &mut Setting| {
                setting.value = (setting.value.as_u64().unwrap() + 1).into();
                true
            };
            store.modify::<Setting>("counter", count).await.unwrap().unwrap()
        });
    }
    writers.join_all().await;
    assert_eq!(value_of(&store, "counter"), Some(WRITERS));
    store.close().await;
    assert_eq!(value_of(&fixture.open().await, "counter"), Some(WRITERS));
}

pub(super) async fn modify_writes_only_what_the_closure_wants(fixture: &impl Fixture) {
    let store = fixture.open().await;
    commit(&store, |batch| batch.create(&setting("a", 1))).await.unwrap();
    let before = store.get::<Setting>("a").unwrap();
    let looked = store.modify::<Setting>("a", |setting| {
        setting.value = 2.into();
        false
    });
    assert!(Arc::ptr_eq(&looked.await.unwrap().unwrap(), &before));
    let absent = store.modify::<Setting>("b", |_| panic!("there is nothing to change"));
    assert_eq!(absent.await.unwrap(), None);
    let renamed = store.modify::<Setting>("a", |setting| {
        setting.id = "b".to_owned();
        true
    });
    assert!(matches!(renamed.await, Err(StoreError::Invalid(_))));
    let changed = store.modify::<Setting>("a", |setting| {
        setting.value = 3.into();
        true
    });
    assert_eq!(changed.await.unwrap().unwrap().value, setting("a", 3));
}

pub(super) async fn a_refused_batch_harms_no_other(fixture: &impl Fixture) {
    let store = fixture.open().await;
    commit(&store, |batch| batch.create(&setting("taken", 0))).await.unwrap();
    let mut commits = JoinSet::new();
    for number in 0..200 {
        let store = store.clone();
        commits.spawn(async move {
            let id = format!("s{number}");
            let outcome = commit(&store, |batch| {
                batch.create(&setting(&id, number));
                if number % 3 == 0 {
                    batch.create(&setting("taken", 1));
                }
                batch
            });
            (number, outcome.await.is_ok())
        });
    }
    for (number, written) in commits.join_all().await {
        assert_eq!(written, number % 3 != 0);
        assert_eq!(value_of(&store, &format!("s{number}")).is_some(), written);
    }
}

pub(super) async fn abandoned_commits_leave_memory_and_disk_equal(fixture: &impl Fixture) {
    let store = fixture.open().await;
    for number in 0..100 {
        let (id, store) = (format!("s{}", number % 7), store.clone());
        let task = tokio::spawn(async move { commit(&store, |batch| batch.put(&setting(&id, number))).await });
        if number % 2 == 0 {
            tokio::task::yield_now().await;
        }
        task.abort();
        let _ = task.await;
    }
    // What was abandoned may be in the queue still; closing writes all of it.
    store.close().await;
    let in_memory: Vec<_> = store.list::<Setting>().iter().map(|setting| (**setting).clone()).collect();
    let on_disk: Vec<_> = fixture.open().await.list::<Setting>().iter().map(|setting| (**setting).clone()).collect();
    assert_eq!(in_memory, on_disk);
}

pub(super) async fn everything_is_there_after_reopening(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let vpc = Vpc {
        id: "vpc-1".to_owned(),
        account_id: "1".to_owned(),
        region_id: "cn-beijing".to_owned(),
        cidr: "10.200.0.0/20".parse().unwrap(),
        created: noon(),
        ephemeral: true,
    };
    let key = AccessKey {
        id: "key".to_owned(),
        account_id: "1".to_owned(),
        principal: "root".to_owned(),
        is_root: true,
        created: noon(),
    };
    commit(&store, |batch| {
        batch
            .create(&cluster("c1", ClusterState::Running, noon()))
            .create(&node_pool("np1", "c1"))
            .create(&machine("i-1", "c1"))
            .create(&vpc)
            .create(&vswitch("vsw-1", "vpc-1"))
            .create(&task("T-1", "c1", TaskState::Running, noon()))
            .create(&key)
            .create(&credential("c1/root/public", "c1"))
            .create(&trigger("19us5pvcv48rs", "c1"))
            .create(&setting("name with \"quotes\" and \u{1f980}", 1))
    })
    .await
    .unwrap();
    let numbers: serde_json::Value =
        serde_json::from_str("[0.1, 1e300, 5e-324, 2.2250738585072011e-308, 18446744073709551615, -0.0]").unwrap();
    let numbers = Setting { id: "numbers".to_owned(), value: numbers };
    assert_eq!(snapshot(&store).len(), Kind::ALL.len(), "one of each kind");
    commit(&store, |batch| batch.create(&numbers)).await.unwrap();
    let before = snapshot(&store);
    store.close().await;
    let store = fixture.open().await;
    assert_eq!(snapshot(&store), before);
    assert_eq!(store.list_of::<Task>("c1").len(), 1);
    assert_eq!(store.list_of::<VSwitch>("vpc-1").len(), 1);
    assert_eq!(store.list_of::<KubeCredential>("c1").len(), 1);
    assert_eq!(store.list_of::<Trigger>("c1").len(), 1);
}

/// Everything that memory holds, in words.
fn snapshot(store: &Store) -> Vec<String> {
    fn lines<T: crate::Document + std::fmt::Debug>(store: &Store) -> Vec<String> {
        store.list::<T>().iter().map(|document| format!("{document:?}")).collect()
    }
    [
        lines::<Cluster>(store),
        lines::<NodePool>(store),
        lines::<Machine>(store),
        lines::<Vpc>(store),
        lines::<VSwitch>(store),
        lines::<Task>(store),
        lines::<AccessKey>(store),
        lines::<KubeCredential>(store),
        lines::<Setting>(store),
        lines::<Trigger>(store),
    ]
    .concat()
}

pub(super) async fn revisions_never_come_back(fixture: &impl Fixture) {
    let store = fixture.open().await;
    commit(&store, |batch| batch.create(&setting("a", 1))).await.unwrap();
    let old = store.get::<Setting>("a").unwrap().revision;
    commit(&store, |batch| batch.delete::<Setting>("a")).await.unwrap();
    store.close().await;
    let store = fixture.open().await;
    commit(&store, |batch| batch.create(&setting("a", 2))).await.unwrap();
    let stale = commit(&store, |batch| batch.update(old, &setting("a", 3))).await;
    assert_eq!(stale, Err(conflict(Kind::Setting, "a")), "a document made anew is not the one that was read");
}

pub(super) async fn a_closed_store_can_be_read_but_not_changed(fixture: &impl Fixture) {
    let store = fixture.open().await;
    commit(&store, |batch| batch.create(&setting("a", 1))).await.unwrap();
    store.close().await;
    store.close().await;
    assert_eq!(value_of(&store, "a"), Some(1));
    let refused = commit(&store, |batch| batch.create(&setting("b", 1))).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(matches!(store.secret("any").await, Err(StoreError::Unavailable(_))));
}
