//! A Swarm cluster's public key infrastructure: three authorities.
//!
//! The *cluster's* signs the endpoint that users connect to, and their client certificate; it is made of RSA keys, which
//! every old client reads. The *engines'* signs the Docker engines of the nodes and the master towards them: an
//! engine obeys whoever has a client certificate of it, so nobody but the master gets one. The *routers'* signs the nodes' routers
//! towards the master, where they open one path. Users' certificates open the master, which decides what is done, and no engine.

use std::{fmt, net::Ipv4Addr};

use jiff::SignedDuration;
use sampan_store::model::{Fault, Outcome, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    certificate::{CertifiedKey, KeyKind, Leaf, Usage, authority, authority_of, issue, issue_of},
    pem,
};

/// Validity of everything. An engine that gets another certificate starts again, and with it all its containers; users keep
/// theirs in files.
const VALID: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// What is so near its end is issued again.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Everything secret about a Swarm cluster.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmPki {
    /// Signs the endpoint and users.
    pub cluster_ca: CertifiedKey,
    /// Signs engines, and the master towards them.
    pub engine_ca: CertifiedKey,
    /// Signs routers.
    pub router_ca: CertifiedKey,
    /// The endpoint as a server.
    pub endpoint: CertifiedKey,
    /// Names and addresses in the endpoint's certificate.
    pub endpoint_names: Vec<String>,
    /// What users get: the key in traditional PEM (PKCS #1).
    pub user: CertifiedKey,
    /// The master towards the engines.
    pub master: CertifiedKey,
}

impl fmt::Debug for SwarmPki {
    // Nothing of it may reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwarmPki").field("endpoint_names", &self.endpoint_names).finish_non_exhaustive()
    }
}

/// What a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePki {
    /// The node's engine as a server.
    pub engine: CertifiedKey,
    /// The node's router towards the master.
    pub router: CertifiedKey,
}

impl NodePki {
    /// Whether it has to be issued again.
    pub fn is_ending(&self, now: Timestamp) -> bool {
        is_ending(&self.engine, now) || is_ending(&self.router, now)
    }
}

/// Makes the whole of it for an endpoint that is reached under these names and addresses.
///
/// # Errors
/// Internal, when the cryptographic library refuses.
pub fn generate(cluster_id: &str, endpoint_names: &[String], now: Timestamp) -> Outcome<SwarmPki> {
    let expires = later(now)?;
    let cluster_ca = authority_of(KeyKind::Rsa, &format!("{cluster_id} cluster CA"), now, expires)?;
    let engine_ca = authority(&format!("{cluster_id} engine CA"), now, expires)?;
    let router_ca = authority(&format!("{cluster_id} router CA"), now, expires)?;
    Ok(SwarmPki {
        endpoint: endpoint(&cluster_ca, endpoint_names, now, expires)?,
        endpoint_names: endpoint_names.to_vec(),
        user: user(&cluster_ca, now, expires)?,
        master: issue(&engine_ca, &leaf("sampan master", &[], Usage::Client, now, expires))?,
        cluster_ca,
        engine_ca,
        router_ca,
    })
}

/// The same with new certificates where names have changed or the end is near; `None` when nothing has to be done.
///
/// # Errors
/// Internal, when the stored authority is unusable.
pub fn renewed(pki: &SwarmPki, endpoint_names: &[String], now: Timestamp) -> Outcome<Option<SwarmPki>> {
    let expires = later(now)?;
    let mut new = pki.clone();
    // No certificate outlives its authority; issuing it again near that end would change nothing.
    let helps = |pair: &CertifiedKey, ca: &CertifiedKey| is_ending(pair, now) && pair.expires < ca.expires;
    if pki.endpoint_names != endpoint_names || helps(&pki.endpoint, &pki.cluster_ca) {
        new.endpoint = endpoint(&pki.cluster_ca, endpoint_names, now, expires)?;
        new.endpoint_names = endpoint_names.to_vec();
    }
    if helps(&pki.user, &pki.cluster_ca) {
        new.user = user(&pki.cluster_ca, now, expires)?;
    }
    if helps(&pki.master, &pki.engine_ca) {
        new.master = issue(&pki.engine_ca, &leaf("sampan master", &[], Usage::Client, now, expires))?;
    }
    Ok((new != *pki).then_some(new))
}

/// Issues what a node has.
///
/// # Errors
/// Internal, when the stored authority is unusable.
pub fn node_pki(pki: &SwarmPki, node_name: &str, ip: Ipv4Addr, now: Timestamp) -> Outcome<NodePki> {
    let expires = later(now)?;
    let names = [ip.to_string(), "127.0.0.1".to_owned(), "localhost".to_owned()];
    Ok(NodePki {
        engine: issue(&pki.engine_ca, &leaf(node_name, &names, Usage::Server, now, expires))?,
        router: issue(&pki.router_ca, &leaf(&format!("router of {node_name}"), &[], Usage::Client, now, expires))?,
    })
}

fn endpoint(ca: &CertifiedKey, names: &[String], now: Timestamp, expires: Timestamp) -> Outcome<CertifiedKey> {
    issue_of(KeyKind::Rsa, ca, &leaf("sampan master", names, Usage::Server, now, expires))
}

fn user(ca: &CertifiedKey, now: Timestamp, expires: Timestamp) -> Outcome<CertifiedKey> {
    let issued = issue_of(KeyKind::Rsa, ca, &leaf("user", &[], Usage::Client, now, expires))?;
    let key = pem::traditional_rsa(&issued.key)
        .ok_or_else(|| Fault::internal("a new RSA key has no traditional form".to_owned()))?;
    Ok(CertifiedKey { key, ..issued })
}

fn leaf<'a>(common_name: &'a str, names: &'a [String], usage: Usage, now: Timestamp, expires: Timestamp) -> Leaf<'a> {
    Leaf { common_name, organization: None, names, usage, now, expires }
}

fn is_ending(pair: &CertifiedKey, now: Timestamp) -> bool {
    pair.expires <= now.checked_add(RENEW_BEFORE).unwrap_or(Timestamp::MAX)
}

fn later(now: Timestamp) -> Outcome<Timestamp> {
    now.checked_add(VALID).map_err(|error| Fault::internal(format!("the clock shows {now}: {error}")))
}
