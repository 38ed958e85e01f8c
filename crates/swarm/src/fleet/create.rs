//! Puts a container on a node: its name is reserved, a node chosen, the image brought there if another node has it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde_json::Value;

use super::{
    Fleet, Member, attach, belonging, client::json_request, observe, prepare, prepare::Plan,
    reschedule::IDENTITY_LABEL, reserve::Reservation,
};
use crate::{
    model::{Container, CreateContainer, Refusal, View},
    schedule,
};

/// Nodes that are tried one after the other when engines do not answer.
const TRIES_MAX: usize = 3;

/// Creating unpacks nothing, but may have to wait for a volume's plug-in.
pub(super) const CREATE_TIMEOUT: Duration = Duration::from_secs(120);

/// What happens when no node has the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenMissing {
    /// The engine's 404: clients pull and ask again.
    Refuse,
    /// It is pulled on the chosen node.
    Pull,
}

impl Fleet {
    /// Creates a container; answers the engine's answer (`Id`, `Warnings`). `query`: further parameters for the engine.
    pub(crate) async fn create_container(
        &self,
        wanted: CreateContainer,
        missing: WhenMissing,
        query: &str,
    ) -> Result<Value, Refusal> {
        let view = self.current();
        let mut plan = prepare::plan(&view, wanted.body, None)?;
        self.only_on_some_nodes(&view, &mut plan);
        let reservation = self.reserve_name(wanted.name.as_deref(), None)?;
        self.create_planned(plan, &reservation, missing, wanted.registry_auth.as_deref(), query).await
    }

    /// Creates a container in place of another of the same name, elsewhere than on that one's node.
    pub(crate) async fn create_replacing(
        &self,
        body: Value,
        old: &Container,
        missing: WhenMissing,
    ) -> Result<Value, Refusal> {
        let view = self.current();
        let mut plan = prepare::plan(&view, body, old.labels.get(IDENTITY_LABEL).map(String::as_str))?;
        self.only_on_some_nodes(&view, &mut plan);
        plan.request.excluded.insert(old.node.clone());
        let reservation = self.reserve_name(Some(&old.name), Some(&old.id))?;
        self.create_planned(plan, &reservation, missing, None, "").await
    }

    async fn create_planned(
        &self,
        mut plan: Plan,
        reservation: &Reservation<'_>,
        missing: WhenMissing,
        auth: Option<&str>,
        query: &str,
    ) -> Result<Value, Refusal> {
        let mut tried = 0;
        loop {
            tried += 1;
            let member = self.choose(&plan, reservation)?;
            match self.create_on(&member, &plan, &reservation.name, missing, auth, query).await {
                Ok(answer) => {
                    self.refresh(&member, observe::text(&answer, "/Id")).await;
                    return Ok(answer);
                }
                // The engine went away; should it have made the container, it is found as a double when it is back.
                Err(refusal) if refusal.status == StatusCode::SERVICE_UNAVAILABLE && tried < TRIES_MAX => {
                    tracing::warn!(node = member.name, error = refusal.message, "another node is tried");
                    plan.request.excluded.insert(member.name.clone());
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// Of the volumes it mounts only those matter that some nodes have and others have not.
    fn only_on_some_nodes(&self, view: &View, plan: &mut Plan) {
        let kept = self.kept.volume_names();
        let wanted = std::mem::take(&mut plan.request.volumes);
        let somewhere = |name: &String| view.nodes.iter().any(|node| node.volumes.contains(name));
        plan.request.volumes = wanted.into_iter().filter(|name| !kept.contains(name) && somewhere(name)).collect();
    }

    fn choose(&self, plan: &Plan, reservation: &Reservation<'_>) -> Result<Arc<Member>, Refusal> {
        let strategy = self.settings().strategy;
        // In this order: what leaves the reservations is in the picture by then.
        let mut reservations = self.reservations();
        let view = self.current();
        let in_flight = Self::unseen(&view, reservations.in_flight());
        let node = schedule::place(&view, &in_flight, &plan.request, strategy, &mut rand::rng())?;
        reservation.place(&mut reservations, plan.shadow(&reservation.name, &node));
        drop(reservations);
        self.member(&node).ok_or_else(|| Refusal::unavailable(format!("the node {node} left the cluster meanwhile")))
    }

    /// Those in flight that the view does not show yet.
    fn unseen(view: &View, in_flight: Vec<Arc<Container>>) -> Vec<Arc<Container>> {
        let seen: BTreeSet<(&str, &str)> =
            view.containers.iter().map(|container| (container.node.as_str(), container.name.as_str())).collect();
        in_flight.into_iter().filter(|one| !seen.contains(&(one.node.as_str(), one.name.as_str()))).collect()
    }

    async fn create_on(
        &self,
        member: &Member,
        plan: &Plan,
        name: &str,
        missing: WhenMissing,
        auth: Option<&str>,
        query: &str,
    ) -> Result<Value, Refusal> {
        let cpus = observe::number(&member.cache().info(), "/NCPU");
        let mut body = plan.body_for(u32::try_from(cpus).unwrap_or(1));
        let endpoints = attach::further_endpoints(&mut body);
        attach::spare_buckets(&mut body, |name| self.kept.volume(name));
        let path = format!("/containers/create?name={name}{query}");
        let image = &plan.request.image;
        self.bring_meant(member, image).await?;
        let created = match make(member, &path, &body, image).await {
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND && is_about_image(&refusal) => {
                if !self.bring_image(member, image).await? {
                    if missing == WhenMissing::Refuse {
                        return Err(refusal);
                    }
                    self.pull_on(member, image, auth).await?;
                }
                make(member, &path, &body, image).await
            }
            other => other,
        }?;
        attach::connect(member, observe::text(&created, "/Id"), &endpoints).await?;
        Ok(created)
    }
}

/// Creates a container that is only whose the request says.
async fn make(member: &Member, path: &str, body: &Value, image: &str) -> Result<Value, Refusal> {
    let mut body = body.clone();
    belonging::disown(&mut body, &belonging::labels_of(member, image).await?);
    member.client.call_within(Method::POST, path, Some(&body), CREATE_TIMEOUT).await
}

fn is_about_image(refusal: &Refusal) -> bool {
    refusal.message.to_ascii_lowercase().contains("no such image")
}

/// Whether an engine has this image.
pub(crate) async fn has_image(member: &Member, image: &str) -> bool {
    let path = format!("/images/{image}/json");
    match json_request(Method::GET, &path, None) {
        Ok(_) => member.client.get(&path).await.is_ok(),
        Err(_) => false,
    }
}
