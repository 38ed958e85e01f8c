//! What is done from time to time: the store forgets what is past its retention.

use std::time::Duration;

use sampan_store::{Store, model::Timestamp};
use tokio::task::AbortHandle;

/// How often. Retention counts in days, so minutes are exact enough.
const PRUNE_PERIOD: Duration = Duration::from_secs(300);

/// Prunes now and then until aborted.
pub(crate) fn start(store: Store) -> AbortHandle {
    let work = async move {
        let mut period = tokio::time::interval(PRUNE_PERIOD);
        loop {
            period.tick().await;
            if let Err(error) = store.prune(Timestamp::now()).await {
                tracing::warn!(%error, "the past cannot be pruned now; it is tried again");
            }
        }
    };
    tokio::spawn(work).abort_handle()
}
