//! Triggers.

use sampan_api::{signature::encode_pairs, types};
use sampan_control::service::trigger::{Link, TriggerShown};

use super::time;

/// A trigger with its link. `endpoint` is where callers reach the server, `http://host:port`.
pub fn trigger(shown: &TriggerShown, endpoint: &str) -> types::Trigger {
    let trigger = &shown.trigger;
    let token = Link::token(trigger);
    let query = encode_pairs([("triggerUrl", token.as_str()), ("secret", shown.secret.as_str())]);
    types::Trigger {
        id: trigger.id.clone(),
        name: trigger.project.clone(),
        cluster_id: trigger.cluster_id.clone(),
        project_id: format!("{}/{}", trigger.namespace, trigger.project),
        kind: trigger.kind.clone(),
        action: trigger.action.as_str().into(),
        trigger_url: format!("{endpoint}/hook/trigger?{query}"),
        token,
        service: trigger.service.clone().unwrap_or_default(),
        image_update: trigger.on_image_update,
        secret: shown.secret.clone(),
        created: time(trigger.created),
    }
}
