//! `/images/…`, `/build`, `/commit`: what is asked is asked of nodes that have it; what comes, comes to all.

mod build;
mod list;
mod load;
mod pull;
mod remove;

use std::sync::Arc;

use http::Method;

use super::{Answer, Call, Docker, not_found, pass};
use crate::{
    fleet::{Fleet, Member},
    model::Refusal,
};

/// Last segments that say what is to be done; the rest before them is the image.
const ACTIONS: [&str; 5] = ["json", "history", "push", "tag", "get"];

impl Docker {
    pub(super) async fn images(&self, call: Call, rest: &str) -> Answer {
        match (call.method.as_str(), rest) {
            ("GET", "json") => return self.list_images(&call).await,
            ("POST", "create") => return self.pull_or_import(call).await,
            ("POST", "load") => return self.load(call).await,
            ("POST", "prune") => return self.prune_images(call).await,
            ("GET", "get") => return self.save(call).await,
            ("GET", "search") => {
                return Err(Refusal::new(
                    http::StatusCode::NOT_IMPLEMENTED,
                    "registries are not searched by this cluster; pull an image by its full name",
                ));
            }
            ("POST", "build") => return self.build(call).await,
            ("POST", "build/prune" | "build/cancel") => return self.prune_build(call, rest).await,
            ("POST", "commit") => return self.commit(call).await,
            _ => {}
        }
        let (image, action) = match rest.rsplit_once('/') {
            Some((image, action)) if ACTIONS.contains(&action) => (image, action),
            _ => (rest, ""),
        };
        match (&call.method, action) {
            (&Method::GET, "json" | "history" | "get") | (&Method::POST, "push") => {
                let member = match (action, call.query.text("tag").filter(|tag| !tag.is_empty())) {
                    ("push", Some(tag)) => self.holder(&format!("{image}:{tag}")).await?,
                    // Without a tag all tags are pushed: any node that has one of them.
                    ("push", None) => self.holder_of_repository(image).await?,
                    _ => self.holder(image).await?,
                };
                let target = call.target(&format!("/images/{image}/{action}"));
                pass::request(&member, call.request, &target).await
            }
            (&Method::POST, "tag") => self.tag(&call, image).await,
            (&Method::DELETE, "") => self.remove_image(&call, image).await,
            _ => Err(not_found(&call)),
        }
    }

    /// A node that has an image.
    async fn holder(&self, image: &str) -> Result<Arc<Member>, Refusal> {
        let holder = self.fleet.holder_of(image).await;
        holder.ok_or_else(|| Refusal::missing(format!("No such image: {image}")))
    }

    /// A node that has the most images of a name.
    async fn holder_of_repository(&self, name: &str) -> Result<Arc<Member>, Refusal> {
        let tags = |member: &Arc<Member>| {
            let cache = member.cache();
            let tags = cache.image_names().iter().flat_map(|image| image.tags.iter());
            tags.filter(|tag| tag.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'))).count()
        };
        let most = self.fleet.healthy().into_iter().max_by_key(tags).filter(|member| tags(member) > 0);
        match most {
            Some(member) => Ok(member),
            None => self.holder(name).await,
        }
    }

    /// All nodes that have an image.
    fn holders(&self, image: &str) -> Vec<Arc<Member>> {
        let healthy = self.fleet.healthy().into_iter();
        healthy.filter(|member| Fleet::image_on(member, image).is_some()).collect()
    }
}
