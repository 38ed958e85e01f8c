#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::{
    influx::Sink,
    line::{batches, escaped},
    target::{Address, Target},
};
use crate::{apps::testing, door::OverlayDialer, model::Usage};

#[test]
fn tags_are_escaped() {
    assert_eq!(escaped("a b,c=d"), "a\\ b\\,c\\=d");
    assert_eq!(escaped("line\nbreak\\"), "linebreak/");
}

#[test]
fn addresses() {
    let read = |text: &str| Address::read(text).map(|address| (address.host, address.port));
    assert_eq!(read("http://influxdb:8086"), Ok(("influxdb".into(), 8086)));
    assert_eq!(read("http://influxdb"), Ok(("influxdb".into(), 8086)));
    assert_eq!(read("influxdb:9000"), Ok(("influxdb".into(), 9000)));
    assert_eq!(read("http://[fd00::1]:1"), Ok(("fd00::1".into(), 1)));
    assert!(read("https://influxdb:8086").unwrap_err().contains("only http"));
    assert!(read("").is_err());
}

/// A database that writes down what it is asked.
#[derive(Clone, Default)]
struct Database {
    asked: Arc<Mutex<Vec<(String, String)>>>,
    refuse: Arc<Mutex<Option<StatusCode>>>,
}

impl Database {
    async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                let service = service_fn(move |request: Request<Incoming>| this.clone().answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        address
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let path = request.uri().to_string();
        let body = request.into_body().collect().await?.to_bytes();
        self.asked.lock().unwrap().push((path, String::from_utf8(body.to_vec()).unwrap()));
        let mut response = Response::new(Full::from("{\"error\":\"no\"}"));
        *response.status_mut() = self.refuse.lock().unwrap().unwrap_or(StatusCode::NO_CONTENT);
        Ok(response)
    }
}

/// Every address of the overlay is the database's.
#[derive(Debug)]
struct To(SocketAddr);

#[async_trait]
impl OverlayDialer for To {
    async fn connect(&self, _: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

const TEMPLATE: &str = "version: '2'\nservices:\n  web: {image: 'web:1'}\n  influxdb:\n    image: influxdb\n    labels: {aliyun.monitoring.addon.influxdb: 'http://influxdb:8086'}\n";

#[tokio::test]
async fn figures_reach_the_database() {
    let database = Database::default();
    let address = database.listen().await;
    let cluster = testing::cluster(Arc::new(To(address)), TEMPLATE).await;
    let (inner, view) = (&cluster.inner, cluster.inner.engines.view());
    let usage = Usage { cpu_percent: 12.5, memory: 50, memory_limit: 200, network: (1, 2), block: (3, 4) };
    let measured: BTreeMap<String, Usage> =
        view.containers.iter().map(|container| (container.id.clone(), usage.clone())).collect();
    let at = Timestamp::from_second(1_700_000_000).unwrap();
    let figures = batches(&view, &inner.store.all(), &measured, "c1", at);
    let target = |sink: &Sink| Target::find(inner, &view, "app_influxdb", sink.address()).unwrap();

    let mut sink = Sink::new("http://influxdb:8086".into());
    assert!(sink.keep(&figures, Instant::now()));
    sink.send(inner, &view, &target(&sink)).await.unwrap();
    let asked = std::mem::take(&mut *database.asked.lock().unwrap());
    assert_eq!(asked[0], ("/query?q=CREATE%20DATABASE%20telegraf".into(), String::new()));
    assert_eq!(asked[1].0, "/write?db=telegraf&precision=ns");
    let node = &view.containers.iter().find(|container| container.name == "app_web_1").unwrap().node;
    let tags = format!(
        "aliyun.cluster=c1,aliyun.project.id=app,aliyun.service.id=app_web,container_image=web:1,container_name=app_web_1,engine_host={node}"
    );
    for line in [
        format!("docker_container_cpu,{tags},cpu=cpu-total usage_percent=12.5 1700000000000000000"),
        format!("docker_container_mem,{tags} usage=50i,limit=200i,usage_percent=25 1700000000000000000"),
        format!("docker_container_net,{tags},network=total rx_bytes=1i,tx_bytes=2i 1700000000000000000"),
        format!(
            "docker_container_blkio,{tags},device=total io_service_bytes_recursive_read=3i,io_service_bytes_recursive_write=4i 1700000000000000000"
        ),
    ] {
        assert!(asked[1].1.lines().any(|found| found == line), "{line}\nis not in\n{}", asked[1].1);
    }
    // The second time the database is not made again.
    sink.keep(&figures, Instant::now());
    sink.send(inner, &view, &target(&sink)).await.unwrap();
    assert_eq!(std::mem::take(&mut *database.asked.lock().unwrap()).len(), 1);
    // What is refused for good is dropped; what may be taken later is kept.
    *database.refuse.lock().unwrap() = Some(StatusCode::BAD_REQUEST);
    sink.keep(&figures, Instant::now());
    assert!(sink.send(inner, &view, &target(&sink)).await.unwrap_err().contains("refuses figures with 400"));
    *database.refuse.lock().unwrap() = Some(StatusCode::SERVICE_UNAVAILABLE);
    sink.keep(&figures, Instant::now());
    assert!(sink.send(inner, &view, &target(&sink)).await.is_err());
    *database.refuse.lock().unwrap() = None;
    database.asked.lock().unwrap().clear();
    sink.failed(Instant::now() + Duration::from_secs(60));
    assert!(!sink.keep(&[], Instant::now()), "it rests after a failure");
    sink.send(inner, &view, &target(&sink)).await.unwrap();
    assert_eq!(database.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn hosts_are_found_in_the_cluster_and_nowhere_else() {
    let cluster = testing::cluster(Arc::new(To("127.0.0.1:1".parse().unwrap())), TEMPLATE).await;
    let (inner, view) = (&cluster.inner, cluster.inner.engines.view());
    for host in ["influxdb", "app_influxdb", "app_influxdb_1", "10.0.0.9"] {
        assert!(Target::find(inner, &view, "app_influxdb", &format!("http://{host}:8086")).is_ok(), "{host}");
    }
    for host in ["localhost", "example.com", "web_1"] {
        assert!(Target::find(inner, &view, "app_influxdb", &format!("http://{host}:8086")).is_err(), "{host}");
    }
}

#[tokio::test]
async fn a_database_that_refuses_is_seen_at_its_service() {
    let database = Database::default();
    let cluster = testing::cluster(Arc::new(To(database.listen().await)), TEMPLATE).await;
    let inner = &cluster.inner;
    let view = inner.engines.view();
    let measured: BTreeMap<String, Usage> =
        view.containers.iter().map(|container| (container.id.clone(), Usage::default())).collect();
    let unsent = || inner.unsent.lock().unwrap().get("app_influxdb").cloned();
    let mut sinks = HashMap::new();
    super::round(inner, &measured, &mut sinks).await;
    assert_eq!(unsent(), None);
    assert_eq!(database.asked.lock().unwrap().len(), 2);
    *database.refuse.lock().unwrap() = Some(StatusCode::UNAUTHORIZED);
    super::round(inner, &measured, &mut sinks).await;
    assert_eq!(
        unsent().unwrap(),
        "InfluxDB at influxdb:8086 refuses figures with 401 Unauthorized: {\"error\":\"no\"}"
    );
}
