//! Triggers of applications (catalogue 13.6 to 13.8, Swarm guide 4.9).

wire! {
    /// Body of `POST /clusters/{cluster_id}/triggers`.
    pub struct CreateTriggerRequest {
        /// The cluster; the path decides.
        pub cluster_id: Option<String>,
        /// `namespace/application`, or the application alone.
        pub project_id: Option<String>,
        /// `redeploy`, or `scaling` in clusters of the Swarm edition.
        pub action: Option<String>,
        /// `deployment` (default) or `application`.
        #[serde(rename = "type")]
        pub kind: Option<String>,
        /// The service that a scaling trigger scales.
        pub service: Option<String>,
        /// Redeploy also when an image of the application is pushed to the installation's registry.
        pub image_update: Option<bool>,
    }

    /// A trigger.
    pub struct Trigger {
        /// Its id.
        pub id: String,
        /// Its name: the application's.
        pub name: String,
        /// The cluster.
        pub cluster_id: String,
        /// `namespace/application`.
        pub project_id: String,
        /// `deployment` or `application`.
        #[serde(rename = "type")]
        pub kind: String,
        /// `redeploy` or `scaling`.
        pub action: String,
        /// What the link carries as `triggerUrl`.
        pub token: String,
        /// The service of a scaling trigger, or empty.
        pub service: String,
        /// Whether a new image calls it too.
        pub image_update: bool,
        /// What the link carries as `secret`: 64 hexadecimal digits.
        pub secret: String,
        /// The whole link; a scaling trigger needs `&type=` and `&step=` beside it.
        pub trigger_url: String,
        /// When it was made: RFC 3339.
        pub created: String,
    }

    /// Query of `GET /clusters/{cluster_id}/triggers`.
    pub struct DescribeTriggerQuery {
        /// Only of this namespace.
        #[serde(rename = "Namespace")]
        pub namespace: Option<String>,
        /// Only of this kind.
        #[serde(rename = "Type")]
        pub kind: Option<String>,
        /// Only of this application.
        #[serde(rename = "Name")]
        pub name: Option<String>,
        /// Only with this action.
        pub action: Option<String>,
    }

    /// Answer of `DELETE /clusters/{cluster_id}/triggers/{Id}`.
    pub struct DeleteTriggerResponse {
        /// The trigger that is gone.
        pub id: String,
        /// The cluster.
        pub cluster_id: String,
        /// The id of this request.
        pub request_id: String,
    }
}
