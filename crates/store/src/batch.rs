//! A batch: changes that become durable together or not at all.

use std::fmt;
use std::sync::Arc;

use crate::StoreError;
use crate::backend::{RawBatch, RawChange, WriteMode};
use crate::document::{AnyDocument, Document, Kind, Versioned};
use crate::key::{Sealer, SecretBytes};
use crate::mirror::Effect;
use crate::model::{Event, LogLine, Timestamp};

/// Changes for [`crate::Store::commit`]: written together, durably, or not at all.
///
/// Nonces are checked first, then the revisions of [`Batch::expect_revision`], both against what was stored before the
/// batch; then the rest is done in the order in which it was added. The first refusal stops everything.
#[derive(Default)]
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch {
    ops: Vec<Op>,
    /// The first thing that cannot be kept; reported by the commit, so that adding needs no `?`.
    invalid: Option<StoreError>,
}

/// Makes the document that memory keeps, once its revision is known.
type Install = Box<dyn FnOnce(u64) -> AnyDocument + Send + Sync>;

enum Op {
    Write { mode: WriteMode, kind: Kind, id: String, parent: Option<String>, body: String, install: Install },
    Delete { kind: Kind, id: String },
    Secret { name: String, value: SecretBytes },
    Check(RawChange),
    Other(RawChange),
}

