//! `--listen-agents`: the port where hosts join.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock},
};

use anyhow::Context as _;
use sampan_agents::host::station;
use sampan_control::{hosts::HostAuthority, service::attach::HostDoor};
use sampan_store::model::Timestamp;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    bundle::Bundle,
    data_dir::DataDir,
    glue::hosts::{HostDesk, api_arch},
    serve::Server,
};

/// The port, and what attach lines call it.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) advertised: Option<String>,
}

/// Opens the door; the task ends when the server stops.
pub(crate) async fn open(
    door: Door,
    server: &Server,
    dir: &DataDir,
    bundle: &Bundle,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<JoinHandle<()>> {
    let authority = HostAuthority::load(&server.store, Timestamp::now()).await.context("the authority of hosts")?;
    let local = door.listener.local_addr()?;
    let advertised = match (&door.advertised, local.ip().is_unspecified()) {
        (Some(address), _) => Some(checked(address)?),
        (None, true) => None,
        (None, false) => Some(local.to_string()),
    };
    let trouble = bundle.payload.is_empty().then(|| {
        "hosts cannot join: the bundle of this installation has nothing for them; run cargo xtask build".to_owned()
    });
    server.service.set_host_door(HostDoor {
        address: advertised.clone(),
        port: local.port(),
        fingerprint: authority.fingerprint(),
        trouble,
        arch: api_arch().to_owned(),
    });
    let names = advertised.iter().filter_map(|address| address.rsplit_once(':')).map(|(host, _)| bare(host));
    let desk = HostDesk {
        store: server.store.clone(),
        service: Arc::clone(&server.service),
        hub: Arc::clone(&server.hub),
        authority,
        bundle: bundle.clone(),
        images: dir.images(),
        names: names.collect(),
        executable: std::env::current_exe().context("this executable cannot be found")?,
        tls: Mutex::new(HashMap::new()),
        script: OnceLock::new(),
    };
    tracing::info!(address = %local, "hosts may join");
    let stop = CancellationToken::new();
    let listening = station::listen(door.listener, Arc::new(desk), stop.clone());
    Ok(tokio::spawn(async move {
        tokio::select! {
            () = listening => {}
            _ = stopped.wait_for(|stopped| *stopped) => stop.cancel(),
        }
    }))
}

/// Without the brackets of an IPv6 address.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

/// What people write goes into a line for a root shell.
fn checked(address: &str) -> anyhow::Result<String> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((bare(host), port.parse::<u16>().ok()?)));
    let is_host = |host: &String| {
        let is_name = !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
        is_name || host.parse::<IpAddr>().is_ok()
    };
    parts
        .filter(|(host, port)| is_host(host) && *port != 0)
        .map(|_| address.to_owned())
        .with_context(|| format!("--advertise-agents {address:?} is not HOST:PORT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_address_is_one() {
        for good in ["cs.example.com:7443", "192.0.2.1:1", "[2001:db8::1]:7443"] {
            assert_eq!(checked(good).unwrap(), good);
        }
        for bad in ["a", "a:0", "a:b", ":1", "$(reboot):1", "a b:1", "a;b:1"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
