//! One stream of events out of all nodes'.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Response, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time};

use super::{Answer, Call, Docker, filters::Filters, not_found};
use crate::{
    fleet::{
        Fleet, Member, json_request,
        observe::{number, text},
        wire::{self, Messages, Sink},
    },
    model::{Node, Refusal, labels},
};

/// Events of a node that wait for their turn.
const WAITING_MAX: usize = 64;
/// A pause before a node that was lost is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// The kinds of filters that engines know, and ours.
const FILTERS: [&str; 16] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
    "name",
    "id",
];

/// What is asked of every node.
struct Question {
    /// From when on, as the client said it.
    since: Option<String>,
    until: Option<String>,
    filters: Filters,
}

impl Docker {
    pub(super) async fn events(&self, call: Call) -> Answer {
        if call.method != Method::GET {
            return Err(not_found(&call));
        }
        let mut filters = Filters::of(&call.query, &FILTERS)?;
        let nodes = filters.take("node");
        let text = |key: &str| call.query.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
        let question = Arc::new(Question { since: text("since"), until: text("until"), filters });
        let mut members = self.fleet.members();
        if !nodes.is_empty() {
            members.retain(|member| {
                nodes.iter().any(|node| self.fleet.member(node).is_some_and(|one| one.name == member.name))
            });
        }
        let past = question.until.as_deref().is_some_and(is_past);
        let (sink, body) = wire::stream();
        tokio::spawn(tell(self.fleet.clone(), members, question, past, sink));
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// A point in time as engines take it.
fn moment(then: Timestamp) -> String {
    format!("{}.{:09}", then.as_second(), then.subsec_nanosecond())
}

fn is_past(until: &str) -> bool {
    let seconds = until.split('.').next().and_then(|seconds| seconds.parse::<i64>().ok());
    let then = seconds.or_else(|| until.parse::<Timestamp>().ok().map(Timestamp::as_second));
    then.is_some_and(|then| then <= Timestamp::now().as_second())
}

async fn tell(fleet: Arc<Fleet>, members: Vec<Arc<Member>>, question: Arc<Question>, past: bool, sink: Sink) {
    let mut sources = Vec::new();
    for member in members {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(listen(fleet.clone(), member, question.clone(), past, sender));
        sources.push(receiver);
    }
    if past {
        in_order(sources, &sink).await;
    } else {
        as_they_come(sources, &sink).await;
    }
}

/// All streams end: the oldest of their heads is next.
async fn in_order(mut sources: Vec<mpsc::Receiver<Value>>, sink: &Sink) {
    let mut heads: BTreeMap<(u64, usize), Value> = BTreeMap::new();
    for (index, source) in sources.iter_mut().enumerate() {
        if let Some(event) = source.recv().await {
            heads.insert((number(&event, "/timeNano"), index), event);
        }
    }
    while let Some(((_, index), event)) = heads.pop_first() {
        if !sink.message(&event).await {
            return;
        }
        if let Some(source) = sources.get_mut(index)
            && let Some(next) = source.recv().await
        {
            heads.insert((number(&next, "/timeNano"), index), next);
        }
    }
}

async fn as_they_come(sources: Vec<mpsc::Receiver<Value>>, sink: &Sink) {
    let streams = sources.into_iter().map(|receiver| {
        Box::pin(futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|event| (event, receiver))
        }))
    });
    let mut merged = futures::stream::select_all(streams);
    loop {
        tokio::select! {
            event = futures::StreamExt::next(&mut merged) => match event {
                Some(event) => {
                    if !sink.message(&event).await {
                        return;
                    }
                }
                None => return,
            },
            () = sink.closed() => return,
        }
    }
}

/// Follows one node, again and again while it is lost, until the end that was asked for or nobody listens.
async fn listen(
    fleet: Arc<Fleet>,
    member: Arc<Member>,
    question: Arc<Question>,
    past: bool,
    sender: mpsc::Sender<Value>,
) {
    let mut since = question.since.clone();
    loop {
        let mut last = None;
        let followed = tokio::select! {
            followed = follow(&fleet, &member, &question, since.clone(), &sender, &mut last) => followed,
            () = sender.closed() => return,
        };
        match followed {
            Ok(()) if question.until.is_some() => return,
            Err(error) => tracing::debug!(node = member.name, error = error.message, "events of a node broke off"),
            Ok(()) => {}
        }
        if past {
            return;
        }
        // After what was told last; if nothing was, from when this began.
        since = last.or(since);
        tokio::select! {
            () = time::sleep(AGAIN) => {}
            () = sender.closed() => return,
        }
    }
}

async fn follow(
    fleet: &Fleet,
    member: &Member,
    question: &Question,
    since: Option<String>,
    sender: &mpsc::Sender<Value>,
    last: &mut Option<String>,
) -> Result<(), Refusal> {
    let encode = |key: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!("&{key}={}", super::query::encode(value))).unwrap_or_default()
    };
    let (from, until) = (encode("since", &since), encode("until", &question.until));
    let path = format!("/events?filters={}{from}{until}", question.filters.encoded());
    let response = member.client.send(json_request(Method::GET, &path, None)?).await?;
    let mut messages = Messages::new(member.client.accepted(response).await?.into_body());
    *last = since.is_none().then(|| moment(Timestamp::now()));
    while let Some(event) = messages.next().await.map_err(|error| member.client.failed(&error))? {
        if is_ours(member, &event) {
            continue;
        }
        let told = number(&event, "/timeNano") + 1;
        *last = Some(format!("{}.{:09}", told / 1_000_000_000, told % 1_000_000_000));
        let view = fleet.current();
        let Some(node) = view.node(&member.name) else { return Ok(()) };
        if sender.send(with_node(event, node)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn is_ours(member: &Member, event: &Value) -> bool {
    let attribute = |key: &str| event.pointer("/Actor/Attributes").and_then(|attributes| attributes.get(key));
    let container = match text(event, "/Type") {
        "container" => text(event, "/Actor/ID"),
        "network" => attribute("container").and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    };
    attribute(labels::SYSTEM).is_some() || member.cache().is_system(container)
}

/// An event with the node that it comes from, in the places where Docker Swarm put it.
fn with_node(mut event: Value, node: &Node) -> Value {
    let address = format!("{}:{}", node.ip, sampan_agents::master::ENGINE_PORT);
    if let Some(attributes) = event.pointer_mut("/Actor/Attributes").and_then(Value::as_object_mut) {
        attributes.insert("node.name".to_owned(), json!(node.name));
        attributes.insert("node.id".to_owned(), json!(node.id));
        attributes.insert("node.addr".to_owned(), json!(address));
        attributes.insert("node.ip".to_owned(), json!(node.ip.to_string()));
    }
    if let Some(from) = event.get("from").and_then(Value::as_str) {
        event["from"] = json!(format!("{from} node:{}", node.name));
    }
    event["node"] = json!({"Name": node.name, "Id": node.id, "Addr": address, "Ip": node.ip.to_string()});
    event
}
