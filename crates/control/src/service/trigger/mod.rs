//! Triggers: links that redeploy an application or scale a service, for systems that cannot sign requests (catalogue: Swarm
//! guide 4.9, Kubernetes guide 13.6 to 13.8).

mod fire;
mod link;
mod rate;

use sampan_store::model::{Cluster, Fault, FaultKind, Outcome, Trigger, TriggerAction, new_token, new_trigger_id};

use super::{RequestContext, Service, fields};

pub use fire::{Fired, Pull};
pub use link::{Link, parse as parse_link};
pub(super) use rate::Rates;

/// Triggers that a cluster may have.
const TRIGGERS_PER_CLUSTER_MAX: usize = 200;
/// Random bytes of a secret; it is written as 64 hexadecimal digits.
const SECRET_BYTES: usize = 32;

/// What a trigger shall be.
#[derive(Clone, Debug, Default)]
pub struct TriggerCreate {
    /// Cluster.
    pub cluster_id: String,
    /// `namespace/application`, or the application alone.
    pub project_id: Option<String>,
    /// `redeploy` or `scaling`.
    pub action: Option<String>,
    /// `deployment` (default) or `application`.
    pub kind: Option<String>,
    /// Service that a scaling trigger scales.
    pub service: Option<String>,
    /// Also called when an image of the application is pushed to the installation's registry.
    pub on_image_update: bool,
}

/// Which triggers are wanted.
#[derive(Clone, Debug, Default)]
pub struct TriggersWanted {
    /// Of this namespace.
    pub namespace: Option<String>,
    /// Of this application.
    pub name: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// With this action.
    pub action: Option<String>,
}

/// A trigger with its secret, as its owner sees it.
#[derive(Clone)]
pub struct TriggerShown {
    /// The trigger.
    pub trigger: Trigger,
    /// 64 hexadecimal digits.
    pub secret: String,
}

impl std::fmt::Debug for TriggerShown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TriggerShown").field("trigger", &self.trigger).finish_non_exhaustive()
    }
}

impl Service {
    /// Makes a trigger for an application that exists.
    ///
    /// # Errors
    /// ClusterNotFound; InvalidParameter and MissingParameter of what is wrong; NotFound of the application or service;
    /// Unsupported for clusters of the Kubernetes edition.
    pub async fn trigger_create(&self, ctx: &RequestContext, input: &TriggerCreate) -> Outcome<TriggerShown> {
        let cluster = self.cluster(ctx, &input.cluster_id)?;
        let wanted = self.check(&cluster, input).await?;
        let secret = new_token(SECRET_BYTES);
        let trigger = self
            .change(ctx, |change| {
                let live = change.store.get::<Cluster>(&cluster.id).filter(|cluster| cluster.deletion.is_none());
                let live = live.ok_or_else(|| Fault::state(format!("cluster {} is being deleted", cluster.id)))?;
                change.rely_on(&live);
                let present = change.store.list_of::<Trigger>(&cluster.id).len();
                if present >= TRIGGERS_PER_CLUSTER_MAX {
                    let message = format!("the cluster has {present} triggers, which is the limit; delete some");
                    return Err(Fault::new(FaultKind::QuotaExceeded("Trigger".into()), message));
                }
                let trigger = Trigger { id: new_trigger_id(), created: change.now, ..wanted.clone() };
                change.create(&trigger);
                change.secret(&trigger.secret_name(), &secret);
                Ok(trigger)
            })
            .await?;
        Ok(TriggerShown { trigger, secret })
    }

