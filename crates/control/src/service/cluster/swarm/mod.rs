//! What only Swarm clusters are asked: their creation, their nodes, their certificates, the images of their nodes.
//!
//! A Swarm cluster is a cluster like any other: a record with machines in one hidden node pool. Its hidden machine runs the
//! master instead of a control plane.

mod check;
mod create;
mod image;
mod node;

pub use create::SwarmCreate;
pub use image::SystemImage;
pub use node::{Attached, SwarmAttach, SwarmReset, SwarmScale};

use std::sync::Arc;

use sampan_store::{
    Versioned,
    model::{Cluster, Fault, FaultKind, Outcome},
};

use crate::service::{RequestContext, Service, credentials::Issued, credentials::refuse_unless_up};

impl Service {
    /// A Swarm cluster of the caller's account.
    ///
    /// # Errors
    /// ClusterNotFound; Unsupported for a Kubernetes cluster.
    pub fn swarm_cluster(&self, ctx: &RequestContext, id: &str) -> Outcome<Arc<Versioned<Cluster>>> {
        let cluster = self.cluster(ctx, id)?;
        if cluster.is_swarm() {
            return Ok(cluster);
        }
        let text = format!("cluster {id} is a Kubernetes cluster; this operation is for Swarm clusters");
        Err(Fault::new(FaultKind::Unsupported, text))
    }

    /// A Kubernetes cluster of the caller's account.
    ///
    /// # Errors
    /// ClusterNotFound; Unsupported for a Swarm cluster.
    pub fn kubernetes_cluster(&self, ctx: &RequestContext, id: &str) -> Outcome<Arc<Versioned<Cluster>>> {
        let cluster = self.cluster(ctx, id)?;
        if !cluster.is_swarm() {
            return Ok(cluster);
        }
        let text = format!("cluster {id} is a Swarm cluster; this operation is for Kubernetes clusters");
        Err(Fault::new(FaultKind::Unsupported, text))
    }

    /// The certificates with which Docker clients and the application API are used.
    ///
    /// # Errors
    /// ClusterNotFound; ClusterState while the cluster is not up; Unsupported for a Kubernetes cluster.
    pub async fn swarm_certs(&self, ctx: &RequestContext, id: &str) -> Outcome<Issued> {
        let cluster = self.swarm_cluster(ctx, id)?;
        refuse_unless_up(&cluster)?;
        // One certificate for everybody who may ask for it: it opens the whole cluster, as documented.
        let issued = self.credentials.issue(&cluster, &ctx.principal, &[], self.now()).await?;
        Ok(issued)
    }
}
