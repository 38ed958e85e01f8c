//! The balancer: its container by the machine provider, its configuration by its control socket.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sampan_agents::balancer::{Client, Config, Report};
use sampan_control::ports::Balancing;
use sampan_provider::{HostServiceSpec, MachineProvider};
use sampan_store::model::{Fault, Outcome};
use tokio::sync::Mutex;

/// A container that was just started opens its socket within this time.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(20);

/// The installation's balancer.
pub(crate) struct DockerBalancing {
    provider: Arc<dyn MachineProvider>,
    spec: HostServiceSpec,
    client: Client,
    /// Whether the container was looked at since the socket last failed.
    ensured: Mutex<bool>,
}

impl DockerBalancing {
    pub(crate) fn new(provider: Arc<dyn MachineProvider>, spec: HostServiceSpec) -> Self {
        let client = Client::new(&spec.state_dir.join("control.sock"));
        Self { provider, spec, client, ensured: Mutex::default() }
    }

    /// Makes the container ahead of need, so that the first cluster does not wait for it.
    pub(crate) async fn ensure(&self) -> Outcome<()> {
        let mut ensured = self.ensured.lock().await;
        if !*ensured {
            self.provider
                .ensure_host_service(&self.spec)
                .await
                .map_err(|error| Fault::unavailable(format!("the balancer cannot be started: {error}")))?;
            *ensured = true;
        }
        Ok(())
    }
}

#[async_trait]
impl Balancing for DockerBalancing {
    async fn apply(&self, config: &Config) -> Outcome<Report> {
        self.ensure().await?;
        // Until the balancer has answered it counts as not looked at, also when this future is dropped by a time-out.
        *self.ensured.lock().await = false;
        let end = tokio::time::Instant::now() + START_TIMEOUT;
        loop {
            match self.client.apply(config).await {
                Ok(report) => {
                    *self.ensured.lock().await = true;
                    return Ok(report);
                }
                Err(_) if tokio::time::Instant::now() < end => tokio::time::sleep(START_POLL).await,
                Err(error) => return Err(Fault::unavailable(format!("the balancer does not answer: {error}"))),
            }
        }
    }
}
