//! One database that gets figures.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::target::{Place, Target};
use crate::{
    apps::{Inner, health::connect, wire::ask},
    model::View,
};

const DATABASE: &str = "telegraf";
/// A request takes at most this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pieces that wait for a database that does not answer; the oldest go first.
const WAITING_MAX: usize = 12;
const ANSWER_BYTES_MAX: usize = 4096;
const REASON_CHARS_MAX: usize = 300;

/// A database, and what it has not got yet.
pub(super) struct Sink {
    address: String,
    waiting: VecDeque<Bytes>,
    /// The database exists there.
    made_at: Option<String>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Sink {
    pub(super) fn new(address: String) -> Self {
        Self { address, waiting: VecDeque::new(), made_at: None, failures: 0, not_before: None }
    }

    pub(super) fn address(&self) -> &String {
        &self.address
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn failed(&mut self, not_before: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(not_before);
    }

    /// Keeps figures until they are sent; answers whether now is the time.
    pub(super) fn keep(&mut self, batches: &[Bytes], now: Instant) -> bool {
        self.waiting.extend(batches.iter().cloned());
        while self.waiting.len() > WAITING_MAX.max(batches.len()) {
            self.waiting.pop_front();
        }
        self.not_before.is_none_or(|not_before| now >= not_before)
    }

    /// Sends what waits.
    pub(super) async fn send(&mut self, inner: &Inner, view: &View, target: &Target) -> Result<(), String> {
        let key = target.place.key();
        if self.made_at.as_ref() != Some(&key) {
            let path = format!("/query?q=CREATE%20DATABASE%20{DATABASE}");
            post(inner, view, target, &path, Bytes::new()).await.map_err(|(_, words)| words)?;
            self.made_at = Some(key);
        }
        while let Some(batch) = self.waiting.front().cloned() {
            match post(inner, view, target, &format!("/write?db={DATABASE}&precision=ns"), batch).await {
                Ok(()) => {}
                // It will not be taken another time either.
                Err((Some(StatusCode::BAD_REQUEST), words)) => {
                    self.waiting.pop_front();
                    return Err(words);
                }
                Err((status, words)) => {
                    if status == Some(StatusCode::NOT_FOUND) {
                        self.made_at = None;
                    }
                    return Err(words);
                }
            }
            self.waiting.pop_front();
        }
        self.failures = 0;
        self.not_before = None;
        Ok(())
    }
}

type Failure = (Option<StatusCode>, String);

async fn post(inner: &Inner, view: &View, target: &Target, path: &str, body: Bytes) -> Result<(), Failure> {
    let failed = |words: String| (None, format!("InfluxDB at {} does not answer: {words}", target.host));
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, &target.host)
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
    let request = request.body(Full::from(body)).map_err(|error| failed(error.to_string()))?;
    let exchange = async {
        let stream = dial(inner, view, &target.place).await?;
        ask(stream, request, ANSWER_BYTES_MAX).await.map_err(|error| error.to_string())
    };
    let answered = timeout(REQUEST_TIMEOUT, exchange).await;
    let (status, answer) = answered.map_err(|_| failed("it took too long".into()))?.map_err(failed)?;
    if status.is_success() {
        return Ok(());
    }
    let reason: String = String::from_utf8_lossy(&answer).trim().chars().take(REASON_CHARS_MAX).collect();
    Err((Some(status), format!("InfluxDB at {} refuses figures with {status}: {reason}", target.host)))
}

async fn dial(inner: &Inner, view: &View, place: &Place) -> Result<TcpStream, String> {
    match place {
        Place::Container(container, port) => connect(&*inner.dialer, view, container, *port).await,
        Place::Address(address) => inner.dialer.connect(*address).await.map_err(|error| error.to_string()),
    }
}
