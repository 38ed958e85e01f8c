//! `POST /containers/prune` on all nodes.

use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::docker::{Answer, Call, Docker, filters::Filters};
use crate::{
    fleet::{
        into_array,
        observe::{number, text},
        wire,
    },
    model::labels,
};

impl Docker {
    pub(super) async fn prune_containers(&self, call: Call) -> Answer {
        let mut filters = Filters::of(&call.query, &["until", "label", "label!"])?;
        // What is ours is not the user's to prune.
        filters.add("label!", labels::SYSTEM);
        let members = self.fleet.some_healthy()?;
        let path = format!("/containers/prune?filters={}", filters.encoded());
        let pruned = join_all(members.iter().map(|member| member.client.call(Method::POST, &path, None))).await;
        let mut deleted = Vec::new();
        let mut space = 0;
        for (member, pruned) in members.iter().zip(pruned) {
            let mut pruned = pruned?;
            space += number(&pruned, "/SpaceReclaimed");
            for id in into_array(pruned["ContainersDeleted"].take()) {
                self.fleet.refresh(member, id.as_str().unwrap_or_default()).await;
                deleted.push(id);
            }
        }
        deleted.sort_by(|a: &Value, b: &Value| text(a, "").cmp(text(b, "")));
        Ok(wire::answer(StatusCode::OK, &json!({"ContainersDeleted": deleted, "SpaceReclaimed": space})))
    }
}
