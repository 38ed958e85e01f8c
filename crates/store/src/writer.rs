//! The one task that writes. Batches that arrive while the disk is busy are written together.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot};

use crate::StoreError;
use crate::backend::{Backend, RawBatch};
use crate::directory::DirectoryLock;
use crate::mirror::{Change, Effect, Mirror};

/// Batches that wait to be written; more callers than this wait for their turn.
pub(crate) const QUEUE_LENGTH_MAX: usize = 1_024;

/// Batches in one transaction: enough to share one flush of the disk, few enough to answer the first soon.
const GROUP_LENGTH_MAX: usize = 64;

/// A batch on its way to the disk.
pub(crate) struct Request {
    pub(crate) raw: RawBatch,
    pub(crate) effects: Vec<Effect>,
    pub(crate) reply: oneshot::Sender<Result<(), StoreError>>,
}

/// What must stay as long as the database is open; given back in this order, after the database was closed.
pub(crate) struct Guards {
    pub(crate) lock: Option<DirectoryLock>,
    pub(crate) temporary: Option<tempfile::TempDir>,
}

pub(crate) struct Writer {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) watchers: broadcast::Sender<Change>,
    pub(crate) guards: Guards,
}

impl Writer {
    /// Ends, after everything queued is written, when the last sender is gone.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<Request>) {
        let mut group = Vec::new();
        let mut in_doubt = false;
        while queue.recv_many(&mut group, GROUP_LENGTH_MAX).await > 0 {
            if in_doubt && let Err(error) = self.reload().await {
                group.drain(..).for_each(|request| answer(request.reply, Err(error.clone())));
                continue;
            }
            in_doubt = self.write(&mut group).await.is_err();
        }
        self.backend.close().await;
        let Guards { lock, temporary } = self.guards;
        drop(lock);
        drop(temporary);
    }

    /// Writes a group and answers it; an error says that memory may differ from the disk now.
    async fn write(&self, group: &mut Vec<Request>) -> Result<(), ()> {
        let mut batches = Vec::with_capacity(group.len());
        let mut waiting = Vec::with_capacity(group.len());
        for Request { raw, effects, reply } in group.drain(..) {
            batches.push(raw);
            waiting.push((effects, reply));
        }
        match self.backend.apply(&batches).await {
            Ok(outcomes) => {
                debug_assert_eq!(outcomes.len(), waiting.len(), "one outcome per batch");
                for ((effects, reply), outcome) in waiting.into_iter().zip(outcomes) {
                    let outcome = outcome.map(|revisions| self.publish(self.mirror.apply(effects, &revisions)));
                    answer(reply, outcome);
                }
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, batches = waiting.len(), "writing to the database failed");
                // Some of it may be on disk all the same. Readers shall see that before anybody hears of the failure.
                let reloaded = self.reload().await;
                waiting.into_iter().for_each(|(_, reply)| answer(reply, Err(error.clone())));
                reloaded.map_err(drop)
            }
        }
    }

    async fn reload(&self) -> Result<(), StoreError> {
        let rows = self.backend.load_all().await?;
        self.publish(self.mirror.replace(&rows)?);
        Ok(())
    }

    fn publish(&self, changes: Vec<Change>) {
        for change in changes {
            // Nobody may be listening; that is no error.
            let _ = self.watchers.send(change);
        }
    }
}

fn answer(reply: oneshot::Sender<Result<(), StoreError>>, outcome: Result<(), StoreError>) {
    // The caller may have given up waiting; what was written stays written.
    let _ = reply.send(outcome);
}
