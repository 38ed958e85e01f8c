//! Machines of the inventory.

use sampan_api::types;
use sampan_store::model::{Machine, MachineState};

use super::{tags, time};

/// A machine.
pub fn machine(machine: &Machine) -> types::Machine {
    let state = match machine.state {
        MachineState::Pending => "pending",
        MachineState::Starting => "starting",
        MachineState::Running => "running",
        MachineState::Removing => "removing",
        MachineState::Kept => "kept",
        MachineState::Failed => "failed",
    };
    types::Machine {
        instance_id: machine.id.clone(),
        instance_name: machine.instance_name.clone(),
        instance_type: machine.instance_type.clone(),
        state: state.into(),
        ip_address: machine.ip.to_string(),
        vpc_id: machine.vpc_id.clone(),
        vswitch_id: machine.vswitch_id.clone(),
        region_id: machine.region_id.clone(),
        zone_id: machine.zone_id.clone(),
        cluster_id: machine.cluster_id().unwrap_or_default().to_owned(),
        created: time(machine.created),
        tags: tags(&machine.tags),
    }
}
