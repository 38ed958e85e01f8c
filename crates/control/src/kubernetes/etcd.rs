//! A cluster's etcd, through the tunnel of a machine that runs a member: the JSON gateway that etcd serves beside gRPC, with
//! the certificate that the API server has for it.

use std::{net::Ipv4Addr, sync::Arc};

use sampan_store::model::{Fault, FaultKind, Outcome};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    etcd_flags::{PEER_PORT, peer_url},
    gateway::Gateway,
    pki::Pki,
};
use crate::ports::Dialer;

/// One member, asked through its machine.
pub struct EtcdClient {
    gateway: Gateway,
}

impl std::fmt::Debug for EtcdClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdClient").field("machine_id", &self.gateway.machine_id()).finish_non_exhaustive()
    }
}

/// A member as etcd lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where it speaks to others.
    pub peer_ip: Option<Ipv4Addr>,
    /// It has no vote yet.
    pub learner: bool,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its number.
    pub id: u64,
    /// It knows a leader and has no alarms.
    pub healthy: bool,
    /// It has no vote yet, and answers nothing about others.
    pub learner: bool,
    /// The member that leads, as far as it knows; zero: nobody does.
    pub leader: u64,
    /// Bytes of its database.
    pub db_size: i64,
    /// Part of that in use.
    pub db_size_in_use: i64,
    /// Its version.
    pub version: String,
    /// The revision that it has.
    pub revision: i64,
    /// What is wrong with it, in its words.
    pub errors: Vec<String>,
}

/// An alarm that a member has raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The member.
    pub member: u64,
    /// `NOSPACE`, `CORRUPT`.
    pub name: String,
}

/// Numbers are text in etcd's JSON, and zeros are left out.
#[derive(Deserialize)]
struct RawMember {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(default, rename = "isLearner")]
    is_learner: bool,
}

impl EtcdClient {
    /// A client of the member on that machine.
    pub fn new(dialer: Arc<dyn Dialer>, machine_id: &str, pki: Arc<Pki>) -> Self {
        Self { gateway: Gateway::new(dialer, machine_id, pki) }
    }

    /// The way to it.
    pub(crate) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// All members, as the majority knows them.
    ///
    /// # Errors
    /// Unavailable without a quorum, or when the member cannot be asked.
    pub async fn members(&self) -> Outcome<Vec<Member>> {
        let answer = self.call("/v3/cluster/member/list", &json!({"linearizable": true})).await?;
        let list = answer.get("members").cloned().unwrap_or(Value::Null);
        let raw: Vec<RawMember> = serde_json::from_value(list)
            .map_err(|error| Fault::internal(format!("etcd's list of members cannot be read: {error}")))?;
        raw.into_iter().map(member).collect()
    }

    /// What this member says of itself.
    ///
    /// # Errors
    /// Unavailable, when it cannot be asked.
    pub async fn status(&self) -> Outcome<MemberStatus> {
        let answer = self.call("/v3/maintenance/status", &json!({})).await?;
        let errors: Vec<String> = answer["errors"].as_array().into_iter().flatten().map(words).collect();
        let leader = number(&answer["leader"]);
        Ok(MemberStatus {
            id: number(&answer["header"]["member_id"]),
            healthy: leader != 0 && errors.is_empty(),
            learner: answer["isLearner"] == json!(true),
            leader,
            db_size: signed(&answer["dbSize"]),
            db_size_in_use: signed(&answer["dbSizeInUse"]),
            version: answer["version"].as_str().unwrap_or_default().to_owned(),
            revision: signed(&answer["header"]["revision"]),
            errors,
        })
    }

    /// Alarms of all members.
    ///
    /// # Errors
    /// Unavailable, when it cannot be asked.
    pub async fn alarms(&self) -> Outcome<Vec<Alarm>> {
        let answer = self.call("/v3/maintenance/alarm", &json!({"action": "GET"})).await?;
        let raised = answer["alarms"].as_array().into_iter().flatten();
        Ok(raised.map(|alarm| Alarm { member: number(&alarm["memberID"]), name: words(&alarm["alarm"]) }).collect())
    }

    /// Adds a member at that address as a learner.
    ///
    /// # Errors
    /// Unavailable, when etcd cannot take one now.
    pub async fn add(&self, ip: Ipv4Addr) -> Outcome<()> {
        self.call("/v3/cluster/member/add", &json!({"peerURLs": [peer_url(ip)], "isLearner": true})).await.map(drop)
    }

    /// Gives a learner a vote.
    ///
    /// # Errors
    /// Unavailable, while it has not caught up.
    pub async fn promote(&self, id: u64) -> Outcome<()> {
        self.call("/v3/cluster/member/promote", &json!({"ID": id.to_string()})).await.map(drop)
    }

    /// Removes a member; fine when it is gone.
    ///
    /// # Errors
    /// Unavailable, when etcd would lose its quorum by that.
    pub async fn remove(&self, id: u64) -> Outcome<()> {
        match self.call("/v3/cluster/member/remove", &json!({"ID": id.to_string()})).await {
            Err(fault) if matches!(fault.kind, FaultKind::NotFound(_)) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Makes a member known at another address.
    ///
    /// # Errors
    /// Unavailable, when etcd cannot do that now.
    pub async fn update(&self, id: u64, ip: Ipv4Addr) -> Outcome<()> {
        let body = json!({"ID": id.to_string(), "peerURLs": [peer_url(ip)]});
        self.call("/v3/cluster/member/update", &body).await.map(drop)
    }

    async fn call(&self, path: &str, body: &Value) -> Outcome<Value> {
        self.gateway.etcd(path, body).await
    }
}

/// 64-bit numbers are text in this JSON.
fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_u64()).unwrap_or(0)
}

fn signed(value: &Value) -> i64 {
    i64::try_from(number(value)).unwrap_or(i64::MAX)
}

fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn member(raw: RawMember) -> Outcome<Member> {
    let id = raw.id.parse().map_err(|_| Fault::internal(format!("etcd names a member {:?}", raw.id)))?;
    let peer_ip = raw.peer_urls.iter().find_map(|url| peer_address(url));
    Ok(Member { id, name: raw.name, peer_ip, learner: raw.is_learner })
}

/// The address in `https://10.200.0.5:2380`.
fn peer_address(url: &str) -> Option<Ipv4Addr> {
    let (host, port) = url.split_once("://")?.1.rsplit_once(':')?;
    (port.trim_end_matches('/') == PEER_PORT.to_string()).then(|| host.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read() {
        let raw = json!({"ID": "10276657743932975437", "peerURLs": ["https://10.200.0.5:2380"], "isLearner": true});
        let read = member(serde_json::from_value(raw).unwrap()).unwrap();
        assert_eq!(read.id, 10_276_657_743_932_975_437);
        assert_eq!((read.name.as_str(), read.learner), ("", true));
        assert_eq!(read.peer_ip, Some(Ipv4Addr::new(10, 200, 0, 5)));
        for url in ["", "https://", "https://host:2380", "https://10.0.0.1:1", "10.0.0.1:2380"] {
            assert_eq!(peer_address(url), None, "{url}");
        }
        assert_eq!(peer_address(&peer_url(Ipv4Addr::LOCALHOST)), Some(Ipv4Addr::LOCALHOST));
        assert!(member(serde_json::from_value(json!({"ID": "x"})).unwrap()).is_err());
    }
}
