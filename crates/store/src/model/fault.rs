//! The one domain error. It knows nothing of HTTP; the gateway maps its kind to a code and a status in one table.

use serde::{Deserialize, Serialize};

/// What kind of refusal or failure it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// A value is wrong; names the field.
    InvalidParameter(String),
    /// A required value is missing; names the field.
    MissingParameter(String),
    /// No such cluster, or not visible to the caller.
    ClusterNotFound,
    /// Anything else that does not exist: `NodePool`, `Task`, `Node`, `Machine`, …
    NotFound(String),
    /// The cluster's state does not allow it now.
    ClusterState,
    /// Deletion protection is on.
    DeletionProtected,
    /// A quota is used up: `Cluster`, `ManagedCluster`, `Node`, `NodePool`.
    QuotaExceeded(String),
    /// The nonce was used before.
    NonceUsed,
    /// The caller may not do this.
    Forbidden,
    /// Asked for too often; later is right.
    Throttled,
    /// The request cannot be honoured by this installation, though it is well-formed.
    Unsupported,
    /// Somebody else changed the same thing first; trying again is right.
    Conflict,
    /// A part that is needed (Docker, disk, …) does not answer now; trying again later is right.
    Unavailable,
    /// Our fault. The message is for the log, never for the caller.
    Internal,
}

/// A refusal or failure: what failed, on what, and what to do, in words for the caller (except
/// [`FaultKind::Internal`]).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Fault {
    /// What kind it is.
    pub kind: FaultKind,
    /// In words.
    pub message: String,
}

/// Shorthand used all over the product.
pub type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// A fault of any kind.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
    /// A wrong value of `field`.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::new(FaultKind::InvalidParameter(field.to_owned()), message)
    }
    /// `field` is required.
    pub fn missing(field: &str) -> Self {
        Self::new(FaultKind::MissingParameter(field.to_owned()), format!("the parameter {field} is required"))
    }
    /// No cluster of that id.
    pub fn no_cluster(id: &str) -> Self {
        Self::new(FaultKind::ClusterNotFound, format!("cluster {id} does not exist"))
    }
    /// Nothing of that kind and id.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(FaultKind::NotFound(what.to_owned()), format!("{what} {id} does not exist"))
    }
    /// The cluster's state does not allow it.
    pub fn state(message: impl Into<String>) -> Self {
        Self::new(FaultKind::ClusterState, message)
    }
    /// Our fault; the message goes to the log.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(FaultKind::Internal, message)
    }
    /// A needed part does not answer now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(FaultKind::Unavailable, message)
    }
    /// Whether trying the same again can succeed.
    pub fn retryable(&self) -> bool {
        matches!(self.kind, FaultKind::Conflict | FaultKind::Unavailable | FaultKind::Internal)
    }
}