    /// Validates; the id and the time are filled in later.
    async fn check(&self, cluster: &Cluster, input: &TriggerCreate) -> Outcome<Trigger> {
        let project_id = fields::required("project_id", input.project_id.as_deref())?;
        let (namespace, project) = project_id.split_once('/').unwrap_or(("default", project_id));
        if namespace.is_empty() || project.is_empty() || project.contains(['/', '|']) {
            let message = format!("project_id {project_id:?} must be namespace/application or an application's name");
            return Err(Fault::invalid("project_id", message));
        }
        let action = match fields::required("action", input.action.as_deref())? {
            "redeploy" => TriggerAction::Redeploy,
            "scaling" => TriggerAction::Scaling,
            other => return Err(Fault::invalid("action", format!("action {other:?} must be redeploy or scaling"))),
        };
        let kind = fields::given(&input.kind).unwrap_or("deployment");
        fields::one_of("type", kind, &["deployment", "application"])?;
        let service = fields::given(&input.service);
        match (action, service, input.on_image_update) {
            (TriggerAction::Scaling, None, _) => return Err(Fault::missing("service")),
            (TriggerAction::Scaling, _, true) => {
                let message = "image_update goes with the action redeploy: a new image does not say how to scale";
                return Err(Fault::invalid("image_update", message));
            }
            (TriggerAction::Redeploy, Some(_), _) => {
                let message = "service goes with the action scaling: redeploy concerns the whole application";
                return Err(Fault::invalid("service", message));
            }
            _ => {}
        }
        let services = self.applications()?.services(cluster, project).await?;
        if let Some(name) = service
            && !services.iter().any(|known| known.name == name)
        {
            let known: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
            let message = format!("application {project} has no service {name}; it has {}", known.join(", "));
            return Err(Fault::invalid("service", message));
        }
        Ok(Trigger {
            id: String::new(),
            account_id: cluster.account_id.clone(),
            cluster_id: cluster.id.clone(),
            namespace: namespace.to_owned(),
            project: project.to_owned(),
            service: service.map(str::to_owned),
            kind: kind.to_owned(),
            action,
            on_image_update: input.on_image_update,
            created: self.now(),
        })
    }

    /// Triggers of a cluster, oldest first.
    ///
    /// # Errors
    /// ClusterNotFound; InvalidParameter of a filter.
    pub async fn triggers(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        wanted: &TriggersWanted,
    ) -> Outcome<Vec<TriggerShown>> {
        self.cluster(ctx, cluster_id)?;
        if let Some(kind) = fields::given(&wanted.kind) {
            fields::one_of("Type", kind, &["deployment", "application"])?;
        }
        if let Some(action) = fields::given(&wanted.action) {
            fields::one_of("action", action, &["redeploy", "scaling"])?;
        }
        let is = |filter: &Option<String>, value: &str| fields::given(filter).is_none_or(|filter| filter == value);
        let mut triggers = self.store.list_of::<Trigger>(cluster_id);
        triggers.retain(|trigger| {
            is(&wanted.namespace, &trigger.namespace)
                && is(&wanted.name, &trigger.project)
                && is(&wanted.kind, &trigger.kind)
                && is(&wanted.action, trigger.action.as_str())
        });
        triggers.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        let mut shown = Vec::with_capacity(triggers.len());
        for trigger in triggers {
            let Some(secret) = self.trigger_secret(&trigger).await? else { continue };
            shown.push(TriggerShown { trigger: trigger.value.clone(), secret });
        }
        Ok(shown)
    }

    /// Removes a trigger; its link is worth nothing from then on.
    ///
    /// # Errors
    /// ClusterNotFound; NotFound(Trigger).
    pub async fn trigger_delete(&self, ctx: &RequestContext, cluster_id: &str, trigger_id: &str) -> Outcome<()> {
        self.cluster(ctx, cluster_id)?;
        self.change(ctx, |change| {
            let trigger = change
                .store
                .get::<Trigger>(trigger_id)
                .filter(|trigger| trigger.cluster_id == cluster_id)
                .ok_or_else(|| Fault::not_found("Trigger", trigger_id))?;
            change.delete(&trigger);
            change.delete_secret(&trigger.secret_name());
            Ok(())
        })
        .await
    }

    /// `None`: the trigger was deleted meanwhile.
    async fn trigger_secret(&self, trigger: &Trigger) -> Outcome<Option<String>> {
        let Some(secret) = self.store.secret(&trigger.secret_name()).await? else { return Ok(None) };
        let text = String::from_utf8(secret.to_vec());
        text.map(Some).map_err(|_| Fault::internal(format!("the secret of trigger {} is not text", trigger.id)))
    }
}
