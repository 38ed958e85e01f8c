//! What changes a container: done at its node, and seen here before the answer goes out.

use std::time::Duration;

use http::{Method, Response, StatusCode};

use crate::docker::{Answer, Call, Docker, pass};
use crate::{
    fleet::{
        Member, lost_the_overlay,
        observe::number,
        wire::{self, Body},
    },
    model::{Container, ContainerState, Refusal},
};

/// Seconds that a container has for stopping if nobody says anything else, and those that the engine has beyond.
const STOP_SECONDS: u64 = 10;
const STOP_GRACE: u64 = 60;

impl Docker {
    /// Start, stop, kill, … and removal (no action).
    pub(super) async fn act(&self, call: Call, key: &str, action: &str) -> Answer {
        let (container, member) = self.fleet.locate(key)?;
        if !member.is_reachable() {
            return Err(silent(&container));
        }
        let path = match action {
            "" => format!("/containers/{}", container.id),
            action => format!("/containers/{}/{action}", container.id),
        };
        let target = call.target(&path);
        let starts = matches!(action, "start" | "restart");
        if action == "restart" && self.fleet.restarts_in_two_steps(&container) {
            return self.restart(&member, &container, call.query.number("t").unwrap_or_default()).await;
        }
        if action == "start" {
            self.fleet.prepare_start(&member, &container).await?;
        }
        let answer = pass::request(&member, call.request, &target).await;
        if starts
            && answer
                .as_ref()
                .is_ok_and(|answer| answer.status().is_client_error() || answer.status().is_server_error())
        {
            return self.start_again(&member, &container, answer?).await;
        }
        self.fleet.refresh(&member, &container.id).await;
        answer
    }

    /// Stops, lets the engine take its overlays down, starts.
    async fn restart(&self, member: &Member, container: &Container, seconds: Option<u64>) -> Answer {
        let seconds = seconds.unwrap_or_else(|| match number(&container.inspect, "/Config/StopTimeout") {
            0 => STOP_SECONDS,
            own => own,
        });
        let path = format!("/containers/{}/stop?t={seconds}", container.id);
        let limit = Duration::from_secs(seconds.saturating_add(STOP_GRACE));
        member.client.call_within(Method::POST, &path, None, limit).await?;
        self.fleet.refresh(member, &container.id).await;
        let (stopped, _) = self.fleet.locate(&container.id)?;
        self.fleet.start_container(member, &stopped).await?;
        Ok(wire::empty(StatusCode::NO_CONTENT))
    }

    /// A start that failed for a reason that passes is tried again; any other failure is the answer.
    async fn start_again(&self, member: &Member, container: &Container, failed: Response<Body>) -> Answer {
        let refusal = match member.client.accepted(failed).await {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        if !lost_the_overlay(&refusal) {
            self.fleet.refresh(member, &container.id).await;
            return Err(self.fleet.explain_attaching(container, refusal).await);
        }
        self.fleet.start_container(member, container).await?;
        Ok(wire::empty(StatusCode::NO_CONTENT))
    }

    /// `POST /containers/{id}/rename?name=`: the name is reserved over the cluster.
    pub(super) async fn rename(&self, call: Call, key: &str) -> Answer {
        let name = call.query.text("name").unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(Refusal::bad("Neither old nor new names may be empty"));
        }
        let (container, _) = self.fleet.locate(key)?;
        if name.trim_start_matches('/') == container.name {
            return Err(Refusal::conflict("Renaming a container with the same name as its current name"));
        }
        self.fleet.rename_container(&container.id, &name).await?;
        Ok(wire::empty(StatusCode::NO_CONTENT))
    }
}

/// The refusal of what needs an engine that does not answer.
fn silent(container: &Container) -> Refusal {
    let hint = match container.state {
        ContainerState::Running => "; it may still be running there",
        _ => "",
    };
    Refusal::unavailable(format!(
        "the node {} of the container {} does not answer{hint}; try again when the node is back",
        container.node, container.name
    ))
}
