//! Leases of tasks: a server works on a task only while it holds the task's lease. A lease that ran out is adopted by any
//! server, with a higher fencing number; one of a former run of this server (its data directory can have only one user)
//! is adopted at once.

use std::time::Duration;

use sampan_store::{
    Store,
    model::{Lease, Outcome, Task, TaskState, Timestamp},
};

/// Length of a lease. Three times the driver's resync, so that a running task's lease does not run out unnoticed.
const LEASE: Duration = Duration::from_secs(180);
/// A lease is renewed when less than this is left.
const RENEW_BELOW: Duration = Duration::from_secs(90);

/// Who we are: which data directory, and which run of the server on it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    prefix: String,
    owner: String,
}

impl Identity {
    pub(super) fn new(instance_id: &str, run: &str) -> Self {
        let prefix = format!("{instance_id}/");
        Self { owner: format!("{prefix}{run}"), prefix }
    }
}

/// How a task's lease stands to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Held by us, long enough.
    Held,
    /// Held by us, to be renewed.
    Renew,
    /// To be adopted.
    Adopt,
    /// Held by somebody else.
    Elsewhere(Timestamp),
}

fn standing(lease: Option<&Lease>, me: &Identity, now: Timestamp) -> Standing {
    let Some(lease) = lease else { return Standing::Adopt };
    if lease.owner == me.owner {
        let fresh = later(now, RENEW_BELOW) < lease.expires;
        return if fresh { Standing::Held } else { Standing::Renew };
    }
    if lease.owner.starts_with(&me.prefix) || lease.expires <= now {
        return Standing::Adopt;
    }
    Standing::Elsewhere(lease.expires)
}

/// `now` plus `duration`; the end of time if there is no such moment.
pub(super) fn later(now: Timestamp, duration: Duration) -> Timestamp {
    now.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// Takes or renews the leases of the cluster's running tasks. `Some` when another server works on one of them: until when
/// its lease lasts.
pub(super) async fn hold(store: &Store, me: &Identity, cluster_id: &str, now: Timestamp) -> Outcome<Option<Timestamp>> {
    for task in store.list_of::<Task>(cluster_id) {
        if task.state != TaskState::Running {
            continue;
        }
        match standing(task.lease.as_ref(), me, now) {
            Standing::Held => continue,
            Standing::Elsewhere(until) => return Ok(Some(until)),
            Standing::Renew | Standing::Adopt => {}
        }
        let held = store.modify::<Task>(&task.id, |task| take(task, me, now)).await?;
        let lease = held.as_ref().and_then(|task| task.lease.as_ref());
        if let Standing::Elsewhere(until) = standing(lease, me, now) {
            return Ok(Some(until));
        }
    }
    Ok(None)
}

fn take(task: &mut Task, me: &Identity, now: Timestamp) -> bool {
    let fence = task.lease.as_ref().map_or(0, |lease| lease.fence);
    let fence = match standing(task.lease.as_ref(), me, now) {
        _ if task.state != TaskState::Running => return false,
        Standing::Held | Standing::Elsewhere(_) => return false,
        Standing::Renew => fence,
        Standing::Adopt => fence + 1,
    };
    task.lease = Some(Lease { owner: me.owner.clone(), fence, expires: later(now, LEASE) });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standings() {
        let me = Identity::new("here", "run2");
        let now: Timestamp = "2024-01-01T00:00:00Z".parse().expect("a time");
        let check = |owner: &str, left_seconds: i64, expected: Standing| {
            let expires = now + jiff::SignedDuration::from_secs(left_seconds);
            let lease = Lease { owner: owner.into(), fence: 3, expires };
            let expected = if let Standing::Elsewhere(_) = expected { Standing::Elsewhere(expires) } else { expected };
            assert_eq!(standing(Some(&lease), &me, now), expected, "{owner} {left_seconds}");
        };
        assert_eq!(standing(None, &me, now), Standing::Adopt);
        check("here/run2", 170, Standing::Held);
        check("here/run2", 80, Standing::Renew);
        check("here/run2", -5, Standing::Renew);
        check("here/run1", 170, Standing::Adopt);
        check("there/run9", 1, Standing::Elsewhere(now));
        check("there/run9", 0, Standing::Adopt);
        check("hereabouts/run1", 5, Standing::Elsewhere(now));
    }

    #[tokio::test]
    async fn adoption_raises_the_fence_and_renewal_does_not() {
        let store = Store::open_temporary().await.expect("a store");
        let now: Timestamp = "2024-01-01T00:00:00Z".parse().expect("a time");
        let task: Task = serde_json::from_value(serde_json::json!({
            "id": "T-1", "account_id": "1", "cluster_id": "c1", "task_type": "cluster_create", "state": "running",
            "created": now, "updated": now, "deadline": now,
        }))
        .expect("a task");
        store.modify::<Task>("T-1", |_| false).await.expect("nothing there is fine");
        let mut batch = sampan_store::Batch::new();
        batch.create(&task);
        store.commit(batch).await.expect("committed");
        let lease = || store.get::<Task>("T-1").expect("there").lease.clone().expect("leased");

        let (one, two, other) = (Identity::new("here", "1"), Identity::new("here", "2"), Identity::new("there", "1"));
        assert_eq!(hold(&store, &one, "c1", now).await, Ok(None));
        assert_eq!(lease().fence, 1);
        let until = lease().expires;
        assert_eq!(hold(&store, &other, "c1", now).await, Ok(Some(until)), "not before it runs out");
        assert_eq!(hold(&store, &two, "c1", now).await, Ok(None), "the next run adopts at once");
        assert_eq!(lease().fence, 2);
        let soon = later(now, Duration::from_secs(120));
        assert_eq!(hold(&store, &two, "c1", soon).await, Ok(None));
        assert_eq!((lease().fence, lease().expires > until), (2, true));
        let long_after = later(now, Duration::from_secs(3600));
        assert_eq!(hold(&store, &other, "c1", long_after).await, Ok(None));
        assert_eq!((lease().fence, lease().owner.as_str()), (3, "there/1"));
    }
}
