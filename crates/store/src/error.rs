//! What can go wrong in the store, in words for the operator.

use crate::document::Kind;
use crate::model::{Fault, FaultKind};

/// A refusal or failure of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The document was made, changed or deleted since it was read. Nothing of the batch was written.
    #[error("{kind} {id} was made, changed or deleted by another request at the same time; read it again and retry")]
    Conflict {
        /// Kind of the document.
        kind: Kind,
        /// Its id.
        id: String,
    },
    /// The access key has used this nonce before. Nothing of the batch was written.
    #[error("this nonce has been used before; sign each request with a new one")]
    NonceUsed,
    /// The disk or the database does not take or give data now. Retrying later is right.
    #[error("{0}")]
    Unavailable(String),
    /// What is stored cannot be understood.
    #[error("{0}")]
    Corrupt(String),
    /// The master key is missing, too widely readable, or not the one that the secrets were sealed with.
    #[error("{0}")]
    Key(String),
    /// The caller gave the store something that cannot be kept: a mistake in the program.
    #[error("{0}")]
    Invalid(String),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Conflict { .. } => FaultKind::Conflict,
            StoreError::NonceUsed => FaultKind::NonceUsed,
            StoreError::Unavailable(_) => FaultKind::Unavailable,
            StoreError::Corrupt(_) | StoreError::Key(_) | StoreError::Invalid(_) => FaultKind::Internal,
        };
        Fault::new(kind, error.to_string())
    }
}
