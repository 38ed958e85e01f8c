//! What is beside the API server on a machine of a control plane, through the machine's tunnel: etcd's JSON gateway, which
//! it serves beside gRPC, with the certificate that the API server has for it; and the probes of the other components.

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use sampan_store::model::{Fault, FaultKind, Outcome};
use serde_json::Value;
use tokio::{task::AbortHandle, time::timeout};
use tokio_rustls::TlsConnector;

use super::{connect::tls_config, etcd_flags::CLIENT_PORT, pki::Pki};
use crate::{certificate::CertifiedKey, ports::Dialer};

/// Opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An ordinary question; etcd itself gives up after 5 to 7 s when there is no quorum.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// An answer that has not begun after this time will not come.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest ordinary answer: one about a handful of members, or about a component's checks.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// So much of a refusal is passed on.
const REFUSAL_BYTES_MAX: usize = 500;

/// The way to one machine of a control plane.
pub(crate) struct Gateway {
    dialer: Arc<dyn Dialer>,
    machine_id: String,
    pki: Arc<Pki>,
}

impl Gateway {
    pub(crate) fn new(dialer: Arc<dyn Dialer>, machine_id: &str, pki: Arc<Pki>) -> Self {
        Self { dialer, machine_id: machine_id.to_owned(), pki }
    }

    /// The machine.
    pub(crate) fn machine_id(&self) -> &str {
        &self.machine_id
    }

    /// Asks etcd.
    ///
    /// # Errors
    /// Unavailable, when it does not answer or cannot do it now; NotFound of a member.
    pub(crate) async fn etcd(&self, path: &str, question: &Value) -> Outcome<Value> {
        let what = format!("etcd on machine {}", self.machine_id);
        let ask = async {
            let answer = self.open(path, question).await?;
            let body = Limited::new(answer, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| broken(&what, &error))?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| broken(&what, &error))
        };
        timeout(CALL_TIMEOUT, ask).await.unwrap_or_else(|_| {
            let seconds = CALL_TIMEOUT.as_secs();
            Err(Fault::unavailable(format!("{what} did not answer {path} within {seconds} s; is there a quorum?")))
        })
    }

    /// Asks etcd for something that comes in pieces.
    ///
    /// # Errors
    /// As [`Gateway::etcd`].
    pub(crate) async fn open(&self, path: &str, question: &Value) -> Outcome<Answer> {
        let what = format!("etcd on machine {}", self.machine_id);
        let request = Request::post(path)
            .header(header::HOST, "127.0.0.1")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(question.to_string())))
            .map_err(|error| Fault::internal(format!("a question cannot be asked: {error}")))?;
        let (authority, client) = (&self.pki.etcd_ca, &self.pki.etcd_client);
        let (status, body) = self.send(CLIENT_PORT, authority, Some(client), request, &what).await?;
        if status.is_success() {
            return Ok(body);
        }
        let said = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Err(refusal(&what, path, status, &said))
    }

    /// What a probe on the machine itself answers: nothing when it is well, else why not.
    ///
    /// # Errors
    /// Unavailable, with what is wrong.
    pub(crate) async fn probe(&self, port: u16, path: &str) -> Outcome<()> {
        let what = format!("port {port} of machine {}", self.machine_id);
        let request = Request::get(path)
            .header(header::HOST, "127.0.0.1")
            .body(Full::default())
            .map_err(|error| Fault::internal(format!("a probe cannot be sent: {error}")))?;
        let ask = async {
            let (status, body) = self.send(port, &self.pki.cluster_ca, None, request, &what).await?;
            if status.is_success() {
                return Ok(());
            }
            let said = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let failing: Vec<&str> = said.lines().filter(|line| line.starts_with("[-]")).collect();
            Err(Fault::unavailable(format!("it answers {status}: {}", failing.join("; "))))
        };
        timeout(CALL_TIMEOUT, ask).await.unwrap_or_else(|_| Err(late(&what, CALL_TIMEOUT)))
    }

    async fn send(
        &self,
        port: u16,
        authority: &CertifiedKey,
        client: Option<&CertifiedKey>,
        request: Request<Full<Bytes>>,
        what: &str,
    ) -> Outcome<(StatusCode, Answer)> {
        let tls = TlsConnector::from(Arc::new(tls_config(&authority.certificate, client)?));
        let connect = async {
            let stream = self.dialer.dial(&self.machine_id, &format!("127.0.0.1:{port}")).await?;
            tls.connect(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into()), stream).await
        };
        let stream = timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| late(what, CONNECT_TIMEOUT))?;
        let stream = stream.map_err(|error| broken(what, &error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(what, &error))?;
        let driver = Driver(tokio::spawn(connection).abort_handle());
        let answer = timeout(BEGIN_TIMEOUT, sender.send_request(request)).await;
        let answer = answer.map_err(|_| late(what, BEGIN_TIMEOUT))?.map_err(|error| broken(what, &error))?;
        let (parts, body) = answer.into_parts();
        Ok((parts.status, Answer { body, _driver: driver }))
    }
}

/// An answer's body. Its connection lives as long as the exchange and no longer, also when the other end is frozen.
pub(crate) struct Answer {
    body: Incoming,
    _driver: Driver,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends a connection's task, however its exchange ends.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn refusal(what: &str, path: &str, status: StatusCode, said: &[u8]) -> Fault {
    let answer: Value = serde_json::from_slice(said).unwrap_or(Value::Null);
    let raw = String::from_utf8_lossy(&said[..said.len().min(REFUSAL_BYTES_MAX)]);
    let why = answer["message"].as_str().or(answer["error"].as_str()).unwrap_or(&raw);
    let text = format!("{what} refused {path} ({status}): {why}");
    if why.contains("member not found") {
        return Fault::new(FaultKind::NotFound("EtcdMember".into()), text);
    }
    Fault::unavailable(text)
}

pub(super) fn late(what: &str, limit: Duration) -> Fault {
    Fault::unavailable(format!("{what} did not answer within {} s", limit.as_secs()))
}

pub(super) fn broken(what: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::unavailable(format!("{what} cannot be asked: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_why() {
        let refused = |said: &str| refusal("etcd", "/v3/x", StatusCode::NOT_FOUND, said.as_bytes());
        let gone = refused(r#"{"error":"etcdserver: member not found","code":5}"#);
        assert!(matches!(gone.kind, FaultKind::NotFound(_)), "{gone:?}");
        let other = refused(r#"{"message":"etcdserver: unhealthy cluster"}"#);
        assert!(other.retryable() && other.message.contains("unhealthy cluster"), "{other:?}");
        assert!(refused("plain words").message.ends_with("plain words"));
    }
}
