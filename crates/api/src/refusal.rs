//! Refusals: every way in which a request can fail, and the one shape in which clients read it.

use serde::{Deserialize, Serialize};

use crate::encode::{Format, push_element};

/// Declares [`Code`] with the spelling on the wire, the HTTP status and the meaning of each code.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $wire:literal, $status:literal;)*) => {
        /// A code that clients match on. The spelling on the wire never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// All codes, in the order in which they are declared.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The spelling on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Code::$variant => $wire,)*
                }
            }

            /// The HTTP status that goes with the code.
            pub const fn status(self) -> u16 {
                match self {
                    $(Code::$variant => $status,)*
                }
            }
        }
    };
}

codes! {
    /// The signature is not the one the server calculates.
    SignatureDoesNotMatch = "SignatureDoesNotMatch", 403;
    /// The access key id is unknown or disabled.
    InvalidAccessKeyIdNotFound = "InvalidAccessKeyId.NotFound", 404;
    /// The nonce was used before.
    SignatureNonceUsed = "SignatureNonceUsed", 400;
    /// The request's time is too far from the server's, or cannot be read.
    InvalidTimeStampExpired = "InvalidTimeStamp.Expired", 400;
    /// No operation has this path and method, or the named action is another one.
    InvalidActionNotFound = "InvalidAction.NotFound", 404;
    /// The version is not the one of this API.
    InvalidVersion = "InvalidVersion", 400;
    /// A value cannot be used.
    InvalidParameter = "InvalidParameter", 400;
    /// A mandatory value is missing.
    MissingParameter = "MissingParameter", 400;
    /// The body is larger than the server reads.
    RequestBodyTooLarge = "RequestBodyTooLarge", 413;
    /// The body is of a kind that the server does not read.
    UnsupportedMediaType = "UnsupportedMediaType", 415;
    /// There is no such cluster.
    ErrorClusterNotFound = "ErrorClusterNotFound", 404;
    /// There is no such node pool.
    ErrorNodePoolNotFound = "ErrorNodePoolNotFound", 404;
    /// There is no such node.
    ErrorNodeNotFound = "ErrorNodeNotFound", 404;
    /// There is no such task.
    ErrorTaskNotFound = "ErrorTaskNotFound", 404;
    /// There is no such trigger.
    ErrorTriggerNotFound = "ErrorTriggerNotFound", 404;
    /// No such backup.
    ErrorBackupNotFound = "ErrorBackupNotFound", 404;
    /// There is no such application.
    ErrorApplicationNotFound = "ErrorApplicationNotFound", 404;
    /// The cluster's state does not allow it.
    ErrorClusterState = "ErrorClusterState", 400;
    /// The kubeconfig asked for does not exist, for example a public one of a private cluster.
    ErrorKubeconfigUnavailable = "ErrorKubeconfigUnavailable", 400;
    /// The cluster is protected from deletion.
    DeletionProtected = "DeletionProtected", 403;
    /// The account has as many clusters as it may have.
    QuotaExceededCluster = "QuotaExceeded.Cluster", 400;
    /// The cluster has as many nodes as it may have.
    QuotaExceededNode = "QuotaExceeded.Node", 400;
    /// The cluster has as many node pools as it may have.
    QuotaExceededNodePool = "QuotaExceeded.NodePool", 400;
    /// As many backups of the cluster are kept as may be asked for.
    QuotaExceededBackup = "QuotaExceeded.Backup", 400;
    /// The cluster has as many triggers as it may have.
    QuotaExceededTrigger = "QuotaExceeded.Trigger", 400;
    /// Asked for too often.
    Throttling = "Throttling", 429;
    /// This installation does not offer it.
    NotSupported = "NotSupported", 400;
    /// The caller has no permission.
    StatusForbidden = "StatusForbidden", 403;
    /// The request took too long.
    RequestTimeout = "RequestTimeout", 503;
    /// The server cannot answer just now.
    ServiceUnavailable = "ServiceUnavailable", 503;
    /// The server failed.
    InternalError = "InternalError", 500;
}

impl Code {
    /// The code with this spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }

    /// Whether the same request may succeed later without anyone changing anything.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::Throttling | Self::RequestTimeout | Self::ServiceUnavailable | Self::InternalError)
    }
}

