//! `POST /images/load`: one stream to all nodes. The slowest sets the pace.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, future::join_all, stream};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::pull::error_message;
use crate::docker::{Answer, Call, Docker};
use crate::{
    fleet::{
        Fleet, Member, error_of,
        observe::text,
        wire::{self, Body, Messages, Sink},
    },
    model::Refusal,
};

/// Pieces that wait for one node.
const WAITING_MAX: usize = 16;
/// How an engine says the name of an image that it has loaded.
const LOADED: &str = "Loaded image: ";

/// How it went on a node, with the names of what was loaded.
type Loaded = (Arc<Member>, Result<Vec<String>, Refusal>);

impl Docker {
    pub(super) async fn load(&self, call: Call) -> Answer {
        let members = self.fleet.some_healthy()?;
        let target = call.target("/images/load");
        let (mut ways, mut loads) = (Vec::new(), Vec::new());
        for member in &members {
            let (sender, receiver) = mpsc::channel(WAITING_MAX);
            ways.push(sender);
            loads.push(send(member.clone(), target.clone(), receiver));
        }
        let feed = tokio::spawn(feed(wire::passing(call.request.into_body()), ways));
        let (sink, body) = wire::stream();
        let fleet = self.fleet.clone();
        tokio::spawn(async move {
            let mut first = true;
            let followed = loads.into_iter().map(|load| {
                // All say the same: one is heard.
                let heard = std::mem::take(&mut first).then(|| sink.clone());
                async move {
                    let (member, response) = load.await;
                    let result = follow(&member, response, heard).await;
                    (member, result)
                }
            });
            let results = join_all(followed).await;
            feed.abort();
            conclude(&fleet, results, &sink).await;
        });
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// Notes what names mean now, and says where it failed.
async fn conclude(fleet: &Fleet, results: Vec<Loaded>, sink: &Sink) {
    if let Some((member, Ok(names))) = results.iter().find(|(_, result)| result.is_ok()) {
        names.iter().for_each(|name| fleet.note_image(member, name));
    }
    fleet.publish();
    let failed = results.iter().filter_map(|(member, result)| Some((member, result.as_ref().err()?)));
    let failed: Vec<String> = failed.map(|(member, error)| format!("{}: {}", member.name, error.message)).collect();
    if !failed.is_empty() {
        sink.message(&error_message(&failed.join("; "))).await;
    }
}

async fn send(
    member: Arc<Member>,
    target: String,
    receiver: mpsc::Receiver<io::Result<Bytes>>,
) -> (Arc<Member>, Result<Response<Body>, Refusal>) {
    let frames = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece.map(Frame::data), receiver))
    });
    let request =
        Request::builder().method(Method::POST).uri(&target).header(header::CONTENT_TYPE, "application/x-tar");
    let outcome = async {
        let request = request.body(StreamBody::new(frames).boxed_unsync());
        let request = request.map_err(|error| Refusal::bad(format!("{target:?} is no address: {error}")))?;
        member.client.send(request).await
    }
    .await;
    (member, outcome)
}

/// Gives every piece to every node that still takes it.
async fn feed(body: Body, mut ways: Vec<mpsc::Sender<io::Result<Bytes>>>) {
    let mut pieces = wire::pieces(body);
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => {
                let sent = join_all(ways.iter().map(|way| way.send(Ok(piece.clone())))).await;
                let mut open = sent.iter().map(Result::is_ok);
                ways.retain(|_| open.next().unwrap_or(false));
                if ways.is_empty() {
                    return;
                }
            }
            Err(error) => {
                for way in &ways {
                    let _ = way.send(Err(io::Error::new(error.kind(), error.to_string()))).await;
                }
                return;
            }
        }
    }
}

async fn follow(
    member: &Member,
    response: Result<Response<Body>, Refusal>,
    heard: Option<Sink>,
) -> Result<Vec<String>, Refusal> {
    let response = member.client.accepted(response?).await?;
    let mut names = Vec::new();
    let mut messages = Messages::new(response.into_body());
    while let Some(message) = messages.next().await.map_err(|error| member.client.failed(&error))? {
        if let Some(error) = error_of(&message) {
            return Err(Refusal::internal(error));
        }
        names.extend(text(&message, "/stream").trim().strip_prefix(LOADED).map(str::to_owned));
        if let Some(sink) = &heard {
            sink.message(&message).await;
        }
    }
    member.refresh_images().await?;
    Ok(names)
}
