//! The cluster as one Docker engine: the Docker Remote API over all nodes.
//!
//! [`Docker::answer`] is the door; it knows the paths. What is about one container goes to its node and is passed through
//! ([`pass`]), streams and upgrades included. What is about all of them is asked of all nodes and merged.

mod containers;
#[cfg(test)]
mod engine_tests;
mod events;
mod exec;
mod filters;
pub(crate) mod finish;
mod hijack;
mod human;
mod images;
mod networks;
mod pass;
pub(crate) mod query;
mod refuse;
mod system;
#[cfg(test)]
mod tests;
pub(crate) mod version;
mod volumes;

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use serde_json::Value;

use self::{finish::Finisher, query::Query, version::Version};
use crate::{
    fleet::{
        Fleet,
        wire::{self, Body},
    },
    model::Refusal,
};

/// Largest JSON body of a request.
const JSON_MAX: usize = 4 * 1024 * 1024;

/// Answers for the cluster as an engine would. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Docker {
    fleet: Arc<Fleet>,
    finisher: Finisher,
}

/// A request, taken apart.
pub(crate) struct Call {
    method: Method,
    version: Option<Version>,
    /// Without version, percent-decoded.
    path: String,
    query: Query,
    request: Request<Incoming>,
}

/// What a handler answers.
type Answer = Result<Response<Body>, Refusal>;

impl Docker {
    pub(crate) fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, finisher: Finisher::default() }
    }

    /// Answers a request whose path has `version` in front.
    pub(crate) async fn answer(&self, version: Option<Version>, request: Request<Incoming>) -> Answer {
        let (_, rest) = version::split(request.uri().path())?;
        let call = Call {
            method: request.method().clone(),
            version,
            path: query::decode(rest),
            query: Query::of(request.uri()),
            request,
        };
        if !finish::is_to_be_finished(&call.method, &call.path) {
            return Box::pin(self.route(call)).await;
        }
        let docker = self.clone();
        self.finisher.run(Box::pin(async move { docker.route(call).await })).await?
    }

    async fn route(&self, call: Call) -> Answer {
        let path = call.path.clone();
        let path = path.trim_matches('/');
        let (room, rest) = path.split_once('/').unwrap_or((path, ""));
        match room {
            "containers" => self.containers(call, rest).await,
            "exec" => self.exec(call, rest).await,
            "images" => self.images(call, rest).await,
            "build" | "commit" => self.images(call, path).await,
            "networks" => self.networks(call, rest).await,
            "volumes" => self.volumes(call, rest).await,
            "events" => self.events(call).await,
            "_ping" | "info" | "version" | "auth" | "system" => self.system(call, path).await,
            _ => refuse::answer(&call, room),
        }
    }
}

impl Call {
    /// The path for an engine, in the version that the client speaks.
    fn target(&self, path: &str) -> String {
        let prefix = self.version.map(|version| format!("/v{version}")).unwrap_or_default();
        let query = self.request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{prefix}{path}{query}")
    }

    /// The JSON body.
    async fn json(self) -> Result<Value, Refusal> {
        wire::read_json(self.request.into_body(), JSON_MAX).await
    }
}

fn not_found(call: &Call) -> Refusal {
    Refusal::missing(format!("page not found: {} /{}", call.method, call.path.trim_start_matches('/')))
}

/// Headers that every answer of an engine carries; clients read the version from them.
pub(crate) fn mark(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert("api-version", HeaderValue::from_static(version::MAX_TEXT));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert("server", HeaderValue::from_static(concat!("Sampan/", env!("CARGO_PKG_VERSION"), " (linux)")));
    response
}
