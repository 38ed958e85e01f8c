//! VPCs and vSwitches. A VPC is a network of the machine provider; vSwitches are parts of it, in zones.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    /// `vpc-…`, as given or made.
    pub id: String,
    /// Account.
    pub account_id: String,
    /// Region.
    pub region_id: String,
    /// Its real range: a /20 of the machine pool.
    pub cidr: Ipv4Net,
    /// When it was recorded.
    pub created: Timestamp,
    /// It goes away with its last cluster (made on reference or by a cluster), rather than staying.
    pub ephemeral: bool,
}

impl Vpc {
    /// The part of the range whose addresses are virtual IPs of load balancers: the last 256.
    pub fn vip_range(&self) -> Ipv4Net {
        let last = u32::from(self.cidr.broadcast()) & !0xff;
        // A /24 is always valid.
        Ipv4Net::new_assert(last.into(), 24)
    }
}

/// A vSwitch: a /23 of its VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VSwitch {
    /// `vsw-…`.
    pub id: String,
    /// Its VPC.
    pub vpc_id: String,
    /// Zone, e.g. `cn-beijing-a`.
    pub zone_id: String,
    /// Its range.
    pub cidr: Ipv4Net,
    /// When it was recorded.
    pub created: Timestamp,
}
