//! Names of images: given and taken on all nodes that have the image.

use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::Value;

use super::pull::reference;
use crate::docker::{Answer, Call, Docker};
use crate::{
    fleet::{Fleet, into_array, wire},
    model::Refusal,
};

impl Docker {
    /// `POST /images/{name}/tag?repo=&tag=`.
    pub(super) async fn tag(&self, call: &Call, image: &str) -> Answer {
        let mut members = self.holders(image);
        // Where nodes have different images under the name, the new name is that of the right one.
        if let Some(meant) = self.fleet.image_meant(image) {
            members.retain(|member| Fleet::image_on(member, image).as_ref() == Some(&meant));
        }
        if members.is_empty() {
            members.push(self.holder(image).await?);
        }
        let target = call.target(&format!("/images/{image}/tag"));
        let tagged = join_all(members.iter().map(|member| async {
            let tagged = member.client.call(Method::POST, &target, None).await;
            member.refresh_images().await?;
            tagged
        }));
        let tagged = tagged.await;
        let name = reference(call.query.text("repo"), call.query.text("tag"));
        let first = members.iter().zip(&tagged).find(|(_, tagged)| tagged.is_ok());
        if let (Some(name), Some((member, _))) = (name, first) {
            self.fleet.note_image(member, &name);
        }
        let outcome = tagged.into_iter().find_map(Result::err);
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
        if self.holders(image).is_empty() {
            self.fleet.forget_image(image);
        }
        match failed {
            Some(refusal) => Err(refusal),
            None => Ok(wire::answer(StatusCode::OK, &deleted)),
        }
    }
}
