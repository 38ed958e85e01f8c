//! Records that are only appended (events, logs), and the accounts.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For information.
    Info,
    /// Somebody should look.
    Warning,
    /// Something failed.
    Error,
}

/// An event (catalogue 9.12).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Upper-case UUID.
    pub id: String,
    /// Account.
    pub account_id: String,
    /// Cluster, empty when about none.
    pub cluster_id: String,
    /// `cluster_create`, `cluster_scaleout`, …
    pub event_type: String,
    /// Path of the resource, e.g. `/clusters/{id}/nodepools`.
    pub source: String,
    /// Id of the resource.
    pub subject: String,
    /// When.
    pub time: Timestamp,
    /// Level.
    pub level: Level,
    /// One word: `Started`, `Succeeded`, `Failed`, `NodeNotReady`, …
    pub reason: String,
    /// In words.
    pub message: String,
}

/// A line of a cluster's log (catalogue 9.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Given by the store when it is written; 0 before.
    pub id: i64,
    /// Cluster.
    pub cluster_id: String,
    /// Text.
    pub text: String,
    /// When.
    pub created: Timestamp,
}

/// An access key. Its secret is kept among the secrets under `access-key/<id>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// Access key id.
    pub id: String,
    /// Account it belongs to.
    pub account_id: String,
    /// Principal: the account itself (root) or a RAM user.
    pub principal: String,
    /// Whether it may do everything (the root account's key).
    pub is_root: bool,
    /// When it was made.
    pub created: Timestamp,
}

/// A user's client certificate for a cluster, so that it can be listed and revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeCredential {
    /// `<cluster>/<principal>/<kind>`.
    pub id: String,
    /// Cluster.
    pub cluster_id: String,
    /// Common name in the certificate.
    pub user_name: String,
    /// End of validity.
    pub expires: Timestamp,
}

/// Id of the [`Setting`] that every allocation of addresses rewrites, and every removal of a VPC: two of them cannot be
/// written from one state, so nothing is placed in a VPC that goes at the same moment.
pub const ALLOCATION_GUARD: &str = "allocation-guard";

/// A small named value of the installation: its id, the accepted service agreement, …
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Name.
    pub id: String,
    /// Value.
    pub value: serde_json::Value,
}
