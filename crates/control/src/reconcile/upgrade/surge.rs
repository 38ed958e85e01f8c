//! Machines that a pool has more while its nodes are upgraded: made before the first node is emptied, gone after the last.

use sampan_store::model::{
    Level, Machine, MachineRole, MachineWanted, Membership, NewMachine, NodePool, Outcome, Surge, new_machine_id,
};

use super::draft::Draft;
use crate::{
    reconcile::{allocation::Guard, context::Context, machines::title, scope::Scope},
    service::network::allocate::Ledger,
};

/// Drafts so many machines more for the pool, with addresses of their own.
pub(super) fn add(ctx: &Context, scope: &Scope, pool_id: &str, count: u32, draft: &mut Draft) {
    let guard = Guard::read(&ctx.store);
    let mut ledger = Ledger::load(&ctx.store);
    let Some(pool) = scope.pool(pool_id) else { return };
    let made: Outcome<Vec<Machine>> = (0..count).map(|_| machine(scope, pool, &mut ledger, draft)).collect();
    let made = match made {
        Ok(made) => made,
        Err(fault) => return draft.halt(format!("no machines can be added for the upgrade: {}", fault.message)),
    };
    let names: Vec<String> = made.iter().map(title).collect();
    let text = format!("node pool {} gets {count} more nodes for the upgrade: {}", pool.name, names.join(", "));
    draft.tell(Level::Info, "SurgeAdded", text);
    let surge = Surge {
        pool_id: pool_id.to_owned(),
        machine_ids: made.iter().map(|machine| machine.id.clone()).collect(),
        since: draft.now,
    };
    draft.upgrade(|upgrade| upgrade.surge.push(surge));
    draft.new_machines = made;
    draft.guard = Some(guard);
}

fn machine(scope: &Scope, pool: &NodePool, ledger: &mut Ledger, draft: &Draft) -> Outcome<Machine> {
    let (cluster, field) = (&scope.cluster, "vswitch_ids");
    let vswitches = if pool.vswitch_ids.is_empty() { &cluster.network.vswitch_ids } else { &pool.vswitch_ids };
    let mut taken = vswitches.iter().map(|id| Ok((id, ledger.take_address(field, id)?)));
    let first = taken.find(Result::is_ok).or_else(|| {
        vswitches.first().map(|id| Err(sampan_store::model::Fault::unavailable(format!("{id} has no free address"))))
    });
    let (vswitch_id, address) =
        first.unwrap_or_else(|| Err(sampan_store::model::Fault::unavailable("the pool has no vSwitch")))?;
    let (pods, mask) = (cluster.network.pod_cidr, cluster.network.node_cidr_mask);
    let membership = Membership {
        cluster_id: cluster.id.clone(),
        node_pool_id: Some(pool.id.clone()),
        role: MachineRole::Worker,
        node_name: match &pool.node_name_mode {
            Some(mode) => mode.name(address.ip),
            None => format!("{}.{}", cluster.region_id, address.ip),
        },
        pod_cidr: Some(ledger.take_pod_range("container_cidr", &cluster.id, pods, mask)?),
        node_index: None,
        etcd: None,
        task_id: cluster.upgrade.as_ref().map_or_else(String::new, |upgrade| upgrade.task_id.clone()),
        version: None,
    };
    Ok(NewMachine {
        id: new_machine_id(),
        account_id: cluster.account_id.clone(),
        region_id: cluster.region_id.clone(),
        zone_id: ledger.vswitch(vswitch_id).map_or_else(String::new, |vswitch| vswitch.zone_id.clone()),
        vpc_id: cluster.network.vpc_id.clone(),
        vswitch_id: vswitch_id.clone(),
        ip: address.ip,
        mac: address.mac,
        instance_type: pool.instance_types.first().cloned().unwrap_or_default(),
        instance_name: format!("worker-k8s-for-cs-{}", cluster.id),
        tags: Vec::new(),
        source: "ess".to_owned(),
        created: draft.now,
    }
    .joining(membership))
}

/// Drafts that these machines go, emptied first.
pub(super) fn release(ids: &[String], draft: &mut Draft) {
    for id in ids {
        draft.machine(id, |machine| {
            machine.wanted = MachineWanted::Release;
            machine.drain = true;
            machine.removal_task_id = None;
        });
    }
    draft.tell(
        Level::Info,
        "SurgeReleased",
        format!("machines that were added for the upgrade leave: {}", ids.join(", ")),
    );
    draft.upgrade(|_| ());
}
