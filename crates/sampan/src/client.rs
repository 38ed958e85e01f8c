//! A signed client of the API for the command line.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use sampan_api::signature::{OutgoingRequest, SigningKey, encode_pairs, sign_acs3};
use serde_json::Value;

use crate::data_dir::Access;

const TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A refusal by the server, with the words that a person needs.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) request_id: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}): {} [RequestId {}]", self.code, self.status, self.message, self.request_id)
    }
}

impl std::error::Error for Refused {}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) body: Bytes,
}

/// A client for one server and one access key.
pub(crate) struct Client {
    http: HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    access: Access,
    key: SigningKey,
}

impl Client {
    /// A client with this access; `ca` is trusted for HTTPS beside nothing else.
    pub(crate) fn new(access: Access, ca: Option<&Path>) -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        if let Some(path) = ca.filter(|path| path.exists()) {
            use rustls::pki_types::{CertificateDer, pem::PemObject as _};
            for certificate in CertificateDer::pem_file_iter(path).with_context(|| format!("{}", path.display()))? {
                roots.add(certificate.with_context(|| format!("{}", path.display()))?)?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let key = SigningKey {
            access_key_id: access.access_key_id.clone(),
            secret: access.access_key_secret.clone().into(),
            security_token: None,
        };
        Ok(Self { http: HyperClient::builder(TokioExecutor::new()).build(connector), access, key })
    }

    /// Region of requests.
    pub(crate) fn region_id(&self) -> &str {
        &self.access.region_id
    }

    /// Sends a request and returns the body of a successful answer; a refusal is a [`Refused`].
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> anyhow::Result<Answer> {
        let query = encode_pairs(query.iter().copied());
        let body = body.unwrap_or_default();
        let mut all_headers = vec![("accept", "application/json"), ("x-acs-region-id", self.region_id())];
        all_headers.extend_from_slice(headers);
        let named = |name: &str| all_headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let outgoing = OutgoingRequest {
            method,
            host: &self.access.endpoint,
            path,
            query: &query,
            action: None,
            content_type: (!body.is_empty() && !named("content-type")).then_some("application/json"),
            headers: &all_headers,
            body,
        };
        let nonce = sampan_store::model::new_uuid();
        let signed = sign_acs3(&outgoing, &self.key, jiff::Timestamp::now(), &nonce);
        let question = if query.is_empty() { "" } else { "?" };
        let uri = format!("{}://{}{path}{question}{query}", self.access.protocol, self.access.endpoint);
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in &signed {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body)))?;
        self.exchange(request).await
    }

    async fn exchange(&self, request: http::Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let work = async {
            let answer = self.http.request(request).await.map_err(|error| {
                anyhow!(error)
                    .context(format!("no server answers at {}: is `sampan serve` running?", self.access.endpoint))
            })?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow!("the answer cannot be read: {error}"))?.to_bytes();
            anyhow::Ok((status, body))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, work)
            .await
            .with_context(|| format!("{} did not answer within {} s", self.access.endpoint, TIMEOUT.as_secs()))??;
        if status.is_success() {
            return Ok(Answer { body });
        }
        let refusal: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |name: &str| refusal[name].as_str().unwrap_or_default().to_owned();
        bail!(Refused {
            status: status.as_u16(),
            code: text("code"),
            message: text("message"),
            request_id: text("requestId")
        })
    }

    /// Sends a request whose answer is JSON (an empty body is `null`).
    pub(crate) async fn json(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let body = body.map(serde_json::to_vec).transpose()?;
        let answer = self.send(method, path, query, &[], body.as_deref()).await?;
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body).context("the answer is not JSON")
    }

    /// `GET` of JSON.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        self.json("GET", path, query, None).await
    }
}
