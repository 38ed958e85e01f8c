//! Lists of images, saving several, pruning.

use std::collections::BTreeMap;

use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::docker::{Answer, Call, Docker, filters::Filters, pass};
use crate::{
    fleet::{
        Fleet, into_array,
        observe::{number, strings, text},
        wire,
    },
    model::{Refusal, labels},
};

impl Docker {
    /// `GET /images/json`: each image once, with the names it has anywhere.
    pub(super) async fn list_images(&self, call: &Call) -> Answer {
        let known = ["before", "dangling", "label", "reference", "since", "until", "node", "label!"];
        let mut filters = Filters::of(&call.query, &known)?;
        let nodes = filters.take("node");
        let mut members = self.fleet.healthy();
        let view = self.fleet.current();
        if !nodes.is_empty() {
            members
                .retain(|member| nodes.iter().any(|key| view.node(key).is_some_and(|node| node.name == member.name)));
        }
        let rest = call.query.without(&["filters"]);
        let path = format!("/images/json?filters={}&{rest}", filters.encoded());
        let lists = join_all(members.iter().map(|member| member.client.get(&path))).await;
        let mut merged: BTreeMap<String, Value> = BTreeMap::new();
        for image in lists.into_iter().filter_map(Result::ok).flat_map(into_array) {
            if image.pointer(&format!("/Labels/{}", labels::SYSTEM)).is_some() {
                continue;
            }
            match merged.get_mut(text(&image, "/Id")) {
                Some(known) => merge(known, &image),
                None => {
                    merged.insert(text(&image, "/Id").to_owned(), image);
                }
            }
        }
        let mut images: Vec<Value> = merged.into_values().collect();
        images.sort_by_key(|image| std::cmp::Reverse(number(image, "/Created")));
        Ok(wire::answer(StatusCode::OK, &images))
    }

    /// `GET /images/get?names=`: from a node that has them all.
    pub(super) async fn save(&self, call: Call) -> Answer {
        let names: Vec<String> = call.query.all("names").map(str::to_owned).collect();
        let first = names.first().ok_or_else(|| Refusal::bad("names says which images are to be saved"))?;
        let has_all = |member: &&std::sync::Arc<crate::fleet::Member>| {
            names.iter().all(|name| Fleet::image_on(member, name).is_some())
        };
        let healthy = self.fleet.healthy();
        let member = match healthy.iter().find(has_all) {
            Some(member) => member.clone(),
            None => {
                // No node has all: one gets what it lacks.
                let member = self.holder(first).await?;
                for name in &names {
                    if !self.fleet.bring_image(&member, name).await? {
                        return Err(Refusal::missing(format!("No such image: {name}")));
                    }
                }
                member
            }
        };
        let target = call.target("/images/get");
        pass::request(&member, call.request, &target).await
    }

    /// `POST /images/prune` on all nodes.
    pub(super) async fn prune_images(&self, call: Call) -> Answer {
        let mut filters = Filters::of(&call.query, &["dangling", "until", "label", "label!"])?;
        filters.add("label!", labels::SYSTEM);
        let members = self.fleet.some_healthy()?;
        let path = format!("/images/prune?filters={}", filters.encoded());
        let pruned = join_all(members.iter().map(|member| async {
            let limit = std::time::Duration::from_secs(300);
            let pruned = member.client.call_within(Method::POST, &path, None, limit).await;
            member.refresh_images().await?;
            pruned
        }));
        let mut deleted: Vec<Value> = Vec::new();
        let mut space = 0;
        for pruned in pruned.await {
            let mut pruned = pruned?;
            space += number(&pruned, "/SpaceReclaimed");
            for entry in into_array(pruned["ImagesDeleted"].take()) {
                if !deleted.contains(&entry) {
                    deleted.push(entry);
                }
            }
        }
        self.fleet.publish();
        Ok(wire::answer(StatusCode::OK, &json!({"ImagesDeleted": deleted, "SpaceReclaimed": space})))
    }
}

/// Names of the same image on another node.
fn merge(known: &mut Value, other: &Value) {
    for key in ["RepoTags", "RepoDigests"] {
        let mut names = strings(known.get(key));
        for name in strings(other.get(key)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() > 1 {
            names.retain(|name| !name.contains("<none>"));
        }
        known[key] = json!(names);
    }
}
