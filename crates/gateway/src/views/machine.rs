//! Machines of the inventory.

use sampan_api::types;
use sampan_store::model::{Machine, MachineState};

use super::{tags, time};

/// A machine. `prefix` is what names of containers begin with.
pub fn machine(machine: &Machine, prefix: &str) -> types::Machine {
    let bare = machine.host.as_ref().map(|host| host.bare);
    let kind = match bare {
        None => "container",
        Some(true) => "bare_host",
        Some(false) => "host",
    };
    let has_container = bare == Some(true) || (bare.is_none() && machine.membership.is_some());
    let state = match machine.state {
        MachineState::Pending => "pending",
        MachineState::Starting => "starting",
        MachineState::Running => "running",
        MachineState::Removing => "removing",
        MachineState::Stopped => "stopped",
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
        kind: kind.into(),
        container: if has_container { format!("{prefix}{}", machine.id) } else { String::new() },
        created: time(machine.created),
        tags: tags(&machine.tags),
    }
}
