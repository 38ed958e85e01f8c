//! The inventory: machines that are in no cluster, or were made to be added to one later.

use std::sync::Arc;

use sampan_store::{
    Versioned,
    model::{
        Fault, FaultKind, HostMachine, Machine, MachineState, MachineWanted, NewMachine, Outcome, Tag, VSwitch,
        new_machine_id, new_resource_id,
    },
};

use super::{RequestContext, Service, fields, instance_type, network::allocate::NewVpc, node_pool::Home};

/// Most machines that one request makes.
const MACHINES_PER_REQUEST_MAX: i64 = 100;

/// Machines to be made for the inventory.
#[derive(Clone, Debug, Default)]
pub struct MachineCreate {
    /// How many; 1 when absent.
    pub count: Option<i64>,
    /// Instance type; the installation's default when absent.
    pub instance_type: Option<String>,
    /// Name that users see; the id when absent.
    pub instance_name: Option<String>,
    /// VPC; absent: the account's own inventory VPC.
    pub vpc_id: Option<String>,
    /// vSwitch; absent: the first of the VPC.
    pub vswitch_id: Option<String>,
    /// Tags.
    pub tags: Vec<Tag>,
    /// Plain hosts, with nothing of ours on them, to try the attach script on.
    pub bare: bool,
}

impl Service {
    /// Records machines in the inventory.
    ///
    /// # Errors
    /// InvalidParameter of what is wrong; Unavailable when addresses are used up.
    pub async fn machine_create(&self, ctx: &RequestContext, input: &MachineCreate) -> Outcome<Vec<Machine>> {
        let count = fields::number("count", input.count.unwrap_or(1), 1..=MACHINES_PER_REQUEST_MAX)?;
        let kind = fields::given(&input.instance_type).unwrap_or(&self.settings.default_instance_type).to_owned();
        instance_type::shape("instance_type", &kind)?;
        fields::tags("tags", &input.tags, 128)?;
        if fields::given(&input.instance_name)
            .is_some_and(|n| n.chars().count() > 128 || n.chars().any(char::is_control))
        {
            return Err(Fault::invalid("instance_name", "instance_name must have at most 128 characters"));
        }
        if input.bare && !self.settings.bare_hosts {
            let text = "bare is not possible: this installation was built without the image of bare hosts; run cargo xtask build";
            return Err(Fault::new(FaultKind::Unsupported, text));
        }
        self.refresh_foreign_ranges().await;
        self.change(ctx, |change| {
            let vpc_id = self.inventory_vpc(change, input)?;
            let vswitch_id = self.inventory_vswitch(change, input, &vpc_id)?;
            let mut made = Vec::with_capacity(count as usize);
            for _ in 0..count {
                let address = change.ledger().take_address("vswitch_id", &vswitch_id)?;
                let zone_id = change.ledger().vswitch(&vswitch_id).map_or_else(String::new, |v| v.zone_id.clone());
                let region_id = change.ledger().vpc(&vpc_id).map_or_else(String::new, |v| v.region_id.clone());
                let id = new_machine_id();
                let machine = NewMachine {
                    account_id: change.ctx.account_id.clone(),
                    region_id,
                    zone_id,
                    vpc_id: vpc_id.clone(),
                    vswitch_id: vswitch_id.clone(),
                    ip: address.ip,
                    mac: address.mac,
                    instance_type: kind.clone(),
                    instance_name: fields::given(&input.instance_name).unwrap_or(&id).to_owned(),
                    tags: input.tags.clone(),
                    source: "manual".into(),
                    created: change.now,
                    id,
                }
                .kept();
                let machine = Machine { host: input.bare.then(HostMachine::bare), ..machine };
                change.create(&machine);
                made.push(machine);
            }
            Ok(made)
        })
        .await
    }

    /// The caller's machines that users may see, oldest first; with `kept` only those of the inventory.
    pub fn machines(&self, ctx: &RequestContext, kept: bool) -> Vec<Arc<Versioned<Machine>>> {
        let mut machines = self.store.list::<Machine>();
        machines.retain(|m| {
            let visible = m.membership.as_ref().is_none_or(|s| s.node_pool_id.is_some());
            m.account_id == ctx.account_id && visible && (!kept || m.membership.is_none())
        });
        machines.sort_by_key(|machine| (machine.created, machine.ip));
        machines
    }

    /// Removes a machine from the inventory.
    ///
    /// # Errors
    /// NotFound; ClusterState when it is in a cluster.
    pub async fn machine_delete(&self, ctx: &RequestContext, machine_id: &str) -> Outcome<()> {
        self.change(ctx, |change| {
            let machine = change
                .store
                .get::<Machine>(machine_id)
                .filter(|m| m.account_id == change.ctx.account_id)
                .ok_or_else(|| Fault::not_found("Machine", machine_id))?;
            if let Some(cluster_id) = machine.cluster_id() {
                return Err(Fault::new(
                    FaultKind::ClusterState,
                    format!("machine {machine_id} is in the cluster {cluster_id}; remove it from there with release_node true"),
                ));
            }
            if machine.host.as_ref().is_some_and(|host| host.bare) {
                // It runs: its controller ends it, and its record then.
                let (wanted, state) = (MachineWanted::Release, MachineState::Removing);
                change.update(&machine, &Machine { wanted, state, ..machine.value.clone() });
                return Ok(());
            }
            change.delete(&machine);
            change.delete_secrets(&format!("machine/{machine_id}/"));
            Ok(())
        })
        .await
    }

    fn inventory_vpc(&self, change: &mut super::change::Change<'_>, input: &MachineCreate) -> Outcome<String> {
        let (ctx, now) = (change.ctx, change.now);
        let given = fields::given(&input.vpc_id);
        if let Some(id) = given {
            fields::resource_id("vpc_id", id)?;
        }
        // One VPC per account and region takes machines for which none is named.
        let id = given.map_or_else(|| format!("vpc-inventory-{}-{}", ctx.account_id, ctx.region_id), str::to_owned);
        match change.ledger().vpc(&id) {
            Some(vpc) if vpc.account_id == ctx.account_id => return Ok(id),
            None if given.is_none() || self.settings.create_referenced => {}
            _ => return Err(Fault::invalid("vpc_id", format!("vpc_id: the VPC {id} does not exist"))),
        }
        let new =
            NewVpc { id: &id, account_id: &ctx.account_id, region_id: &ctx.region_id, ephemeral: true, created: now };
        let avoid = self.foreign_ranges();
        change.ledger().add_vpc(new, self.settings.machine_pool, &avoid)?;
        Ok(id)
    }

    fn inventory_vswitch(
        &self,
        change: &mut super::change::Change<'_>,
        input: &MachineCreate,
        vpc_id: &str,
    ) -> Outcome<String> {
        let home = Home { vpc_id, zones: &[] };
        if let Some(id) = fields::given(&input.vswitch_id) {
            change.ensure_vswitches(&self.settings, "vswitch_id", home, &[id.to_owned()])?;
            return Ok(id.to_owned());
        }
        if let Some(first) = change.store.list_of::<VSwitch>(vpc_id).first() {
            return Ok(first.id.clone());
        }
        let (id, now) = (new_resource_id("vsw"), change.now);
        change.ledger().add_vswitch("vpc_id", &id, vpc_id, None, now)?;
        Ok(id)
    }
}
