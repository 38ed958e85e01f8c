//! Any sequence of batches has the effect that it has on a plain map, before and after reopening.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::samples::*;
use super::sqlite::SqliteFixture;
use super::suite::Fixture;
use crate::model::VSwitch;
use crate::{Batch, Store, StoreError};

#[derive(Clone, Debug)]
enum Step {
    Create {
        id: u8,
        parent: u8,
    },
    Put {
        id: u8,
        parent: u8,
    },
    /// With the revision that is current before the batch.
    Update {
        id: u8,
        parent: u8,
    },
    UpdateStale {
        id: u8,
    },
    Delete {
        id: u8,
    },
    ExpectAbsent {
        id: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (id, parent) = (0..4_u8, 0..3_u8);
    prop_oneof![
        2 => (id.clone(), parent.clone()).prop_map(|(id, parent)| Step::Create { id, parent }),
        3 => (id.clone(), parent.clone()).prop_map(|(id, parent)| Step::Put { id, parent }),
        2 => (id.clone(), parent).prop_map(|(id, parent)| Step::Update { id, parent }),
        1 => id.clone().prop_map(|id| Step::UpdateStale { id }),
        2 => id.clone().prop_map(|id| Step::Delete { id }),
        1 => id.prop_map(|id| Step::ExpectAbsent { id }),
    ]
}

/// Id to parent. Revisions are compared between memory and disk.
type Model = BTreeMap<u8, u8>;

fn name(prefix: &str, number: u8) -> String {
    format!("{prefix}-{number}")
}

/// What a batch makes of the model; `None` when it must be refused.
fn apply(model: &Model, steps: &[Step]) -> Option<Model> {
    let mut next = model.clone();
    let mut written = Vec::new();
    for step in steps {
        match *step {
            Step::Create { id, parent } => {
                if next.insert(id, parent).is_some() {
                    return None;
                }
                written.push(id);
            }
            Step::Put { id, parent } => {
                next.insert(id, parent);
                written.push(id);
            }
            Step::Update { id, parent } => {
                if written.contains(&id) || next.insert(id, parent).is_none() {
                    return None;
                }
                written.push(id);
            }
            Step::UpdateStale { .. } => return None,
            Step::Delete { id } => drop(next.remove(&id)),
            Step::ExpectAbsent { id } => {
                if model.contains_key(&id) {
                    return None;
                }
            }
        }
    }
    Some(next)
}

fn batch_of(store: &Store, steps: &[Step]) -> Batch {
    let mut batch = Batch::new();
    let document = |id: u8, parent: u8| vswitch(&name("vsw", id), &name("vpc", parent));
    for step in steps {
        match *step {
            Step::Create { id, parent } => batch.create(&document(id, parent)),
            Step::Put { id, parent } => batch.put(&document(id, parent)),
            Step::Update { id, parent } => {
                let current = store.get::<VSwitch>(&name("vsw", id));
                batch.update(current.map_or(0, |current| current.revision), &document(id, parent))
            }
            Step::UpdateStale { id } => batch.update(u64::MAX, &document(id, 0)),
            Step::Delete { id } => batch.delete::<VSwitch>(&name("vsw", id)),
            Step::ExpectAbsent { id } => batch.expect_revision::<VSwitch>(&name("vsw", id), None),
        };
    }
    batch
}

fn assert_equal(store: &Store, model: &Model) {
    let found: Vec<_> = store.list::<VSwitch>().iter().map(|v| (v.id.clone(), v.vpc_id.clone())).collect();
    let wanted: Vec<_> = model.iter().map(|(id, parent)| (name("vsw", *id), name("vpc", *parent))).collect();
    assert_eq!(found, wanted);
    for parent in 0..3 {
        let found = store.list_of::<VSwitch>(&name("vpc", parent)).len();
        assert_eq!(found, model.values().filter(|value| **value == parent).count());
    }
}

async fn check(batches: Vec<Vec<Step>>) {
    let fixture = SqliteFixture::new();
    let store = fixture.open().await;
    let mut model = Model::new();
    for steps in batches {
        let outcome = store.commit(batch_of(&store, &steps)).await;
        match apply(&model, &steps) {
            Some(next) => {
                assert_eq!(outcome, Ok(()), "{steps:?}");
                model = next;
            }
            None => assert!(matches!(outcome, Err(StoreError::Conflict { .. })), "{steps:?}: {outcome:?}"),
        }
        assert_equal(&store, &model);
    }
    store.close().await;
    let reopened = fixture.open().await;
    assert_equal(&reopened, &model);
    let revisions = |store: &Store| -> Vec<u64> { store.list::<VSwitch>().iter().map(|v| v.revision).collect() };
    assert_eq!(revisions(&reopened), revisions(&store));
    reopened.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn batches_do_what_they_do_to_a_map(batches in prop::collection::vec(prop::collection::vec(step(), 1..5), 1..16)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(batches));
    }
}
