//! Who answers a request.

use std::sync::Arc;

use http::{Request, Response, Uri, uri::PathAndQuery};
use hyper::body::Incoming;
use sampan_agents::master::MasterStatus;
use tokio::sync::watch;

use super::{internal, listen::Caller};
use crate::{
    apps::{self, Apps},
    docker::{
        self, Docker,
        finish::{self, Finisher},
    },
    fleet::{
        Fleet,
        wire::{self, Body},
    },
    model::Refusal,
};

/// Everything that answers.
pub(crate) struct Master {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) apps: Arc<Apps>,
    pub(crate) status: watch::Sender<MasterStatus>,
    docker: Docker,
    finisher: Finisher,
}

impl Master {
    pub(crate) fn new(fleet: Arc<Fleet>, apps: Arc<Apps>) -> Self {
        let docker = Docker::new(fleet.clone());
        Self { fleet, apps, docker, status: watch::Sender::new(MasterStatus::default()), finisher: Finisher::default() }
    }

    /// Answers a request; there is no request without an answer.
    pub(crate) async fn answer(&self, caller: Caller, request: Request<Incoming>) -> Response<Body> {
        let line =
            tracing::enabled!(tracing::Level::DEBUG).then(|| format!("{} {}", request.method(), request.uri().path()));
        let response = match self.route(caller, request).await {
            Ok(response) => response,
            Err(refusal) => wire::refused(&refusal),
        };
        if let Some(line) = line {
            tracing::debug!(?caller, line, status = response.status().as_u16(), "answered");
        }
        docker::mark(response)
    }

    async fn route(&self, caller: Caller, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let path = request.uri().path();
        if path.starts_with("/internal/") {
            return match (caller, path) {
                (Caller::Router(address), "/internal/routes") => self.routes(address, &request).await,
                (Caller::Server, "/internal/status") => self.status(&request).await,
                (Caller::Server, path) if path.starts_with(internal::SERVICES) => self.scale_by(request).await,
                (_, path) => Err(internal::not_found(path)),
            };
        }
        if let Caller::Router(_) = caller {
            return Err(Refusal::new(
                http::StatusCode::FORBIDDEN,
                "this certificate is an engine's: it opens /internal/routes only",
            ));
        }
        let (version, rest) = docker::version::split(path)?;
        if is_of_applications(rest) {
            let rest = rest.to_owned();
            let (parts, body) = without_version(request, &rest)?.into_parts();
            let body = wire::read_up_to(body, apps::BODY_BYTES_MAX).await?;
            if !finish::changes(&parts.method) {
                return Ok(self.apps.handle(&parts, body).await.map(wire::full_body));
            }
            let apps = self.apps.clone();
            let answer = self.finisher.run(async move { apps.handle(&parts, body).await });
            return Ok(answer.await?.map(wire::full_body));
        }
        self.docker.answer(version, request).await
    }
}

fn is_of_applications(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "projects" | "services" | "service")
}

/// The same request for the path without a version in front.
fn without_version(mut request: Request<Incoming>, path: &str) -> Result<Request<Incoming>, Refusal> {
    let target = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let wrong = |error: &dyn std::fmt::Display| Refusal::bad(format!("{target:?} is no address: {error}"));
    let target: PathAndQuery = target.parse().map_err(|error| wrong(&error))?;
    *request.uri_mut() = Uri::from(target);
    Ok(request)
}
