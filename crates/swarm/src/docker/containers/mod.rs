//! `/containers/…`: lists and creation over the cluster, everything else at the container's node.

mod act;
mod create;
mod list;
mod prune;
mod show;

use super::{Answer, Call, Docker, not_found, pass};

/// Last segments that say what is to be done; the rest before them is the container.
const ACTIONS: [&str; 24] = [
    "json",
    "top",
    "logs",
    "changes",
    "export",
    "stats",
    "resize",
    "start",
    "stop",
    "restart",
    "kill",
    "update",
    "rename",
    "pause",
    "unpause",
    "attach",
    "attach/ws",
    "wait",
    "archive",
    "exec",
    "copy",
    "checkpoints",
    "exec/json",
    "checkpoint",
];

impl Docker {
    pub(super) async fn containers(&self, call: Call, rest: &str) -> Answer {
        match (call.method.as_str(), rest) {
            ("GET", "json" | "ps") => return self.list(&call).await,
            ("POST", "create") => return self.create(call).await,
            ("POST", "prune") => return self.prune_containers(call).await,
            _ => {}
        }
        let (key, action) = split(rest);
        match (call.method.as_str(), action) {
            ("GET", "json") => self.inspect(&call, key).await,
            ("DELETE", "") => self.act(call, key, "").await,
            ("POST", "rename") => self.rename(call, key).await,
            ("POST", "exec") => self.exec_create(call, key).await,
            ("POST", "start" | "stop" | "restart" | "kill" | "update" | "pause" | "unpause") => {
                self.act(call, key, action).await
            }
            (
                "GET" | "HEAD" | "PUT" | "POST",
                "top" | "logs" | "changes" | "export" | "stats" | "resize" | "attach" | "attach/ws" | "wait"
                | "archive",
            ) => {
                let (container, member) = self.fleet.locate(key)?;
                let target = call.target(&format!("/containers/{}/{action}", container.id));
                pass::request(&member, call.request, &target).await
            }
            _ => Err(not_found(&call)),
        }
    }
}

/// The container and what is to be done with it; names may be `node/name`.
fn split(rest: &str) -> (&str, &str) {
    let cut = |action: &&&str| rest.strip_suffix(**action).and_then(|head| head.strip_suffix('/'));
    let longest = ACTIONS.iter().filter(|action| cut(action).is_some()).max_by_key(|action| action.len());
    match longest {
        Some(action) => (cut(&action).unwrap_or_default(), action),
        None => (rest, ""),
    }
}
