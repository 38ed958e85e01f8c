//! What the name of an image means: that which was pulled, built, loaded or tagged last, on whichever nodes that worked. A
//! node that was away, or where it failed, has an older image under the same name; it gets the right one from another node
//! before a container is made of it.

use std::sync::Arc;

use super::{
    Fleet, Member,
    images::{copy, find_by_name, full_name},
    observe::text,
};
use crate::model::Refusal;

impl Fleet {
    /// Notes that a name means from now on what it means on this node.
    pub(crate) fn note_image(&self, member: &Member, name: &str) {
        let Some(id) = named_on(member, name) else { return };
        if let Err(error) = self.kept.put_image(&full_name(name), Some(&id)) {
            tracing::error!(name, error = error.message, "what an image's name means is not kept");
        }
    }

    /// Notes that a name means nothing any more.
    pub(crate) fn forget_image(&self, name: &str) {
        if let Err(error) = self.kept.put_image(&full_name(name), None) {
            tracing::error!(name, error = error.message, "what an image's name means is not kept");
        }
    }

    /// Id of what the name of an image means, if that was noted and a healthy node has it.
    pub(crate) fn image_meant(&self, image: &str) -> Option<String> {
        let meant = self.kept.image(&full_name(image))?;
        self.holder_of_meant(image).is_some().then_some(meant)
    }

    /// The healthy node that has what the name of an image means, if that was noted and there is one.
    pub(super) fn holder_of_meant(&self, image: &str) -> Option<Arc<Member>> {
        let meant = self.kept.image(&full_name(image))?;
        self.healthy().into_iter().find(|member| named_on(member, image).as_ref() == Some(&meant))
    }

    /// Brings to a node what the name of an image means, if the node has another under that name.
    pub(super) async fn bring_meant(&self, to: &Member, image: &str) -> Result<(), Refusal> {
        let (Some(meant), Some(has)) = (self.kept.image(&full_name(image)), named_on(to, image)) else { return Ok(()) };
        if has == meant {
            return Ok(());
        }
        let Some(from) = self.holder_of_meant(image) else {
            tracing::warn!(
                node = to.name,
                image,
                "the image of this name is an older one; no node that answers has the newer"
            );
            return Ok(());
        };
        let brought = async {
            let _turn = to.transfer().await;
            // It may have come while another one was brought.
            let now = to.client.get(&format!("/images/{image}/json")).await?;
            if text(&now, "/Id") != meant {
                copy(&from, to, image).await?;
            }
            to.refresh_images().await
        };
        let brought = brought.await;
        self.publish();
        brought.map_err(|refusal| {
            // Another node may do.
            Refusal::unavailable(format!(
                "{} has an older image under the name {image}, and that of {} could not be brought: {}",
                to.name, from.name, refusal.message
            ))
        })
    }
}

fn named_on(member: &Member, image: &str) -> Option<String> {
    find_by_name(member.cache().image_names(), image).map(|image| image.id.clone())
}
