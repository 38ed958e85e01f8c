//! One try of a probe.

use std::{net::SocketAddr, time::Duration};

use http::{Request, header};
use http_body_util::Full;
use tokio::{net::TcpStream, time::timeout};

use super::address;
use crate::{
    apps::wire::ask,
    compose::template::{Probe, ProbeCheck},
    door::OverlayDialer,
    model::{Container, Engines, View},
};

/// A try takes at least this long before it fails, whatever the template says.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// What a failing command wrote is shown up to here.
const OUTPUT_CHARS_MAX: usize = 200;

/// Tries once; `Err` says in words why the container does not serve.
pub(crate) async fn attempt(
    engines: &dyn Engines,
    dialer: &dyn OverlayDialer,
    view: &View,
    container: &Container,
    probe: &Probe,
) -> Result<(), String> {
    let limit = Duration::from_secs(probe.timeout_seconds.into()).max(TIMEOUT_MIN);
    match &probe.check {
        ProbeCheck::Command(command) => run(engines, container, command, limit).await,
        ProbeCheck::Tcp { port } => {
            let connecting = connect(dialer, view, container, *port);
            timeout(limit, connecting).await.map_err(|_| late(container, limit))?.map(drop)
        }
        ProbeCheck::Http { port, path } => {
            timeout(limit, get(dialer, view, container, *port, path)).await.map_err(|_| late(container, limit))?
        }
    }
}

fn late(container: &Container, limit: Duration) -> String {
    format!("the probe of {} did not end within {} s", container.name, limit.as_secs())
}

async fn run(engines: &dyn Engines, container: &Container, command: &str, limit: Duration) -> Result<(), String> {
    let command = vec!["sh".to_owned(), "-c".to_owned(), command.to_owned()];
    let outcome = engines
        .exec(&container.id, command, limit)
        .await
        .map_err(|refusal| format!("the probe's command could not be run in {}: {refusal}", container.name))?;
    if outcome.exit_code == 0 {
        return Ok(());
    }
    let output: String = outcome.output.trim().chars().take(OUTPUT_CHARS_MAX).collect();
    Err(format!("the probe's command in {} ended with code {}: {output}", container.name, outcome.exit_code))
}

/// Connects to a port of a container.
pub(crate) async fn connect(
    dialer: &dyn OverlayDialer,
    view: &View,
    container: &Container,
    port: u16,
) -> Result<TcpStream, String> {
    let ip = address(view, container).ok_or_else(|| format!("{} has no address to be probed at", container.name))?;
    let address = SocketAddr::new(ip, port);
    // A container in its node's own network is reached there; the overlay does not lead to nodes.
    let connected =
        if container.host_network { TcpStream::connect(address).await } else { dialer.connect(address).await };
    connected.map_err(|error| format!("{} does not accept connections at {address}: {error}", container.name))
}

async fn get(
    dialer: &dyn OverlayDialer,
    view: &View,
    container: &Container,
    port: u16,
    path: &str,
) -> Result<(), String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("{} did not answer GET {path} on port {port}: {error}", container.name);
    let stream = connect(dialer, view, container, port).await?;
    let host = stream.peer_addr().map_or_else(|_| "container".to_owned(), |peer| peer.to_string());
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "sampan-probe")
        .header(header::CONNECTION, "close")
        .body(Full::default())
        .map_err(|error| failed(&error))?;
    let (status, _) = ask(stream, request, 0).await.map_err(|error| failed(&error))?;
    if (200..400).contains(&status.as_u16()) {
        Ok(())
    } else {
        Err(format!("{} answered GET {path} with {status}", container.name))
    }
}
