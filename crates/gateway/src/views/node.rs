//! Nodes.

use sampan_api::types;
use sampan_control::service::instance_type::family;
use sampan_store::model::{Machine, MachineRole, MachineState, MachineWanted};

use super::time;

/// A node. What belongs to billing is the documented constant of a pay-as-you-go instance that never expires.
pub fn node(machine: &Machine, image_id: &str, charge_type: &str) -> types::Node {
    let membership = machine.membership.as_ref();
    let leaving = matches!(machine.wanted, MachineWanted::Leave | MachineWanted::Release | MachineWanted::Reset);
    // The words that the answer has for it; the filter of the list has others.
    let (state, instance_status) = match machine.state {
        _ if leaving => ("stopping", "Stopping"),
        MachineState::Pending => ("pending", "Pending"),
        MachineState::Starting => ("starting", "Starting"),
        MachineState::Running => ("running", "Running"),
        MachineState::Removing => ("stopping", "Stopping"),
        MachineState::Stopped | MachineState::Kept | MachineState::Failed => ("stopped", "Stopped"),
    };
    types::Node {
        creation_time: time(machine.created),
        error_message: machine.error.clone().unwrap_or_default(),
        expired_time: "2099-12-31T23:59:00Z".into(),
        host_name: membership.map_or_else(|| machine.id.clone(), |member| member.node_name.clone()),
        image_id: image_id.to_owned(),
        instance_charge_type: charge_type.to_owned(),
        instance_id: machine.id.clone(),
        instance_name: machine.instance_name.clone(),
        instance_role: role(machine).into(),
        instance_status: instance_status.into(),
        instance_type: machine.instance_type.clone(),
        instance_type_family: family(&machine.instance_type).to_owned(),
        ip_address: vec![machine.ip.to_string()],
        is_aliyun_node: true,
        node_name: membership.map(|member| member.node_name.clone()).unwrap_or_default(),
        node_status: node_status(machine, leaving).into(),
        // The one pool of a Swarm cluster is not shown.
        nodepool_id: membership
            .filter(|member| member.node_index.is_none())
            .and_then(|member| member.node_pool_id.clone())
            .unwrap_or_default(),
        source: machine.source.clone(),
        state: state.into(),
        spot_strategy: "NoSpot".into(),
    }
}

fn role(machine: &Machine) -> &'static str {
    let is_master = machine.membership.as_ref().is_some_and(|member| member.role == MachineRole::Master);
    if is_master { "Master" } else { "Worker" }
}

fn node_status(machine: &Machine, leaving: bool) -> &str {
    match machine.node_status.as_deref() {
        _ if leaving => "Offline",
        Some(status) => status,
        None => "Unknown",
    }
}
