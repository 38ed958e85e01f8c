//! The balancer's container.

use std::os::unix::fs::MetadataExt;

use bollard::models::ContainerInspectResponse;

use super::{
    create::{self, BALANCER_STATE},
    engine::Engine,
};
use crate::{BalancerSpec, ProviderError};

impl Engine {
    /// Makes and starts the balancer, or finds it; one of another image or directory is replaced.
    pub(super) async fn ensure_balancer(&self, spec: &BalancerSpec) -> Result<(), ProviderError> {
        let _turn = self.turn().await?;
        let wanted_image = self.image_id(&spec.image).await?;
        if let Some(found) = self.inspect(&spec.name).await? {
            self.must_own(&spec.name, &found)?;
            if found.image.as_ref() == Some(&wanted_image) && state_dir(&found) == spec.state_dir.to_str() {
                return self.start(&spec.name).await;
            }
            tracing::info!(balancer = spec.name, "replacing the balancer: its image or directory changed");
            self.remove(&spec.name).await?;
        }
        let state = tokio::fs::metadata(&spec.state_dir).await.map_err(|error| {
            ProviderError::Failed(format!(
                "cannot look at the balancer's directory {}: {error}",
                spec.state_dir.display()
            ))
        })?;
        let body = create::balancer(self, spec, state.uid() == 0);
        match self.create(&spec.name, body).await {
            // A call that was given up on has made it meanwhile.
            Err(error) if error.is_conflict() && error.says("already in use by container") => {}
            result => result?,
        }
        self.start(&spec.name).await
    }

    /// Removes the balancer.
    pub(super) async fn delete_balancer(&self, name: &str) -> Result<(), ProviderError> {
        let Some(found) = self.inspect(name).await? else {
            return Ok(());
        };
        self.must_own(name, &found)?;
        let _turn = self.turn().await?;
        self.remove(name).await
    }

    /// Whether the engine has this image.
    pub(super) async fn has_image(&self, image: &str) -> Result<bool, ProviderError> {
        let call = self.docker.inspect_image(image);
        Ok(self.look(format!("look at image {image}"), call).await?.is_some())
    }

    /// The id behind a reference: a rebuilt image has the same name and another id.
    async fn image_id(&self, image: &str) -> Result<String, ProviderError> {
        let call = self.docker.inspect_image(image);
        let found = self.look(format!("look at image {image}"), call).await?;
        found.and_then(|found| found.id).ok_or_else(|| {
            ProviderError::Failed(format!("image {image} is not in the Docker engine; run `cargo xtask build`"))
        })
    }
}

/// The host's directory that a balancer has its state in.
fn state_dir(found: &ContainerInspectResponse) -> Option<&str> {
    let mounts = found.mounts.as_deref().unwrap_or_default();
    let state = mounts.iter().find(|mount| mount.destination.as_deref() == Some(BALANCER_STATE));
    state.and_then(|mount| mount.source.as_deref())
}
