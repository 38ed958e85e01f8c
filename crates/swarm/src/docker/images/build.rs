//! `POST /build` and `POST /commit`: on one node, then to all.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::pull::reference;
use crate::docker::{Answer, Call, Docker, pass};
use crate::{
    fleet::{
        Member, into_array,
        observe::{number, text},
        wire,
    },
    model::Refusal,
    schedule::{self, Expressions, Request},
};

impl Docker {
    /// The node that builds: the scheduler's choice under the constraints of the build arguments.
    pub(super) fn builder(&self, constraints: &[String]) -> Result<Arc<Member>, Refusal> {
        let request = Request { expressions: Expressions::parse(constraints, &[], &[])?, ..Request::default() };
        let strategy = self.fleet.settings().strategy;
        let node = schedule::place(&self.fleet.current(), &[], &request, strategy, &mut rand::rng())?;
        self.fleet.member(&node).ok_or_else(|| Refusal::unavailable(format!("the node {node} left meanwhile")))
    }

    pub(super) async fn build(&self, call: Call) -> Answer {
        if call.query.text("version") == Some("2") {
            return Err(Refusal::new(
                StatusCode::NOT_IMPLEMENTED,
                "BuildKit builds are not offered; build with DOCKER_BUILDKIT=0",
            ));
        }
        let arguments: BTreeMap<String, Option<String>> =
            serde_json::from_str(call.query.text("buildargs").unwrap_or("{}")).unwrap_or_default();
        let constraints: Vec<String> = arguments
            .iter()
            .filter_map(|(key, value)| {
                let key = key.strip_prefix("constraint:")?;
                Some(value.as_ref().map_or_else(|| key.to_owned(), |value| format!("{key}={value}")))
            })
            .collect();
        let member = self.builder(&constraints)?;
        let names: Vec<String> = call.query.all("t").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let target = call.target("/build");
        let quiet = call.query.flag("q");
        tracing::info!(node = member.name, ?names, quiet, "an image is built");
        let answer = pass::request(&member, call.request, &target).await?;
        Ok(self.spread_after(member, answer, names))
    }

    /// `POST /build/prune` on all nodes.
    pub(super) async fn prune_build(&self, call: Call, path: &str) -> Answer {
        let members = self.fleet.some_healthy()?;
        let target = call.target(&format!("/{path}"));
        let pruned = join_all(members.iter().map(|member| member.client.call(Method::POST, &target, None))).await;
        let mut deleted: Vec<Value> = Vec::new();
        let mut space = 0;
        for pruned in pruned {
            let mut pruned = pruned?;
            space += number(&pruned, "/SpaceReclaimed");
            deleted.extend(into_array(pruned["CachesDeleted"].take()));
        }
        Ok(wire::answer(StatusCode::OK, &json!({"CachesDeleted": deleted, "SpaceReclaimed": space})))
    }

    /// `POST /commit?container=`: at the container's node, then to all.
    pub(super) async fn commit(&self, call: Call) -> Answer {
        let key = call.query.text("container").unwrap_or_default();
        let (container, member) = self.fleet.locate(key)?;
        let rest = call.query.without(&["container"]);
        let prefix = call.version.map(|version| format!("/v{version}")).unwrap_or_default();
        let target = format!("{prefix}/commit?container={}&{rest}", container.id);
        let name = reference(call.query.text("repo"), call.query.text("tag"));
        let answer = pass::request(&member, call.request, &target).await?;
        if !answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let made = member.client.read(answer).await?;
        let made: Value = serde_json::from_slice(&made).unwrap_or_default();
        member.refresh_images().await?;
        let name = name.unwrap_or_else(|| text(&made, "/Id").to_owned());
        self.fleet.note_image(&member, &name);
        for (node, copied) in self.fleet.spread_image(&member, &name).await {
            if let Err(error) = copied {
                // It is there, and is copied when a container needs it.
                tracing::warn!(node, name, error = error.message, "a committed image was not copied");
            }
        }
        Ok(wire::answer(status, &made))
    }
}
