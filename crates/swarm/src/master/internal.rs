//! What only the server and the routers ask for; both wait for news.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use sampan_agents::master::MasterStatus;
use serde::Deserialize;
use tokio::time;

use super::dispatch::Master;
use crate::{
    docker::query::Query,
    fleet::wire::{self, Body},
    model::{Engines as _, Refusal},
    router::master::FAILURES_HEADER,
};

/// Longest wait for news, and the one if nothing is said.
const WAIT_MAX: Duration = Duration::from_secs(300);
const WAIT: Duration = Duration::from_secs(30);
/// Changes within this time are told together.
const STATUS_PAUSE: Duration = Duration::from_millis(20);
/// The status is made again this often without a change, for what has no event (a node that has drained).
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Longest wait of a router; it asks again within the time after which it counts as silent.
const ROUTES_WAIT: Duration = Duration::from_secs(25);
/// Prefix of what the server asks of services.
pub(crate) const SERVICES: &str = "/internal/services/";
const STEP_BYTES_MAX: usize = 1024;

pub(crate) fn not_found(path: &str) -> Refusal {
    Refusal::missing(format!("page not found: {path}"))
}

/// `after` and how long to wait.
fn patience(request: &Request<Incoming>) -> Result<(Option<u64>, Duration), Refusal> {
    if request.method() != Method::GET {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "only GET is possible here"));
    }
    let query = Query::of(request.uri());
    let after = query.number("after")?;
    let wait = query.number("timeout_ms")?.map_or(WAIT, Duration::from_millis);
    Ok((after, wait.min(WAIT_MAX)))
}

impl Master {
    /// Keeps the status up to date, for ever.
    pub(crate) async fn keep_status(self: Arc<Self>) {
        let mut changes = self.fleet.changes();
        loop {
            let mut fresh = self.fleet.status();
            fresh.tcp_listeners = self.apps.tcp_listeners();
            self.status.send_if_modified(|old| {
                fresh.revision = old.revision;
                if *old == fresh {
                    return false;
                }
                fresh.revision += 1;
                *old = std::mem::take(&mut fresh);
                true
            });
            time::sleep(STATUS_PAUSE).await;
            tokio::select! {
                _ = changes.changed() => {}
                () = time::sleep(STATUS_EVERY) => {}
            }
        }
    }

    /// `GET /internal/status?after=&timeout_ms=`.
    pub(crate) async fn status(&self, request: &Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (after, wait) = patience(request)?;
        let mut status = self.status.subscribe();
        let newer = status.wait_for(|status: &MasterStatus| after != Some(status.revision));
        // Nothing new within the time is an answer too.
        let _ = time::timeout(wait, newer).await;
        let status = self.status.borrow().clone();
        Ok(wire::answer(StatusCode::OK, &status))
    }

    /// `GET /internal/routes?after=&timeout_ms=&router=`: the revision asked for is the one in force at the router.
    pub(crate) async fn routes(&self, router: IpAddr, request: &Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (after, wait) = patience(request)?;
        if let Some(failures) = request.headers().get(FAILURES_HEADER) {
            tracing::warn!(%router, ?failures, "a router cannot open all listeners");
        }
        let table = self.apps.hub().poll(&router.to_string(), after.unwrap_or_default(), wait.min(ROUTES_WAIT)).await;
        Ok(match table {
            Some(table) => wire::answer(StatusCode::OK, &*table),
            None => wire::empty(StatusCode::NO_CONTENT),
        })
    }

    /// `POST /internal/services/{id}/scale-by` with `{"by": ±n}`: what scaling triggers do.
    pub(crate) async fn scale_by(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        #[derive(Deserialize)]
        struct Step {
            by: i64,
        }
        let path = request.uri().path().to_owned();
        let service = path.strip_prefix(SERVICES).and_then(|rest| rest.strip_suffix("/scale-by"));
        let (Some(service), &Method::POST) = (service, request.method()) else { return Err(not_found(&path)) };
        let body = wire::read_up_to(request.into_body(), STEP_BYTES_MAX).await?;
        let step: Step = serde_json::from_slice(&body).map_err(|error| Refusal::bad(format!("no step: {error}")))?;
        let scale = self.apps.scale_by(service, step.by).await?;
        Ok(wire::answer(StatusCode::OK, &serde_json::json!({ "scale": scale })))
    }
}
