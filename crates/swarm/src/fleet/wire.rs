//! Bodies and answers of HTTP, the same towards clients and engines.

use std::{convert::Infallible, io, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub use sampan_agents::http::{Body, empty, full, json as answer};

use crate::model::Refusal;

/// Frames that a stream made of several others may hold before its sources wait.
const STREAM_FRAMES_MAX: usize = 16;
/// Longest line of a stream of JSON messages.
const LINE_MAX: usize = 1024 * 1024;
/// So much of a body that is too large is read before it is refused, and for so long.
const DISCARDED_MAX: usize = 32 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may take to send a body that is read as a whole.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A body without content.
pub fn nothing() -> Body {
    full(Bytes::new())
}

/// What somebody sends, passed on as it comes.
pub fn passing(incoming: Incoming) -> Body {
    incoming.map_err(io::Error::other).boxed_unsync()
}

/// A body of at most so many bytes.
pub async fn read_up_to(mut body: Incoming, limit: usize) -> Result<Bytes, Refusal> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(&mut body, limit).collect()).await;
    let collected =
        collected.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            discard(body).await;
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes")))
        }
        Err(error) => Err(Refusal::bad(format!("the body could not be read: {error}"))),
    }
}

/// Reads and drops the rest of a body, up to a bound: clients write all before they read, and an answer in the middle of that
/// would be lost to them.
async fn discard(body: Incoming) {
    let mut rest = Limited::new(body, DISCARDED_MAX);
    let read_all = async { while let Some(Ok(_)) = rest.frame().await {} };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, read_all).await;
}

/// The same body as everybody here has it.
pub fn full_body(body: Full<Bytes>) -> Body {
    body.map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A refusal as Docker spells it.
pub fn refused(refusal: &Refusal) -> Response<Body> {
    answer(refusal.status, &json!({ "message": refusal.message }))
}

/// Reads a JSON body of at most `limit` bytes; no body is `null`.
pub async fn read_json(body: Incoming, limit: usize) -> Result<Value, Refusal> {
    let bytes = read_up_to(body, limit).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|error| Refusal::bad(format!("the body is not valid JSON: {error}")))
}

/// The way into a body that is made of what several sources send; full: they wait; gone: they stop.
#[derive(Clone)]
pub struct Sink(mpsc::Sender<Bytes>);

impl Sink {
    /// Sends a piece; `false` when nobody reads any more.
    pub async fn send(&self, bytes: Bytes) -> bool {
        self.0.send(bytes).await.is_ok()
    }
    /// Sends a JSON message as a line.
    pub async fn message(&self, value: &Value) -> bool {
        let mut line = value.to_string().into_bytes();
        line.extend_from_slice(b"\r\n");
        self.send(line.into()).await
    }
    /// Ends when nobody reads any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// A body and the way into it. It ends when all its [`Sink`]s are gone.
pub fn stream() -> (Sink, Body) {
    let (sender, receiver) = mpsc::channel(STREAM_FRAMES_MAX);
    let frames = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (Ok(Frame::data(bytes)), receiver))
    });
    (Sink(sender), StreamBody::new(frames).boxed_unsync())
}

/// The JSON messages of a stream, one after the other.
pub struct Messages {
    body: Body,
    buffer: BytesMut,
    ended: bool,
}

impl Messages {
    /// Reads the messages of `body`.
    pub fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), ended: false }
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> io::Result<Option<Value>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if self.ended {
                return Ok(None);
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                    if self.buffer.len() > LINE_MAX {
                        return Err(io::Error::other(format!("a message is longer than {LINE_MAX} bytes")));
                    }
                }
                None => self.ended = true,
            }
        }
    }

    /// A whole message out of what has come. Engines end messages with a line break; what lies between is no concern.
    fn take(&mut self) -> io::Result<Option<Value>> {
        let mut values = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Value>();
        let value = match values.next() {
            None => return Ok(None),
            Some(Ok(value)) => value,
            Some(Err(error)) if error.is_eof() => return Ok(None),
            Some(Err(error)) => return Err(io::Error::other(format!("a message is not valid JSON: {error}"))),
        };
        let read = values.byte_offset();
        let _ = self.buffer.split_to(read);
        Ok(Some(value))
    }
}

/// Reads `body` to its end, at most `limit` bytes.
pub async fn collect(body: Body, limit: usize) -> io::Result<Bytes> {
    let collected = Limited::new(body, limit).collect().await;
    collected.map(|collected| collected.to_bytes()).map_err(io::Error::other)
}

/// The data of a body as a stream, for bodies that go to several places.
pub fn pieces(body: Body) -> impl futures::Stream<Item = io::Result<Bytes>> + Send + Unpin {
    Box::pin(body.into_data_stream())
}
