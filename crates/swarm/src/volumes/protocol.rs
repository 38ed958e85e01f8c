//! Docker's protocol for volume plug-ins: JSON by `POST` over a Unix socket, one socket for each driver.
//!
//! Failures are answered as 200 with `Err`, as the protocol has it: the engine then shows the words as they are.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};

use super::{
    keeper::{Keeper, Shown},
    options::Kind,
};

const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
const BODY_MAX: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 * 1024;
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTIONS_MAX: usize = 256;
/// After an accept that failed, as it does while there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Answer = Response<Full<Bytes>>;

/// Serves a driver for ever.
pub(super) async fn serve(listener: UnixListener, kind: Kind, keeper: Arc<Keeper>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(driver = kind.name(), %error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let keeper = Arc::clone(&keeper);
        tokio::spawn(async move {
            connection(stream, kind, keeper).await;
            drop(place);
        });
    }
}

async fn connection(stream: UnixStream, kind: Kind, keeper: Arc<Keeper>) {
    let service = hyper::service::service_fn(move |request| {
        let keeper = Arc::clone(&keeper);
        async move { Ok::<_, Infallible>(answer(request, kind, keeper).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(driver = kind.name(), %error, "a connection of the engine ended");
    }
}

async fn answer(request: Request<Incoming>, kind: Kind, keeper: Arc<Keeper>) -> Answer {
    if request.method() != Method::POST {
        return failure(StatusCode::METHOD_NOT_ALLOWED, "calls of plug-ins are POST");
    }
    let path = request.uri().path().to_owned();
    let body = match timeout(BODY_TIMEOUT, Limited::new(request.into_body(), BODY_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return failure(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body is larger than {BODY_MAX} bytes"));
        }
        Ok(Err(error)) => return failure(StatusCode::BAD_REQUEST, &format!("the body cannot be read: {error}")),
        Err(_) => return failure(StatusCode::REQUEST_TIMEOUT, "the body does not come"),
    };
    // In a task of its own: an engine that hangs up must not leave half of the work.
    let called = tokio::spawn(async move { call(&path, &body, kind, &keeper).await });
    match called.await {
        Ok(Some(Ok(value))) => json_answer(StatusCode::OK, &value),
        Ok(Some(Err(words))) => failure(StatusCode::OK, &words),
        Ok(None) => failure(StatusCode::NOT_FOUND, "volume plug-ins have no such call"),
        Err(error) => {
            tracing::error!(driver = kind.name(), %error, "a call of the engine failed");
            failure(StatusCode::INTERNAL_SERVER_ERROR, "an internal error; the log of the machine has more")
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    name: String,
    #[serde(default)]
    opts: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Use {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "ID", default)]
    id: String,
}

/// `None`: there is no such call.
async fn call(path: &str, body: &[u8], kind: Kind, keeper: &Keeper) -> Option<Result<Value, String>> {
    Some(match path {
        "/Plugin.Activate" => Ok(json!({ "Implements": ["VolumeDriver"] })),
        "/VolumeDriver.Capabilities" => Ok(json!({ "Capabilities": { "Scope": "global" } })),
        "/VolumeDriver.List" => {
            Ok(json!({ "Volumes": keeper.list(kind).iter().map(brief).collect::<Vec<_>>(), "Err": "" }))
        }
        "/VolumeDriver.Create" => create(body, kind, keeper).await,
        "/VolumeDriver.Remove" => remove(body, kind, keeper).await,
        "/VolumeDriver.Mount" => mount(body, kind, keeper).await,
        "/VolumeDriver.Unmount" => unmount(body, kind, keeper).await,
        "/VolumeDriver.Path" => {
            shown(body, kind, keeper).map(|shown| json!({ "Mountpoint": shown.mountpoint, "Err": "" }))
        }
        "/VolumeDriver.Get" => shown(body, kind, keeper).map(|shown| json!({ "Volume": full(&shown), "Err": "" })),
        _ => return None,
    })
}

async fn create(body: &[u8], kind: Kind, keeper: &Keeper) -> Result<Value, String> {
    let Create { name, opts } = read(body)?;
    keeper.create(kind, &name, opts.unwrap_or_default()).await?;
    tracing::info!(driver = kind.name(), volume = name, "created");
    Ok(done())
}

async fn remove(body: &[u8], kind: Kind, keeper: &Keeper) -> Result<Value, String> {
    let Use { name, .. } = read(body)?;
    keeper.remove(kind, &name).await?;
    tracing::info!(driver = kind.name(), volume = name, "removed");
    Ok(done())
}

async fn mount(body: &[u8], kind: Kind, keeper: &Keeper) -> Result<Value, String> {
    let Use { name, id } = read(body)?;
    let at = keeper.mount(kind, &name, &id).await?;
    Ok(json!({ "Mountpoint": at, "Err": "" }))
}

async fn unmount(body: &[u8], kind: Kind, keeper: &Keeper) -> Result<Value, String> {
    let Use { name, id } = read(body)?;
    keeper.unmount(kind, &name, &id).await?;
    Ok(done())
}

fn shown(body: &[u8], kind: Kind, keeper: &Keeper) -> Result<Shown, String> {
    let Use { name, .. } = read(body)?;
    keeper.get(kind, &name)
}

fn brief(shown: &Shown) -> Value {
    json!({ "Name": shown.name, "Mountpoint": shown.mountpoint, "CreatedAt": shown.created.to_string() })
}

fn full(shown: &Shown) -> Value {
    let mut value = brief(shown);
    value["Status"] = Value::Object(shown.status.clone());
    value
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    // The message of the parser could repeat a credential; where it stumbled is enough.
    serde_json::from_slice(body).map_err(|error| {
        format!("the body is not what this call takes (line {}, column {})", error.line(), error.column())
    })
}

fn done() -> Value {
    json!({ "Err": "" })
}

fn failure(status: StatusCode, words: &str) -> Answer {
    json_answer(status, &json!({ "Err": words }))
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}
