//! Names of images: given and taken on all nodes that have the image.

use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::docker::{Answer, Call, Docker};
use crate::{
    fleet::{into_array, wire},
    model::Refusal,
};

impl Docker {
    /// `POST /images/{name}/tag?repo=&tag=`.
    pub(super) async fn tag(&self, call: &Call, image: &str) -> Answer {
        let mut members = self.holders(image);
        if members.is_empty() {
            members.push(self.holder(image).await?);
        }
        let target = call.target(&format!("/images/{image}/tag"));
        let tagged = join_all(members.iter().map(|member| async {
            let tagged = member.client.call(Method::POST, &target, None).await;
            member.refresh_images().await?;
            tagged
        }));
        let outcome = tagged.await.into_iter().find_map(Result::err);
        self.fleet.publish();
        outcome.map_or_else(|| Ok(wire::empty(StatusCode::CREATED)), Err)
    }

    /// `DELETE /images/{name}`.
    pub(super) async fn remove_image(&self, call: &Call, image: &str) -> Answer {
        let mut members = self.holders(image);
        if members.is_empty() {
            members.push(self.holder(image).await?);
        }
        let target = call.target(&format!("/images/{image}"));
        let removed = join_all(members.iter().map(|member| async {
            let removed = member.client.call(Method::DELETE, &target, None).await;
            member.refresh_images().await?;
            removed
        }));
        let mut deleted: Vec<Value> = Vec::new();
        let mut failed: Option<Refusal> = None;
        for result in removed.await {
            match result {
                Ok(list) => {
                    for entry in into_array(list) {
                        if !deleted.contains(&entry) {
                            deleted.push(entry);
                        }
                    }
                }
                Err(refusal) if refusal.status == StatusCode::NOT_FOUND => {}
                Err(refusal) => failed = Some(refusal),
            }
        }
        self.fleet.publish();
        match failed {
            Some(refusal) => Err(refusal),
            None => Ok(wire::answer(StatusCode::OK, &deleted)),
        }
    }
}
