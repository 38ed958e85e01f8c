//! A read-only registry (OCI distribution API) on the loopback interface that serves the machine's image directory, an
//! OCI image layout: containerd asks it first for every image, so known images need no network.

use std::{
    io::{self, SeekFrom},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures::TryStreamExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    net::TcpListener,
    sync::Semaphore,
    time::sleep,
};
use tokio_util::{io::ReaderStream, task::AbortOnDropHandle};

use super::layout::{Descriptor, Digest, Layout};
use crate::http::{Body, empty, full, json, query, serve};

const CONNECTIONS_MAX: usize = 64;
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
const CHUNK_BYTES: usize = 128 * 1024;
const NAME_BYTES_MAX: usize = 255;

/// The running mirror; dropping it stops it.
#[derive(Debug)]
pub(crate) struct Mirror {
    _listener: AbortOnDropHandle<()>,
}

impl Mirror {
    /// Starts serving the layout in `directory` (which may appear or change later).
    pub(crate) async fn start(address: SocketAddr, directory: PathBuf) -> io::Result<Self> {
        Ok(Self::serve(TcpListener::bind(address).await?, directory))
    }

    fn serve(listener: TcpListener, directory: PathBuf) -> Self {
        let layout = Arc::new(Layout::new(directory));
        Self { _listener: AbortOnDropHandle::new(tokio::spawn(listen(listener, layout))) }
    }
}

async fn listen(listener: TcpListener, layout: Arc<Layout>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let layout = Arc::clone(&layout);
                tokio::spawn(async move {
                    let served = serve(stream, move |request| {
                        let layout = Arc::clone(&layout);
                        Box::pin(async move { answer(&layout, request).await })
                    });
                    if let Err(error) = served.await {
                        tracing::debug!(%error, "a connection to the registry mirror broke");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the registry mirror could not accept a connection");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    Base,
    Manifest { name: &'a str, reference: &'a str },
    Blob { digest: &'a str },
}

/// Names hold slashes, so the path is read from its end.
fn target(path: &str) -> Option<Target<'_>> {
    let rest = path.strip_prefix("/v2")?;
    if rest.is_empty() || rest == "/" {
        return Some(Target::Base);
    }
    let (head, last) = rest.strip_prefix('/')?.rsplit_once('/')?;
    if let Some(name) = head.strip_suffix("/manifests") {
        return is_name(name).then_some(Target::Manifest { name, reference: last });
    }
    let name = head.strip_suffix("/blobs")?;
    is_name(name).then_some(Target::Blob { digest: last })
}

fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':'))
    };
    name.len() <= NAME_BYTES_MAX && name.split('/').all(part)
}

/// An error in the registry's own form.
fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    json(status, &serde_json::json!({ "errors": [{ "code": code, "message": message, "detail": {} }] }))
}

/// Answers one request for an image of the layout.
pub(crate) async fn answer(layout: &Arc<Layout>, request: Request<Incoming>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry can only be read");
    }
    let registry = query(request.uri(), "ns");
    let outcome = match target(request.uri().path()) {
        Some(Target::Base) => {
            let mut response = json(StatusCode::OK, &serde_json::json!({}));
            let version = HeaderValue::from_static("registry/2.0");
            response.headers_mut().insert("docker-distribution-api-version", version);
            return response;
        }
        Some(Target::Manifest { name, reference }) => manifest(layout, registry, name, reference).await,
        Some(Target::Blob { digest }) => blob(layout, &request, digest).await,
        None => return refusal(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such path"),
    };
    outcome.unwrap_or_else(|error| {
        tracing::warn!(%error, uri = %request.uri(), "the registry mirror could not read the image directory");
        refusal(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &error.to_string())
    })
}

async fn manifest(
    layout: &Arc<Layout>,
    registry: Option<&str>,
    name: &str,
    reference: &str,
) -> io::Result<Response<Body>> {
    let unknown = || refusal(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "this image is not on the machine");
    let found = match reference.parse::<Digest>() {
        Ok(digest) => Some(digest),
        Err(_) => layout.resolve(registry, name, reference).await?,
    };
    let Some(digest) = found else { return Ok(unknown()) };
    let Some((Descriptor { media_type, .. }, content)) = layout.manifest(&digest).await? else { return Ok(unknown()) };
    let length = content.len();
    let mut response = Response::new(full(content));
    describe(&mut response, &digest, &media_type, length as u64)?;
    Ok(response)
}

/// Hyper leaves the body of an answer to HEAD away and keeps the length.
async fn blob(layout: &Layout, request: &Request<Incoming>, digest: &str) -> io::Result<Response<Body>> {
    let unknown = || refusal(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "this blob is not on the machine");
    let Ok(digest) = digest.parse::<Digest>() else {
        return Ok(refusal(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not a digest"));
    };
    let mut file = match File::open(layout.blob_path(&digest)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(unknown()),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata().await?;
    if !metadata.is_file() {
        return Ok(unknown());
    }
    let size = metadata.len();
    let wanted = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, start, length) = match wanted.map(|text| range(text, size)) {
        None | Some(Range::Ignored) => (StatusCode::OK, 0, size),
        Some(Range::Part { start, length }) => (StatusCode::PARTIAL_CONTENT, start, length),
        Some(Range::Unsatisfiable) => {
            let mut response = empty(StatusCode::RANGE_NOT_SATISFIABLE);
            response.headers_mut().insert(header::CONTENT_RANGE, header_value(&format!("bytes */{size}"))?);
            return Ok(response);
        }
    };
    let body = if request.method() == Method::HEAD {
        full("")
    } else {
        file.seek(SeekFrom::Start(start)).await?;
        let stream = ReaderStream::with_capacity(file.take(length), CHUNK_BYTES);
        StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync()
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    describe(&mut response, &digest, "application/octet-stream", length)?;
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {start}-{}/{size}", start + length - 1);
        response.headers_mut().insert(header::CONTENT_RANGE, header_value(&value)?);
    }
    Ok(response)
}

fn describe(response: &mut Response<Body>, digest: &Digest, media_type: &str, length: u64) -> io::Result<()> {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header_value(media_type)?);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::ETAG, header_value(&format!("\"{digest}\""))?);
    headers.insert("docker-content-digest", header_value(&digest.to_string())?);
    Ok(())
}

fn header_value(text: &str) -> io::Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(io::Error::other)
}

/// What a `Range` header means for a blob of this size.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// Not understood (or several parts), which HTTP allows to ignore.
    Ignored,
    /// Nothing of it exists.
    Unsatisfiable,
    /// One part, not empty.
    Part { start: u64, length: u64 },
}

fn range(text: &str, size: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|spec| spec.trim().split_once('-')) else {
        return Range::Ignored;
    };
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(start), Ok(last)) if start <= last => (start, last.saturating_add(1).min(size)),
        (Ok(start), Err(_)) if last.is_empty() => (start, size),
        (Err(_), Ok(suffix)) if first.is_empty() => (size.saturating_sub(suffix), size),
        _ => return Range::Ignored,
    };
    if start >= end { Range::Unsatisfiable } else { Range::Part { start, length: end - start } }
}

#[cfg(test)]
mod tests;
