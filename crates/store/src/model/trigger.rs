//! A trigger: a link that redeploys an application or scales a service, for systems that cannot sign requests.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// What a trigger does; the spelling is that of the links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TriggerAction {
    /// Deploys the application again, with the newest images.
    Redeploy,
    /// Adds containers to a service or takes some away.
    Scaling,
}

impl TriggerAction {
    /// The word in links and bodies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redeploy => "redeploy",
            Self::Scaling => "scaling",
        }
    }
}

/// A trigger. Its secret is kept among the secrets of the store, see [`Trigger::secret_name`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// 13 digits and small letters.
    pub id: String,
    /// Account that owns it.
    pub account_id: String,
    /// Cluster of the application.
    pub cluster_id: String,
    /// Namespace as given; `default` without one. Clusters of the Swarm edition have no namespaces.
    pub namespace: String,
    /// Application.
    pub project: String,
    /// Service of the application; only of scaling triggers.
    #[serde(default)]
    pub service: Option<String>,
    /// `deployment` or `application`, as given.
    pub kind: String,
    /// What it does.
    pub action: TriggerAction,
    /// It is also called when an image of the application is pushed to the installation's registry.
    #[serde(default)]
    pub on_image_update: bool,
    /// When it was made.
    pub created: Timestamp,
}

impl Trigger {
    /// Name of its secret in the store; the secrets of a cluster go with it.
    pub fn secret_name(&self) -> String {
        format!("cluster/{}/trigger/{}", self.cluster_id, self.id)
    }
    /// What its link carries as `triggerUrl`, before base64: cluster, application, action and id, each ended by `|`.
    pub fn token_text(&self) -> String {
        format!("{}|{}|{}|{}|", self.cluster_id, self.project, self.action.as_str(), self.id)
    }
}