impl Op {
    /// Lower ones are done first.
    fn rank(&self) -> u8 {
        match self {
            Self::Check(RawChange::UseNonce { .. }) => 0,
            Self::Check(_) => 1,
            _ => 2,
        }
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a new document; [`StoreError::Conflict`] if it exists.
    pub fn create<T: Document>(&mut self, value: &T) -> &mut Self {
        self.write(WriteMode::Create, value)
    }

    /// Replaces a document; [`StoreError::Conflict`] if it was changed since `revision`, or is gone.
    pub fn update<T: Document>(&mut self, revision: u64, value: &T) -> &mut Self {
        self.write(WriteMode::Update(revision), value)
    }

    /// Adds or replaces a document, whatever is there.
    pub fn put<T: Document>(&mut self, value: &T) -> &mut Self {
        self.write(WriteMode::Put, value)
    }

    /// Removes a document; nothing happens when it is not there.
    pub fn delete<T: Document>(&mut self, id: &str) -> &mut Self {
        self.ops.push(Op::Delete { kind: T::KIND, id: id.to_owned() });
        self
    }

    /// [`StoreError::Conflict`] unless the document is in this revision before the batch; `None`: unless it does not
    /// exist. For documents that the batch relies on without changing them.
    pub fn expect_revision<T: Document>(&mut self, id: &str, revision: Option<u64>) -> &mut Self {
        self.ops.push(Op::Check(RawChange::Expect { kind: T::KIND, id: id.to_owned(), revision }));
        self
    }

    /// Appends an event.
    pub fn event(&mut self, event: Event) -> &mut Self {
        self.ops.push(Op::Other(RawChange::AppendEvent(event)));
        self
    }

    /// Appends a line to its cluster's log; the store gives it an id.
    pub fn log(&mut self, line: LogLine) -> &mut Self {
        self.ops.push(Op::Other(RawChange::AppendLog(line)));
        self
    }

    /// Uses up a nonce; [`StoreError::NonceUsed`] if it was used before. It may be forgotten after `expires`, when a
    /// request that carries it is too old anyway.
    pub fn nonce(&mut self, access_key_id: &str, nonce: &str, expires: Timestamp) -> &mut Self {
        self.ops.push(Op::Check(RawChange::UseNonce {
            access_key_id: access_key_id.to_owned(),
            nonce: nonce.to_owned(),
            expires: expires.as_millisecond(),
        }));
        self
    }

    /// Stores a secret, encrypted, in the place of any earlier one of that name.
    pub fn secret(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.ops.push(Op::Secret { name: name.to_owned(), value: SecretBytes::new(value.to_vec()) });
        self
    }

    /// Removes a secret; nothing happens when it is not there.
    pub fn delete_secret(&mut self, name: &str) -> &mut Self {
        self.ops.push(Op::Other(RawChange::DeleteSecret { name: name.to_owned() }));
        self
    }

    /// Removes every secret whose name begins with `prefix` (end it with `/`, or more may match than was meant). An
    /// empty prefix is refused.
    pub fn delete_secrets_under(&mut self, prefix: &str) -> &mut Self {
        if prefix.is_empty() {
            self.reject("an empty prefix would delete every secret".to_owned());
        } else {
            self.ops.push(Op::Other(RawChange::DeleteSecretsUnder { prefix: prefix.to_owned() }));
        }
        self
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.invalid.is_none()
    }

    /// Housekeeping that only the store itself asks for.
    pub(crate) fn raw(&mut self, change: RawChange) -> &mut Self {
        self.ops.push(Op::Other(change));
        self
    }

    fn write<T: Document>(&mut self, mode: WriteMode, value: &T) -> &mut Self {
        match encode(value) {
            Ok((body, value)) => {
                let (kind, id, parent) = (T::KIND, value.id().to_owned(), value.parent().map(str::to_owned));
                let install: Install = Box::new(move |revision| Arc::new(Versioned { revision, value }));
                self.ops.push(Op::Write { mode, kind, id, parent, body, install });
            }
            Err(problem) => self.reject(format!("the {} {:?} cannot be stored: {problem}", T::KIND, value.id())),
        }
        self
    }

    fn reject(&mut self, message: String) {
        self.invalid.get_or_insert(StoreError::Invalid(message));
    }

    /// What is to be done on disk, and then in memory.
    pub(crate) fn into_parts(mut self, sealer: &Sealer) -> Result<(RawBatch, Vec<Effect>), StoreError> {
        if let Some(error) = self.invalid {
            return Err(error);
        }
        self.ops.sort_by_key(Op::rank);
        let mut raw = RawBatch::with_capacity(self.ops.len());
        let mut effects = Vec::new();
        for op in self.ops {
            raw.push(match op {
                Op::Write { mode, kind, id, parent, body, install } => {
                    effects.push(Effect::Put { kind, id: id.clone(), parent: parent.clone(), install });
                    RawChange::Write { mode, kind, id, parent, body }
                }
                Op::Delete { kind, id } => {
                    effects.push(Effect::Delete { kind, id: id.clone() });
                    RawChange::Delete { kind, id }
                }
                Op::Secret { name, value } => {
                    let sealed = sealer.seal(&name, &value)?;
                    RawChange::PutSecret { name, sealed }
                }
                Op::Check(change) | Op::Other(change) => change,
            });
        }
        Ok((raw, effects))
    }
}

/// The JSON of a document, and the document as it is read from that.
///
/// Memory gets what a restart would read, not the value at hand: whatever JSON does to it shows at once, and a document
/// that could not be read again is refused instead of keeping the next start from succeeding.
fn encode<T: Document>(value: &T) -> Result<(String, T), String> {
    if value.id().is_empty() {
        return Err("it has no id".to_owned());
    }
    let body = serde_json::to_string(value).map_err(|error| error.to_string())?;
    let read: T = serde_json::from_str(&body).map_err(|error| format!("it could not be read again: {error}"))?;
    if read.id() != value.id() {
        return Err(format!("it would be read as {:?}", read.id()));
    }
    Ok((body, read))
}

impl fmt::Debug for Batch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = out.debug_list();
        for op in &self.ops {
            match op {
                Op::Write { mode, kind, id, .. } => list.entry(&format_args!("{mode:?} {kind} {id}")),
                Op::Delete { kind, id } => list.entry(&format_args!("Delete {kind} {id}")),
                Op::Secret { name, .. } => list.entry(&format_args!("Secret {name}")),
                Op::Check(change) | Op::Other(change) => list.entry(change),
            };
        }
        list.finish()
    }
}
