//! The connection to the engine.

use std::{fmt::Display, future::Future, path::PathBuf, time::Duration};

use bollard::{BollardRequest, ClientVersion, Docker, body_full, errors::Error as BollardError};
use futures::FutureExt;
use http_body_util::{BodyExt, Either};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{errors::CallError, facts::HostFacts};
use crate::{HostCapacity, OWNER_LABEL, ProviderError};

/// Looking at something.
pub(super) const LOOK_SECONDS: u64 = 20;
/// Changing something; on a busy disk the engine takes its time.
pub(super) const CHANGE_SECONDS: u64 = 90;
/// How long a machine may take to stop before it is killed.
pub(super) const STOP_SECONDS: u64 = 10;
/// The newest API that we were written for. An older engine makes us speak its version.
const NEWEST_API: ClientVersion = ClientVersion { major_version: 1, minor_version: 51 };
/// The oldest API that has everything we use (private cgroup namespaces).
const OLDEST_API: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };
/// From this version on, endpoints carry MAC addresses and network names are unique.
const ENDPOINT_MAC_API: ClientVersion = ClientVersion { major_version: 1, minor_version: 44 };
/// Containers made, started or removed at once. The engine takes turns on its own locks anyway; more at once only make
/// each of them slower and the time-outs meaningless.
const CHANGES_AT_ONCE: usize = 4;

/// A connected engine.
pub(super) struct Engine {
    pub(super) docker: Docker,
    pub(super) owner: String,
    pub(super) facts: HostFacts,
    pub(super) changes: Semaphore,
    socket: String,
}

impl Engine {
    /// Connects, agrees on a version and looks at what the host can do.
    pub(super) async fn connect(owner: &str, socket: &str) -> Result<Self, ProviderError> {
        let doing = || format!("connect to the engine at {socket}");
        let failed = |error| ProviderError::from(CallError::new(doing(), socket, error));
        let limit = Duration::from_secs(LOOK_SECONDS);
        // The library's own limit is only a backstop: each call has its own.
        let docker = Docker::connect_with_unix(socket, CHANGE_SECONDS * 2, &NEWEST_API).map_err(failed)?;
        let docker = tokio::time::timeout(limit, docker.negotiate_version())
            .await
            .map_err(|_| ProviderError::from(CallError::timed_out(doing(), LOOK_SECONDS)))?
            .map_err(failed)?;
        let version = docker.client_version();
        if version < OLDEST_API {
            return Err(ProviderError::Failed(format!(
                "the engine at {socket} speaks API {version}; {OLDEST_API} (Docker 20.10) is the oldest that will do"
            )));
        }
        let docker = if version < ENDPOINT_MAC_API { docker.with_request_modifier(for_older_engines) } else { docker };
        let info = tokio::time::timeout(limit, docker.info())
            .await
            .map_err(|_| ProviderError::from(CallError::timed_out(doing(), LOOK_SECONDS)))?
            .map_err(failed)?;
        let facts = HostFacts::detect(&info, socket).await;
        tracing::info!(%version, ?facts, "connected to the Docker engine");
        Ok(Self {
            docker,
            owner: owner.to_owned(),
            facts,
            changes: Semaphore::new(CHANGES_AT_ONCE),
            socket: socket.to_owned(),
        })
    }

    /// One call, with a limit of time. `doing` completes "cannot …".
    pub(super) async fn call<T>(
        &self,
        doing: impl Display,
        seconds: u64,
        call: impl Future<Output = Result<T, BollardError>>,
    ) -> Result<T, CallError> {
        match tokio::time::timeout(Duration::from_secs(seconds), call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(CallError::new(doing.to_string(), &self.socket, error)),
            Err(_) => Err(CallError::timed_out(doing.to_string(), seconds)),
        }
    }

