//! What runs in the host's network namespace beside the machines: the balancer and the image registry.

use std::os::unix::fs::MetadataExt;

use bollard::models::ContainerInspectResponse;

use super::{create, engine::Engine};
use crate::{HostService, HostServiceSpec, ProviderError};

impl Engine {
    /// Makes and starts the service, or finds it; one of another image, directory or configuration is replaced.
    pub(super) async fn ensure_host_service(&self, spec: &HostServiceSpec) -> Result<(), ProviderError> {
        let _turn = self.turn().await?;
        let wanted_image = self.image_id(&spec.image).await?;
        if let Some(found) = self.inspect(&spec.name).await? {
            self.must_own(&spec.name, &found)?;
            let is_same = found.image.as_ref() == Some(&wanted_image)
                && state_dir(&found, spec.service) == spec.state_dir.to_str()
                && config_hash(&found) == spec.config_hash;
            if is_same {
                return self.start(&spec.name).await;
            }
            tracing::info!(service = spec.name, "replacing it: its image, directory or configuration changed");
            self.remove(&spec.name).await?;
        }
        let state = tokio::fs::metadata(&spec.state_dir).await.map_err(|error| {
            ProviderError::Failed(format!(
                "cannot look at the directory {} of {}: {error}",
                spec.state_dir.display(),
                spec.name
            ))
        })?;
        let body = create::host_service(self, spec, (state.uid(), state.gid()));
        match self.create(&spec.name, body).await {
            // A call that was given up on has made it meanwhile.
            Err(error) if error.is_conflict() && error.says("already in use by container") => {}
            result => result?,
        }
        self.start(&spec.name).await
    }

    /// Removes the service.
    pub(super) async fn delete_host_service(&self, name: &str) -> Result<(), ProviderError> {
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

/// The host's directory that a service has its state in.
fn state_dir(found: &ContainerInspectResponse, service: HostService) -> Option<&str> {
    let mounts = found.mounts.as_deref().unwrap_or_default();
    let state = mounts.iter().find(|mount| mount.destination.as_deref() == Some(service.state_target()));
    state.and_then(|mount| mount.source.as_deref())
}

fn config_hash(found: &ContainerInspectResponse) -> &str {
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    labels.and_then(|labels| labels.get(create::CONFIG_LABEL)).map_or("", String::as_str)
}
