//! Calling a trigger.

use std::collections::BTreeSet;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use futures::future::join_all;
use sampan_store::model::{Cluster, Fault, FaultKind, Outcome, Trigger, TriggerAction};

use super::{super::Service, super::fields, link};

/// Most containers that one call adds or removes.
const STEP_MAX: i64 = 100;
/// Compared when there is no such trigger, so that the answer takes as long.
const NO_SECRET: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A call of a trigger, as sent.
#[derive(Clone, Default)]
pub struct Pull {
    /// `triggerUrl`.
    pub token: Option<String>,
    /// `secret`.
    pub secret: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    /// `step`.
    pub step: Option<String>,
}

impl std::fmt::Debug for Pull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pull").field("kind", &self.kind).field("step", &self.step).finish_non_exhaustive()
    }
}

/// What a call did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The trigger.
    pub trigger: Trigger,
    /// In words.
    pub message: String,
}

impl Service {
    /// Checks the link and its secret, and does what the trigger is for.
    ///
    /// # Errors
    /// MissingParameter; Forbidden for an unknown link or a wrong secret, without saying which; Throttled; InvalidParameter of
    /// `type` and `step`; what the cluster's master answers.
    pub async fn trigger_fire(&self, pull: &Pull) -> Outcome<Fired> {
        let token = fields::required("triggerUrl", pull.token.as_deref())?;
        let secret = fields::required("secret", pull.secret.as_deref())?;
        let trigger = self.authenticate(token, secret).await?;
        if !self.trigger_rates.admit(&trigger.id, self.now()) {
            let message = format!("trigger {} is called too often; wait a few seconds", trigger.id);
            return Err(Fault::new(FaultKind::Throttled, message));
        }
        let cluster = self.store.get::<Cluster>(&trigger.cluster_id).filter(|cluster| cluster.is_live());
        let cluster = cluster.ok_or_else(|| Fault::no_cluster(&trigger.cluster_id))?;
        let applications = self.applications()?;
        let message = match (trigger.action, &trigger.service) {
            (TriggerAction::Redeploy, _) => {
                applications.redeploy(&cluster, &trigger.project).await?;
                format!("application {} is being deployed again", trigger.project)
            }
            (TriggerAction::Scaling, Some(service)) => {
                let by = step(pull)?;
                let id = format!("{}_{service}", trigger.project);
                applications.scale_by(&cluster, &id, by).await?;
                format!("service {id} is being scaled by {by}")
            }
            (TriggerAction::Scaling, None) => {
                return Err(Fault::internal(format!("trigger {} has no service", trigger.id)));
            }
        };
        tracing::info!(trigger = trigger.id, cluster = trigger.cluster_id, message, "a trigger was called");
        Ok(Fired { trigger, message })
    }

    async fn authenticate(&self, token: &str, secret: &str) -> Outcome<Trigger> {
        let link = link::parse(token);
        let trigger = link.as_ref().and_then(|link| {
            self.store.get::<Trigger>(&link.id).filter(|trigger| link.names(trigger)).map(|found| found.value.clone())
        });
        let expected = match &trigger {
            Some(trigger) => self.trigger_secret(trigger).await?,
            None => None,
        };
        let given = secret.to_ascii_lowercase();
        let against = expected.as_deref().unwrap_or(NO_SECRET);
        let is_equal = verify_slices_are_equal(against.as_bytes(), given.as_bytes()).is_ok();
        match trigger {
            Some(trigger) if is_equal && expected.is_some() => Ok(trigger),
            _ if self.trigger_rates.admit_failure(self.now()) => {
                Err(Fault::new(FaultKind::Forbidden, "there is no such trigger, or its secret is another one"))
            }
            _ => Err(Fault::new(FaultKind::Throttled, "too many calls with wrong links or secrets; try again later")),
        }
    }

