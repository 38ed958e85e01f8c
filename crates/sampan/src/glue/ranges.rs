//! Address ranges of the host and of others' networks, asked afresh whenever a VPC is to be made.

use std::sync::Arc;

use async_trait::async_trait;
use ipnet::Ipv4Net;
use sampan_control::ports::RangeSource;
use sampan_provider::MachineProvider;
use sampan_store::model::{Fault, Outcome};

/// As the machine provider sees them.
pub(crate) struct DockerRanges {
    pub(crate) provider: Arc<dyn MachineProvider>,
}

#[async_trait]
impl RangeSource for DockerRanges {
    async fn foreign_ranges(&self) -> Outcome<Vec<Ipv4Net>> {
        self.provider
            .foreign_ranges()
            .await
            .map_err(|error| Fault::unavailable(format!("the ranges of other networks are not known: {error}")))
    }
}
