//! Volumes on all nodes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time;

use super::{Fleet, Member, observe::text};
use crate::{docker::query::encode, model::Refusal};

/// Between two looks whether every node has every volume of a plug-in, beside those that changes cause.
const KEEP_EVERY: Duration = Duration::from_secs(60);
/// A pause after a look that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(3);

/// Driver of volumes that are a node's own.
pub(crate) const LOCAL_DRIVER: &str = "local";

impl Fleet {
    /// Makes a volume on every healthy node; answers what the first of them answers. `body`: as Docker takes it.
    pub(crate) async fn create_volume(&self, body: &Value) -> Result<Value, Refusal> {
        let members = self.some_healthy()?;
        let name = text(body, "/Name").to_owned();
        let plug_in = !matches!(text(body, "/Driver"), "" | LOCAL_DRIVER);
        {
            let _turn = self.late.lock().await;
            join_all(members.iter().map(|member| self.remove_late(member))).await;
            // What could not be removed is wanted again now.
            let present = |node: &String| members.iter().any(|member| member.name == *node);
            self.kept.change_removed(|removed| removed.retain(|(node, volume)| *volume != name || !present(node)))?;
        }
        let before: Vec<bool> = members.iter().map(|member| has_volume(member, &name)).collect();
        let made = join_all(members.iter().map(|member| create_on(member, body))).await;
        let failed = made.iter().position(Result::is_err);
        if let Some(failed) = failed {
            // All or nothing: what was made just now goes again.
            let undone = members.iter().zip(&made).zip(before).filter(|((_, made), before)| made.is_ok() && !before);
            join_all(undone.map(|((member, _), _)| remove_on(member, &name, false))).await;
            let refusal = made.into_iter().nth(failed).and_then(Result::err);
            let refusal = refusal.unwrap_or_else(|| Refusal::internal("a volume could not be made"));
            let node = members.get(failed).map(|member| member.name.as_str()).unwrap_or_default();
            return Err(Refusal::new(refusal.status, format!("{node}: {}", refusal.message)));
        }
        if plug_in {
            self.kept.put_volume(&name, body)?;
        }
        self.publish();
        made.into_iter().flatten().next().ok_or_else(|| Refusal::internal("no node answered"))
    }

    /// Removes a volume everywhere, or on one node.
    pub(crate) async fn delete_volume(
        &self,
        name: &str,
        node: Option<&Arc<Member>>,
        force: bool,
    ) -> Result<(), Refusal> {
        let members = match node {
            Some(member) => vec![member.clone()],
            None => self.some_healthy()?,
        };
        let kept = node.is_none().then(|| self.kept.volume(name)).flatten();
        // A volume of a plug-in is the cluster's, and every node knows it; a node's own is removed where it is, or not at all.
        let noted = if kept.is_some() { self.note_absent(name, &members)? } else { Vec::new() };
        if kept.is_some() {
            // Forgotten first: else a node that is repaired this moment would get it again.
            self.kept.remove_volume(name)?;
        }
        let removed = join_all(members.iter().map(|member| remove_on(member, name, force))).await;
        self.publish();
        let mut found = kept.is_some();
        for result in removed {
            match result {
                Ok(()) => found = true,
                Err(refusal) if refusal.status == StatusCode::NOT_FOUND => {}
                Err(refusal) => {
                    if let Some(body) = &kept {
                        self.kept.put_volume(name, body)?;
                    }
                    self.kept.change_removed(|removed| removed.retain(|late| !noted.contains(late)))?;
                    return Err(refusal);
                }
            }
        }
        if found { Ok(()) } else { Err(Refusal::missing(format!("get {name}: no such volume"))) }
    }

    /// Notes that a plug-in's volume is to be removed from nodes that are away when they are back; answers what is new of
    /// that.
    fn note_absent(&self, name: &str, present: &[Arc<Member>]) -> Result<Vec<(String, String)>, Refusal> {
        let mut absent = self.members();
        absent.retain(|member| present.iter().all(|one| one.name != member.name));
        let mut noted: Vec<_> = absent.iter().map(|member| (member.name.clone(), name.to_owned())).collect();
        let waiting = self.kept.removed_volumes();
        noted.retain(|late| !waiting.contains(late));
        self.kept.change_removed(|removed| removed.extend(noted.iter().cloned()))?;
        Ok(noted)
    }

    /// Removes from a node what was removed while it was away; `false` when something is left. Whoever calls holds `late`.
    async fn remove_late(&self, member: &Member) -> bool {
        let late = self.kept.removed_volumes().into_iter().filter(|(node, _)| *node == member.name);
        let mut well = true;
        for (node, name) in late {
            let outcome = remove_on(member, &name, false).await;
            let used = !self.users_of(&name, Some(&node)).is_empty();
            match outcome {
                Ok(()) => {
                    tracing::info!(node, volume = name, "a volume was removed that had been while its node was away")
                }
                Err(refusal) if refusal.status == StatusCode::NOT_FOUND => {}
                // Somebody has taken it into use again.
                Err(refusal) if refusal.status == StatusCode::CONFLICT && used => {
                    tracing::warn!(
                        node,
                        volume = name,
                        error = refusal.message,
                        "a volume that was removed stays on a node"
                    );
                }
                Err(refusal) => {
                    tracing::warn!(node, volume = name, error = refusal.message, "a removed volume is still on a node");
                    well = false;
                    continue;
                }
            }
            let forgotten = self.kept.change_removed(|all| all.retain(|one| *one != (node.clone(), name.clone())));
            well &= forgotten.is_ok();
        }
        well
    }

