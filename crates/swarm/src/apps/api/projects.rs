//! `/projects`.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    Answer,
    fields::{Fields, Query},
    kill::kill,
    not_allowed, unknown,
};
use crate::{
    apps::{
        Inner,
        intake::{self, Wanted, Which},
        names,
        record::Desired,
        show::{Detail, Showing},
    },
    model::Refusal,
};

/// Longest time for stopping.
pub(super) const STOP_SECONDS_MAX: u32 = 3600;
/// A deletion that is over within this is over when it is answered.
const DELETE_WAIT: Duration = Duration::from_secs(20);

pub(super) async fn route(
    inner: &Arc<Inner>,
    method: &Method,
    path: &[&str],
    query: &Query,
    body: &[u8],
) -> Result<Answer, Refusal> {
    match (method.as_str(), path) {
        ("GET", []) => list(inner, query),
        ("POST", []) => create(inner, body).await,
        ("GET", [name]) => view(inner, name, query),
        ("DELETE", [name]) => delete(inner, name, query).await,
        ("POST", [name, action]) => act(inner, name, action, query, body).await,
        (_, [] | [_] | [_, _]) => Err(not_allowed(method, "/projects")),
        _ => Err(unknown(method, "/projects/…")),
    }
}

fn list(inner: &Inner, query: &Query) -> Result<Answer, Refusal> {
    let detail = detail(query)?;
    let wanted = query.text(&["q"]).unwrap_or_default();
    let showing = Showing::new(inner);
    let records = inner.store.all();
    let found = records.iter().filter(|record| record.name.contains(wanted));
    Ok(Answer::Shown(found.map(|record| showing.project(record, detail)).collect::<Vec<Value>>().into()))
}

fn view(inner: &Inner, name: &str, query: &Query) -> Result<Answer, Refusal> {
    let record = inner.store.get(name).ok_or_else(|| names::no_project(name))?;
    Ok(Answer::Shown(Showing::new(inner).project(&record, detail(query)?)))
}

fn detail(query: &Query) -> Result<Detail, Refusal> {
    Ok(Detail { services: query.flag(&["services"], true)?, containers: query.flag(&["containers"], true)? })
}

fn wanted(name: String, fields: &Fields) -> Result<Wanted, Refusal> {
    Ok(Wanted {
        name,
        description: fields.text("description")?,
        template: fields.needed_text("template")?,
        version: fields.text("version")?,
        environment: fields.texts("environment")?,
        latest_image: fields.flag("latest_image")?,
    })
}

async fn create(inner: &Arc<Inner>, body: &[u8]) -> Result<Answer, Refusal> {
    let fields = Fields::read(body)?;
    let name = fields.needed_text("name")?;
    intake::create(inner, wanted(name.clone(), &fields)?).await?;
    Ok(Answer::Created(format!("/projects/{name}")))
}

async fn delete(inner: &Inner, name: &str, query: &Query) -> Result<Answer, Refusal> {
    let force = query.flag(&["force"], false)?;
    let volumes = query.flag(&["v", "volume"], false)?;
    let uid = inner.store.get(name).ok_or_else(|| names::no_project(name))?.uid.clone();
    let mut changes = inner.store.changes();
    intake::delete(inner, name, force, volumes).await?;
    let gone = changes.wait_for(|_| inner.store.get(name).is_none_or(|record| record.uid != uid));
    // What takes longer goes on after the answer; the application is listed as `deleting` until then.
    let _ = timeout(DELETE_WAIT, gone).await;
    Ok(Answer::Empty(StatusCode::OK))
}

async fn act(inner: &Arc<Inner>, name: &str, action: &str, query: &Query, body: &[u8]) -> Result<Answer, Refusal> {
    let done = Ok(Answer::Empty(StatusCode::OK));
    let accepted = Ok(Answer::Empty(StatusCode::ACCEPTED));
    match action {
        "start" => {
            intake::desire(inner, name, Which::All, Desired::Running, None).await?;
            done
        }
        "stop" => {
            let seconds = query.number(&["t", "timeout"], STOP_SECONDS_MAX)?;
            intake::desire(inner, name, Which::All, Desired::Stopped, seconds).await?;
            done
        }
        "kill" => {
            kill(inner, name, &Which::All, query.text(&["signal"])).await?;
            done
        }
        "redeploy" => {
            intake::redeploy(inner, name).await?;
            done
        }
        "update" => {
            update(inner, name, body).await?;
            accepted
        }
        "confirm-update" => {
            intake::confirm(inner, name, query.flag(&["force", "confirm-update"], true)?).await?;
            accepted
        }
        "rollback-update" => {
            query.flag(&["force", "rollback-update"], true)?;
            intake::rollback(inner, name).await?;
            accepted
        }
        _ => Err(unknown(&Method::POST, &format!("/projects/{name}/{action}"))),
    }
}

async fn update(inner: &Arc<Inner>, name: &str, body: &[u8]) -> Result<(), Refusal> {
    if inner.store.get(name).is_none() {
        return Err(names::no_project(name));
    }
    let fields = Fields::read(body)?;
    let wanted = wanted(name.to_owned(), &fields)?;
    match fields.text("update_method")?.unwrap_or_default().as_str() {
        "" | "standard" | "rolling" => intake::update(inner, wanted).await,
        "blue-green" => intake::blue_green(inner, wanted).await,
        other => Err(Refusal::bad(format!("update_method: `{other}` is unknown; give `blue-green` or leave it out"))),
    }
}
