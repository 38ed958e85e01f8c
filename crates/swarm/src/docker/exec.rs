//! Commands in containers that run.

use http::Method;
use serde_json::Value;

use super::{Answer, Call, Docker, JSON_MAX, not_found, pass};
use crate::fleet::{json_request, observe::text, wire};

impl Docker {
    /// `/exec/{id}/…`.
    pub(super) async fn exec(&self, call: Call, rest: &str) -> Answer {
        let (id, action) = rest.split_once('/').unwrap_or((rest, ""));
        let known = matches!((call.method.as_str(), action), ("GET", "json") | ("POST", "start" | "resize"));
        if !known {
            return Err(not_found(&call));
        }
        let member = self.fleet.member_of_exec(id).await?;
        let target = call.target(&format!("/exec/{id}/{action}"));
        pass::request(&member, call.request, &target).await
    }

    /// `POST /containers/{id}/exec`: remembers where the command is.
    pub(super) async fn exec_create(&self, call: Call, key: &str) -> Answer {
        let (container, member) = self.fleet.locate(key)?;
        let target = call.target(&format!("/containers/{}/exec", container.id));
        let body = wire::read_json(call.request.into_body(), JSON_MAX).await?;
        let response = member.client.send(json_request(Method::POST, &target, Some(&body))?).await?;
        let status = response.status();
        let bytes = member.client.read(response).await?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        self.fleet.remember_exec(text(&answer, "/Id"), &member.name);
        Ok(wire::answer(status, &answer))
    }
}
