//! A client of a Swarm cluster's own endpoint, with the certificate that the server hands out.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;

use crate::{
    client::{Client, Refused},
    data_dir::write_private,
    output::scalar,
};

/// Time until the head of an answer; what follows may take as long as it takes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What the server hands out for a cluster.
pub(crate) struct Certificates {
    ca: String,
    cert: String,
    key: String,
}

// The key must not reach a log.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    /// Asks the server.
    pub(crate) async fn of(client: &Client, cluster_id: &str) -> anyhow::Result<Self> {
        let answer = client.get(&format!("/clusters/{cluster_id}/certs"), &[]).await?;
        let part = |name: &str| {
            let text = answer[name].as_str().filter(|text| !text.is_empty());
            text.map(str::to_owned).with_context(|| format!("the server's answer has no {name}"))
        };
        Ok(Self { ca: part("ca")?, cert: part("cert")?, key: part("key")? })
    }

    /// Writes `ca.pem`, `cert.pem` and `key.pem`, as Docker's clients look for them.
    pub(crate) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for (name, text) in [("ca.pem", &self.ca), ("cert.pem", &self.cert), ("key.pem", &self.key)] {
            write_private(&dir.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    fn tls(&self) -> anyhow::Result<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca.as_bytes()) {
            roots.add(certificate.context("the cluster's authority cannot be read")?)?;
        }
        let chain = CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.context("the client certificate cannot be read")?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).context("the client's key cannot be read")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?)
    }
}

/// A Swarm cluster's endpoint.
pub(crate) struct Master {
    http: HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// `https://host:port`.
    url: String,
}

impl Master {
    /// Finds the endpoint of a cluster by its name or id.
    pub(crate) async fn of(client: &Client, cluster: &str) -> anyhow::Result<Self> {
        let id = crate::commands::cluster::find(client, cluster).await?;
        let url = url(client, &id).await?;
        let tls = Certificates::of(client, &id).await?.tls()?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Self { http: HyperClient::builder(TokioExecutor::new()).build(connector), url })
    }

    /// Sends a request; the answer's body is the caller's to read. A refusal is a [`Refused`].
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let sent = self.http.request(request.body(Full::new(Bytes::from(bytes)))?);
        let answer = tokio::time::timeout(HEAD_TIMEOUT, sent)
            .await
            .with_context(|| format!("{} did not answer within {} s", self.url, HEAD_TIMEOUT.as_secs()))?
            .map_err(|error| anyhow!(error).context(format!("the cluster does not answer at {}", self.url)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let body = read(answer).await.unwrap_or_default();
        let refusal: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = match refusal["message"].as_str() {
            Some(message) => message.to_owned(),
            None => String::from_utf8_lossy(&body).trim().to_owned(),
        };
        bail!(Refused { status, code: "cluster".into(), message, request_id: "none".into() })
    }

    /// Sends a request whose answer is JSON (an empty body is `null`).
    pub(crate) async fn json(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let body = read(self.send(method, path, body).await?).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).context("the cluster's answer is not JSON")
    }
}

/// The `master_url` of a Swarm cluster.
pub(crate) async fn url(client: &Client, cluster_id: &str) -> anyhow::Result<String> {
    let cluster = client.get(&format!("/clusters/{cluster_id}"), &[]).await?;
    let url = scalar(&cluster["master_url"]);
    if !url.starts_with("https://") {
        let state = scalar(&cluster["state"]);
        bail!("cluster {cluster_id} ({state}) has no endpoint for Docker: it is no Swarm cluster, or not made yet");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

async fn read(answer: Response<Incoming>) -> anyhow::Result<Bytes> {
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    Ok(body.map_err(|error| anyhow!("the answer cannot be read: {error}"))?.to_bytes())
}
