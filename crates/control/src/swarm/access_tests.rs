//! Access against a master that answers what the test says, over an in-memory tunnel.

use std::{
    io,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use sampan_agents::master::{MasterNodeStatus, MasterStatus};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{broadcast, watch},
};

use super::{
    access::{Directory, SwarmAccess},
    tests::sample_cluster,
};
use crate::ports::{ApiReadiness, ClusterAccess as _, Dialer, DrainOutcome, NodeReadiness, Stream};

struct World {
    status: watch::Sender<MasterStatus>,
    requests: Mutex<Vec<String>>,
}

impl Directory for World {
    fn manager(&self, _: &str) -> Option<String> {
        Some("i-0".into())
    }

    fn node_name(&self, _: &str, machine_id: &str) -> Option<String> {
        machine_id.strip_prefix("i-").map(|number| format!("node-{number}"))
    }
}

#[async_trait]
impl Dialer for Arc<World> {
    async fn dial(&self, machine_id: &str, address: &str) -> io::Result<Box<dyn Stream>> {
        assert_eq!((machine_id, address), ("i-0", "unix:/run/sampan-master.sock"));
        let (near, mut far) = tokio::io::duplex(4096);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(far.read_u8().await.unwrap());
            }
            let line = String::from_utf8(request).unwrap().lines().next().unwrap().to_owned();
            world.requests.lock().unwrap().push(line.clone());
            let mut status = world.status.subscribe();
            if let Some(after) = line.split("after=").nth(1) {
                let after: u64 = after.split(' ').next().unwrap().parse().unwrap();
                status.wait_for(|status| status.revision > after).await.unwrap();
            }
            let body = serde_json::to_string(&*status.borrow_and_update()).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            far.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        });
        Ok(Box::new(near))
    }
}

fn node(number: u8, healthy: bool, drained: bool) -> MasterNodeStatus {
    let message = if healthy { String::new() } else { "connection refused".to_owned() };
    MasterNodeStatus {
        id: format!("i-{number}"),
        healthy,
        message,
        drained,
        engine_version: "20.10.24".into(),
        containers: 0,
    }
}

fn world(ready: bool, nodes: Vec<MasterNodeStatus>) -> (Arc<World>, Arc<SwarmAccess>) {
    let status =
        MasterStatus { revision: 1, ready, nodes, tcp_listeners: vec![("db".into(), 3306)], ..Default::default() };
    let world = Arc::new(World { status: watch::channel(status).0, requests: Mutex::default() });
    let (directory, dialer): (Arc<dyn Directory>, Arc<dyn Dialer>) = (world.clone(), Arc::new(world.clone()));
    (world, SwarmAccess::new(directory, dialer, broadcast::channel(16).0))
}

#[tokio::test]
async fn nodes_are_as_the_master_sees_them() {
    let (_, access) = world(true, vec![node(1, true, false), node(2, false, false)]);
    let cluster = sample_cluster();
    assert_eq!(access.readiness(&cluster).await.unwrap(), ApiReadiness::Ready);
    let nodes = access.nodes(&cluster).await.unwrap();
    let seen: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.ready, node.message.as_str())).collect();
    let expected = [("node-1", NodeReadiness::Ready, ""), ("node-2", NodeReadiness::NotReady, "connection refused")];
    assert_eq!(seen, expected);
    assert_eq!(access.listeners(&cluster).await.unwrap(), [("db".to_owned(), 3306)]);
}

#[tokio::test]
async fn a_node_goes_when_the_master_let_go_of_it() {
    let cluster = sample_cluster();
    let (world, access) = world(true, vec![node(1, true, false), node(2, false, true)]);
    assert!(matches!(access.drain(&cluster, "node-1").await.unwrap(), DrainOutcome::Waiting(_)));
    assert!(access.delete_node(&cluster, "node-1").await.is_err());
    assert_eq!(access.drain(&cluster, "node-2").await.unwrap(), DrainOutcome::Done);
    assert!(access.delete_node(&cluster, "node-2").await.is_ok());
    assert_eq!(access.drain(&cluster, "node-3").await.unwrap(), DrainOutcome::Done, "nobody knows it");
    world.status.send_modify(|status| (status.ready, status.nodes) = (false, Vec::new()));
    let starting = access.drain(&cluster, "node-1").await.unwrap();
    assert!(matches!(starting, DrainOutcome::Waiting(_)), "a master that starts knows nobody: {starting:?}");
    assert!(matches!(access.readiness(&cluster).await.unwrap(), ApiReadiness::Starting(_)));
}

#[tokio::test]
async fn news_of_the_master_are_announced() {
    let cluster = sample_cluster();
    let (world, access) = world(true, Vec::new());
    let mut changes = access.changes();
    access.watch(&cluster);
    access.watch(&cluster);
    assert_eq!(changes.recv().await.unwrap(), cluster.id);
    world.status.send_modify(|status| status.revision = 2);
    assert_eq!(changes.recv().await.unwrap(), cluster.id);
    access.forget(&cluster.id);
    let requests = world.requests.lock().unwrap().clone();
    assert!(requests[0].starts_with("GET /internal/status HTTP/1.1"), "{requests:?}");
    assert!(requests[1].starts_with("GET /internal/status?after=1 "), "{requests:?}");
}