/// A request that is not done, with the reason for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Refusal {
    /// What clients match on.
    pub code: Code,
    /// What people read: what failed, on what, and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal with any code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The value at `field` (a path such as `addons[1].disabled`) cannot be used; `reason` completes the sentence
    /// "The parameter …".
    pub fn invalid(field: &str, reason: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidParameter, format!("The parameter {field} {reason}."))
    }

    /// The value at `field` is missing.
    pub fn missing(field: &str) -> Self {
        Self::new(Code::MissingParameter, format!("The parameter {field} is mandatory for this action."))
    }

    /// There is no cluster with this id.
    pub fn cluster_not_found(cluster_id: &str) -> Self {
        Self::new(Code::ErrorClusterNotFound, format!("The cluster {cluster_id} does not exist."))
    }

    /// There is no node pool with this id.
    pub fn node_pool_not_found(nodepool_id: &str) -> Self {
        Self::new(Code::ErrorNodePoolNotFound, format!("The node pool {nodepool_id} does not exist."))
    }

    /// There is no task with this id.
    pub fn task_not_found(task_id: &str) -> Self {
        Self::new(Code::ErrorTaskNotFound, format!("The task {task_id} does not exist."))
    }

    /// The server failed. What exactly is for the server's log, where the request id finds it.
    pub fn internal(request_id: &str) -> Self {
        Self::new(
            Code::InternalError,
            format!("The request failed inside the server. The server's log has the reason under {request_id}."),
        )
    }

    /// No operation has this method and path.
    pub fn no_such_operation(method: &str, path: &str) -> Self {
        Self::new(Code::InvalidActionNotFound, format!("No operation answers {method} {path}."))
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        self.code.status()
    }

    /// The body: JSON with the names that old and new clients read, or XML.
    pub fn body(&self, format: Format, request_id: &str, host_id: &str) -> Vec<u8> {
        match format {
            Format::Json => {
                let body = RefusalBody {
                    request_id_old: request_id.to_owned(),
                    host_id: host_id.to_owned(),
                    code_old: self.code.as_str().to_owned(),
                    message_old: self.message.clone(),
                    code: self.code.as_str().to_owned(),
                    message: self.message.clone(),
                    request_id: request_id.to_owned(),
                };
                // Seven strings always serialise.
                serde_json::to_vec(&body).unwrap_or_default()
            }
            Format::Xml => {
                let mut xml = String::from(crate::encode::XML_DECLARATION);
                xml.push_str("<Error>");
                push_element(&mut xml, "RequestId", request_id);
                push_element(&mut xml, "HostId", host_id);
                push_element(&mut xml, "Code", self.code.as_str());
                push_element(&mut xml, "Message", &self.message);
                xml.push_str("</Error>");
                xml.into_bytes()
            }
        }
    }
}

/// The JSON body of a refusal, as clients read it. Every value stands there under the name of the old clients and
/// under the name of the new ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RefusalBody {
    /// The id of the request.
    #[serde(rename = "RequestId", default)]
    pub request_id_old: String,
    /// The host that was asked.
    #[serde(rename = "HostId", default)]
    pub host_id: String,
    /// The code.
    #[serde(rename = "Code", default)]
    pub code_old: String,
    /// The reason in words.
    #[serde(rename = "Message", default)]
    pub message_old: String,
    /// The code.
    #[serde(default)]
    pub code: String,
    /// The reason in words.
    #[serde(default)]
    pub message: String,
    /// The id of the request.
    #[serde(rename = "requestId", default)]
    pub request_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_names_of_old_and_new_clients() {
        let refusal = Refusal::cluster_not_found("c1");
        let body: serde_json::Value = serde_json::from_slice(&refusal.body(Format::Json, "R-1", "host:1")).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "RequestId": "R-1", "HostId": "host:1", "Code": "ErrorClusterNotFound",
                "Message": "The cluster c1 does not exist.", "code": "ErrorClusterNotFound",
                "message": "The cluster c1 does not exist.", "requestId": "R-1",
            })
        );
        assert_eq!(refusal.status(), 404);
    }

    #[test]
    fn xml_has_four_names_and_is_escaped() {
        let refusal = Refusal::invalid("a<b", "is & stays wrong");
        assert_eq!(
            String::from_utf8(refusal.body(Format::Xml, "R-1", "h")).unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><RequestId>R-1</RequestId><HostId>h</HostId>\
             <Code>InvalidParameter</Code><Message>The parameter a&lt;b is &amp; stays wrong.</Message></Error>"
        );
    }

    #[test]
    fn spellings_are_unique_and_found_again() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!((400..600).contains(&code.status()), "{code:?}");
        }
    }
}
