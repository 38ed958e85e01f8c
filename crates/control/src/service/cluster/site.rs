//! Where a cluster is put: its VPC and vSwitches, found or made.

use ipnet::Ipv4Net;
use sampan_store::model::{Fault, Outcome, VSwitch, Vpc, new_resource_id};

use crate::service::{Service, change::Change, network::allocate::NewVpc, node_pool::Home};

/// What a request says about the place.
pub(super) struct Site<'a> {
    /// How the request calls the VPC.
    pub(super) vpc_field: &'a str,
    /// How it calls the vSwitches.
    pub(super) vswitch_field: &'a str,
    pub(super) region_id: &'a str,
    pub(super) vpc_id: Option<&'a str>,
    pub(super) vswitch_ids: &'a [String],
    pub(super) zones: &'a [String],
    /// Ranges that the request names: a new VPC keeps away from them. Wrong ones are refused later.
    pub(super) ranges: &'a [(&'a str, &'a Option<String>)],
}

impl Service {
    /// The VPC of the request, or a new one.
    pub(super) fn plan_vpc(&self, change: &mut Change<'_>, site: &Site<'_>) -> Outcome<Vpc> {
        let (ctx, now, field) = (change.ctx, change.now, site.vpc_field);
        if let Some(id) = site.vpc_id {
            let missing = || Fault::invalid(field, format!("{field}: the VPC {id} does not exist"));
            if let Some(vpc) = change.ledger().vpc(id).cloned() {
                if vpc.account_id != ctx.account_id {
                    return Err(missing());
                }
                if vpc.region_id != site.region_id {
                    let text =
                        format!("{field}: the VPC {id} is in the region {}, not in {}", vpc.region_id, site.region_id);
                    return Err(Fault::invalid(field, text));
                }
                return Ok(vpc);
            }
            if !self.settings.create_referenced {
                return Err(missing());
            }
        }
        let pool = self.settings.machine_pool;
        let mut avoid = self.foreign_ranges();
        for (field, text) in site.ranges {
            let Some(range) = text.as_ref().and_then(|text| text.trim().parse::<Ipv4Net>().ok()) else { continue };
            if range.contains(&pool) {
                let text =
                    format!("{field} {range} covers {pool}, from which VPCs have their ranges; give a smaller one");
                return Err(Fault::invalid(field, text));
            }
            avoid.push(range);
        }
        let id = site.vpc_id.map_or_else(|| new_resource_id("vpc"), str::to_owned);
        let (account_id, region_id) = (ctx.account_id.as_str(), site.region_id);
        let new = NewVpc { id: &id, account_id, region_id, ephemeral: true, created: now };
        change.ledger().add_vpc(new, pool, &avoid)
    }

    /// The vSwitches of the request, or new ones; all in the VPC.
    pub(super) fn plan_vswitches(&self, change: &mut Change<'_>, site: &Site<'_>, vpc: &Vpc) -> Outcome<Vec<VSwitch>> {
        let now = change.now;
        let mut ids = site.vswitch_ids.to_vec();
        if ids.is_empty() {
            for index in 0..site.zones.len().max(1) {
                let (id, zone) = (new_resource_id("vsw"), site.zones.get(index).map(String::as_str));
                change.ledger().add_vswitch(site.vpc_field, &id, &vpc.id, zone, now)?;
                ids.push(id);
            }
        }
        let home = Home { vpc_id: &vpc.id, zones: site.zones };
        change.ensure_vswitches(&self.settings, site.vswitch_field, home, &ids)?;
        Ok(ids.iter().filter_map(|id| change.ledger().vswitch(id).cloned()).collect())
    }
}