    /// As [`Engine::call`], for looking at what may not be there.
    pub(super) async fn look<T>(
        &self,
        doing: impl Display,
        call: impl Future<Output = Result<T, BollardError>>,
    ) -> Result<Option<T>, ProviderError> {
        match self.call(doing, LOOK_SECONDS, call).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A filter for lists: everything of ours, of this kind.
    pub(super) fn ours(&self, kind: Option<&str>) -> Option<std::collections::HashMap<String, Vec<String>>> {
        let mut labels = vec![format!("{OWNER_LABEL}={}", self.owner)];
        if let Some(kind) = kind {
            labels.push(format!("{}={kind}", crate::KIND_LABEL));
        }
        Some([("label".to_owned(), labels)].into())
    }

    /// The labels of a thing of ours.
    pub(super) fn labels<'a>(
        &self,
        kind: &str,
        others: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> std::collections::HashMap<String, String> {
        let mut labels: std::collections::HashMap<String, String> =
            others.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        labels.insert(OWNER_LABEL.to_owned(), self.owner.clone());
        labels.insert(crate::KIND_LABEL.to_owned(), kind.to_owned());
        labels
    }

    /// Whether these labels say that a thing is ours.
    pub(super) fn owns(&self, labels: Option<&std::collections::HashMap<String, String>>) -> bool {
        labels.and_then(|labels| labels.get(OWNER_LABEL)) == Some(&self.owner)
    }

    /// A place among the changes that run at once.
    pub(super) async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ProviderError> {
        self.changes.acquire().await.map_err(|_| ProviderError::Failed("the provider is shutting down".to_owned()))
    }

    /// The host's capacity, as the engine sees it.
    pub(super) async fn capacity(&self) -> Result<HostCapacity, ProviderError> {
        let info = self.call("ask the engine for the host's capacity", LOOK_SECONDS, self.docker.info()).await?;
        Ok(HostCapacity {
            cpus: info.ncpu.and_then(|n| u64::try_from(n).ok()).unwrap_or(1),
            memory_bytes: info.mem_total.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        })
    }

    /// Where the engine keeps images and volumes.
    pub(super) async fn root_dir(&self) -> Result<Option<PathBuf>, ProviderError> {
        let info = self.call("ask the engine for its directory", LOOK_SECONDS, self.docker.info()).await?;
        Ok(info.docker_root_dir.filter(|dir| !dir.is_empty()).map(PathBuf::from))
    }
}

/// Where the engine listens, from `DOCKER_HOST`.
pub(super) fn socket_of(docker_host: Option<&str>) -> Result<String, ProviderError> {
    match docker_host.map(str::trim) {
        None | Some("") => Ok("/var/run/docker.sock".to_owned()),
        Some(host) => match host.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(path.to_owned()),
            _ => Err(ProviderError::Failed(format!(
                "DOCKER_HOST is {host:?}; machines are made by a local engine only, because the server and the \
                 machines share directories: set it to unix:///PATH or unset it"
            ))),
        },
    }
}

/// Before API 1.44 the MAC address stood at the top of a container's description, and network names were unique only
/// on demand. The library knows neither field any more, so they are added on the way out.
fn for_older_engines(request: BollardRequest) -> BollardRequest {
    let path = request.uri().path();
    let (container, network) = (path.ends_with("/containers/create"), path.ends_with("/networks/create"));
    if !container && !network {
        return request;
    }
    let (parts, body) = request.into_parts();
    let Either::Left(full) = body else {
        return BollardRequest::from_parts(parts, body);
    };
    let bytes = match full.collect().now_or_never() {
        Some(Ok(collected)) => collected.to_bytes(),
        // A body that is all there is read at once and without errors.
        Some(Err(never)) => match never {},
        None => Default::default(),
    };
    let body = match serde_json::from_slice::<Value>(&bytes) {
        Ok(mut value) => {
            if network {
                value["CheckDuplicate"] = json!(true);
            } else if let Some(mac) = endpoint_mac(&value) {
                value["MacAddress"] = json!(mac);
            }
            body_full(value.to_string().into())
        }
        Err(_) => body_full(bytes),
    };
    BollardRequest::from_parts(parts, body)
}

/// The MAC address of the first endpoint that has one.
fn endpoint_mac(container: &Value) -> Option<String> {
    container["NetworkingConfig"]["EndpointsConfig"]
        .as_object()?
        .values()
        .find_map(|endpoint| endpoint["MacAddress"].as_str())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_sockets_are_taken() {
        assert_eq!(socket_of(None).unwrap(), "/var/run/docker.sock");
        assert_eq!(socket_of(Some("")).unwrap(), "/var/run/docker.sock");
        assert_eq!(socket_of(Some("unix:///run/x.sock")).unwrap(), "/run/x.sock");
        for bad in ["tcp://127.0.0.1:2375", "ssh://host", "unix://relative", "/run/x.sock"] {
            assert!(socket_of(Some(bad)).is_err(), "{bad}");
        }
    }

    fn rewritten(path: &str, body: &Value) -> Value {
        let mut request = BollardRequest::new(body_full(body.to_string().into()));
        *request.uri_mut() = path.parse().unwrap();
        let body = for_older_engines(request).into_body();
        let bytes = body.collect().now_or_never().unwrap().unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn older_engines_get_the_mac_address_where_they_read_it() {
        let body = json!({"NetworkingConfig": {"EndpointsConfig": {"n": {"MacAddress": "02:42:0a:00:00:02"}}}});
        assert_eq!(rewritten("/v1.41/containers/create", &body)["MacAddress"], "02:42:0a:00:00:02");
        assert_eq!(rewritten("/v1.41/networks/create", &json!({"Name": "n"}))["CheckDuplicate"], true);
        assert_eq!(rewritten("/v1.41/volumes/create", &json!({"Name": "n"})), json!({"Name": "n"}));
    }
}
