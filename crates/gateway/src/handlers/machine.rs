//! Machines of the inventory.

use sampan_api::{Refusal, types};
use sampan_control::service::machine::MachineCreate;

use super::convert;
use crate::{
    call::{Call, Reply},
    faults::refusal,
    views,
};

pub(super) async fn list(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::ListMachinesQuery>()?.value;
    let machines = call.service.machines(&call.context, query.kept.unwrap_or_default());
    Reply::new(
        &machines
            .iter()
            .map(|machine| views::machine::machine(machine, &call.service.settings().container_prefix))
            .collect::<Vec<_>>(),
    )
}

pub(super) async fn create(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::CreateMachinesRequest>()?.value;
    let input = MachineCreate {
        count: body.count,
        instance_type: body.instance_type,
        instance_name: body.instance_name,
        vpc_id: body.vpc_id,
        vswitch_id: body.vswitch_id,
        tags: convert::tags(body.tags),
        bare: body.bare.unwrap_or_default(),
    };
    let machines = call.service.machine_create(&call.context, &input).await.map_err(refusal)?;
    let instance_ids = machines.into_iter().map(|machine| machine.id).collect();
    Reply::new(&types::CreateMachinesResponse { instance_ids, request_id: String::new() })
}

pub(super) async fn delete(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("InstanceId");
    call.service.machine_delete(&call.context, id).await.map_err(refusal)?;
    Reply::new(&types::DeleteMachineResponse { instance_id: id.to_owned(), request_id: String::new() })
}
