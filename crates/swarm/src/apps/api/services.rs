//! `/services`.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::Value;

use super::{
    Answer,
    fields::{Fields, Query},
    kill::kill,
    not_allowed,
    projects::STOP_SECONDS_MAX,
    unknown,
};
use crate::{
    apps::{
        Inner, SCALE_MAX,
        intake::{self, Which},
        record::Desired,
        show::Showing,
    },
    model::Refusal,
};

const WEIGHT_MAX: u32 = 100;

pub(super) async fn route(
    inner: &Arc<Inner>,
    method: &Method,
    path: &[&str],
    query: &Query,
    body: &[u8],
) -> Result<Answer, Refusal> {
    match (method.as_str(), path) {
        ("GET", []) => list(inner, query),
        ("GET", [id]) => {
            let (record, service) = intake::locate(inner, id)?;
            Ok(Answer::Shown(Showing::new(inner).service(&record, &service, query.flag(&["containers"], true)?)))
        }
        ("POST", [id, action]) => act(inner, id, action, query, body).await,
        (_, [] | [_] | [_, _]) => Err(not_allowed(method, "/services")),
        _ => Err(unknown(method, "/services/…")),
    }
}

fn list(inner: &Inner, query: &Query) -> Result<Answer, Refusal> {
    let containers = query.flag(&["containers"], true)?;
    let wanted = query.text(&["q"]).unwrap_or_default();
    let showing = Showing::new(inner);
    let mut all: Vec<Value> = Vec::new();
    for record in inner.store.all() {
        let found =
            record.services.values().filter(|service| service.id.contains(wanted) || service.name.contains(wanted));
        all.extend(found.map(|service| showing.service(&record, service, containers)));
    }
    Ok(Answer::Shown(all.into()))
}

async fn act(inner: &Arc<Inner>, id: &str, action: &str, query: &Query, body: &[u8]) -> Result<Answer, Refusal> {
    let (record, _) = intake::locate(inner, id)?;
    let one = Which::One(id.to_owned());
    match action {
        "start" => intake::desire(inner, &record.name, one, Desired::Running, None).await?,
        "stop" => {
            let seconds = query.number(&["t", "timeout"], STOP_SECONDS_MAX)?;
            intake::desire(inner, &record.name, one, Desired::Stopped, seconds).await?;
        }
        "kill" => kill(inner, &record.name, &one, query.text(&["signal"])).await?,
        "scale" => {
            let fields = Fields::read(body)?;
            match fields.text("type")?.as_deref() {
                None | Some("scale_to") => intake::scale_to(inner, id, fields.number("value", SCALE_MAX)?).await?,
                Some(other) => {
                    return Err(Refusal::bad(format!("type: `{other}` is unknown; `scale_to` is the only type")));
                }
            }
        }
        "weight" => intake::weigh(inner, id, Fields::read(body)?.number("weight", WEIGHT_MAX)?).await?,
        _ => return Err(unknown(&Method::POST, &format!("/services/{id}/{action}"))),
    }
    Ok(Answer::Empty(StatusCode::OK))
}
