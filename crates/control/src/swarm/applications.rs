//! [`Applications`] of Swarm clusters: what triggers do, by the masters' own API.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use http::{Method, StatusCode};
use sampan_store::model::{Cluster, Fault, FaultKind, Outcome};
use serde::Deserialize;
use serde_json::json;

use super::{access::Directory, client};
use crate::ports::{ApplicationService, Applications, Dialer};

/// Asks the masters of clusters.
pub struct MasterApplications {
    directory: Arc<dyn Directory>,
    dialer: Arc<dyn Dialer>,
}

impl fmt::Debug for MasterApplications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterApplications").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Project {
    #[serde(default)]
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    name: String,
    #[serde(default)]
    definition: Definition,
}

#[derive(Default, Deserialize)]
struct Definition {
    #[serde(default)]
    image: String,
}

impl MasterApplications {
    /// Masters are found in `directory` and reached through `dialer`.
    pub fn new(directory: Arc<dyn Directory>, dialer: Arc<dyn Dialer>) -> Self {
        Self { directory, dialer }
    }

    async fn call(
        &self,
        cluster: &Cluster,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Outcome<(StatusCode, bytes::Bytes)> {
        if !cluster.is_swarm() {
            let message =
                format!("cluster {} is of the Kubernetes edition: its applications have no triggers yet", cluster.id);
            return Err(Fault::new(FaultKind::Unsupported, message));
        }
        let machine = super::access::manager(&*self.directory, &cluster.id)?;
        client::call(&*self.dialer, &machine, method, path, body).await
    }
}

/// A name that can stand in a path as it is.
fn segment(name: &str) -> Outcome<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= 200 && name.chars().all(is_plain) {
        return Ok(name);
    }
    Err(Fault::not_found("Application", name))
}

/// What the master refused, in its words.
fn refused(status: StatusCode, body: &[u8], name: &str) -> Fault {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    let message =
        serde_json::from_slice::<Refusal>(body).map_or_else(|_| status.to_string(), |refusal| refusal.message);
    match status {
        StatusCode::NOT_FOUND => Fault::not_found("Application", name),
        StatusCode::CONFLICT => Fault::state(message),
        status if status.is_client_error() => Fault::invalid("application", message),
        _ => Fault::unavailable(message),
    }
}

#[async_trait]
impl Applications for MasterApplications {
    async fn services(&self, cluster: &Cluster, project: &str) -> Outcome<Vec<ApplicationService>> {
        let path = format!("/projects/{}?containers=false", segment(project)?);
        let (status, body) = self.call(cluster, Method::GET, &path, None).await?;
        if status != StatusCode::OK {
            return Err(refused(status, &body, project));
        }
        let project: Project = serde_json::from_slice(&body)
            .map_err(|error| Fault::internal(format!("the cluster's master answers what cannot be read: {error}")))?;
        let services = project.services.into_iter();
        Ok(services.map(|service| ApplicationService { name: service.name, image: service.definition.image }).collect())
    }

    async fn redeploy(&self, cluster: &Cluster, project: &str) -> Outcome<()> {
        let path = format!("/projects/{}/redeploy", segment(project)?);
        let (status, body) = self.call(cluster, Method::POST, &path, None).await?;
        if status.is_success() { Ok(()) } else { Err(refused(status, &body, project)) }
    }

    async fn scale_by(&self, cluster: &Cluster, service_id: &str, by: i32) -> Outcome<()> {
        let path = format!("/internal/services/{}/scale-by", segment(service_id)?);
        let (status, body) = self.call(cluster, Method::POST, &path, Some(&json!({ "by": by }))).await?;
        if status.is_success() { Ok(()) } else { Err(refused(status, &body, service_id)) }
    }
}