    /// An image was pushed to the installation's registry: applications that use it are deployed again, if a trigger of
    /// theirs says so. Answers how many; one that cannot be reached does not keep others from it.
    pub async fn image_pushed(&self, repository: &str, tag: &str) -> usize {
        let Some(port) = self.settings.registry_port else { return 0 };
        let triggers = self.store.list::<Trigger>();
        let asked = triggers.iter().filter(|trigger| trigger.on_image_update);
        // Two triggers of one application are one deployment.
        let applications: BTreeSet<(&str, &str)> =
            asked.map(|trigger| (trigger.cluster_id.as_str(), trigger.project.as_str())).collect();
        let image = format!("{repository}:{tag}");
        let image = image.as_str();
        let deployed = applications.into_iter().map(|(cluster_id, project)| async move {
            match self.deploy_if_used(cluster_id, project, image, port).await {
                Ok(true) => {
                    tracing::info!(cluster = cluster_id, project, image, "a new image is deployed");
                    true
                }
                Ok(false) => false,
                Err(fault) => {
                    tracing::warn!(cluster = cluster_id, project, image, reason = %fault, "a new image could not be deployed");
                    false
                }
            }
        });
        join_all(deployed).await.into_iter().filter(|deployed| *deployed).count()
    }

    async fn deploy_if_used(&self, cluster_id: &str, project: &str, image: &str, port: u16) -> Outcome<bool> {
        let cluster = self.store.get::<Cluster>(cluster_id).filter(|cluster| cluster.is_live());
        let Some(cluster) = cluster else { return Ok(false) };
        let applications = self.applications()?;
        let services = applications.services(&cluster, project).await?;
        if !services.iter().any(|service| is_image(&service.image, image, port)) {
            return Ok(false);
        }
        applications.redeploy(&cluster, project).await.map(|()| true)
    }
}

/// `type` and `step` as a number of containers.
fn step(pull: &Pull) -> Outcome<i32> {
    let sign = match fields::required("type", pull.kind.as_deref())? {
        "scale_out" => 1,
        "scale_in" => -1,
        other => return Err(Fault::invalid("type", format!("type {other:?} must be scale_out or scale_in"))),
    };
    let text = fields::required("step", pull.step.as_deref())?;
    let step = text.parse::<i64>().ok().filter(|step| (1..=STEP_MAX).contains(step));
    let step =
        step.ok_or_else(|| Fault::invalid("step", format!("step {text:?} must be a number from 1 to {STEP_MAX}")))?;
    Ok(sign * i32::try_from(step).unwrap_or_default())
}

/// Whether a template's image is this `repository:tag` of the installation's registry, which listens on this port of loopback.
fn is_image(written: &str, image: &str, port: u16) -> bool {
    let hosts = [format!("127.0.0.1:{port}/"), format!("localhost:{port}/")];
    let Some(rest) = hosts.iter().find_map(|host| written.strip_prefix(host.as_str())) else { return false };
    let has_tag = rest.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/'));
    if has_tag { rest == image } else { image.strip_suffix(":latest") == Some(rest) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn steps_are_from_one_to_a_hundred() {
        let pull = |kind: &str, step: &str| {
            super::step(&Pull { kind: Some(kind.into()), step: Some(step.into()), ..Pull::default() })
        };
        assert_eq!(pull("scale_out", "5").unwrap(), 5);
        assert_eq!(pull("scale_in", "100").unwrap(), -100);
        for (kind, step) in
            [("scale_out", "0"), ("scale_out", "101"), ("scale_in", "-1"), ("scale_in", "x"), ("sale out", "5")]
        {
            assert!(matches!(pull(kind, step).unwrap_err().kind, FaultKind::InvalidParameter(_)), "{kind} {step}");
        }
        assert!(matches!(super::step(&Pull::default()).unwrap_err().kind, FaultKind::MissingParameter(_)));
    }

    #[test]
    fn images_are_compared_with_their_tags() {
        let is_image = |written: &str, image: &str| super::is_image(written, image, 5000);
        assert!(is_image("127.0.0.1:5000/shop/web:1.2", "shop/web:1.2"));
        assert!(is_image("localhost:5000/web", "web:latest"));
        for written in
            ["127.0.0.1:5000/web:2", "127.0.0.1:5001/web:1", "web:1", "registry.example/web:1", "127.0.0.1:5000/web"]
        {
            assert!(!is_image(written, "web:1"), "{written}");
        }
    }
}