    /// Containers that use a volume: (name, id); of one node or of all.
    pub(crate) fn users_of(&self, name: &str, node: Option<&str>) -> Vec<(String, String)> {
        let view = self.current();
        let users = view
            .containers
            .iter()
            .filter(|container| container.volumes.contains(name) && node.is_none_or(|node| container.node == node));
        users.map(|container| (container.name.clone(), container.id.clone())).collect()
    }

    /// Gives nodes that come later the volumes of plug-ins, for ever.
    pub(crate) async fn keep_volumes(self: Arc<Self>) {
        let mut revision = self.revision.subscribe();
        loop {
            let wait = if self.volumes_round().await { KEEP_EVERY } else { RETRY_PAUSE };
            // Whatever happens in a cluster changes its view: one look a second is enough.
            time::sleep(Duration::from_secs(1)).await;
            tokio::select! {
                _ = revision.changed() => {}
                () = time::sleep(wait) => {}
            }
        }
    }

    pub(super) async fn volumes_round(&self) -> bool {
        let mut well = true;
        let members = self.members();
        let known = |node: &String| members.iter().any(|member| member.name == *node);
        if let Err(error) = self.kept.change_removed(|removed| removed.retain(|(node, _)| known(node))) {
            tracing::error!(error = error.message, "volumes that were removed are not kept");
        }
        let kept = self.kept.all_volumes();
        for member in self.healthy() {
            let _turn = self.late.lock().await;
            well &= self.remove_late(&member).await;
            let have: BTreeSet<String> = names(&member);
            for body in kept.iter().filter(|body| !have.contains(text(body, "/Name"))) {
                if let Err(error) = create_on(&member, body).await {
                    let volume = text(body, "/Name");
                    tracing::warn!(node = member.name, volume, error = error.message, "a node lacks a volume");
                    well = false;
                }
            }
        }
        well
    }
}

fn names(member: &Member) -> BTreeSet<String> {
    member.cache().volumes().iter().map(|volume| text(volume, "/Name").to_owned()).collect()
}

fn has_volume(member: &Member, name: &str) -> bool {
    member.cache().volumes().iter().any(|volume| text(volume, "/Name") == name)
}

async fn create_on(member: &Member, body: &Value) -> Result<Value, Refusal> {
    let made = member.client.post("/volumes/create", body).await?;
    member.refresh_volumes().await?;
    Ok(made)
}

async fn remove_on(member: &Member, name: &str, force: bool) -> Result<(), Refusal> {
    let force = if force { "?force=1" } else { "" };
    let path = format!("/volumes/{}{force}", encode(name));
    let removed = member.client.call(http::Method::DELETE, &path, None).await;
    member.refresh_volumes().await?;
    removed.map(|_| ())
}

/// Options whose values are nobody's to read again.
fn is_secret(option: &str) -> bool {
    let option = option.to_ascii_lowercase();
    let secret = ["secret", "password", "passwd", "token", "credential", "access_key", "accesskey"];
    option.starts_with("ak_") || secret.iter().any(|word| option.contains(word))
}

/// A volume without its credentials.
pub(crate) fn without_secrets(mut volume: Value) -> Value {
    put_mount_point(&mut volume);
    if let Some(options) = volume.get_mut("Options").and_then(Value::as_object_mut) {
        options.retain(|option, _| !is_secret(option));
    }
    volume
}

/// Where a plug-in's volume is on every node that uses it; engines only know it while it is mounted (catalogue 4.8.20).
fn put_mount_point(volume: &mut Value) {
    if volume["Mountpoint"].as_str().is_some_and(|path| !path.is_empty()) {
        return;
    }
    let path = match (volume["Driver"].as_str(), volume["Options"]["bucket"].as_str(), volume["Name"].as_str()) {
        (Some("ossfs"), Some(bucket), _) => format!("/mnt/acs_mnt/ossfs/{bucket}"),
        (Some("nas"), _, Some(name)) => format!("/mnt/acs_mnt/nas/{name}"),
        _ => return,
    };
    volume["Mountpoint"] = Value::String(path);
}

/// A volume as the API shows it.
pub(crate) fn shown(volume: &Value, node: Option<&str>, users: &[(String, String)]) -> Value {
    let mut shown = without_secrets(volume.clone());
    let refs: Vec<Value> = users.iter().map(|(name, id)| json!({"Name": name, "ID": id})).collect();
    if let Some(map) = shown.as_object_mut() {
        map.insert("Node".to_owned(), json!(node.unwrap_or_default()));
        map.insert("Refs".to_owned(), Value::Array(refs));
    }
    shown
}
