//! What a handler is given, and what it gives back.

use std::sync::Arc;

use bytes::Bytes;
use sampan_api::{Decoded, Operation, Refusal};
use sampan_control::service::{RequestContext, Service};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

/// A verified request on its way to a handler.
pub struct Call {
    /// The use cases.
    pub service: Arc<Service>,
    /// Who asks.
    pub context: RequestContext,
    /// Which operation.
    pub operation: &'static Operation,
    /// Decoded placeholders of the path.
    pub path: Vec<(&'static str, String)>,
    /// Decoded query.
    pub query: Vec<(String, String)>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// Body.
    pub body: Bytes,
}

impl Call {
    /// The placeholder `name` of the path; empty when the path has none of that name.
    pub fn path(&self, name: &str) -> &str {
        self.path.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// The body as `T`.
    pub fn body<T: DeserializeOwned + JsonSchema + 'static>(&self) -> Result<Decoded<T>, Refusal> {
        sampan_api::decode_body(self.content_type.as_deref(), &self.body)
    }

    /// The query as `T`.
    pub fn query<T: DeserializeOwned + JsonSchema + 'static>(&self) -> Result<Decoded<T>, Refusal> {
        sampan_api::decode_query(&self.query)
    }
}

/// A successful answer; its status is the operation's.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The body as compact JSON text: an object, an array, or a string where the operation answers bare text.
    pub json: String,
}

impl Reply {
    /// An answer with this body.
    pub fn new<T: Serialize>(body: &T) -> Result<Self, Refusal> {
        serde_json::to_string(body).map(|json| Self { json }).map_err(|error| {
            Refusal::new(sampan_api::Code::InternalError, format!("the answer cannot be written: {error}"))
        })
    }
}
