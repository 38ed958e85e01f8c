//! Who gets in, and how the configuration is followed.
#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, path::Path, sync::Arc};

use http::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use sampan_agents::master::{MasterConfig, TlsFiles};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{dispatch::Master, listen::Endpoint, settings};
use crate::fleet::{Fleet, tls};

type Authority = Issuer<'static, KeyPair>;

fn authority(dir: &Path, name: &str) -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
    Issuer::new(params, key)
}

/// A certificate in `dir`, and the files of an end that accepts `ca`.
fn certificate(dir: &Path, name: &str, signer: &Authority, ca: &str, expired: bool) -> TlsFiles {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let path = |end: &str| dir.join(format!("{name}{end}"));
    std::fs::write(path(".crt"), params.signed_by(&key, signer).unwrap().pem()).unwrap();
    std::fs::write(path(".key"), key.serialize_pem()).unwrap();
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    TlsFiles { ca: text(dir.join(ca)), cert: text(path(".crt")), key: text(path(".key")) }
}

fn config(dir: &Path, endpoint_tls: TlsFiles) -> MasterConfig {
    MasterConfig {
        cluster_id: "c1".to_owned(),
        region_id: "cn-x".to_owned(),
        advertise: [127, 0, 0, 1].into(),
        router_ca: dir.join("engines.pem").to_str().unwrap().to_owned(),
        engines_tls: endpoint_tls.clone(),
        endpoint_tls,
        subnet: "172.18.0.0/16".parse().unwrap(),
        address_pool: "172.28.0.0/14".parse().unwrap(),
        routing_suffix: "example.test".to_owned(),
        strategy: sampan_agents::master::Strategy::Spread,
        nodes: Vec::new(),
        state_dir: dir.join("state").to_str().unwrap().to_owned(),
    }
}

async fn ask(
    address: SocketAddr,
    files: Option<&TlsFiles>,
    ca: &TlsFiles,
    path: &str,
) -> std::io::Result<(StatusCode, String)> {
    let config = tls::client_config(files.unwrap_or(ca)).unwrap();
    let config = if files.is_some() { config } else { tls::anonymous_client(&ca.ca) };
    let tcp = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(config).connect(ServerName::IpAddress(address.ip().into()), tcp).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.map(|status| (status, answer)).ok_or_else(|| std::io::Error::other("no answer"))
}

/// An endpoint, its own files, and the authorities of users and of engines.
async fn endpoint(dir: &Path) -> (SocketAddr, TlsFiles, Authority, Authority) {
    let (cluster, engines) = (authority(dir, "cluster"), authority(dir, "engines"));
    let own = certificate(dir, "master", &cluster, "cluster.pem", false);
    let path = dir.join("master.json");
    std::fs::write(&path, serde_json::to_vec(&config(dir, own.clone())).unwrap()).unwrap();
    let settings = settings::follow(&path).unwrap();
    let fleet = Fleet::open(settings.clone()).unwrap();
    let settings_of_apps = crate::apps::Settings {
        state_dir: dir.join("apps"),
        cluster_id: "c1".into(),
        region_id: "cn-hangzhou".into(),
        routing_suffix: "example".into(),
    };
    let apps = crate::apps::Apps::new(fleet.clone(), Arc::new(crate::door::Direct), settings_of_apps).unwrap();
    let master = Arc::new(Master::new(fleet, Arc::new(apps)));
    let endpoint = Endpoint::open_at(settings, SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = endpoint.address().unwrap();
    tokio::spawn(endpoint.serve(master));
    (address, own, cluster, engines)
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let (address, own, cluster, _) = endpoint(dir.path()).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let user = certificate(dir.path(), "user", &cluster, "cluster.pem", false);
    assert_eq!(ask(address, Some(&user), &own, "/_ping").await.unwrap().0, StatusCode::OK);
}

#[tokio::test]
async fn certificates_decide_what_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (address, own, cluster, engines) = endpoint(dir).await;
    let foreign = authority(dir, "foreign");
    let user = certificate(dir, "user", &cluster, "cluster.pem", false);
    let router = certificate(dir, "router", &engines, "cluster.pem", false);
    let stranger = certificate(dir, "stranger", &foreign, "cluster.pem", false);
    let expired = certificate(dir, "expired", &cluster, "cluster.pem", true);
    let status = |files, path: &'static str| {
        let own = own.clone();
        async move { ask(address, files, &own, path).await.map(|(status, _)| status.as_u16()) }
    };
    assert_eq!(status(Some(&user), "/_ping").await.unwrap(), 200);
    assert_eq!(status(Some(&user), "/v1.24/info").await.unwrap(), 200);
    assert_eq!(status(Some(&user), "/v1.23/info").await.unwrap(), 400);
    assert_eq!(status(Some(&user), "/internal/status").await.unwrap(), 404);
    assert_eq!(status(Some(&user), "/internal/routes").await.unwrap(), 404);
    assert_eq!(status(Some(&user), "/nonsense").await.unwrap(), 404);
    assert_eq!(status(Some(&router), "/_ping").await.unwrap(), 403);
    assert_eq!(status(Some(&router), "/internal/status").await.unwrap(), 404);
    assert_eq!(status(Some(&router), "/internal/routes?timeout_ms=1").await.unwrap(), 204, "there is no table yet");
    assert!(status(Some(&stranger), "/_ping").await.is_err());
    assert!(status(Some(&expired), "/_ping").await.is_err());
    assert!(status(None, "/_ping").await.is_err());
}

#[tokio::test]
async fn the_configuration_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let cluster = authority(dir, "cluster");
    authority(dir, "engines");
    let mut wanted = config(dir, certificate(dir, "master", &cluster, "cluster.pem", false));
    let path = dir.join("master.json");
    let write = |config: &MasterConfig| {
        let fresh = dir.join("fresh");
        std::fs::write(&fresh, serde_json::to_vec(config).unwrap()).unwrap();
        std::fs::rename(&fresh, &path).unwrap();
    };
    assert!(settings::follow(&path).is_err(), "there is none yet");
    write(&wanted);
    let mut settings = settings::follow(&path).unwrap();
    std::fs::write(&path, "nonsense").unwrap();
    wanted.routing_suffix = "other.test".to_owned();
    write(&wanted);
    settings.changed().await.unwrap();
    assert_eq!(settings.borrow().routing_suffix, "other.test");
}
