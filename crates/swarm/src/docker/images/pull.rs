//! `POST /images/create`: pull on all nodes in one stream of progress, or import on one and copy.

use std::{collections::BTreeSet, sync::Arc};

use futures::future::{join_all, select_all};
use http::{HeaderValue, Method, Response, header};
use serde_json::{Value, json};

use crate::docker::{Answer, Call, Docker, pass};
use crate::{
    fleet::{
        Fleet, Member, error_of, json_request,
        observe::text,
        set_header,
        wire::{self, Body, Messages, Sink},
    },
    model::Refusal,
};

impl Docker {
    pub(super) async fn pull_or_import(&self, call: Call) -> Answer {
        let imported = call.query.text("fromSrc").is_some_and(|source| !source.is_empty());
        if imported {
            let member = self.builder(&[])?;
            let target = call.target("/images/create");
            let name = reference(call.query.text("repo"), call.query.text("tag"));
            let answer = pass::request(&member, call.request, &target).await?;
            return Ok(self.spread_after(member, answer, name.into_iter().collect()));
        }
        self.pull(call).await
    }

    async fn pull(&self, call: Call) -> Answer {
        let image = call.query.text("fromImage").unwrap_or_default().to_owned();
        if image.is_empty() {
            return Err(Refusal::bad("fromImage or fromSrc says what is to come"));
        }
        let members = self.fleet.some_healthy()?;
        let target = call.target("/images/create");
        let auth =
            call.request.headers().get("x-registry-auth").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut asked: Vec<_> =
            members.iter().map(|member| Box::pin(ask(member.clone(), target.clone(), auth.clone()))).collect();
        // The first that begins gives the status; if none does, its refusal is the answer.
        let mut refusals = Vec::new();
        let mut begun = Vec::new();
        while begun.is_empty() && !asked.is_empty() {
            let (outcome, _, rest) = select_all(asked).await;
            asked = rest;
            match outcome {
                (member, Ok(response)) => begun.push((member, response)),
                (member, Err(refusal)) => refusals.push((member.name.clone(), refusal)),
            }
        }
        if begun.is_empty() {
            let refusal = refusals.into_iter().next().map(|(_, refusal)| refusal);
            return Err(refusal.unwrap_or_else(|| Refusal::unavailable("no node answered")));
        }
        let (sink, body) = wire::stream();
        let fleet = self.fleet.clone();
        let tag = call.query.text("tag").filter(|tag| !tag.is_empty());
        // Without any tag all of them are pulled.
        let name = (tag.is_some() || has_tag(&image)).then(|| reference(Some(&image), tag)).flatten();
        tokio::spawn(async move {
            let first = begun.into_iter().map(|(member, response)| follow(member, Ok(response), &sink));
            let others = asked.into_iter().map(|asked| async {
                let (member, outcome) = asked.await;
                follow(member, outcome, &sink).await
            });
            let (first, others) = futures::join!(join_all(first), join_all(others));
            let failed: Vec<(String, Refusal)> = first.into_iter().chain(others).flatten().chain(refusals).collect();
            let well = |member: &&Arc<Member>| failed.iter().all(|(node, _)| *node != member.name);
            if let (Some(name), Some(member)) = (&name, members.iter().find(well)) {
                fleet.note_image(member, name);
            }
            fleet.publish();
            conclude(&failed, members.len(), &sink).await;
        });
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    /// After an image came to one node: its stream is passed on, then the image goes to the others.
    pub(super) fn spread_after(
        &self,
        member: Arc<Member>,
        answer: Response<Body>,
        names: Vec<String>,
    ) -> Response<Body> {
        if !answer.status().is_success() {
            return answer;
        }
        let (parts, body) = answer.into_parts();
        let (sink, stream) = wire::stream();
        tokio::spawn(spread(self.fleet.clone(), member, body, names, sink));
        let mut answer = Response::from_parts(parts, stream);
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        answer
    }
}

async fn ask(
    member: Arc<Member>,
    target: String,
    auth: Option<String>,
) -> (Arc<Member>, Result<Response<Body>, Refusal>) {
    let outcome = async {
        let mut request = json_request(Method::POST, &target, None)?;
        set_header(request.headers_mut(), "x-registry-auth", auth.as_deref());
        let response = member.client.send(request).await?;
        member.client.accepted(response).await
    }
    .await;
    (member, outcome)
}

/// Passes a node's progress on under its name; answers how it failed.
async fn follow(
    member: Arc<Member>,
    outcome: Result<Response<Body>, Refusal>,
    sink: &Sink,
) -> Option<(String, Refusal)> {
    let result = async {
        let mut messages = Messages::new(outcome?.into_body());
        while let Some(mut message) = messages.next().await.map_err(|error| member.client.failed(&error))? {
            if let Some(error) = error_of(&message) {
                return Err(Refusal::internal(error));
            }
            let id = text(&message, "/id").to_owned();
            let id = if id.is_empty() { member.name.clone() } else { format!("{} {id}", member.name) };
            message["id"] = json!(id);
            if !sink.message(&message).await {
                return Err(Refusal::internal("nobody listens any more"));
            }
        }
        member.refresh_images().await
    }
    .await;
    result.err().map(|refusal| (member.name.clone(), refusal))
}

async fn conclude(failed: &[(String, Refusal)], nodes: usize, sink: &Sink) {
    if failed.is_empty() {
        return;
    }
    let words: BTreeSet<String> = failed.iter().map(|(node, refusal)| format!("{node}: {}", refusal.message)).collect();
    let words: Vec<String> = words.into_iter().collect();
    let message =
        match failed.len() == nodes && failed.iter().all(|(_, refusal)| refusal.message == failed[0].1.message) {
            true => failed[0].1.message.clone(),
            false => words.join("; "),
        };
    sink.message(&error_message(&message)).await;
}

/// An error as streams of progress carry it.
pub(super) fn error_message(message: &str) -> Value {
    json!({"errorDetail": {"message": message}, "error": message})
}

fn has_tag(image: &str) -> bool {
    image.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// `repo:tag`, `repo@digest`.
pub(super) fn reference(repo: Option<&str>, tag: Option<&str>) -> Option<String> {
    let repo = repo.filter(|repo| !repo.is_empty())?;
    Some(match tag.filter(|tag| !tag.is_empty()) {
        Some(digest) if digest.contains(':') => format!("{repo}@{digest}"),
        Some(tag) => format!("{repo}:{tag}"),
        None => repo.to_owned(),
    })
}

/// Passes a stream of messages on and copies what they made to all other nodes, unless there was an error.
async fn spread(fleet: Arc<Fleet>, member: Arc<Member>, body: Body, mut names: Vec<String>, sink: Sink) {
    let mut messages = Messages::new(body);
    let mut id = String::new();
    loop {
        match messages.next().await {
            Ok(Some(message)) => {
                let failed = error_of(&message).is_some();
                made(&message, &mut id);
                if !sink.message(&message).await || failed {
                    return;
                }
            }
            Ok(None) => break,
            Err(error) => {
                sink.message(&error_message(&member.client.failed(&error).message)).await;
                return;
            }
        }
    }
    if let Err(error) = member.refresh_images().await {
        tracing::debug!(node = member.name, error = error.message, "images could not be listed");
    }
    fleet.publish();
    if names.is_empty() && !id.is_empty() {
        names.push(id);
    }
    let mut failed = Vec::new();
    for name in names {
        fleet.note_image(&member, &name);
        for (node, copied) in fleet.spread_image(&member, &name).await {
            match copied {
                Ok(()) => tracing::debug!(node, name, "an image was copied"),
                Err(error) => {
                    let from = &member.name;
                    failed.push(format!("{name} was made on {from} but not copied to {node}: {}", error.message));
                }
            }
        }
    }
    if !failed.is_empty() {
        sink.message(&error_message(&failed.join("; "))).await;
    }
}

/// The id of what was made, as builds (`aux`) and imports (`status`) tell it.
fn made(message: &Value, id: &mut String) {
    let told = [text(message, "/aux/ID"), text(message, "/status")];
    if let Some(told) = told.into_iter().find(|told| told.starts_with("sha256:")) {
        *id = told.to_owned();
    }
}
