//! Machines of the inventory: operations of Sampan's own, in the API's manner.

use super::common::Tag;

wire! {
    /// Query of `GET /sampan/machines`.
    pub struct ListMachinesQuery {
        /// True lists only machines that are in no cluster.
        pub kept: Option<bool>,
    }

    /// A machine.
    pub struct Machine {
        /// The instance.
        pub instance_id: String,
        /// Its name.
        pub instance_name: String,
        /// Its type.
        pub instance_type: String,
        /// `pending`, `starting`, `running`, `removing`, `kept` or `failed`.
        pub state: String,
        /// Address inside the VPC.
        pub ip_address: String,
        /// The VPC.
        pub vpc_id: String,
        /// The vSwitch.
        pub vswitch_id: String,
        /// The region.
        pub region_id: String,
        /// The zone.
        pub zone_id: String,
        /// The cluster it is in, or empty.
        pub cluster_id: String,
        /// `container`, `host` (that somebody brought) or `bare_host` (that a container plays).
        pub kind: String,
        /// The name of the container in the engine, if it has one.
        pub container: String,
        /// When it was recorded: RFC 3339.
        pub created: String,
        /// Tags.
        pub tags: Vec<Tag>,
    }

    /// Body of `POST /sampan/machines`.
    pub struct CreateMachinesRequest {
        /// How many; 1 when left out.
        pub count: Option<i64>,
        /// The instance type; the installation's default when left out.
        pub instance_type: Option<String>,
        /// Name; the id when left out.
        pub instance_name: Option<String>,
        /// The VPC; the account's own when left out.
        pub vpc_id: Option<String>,
        /// The vSwitch; the first of the VPC when left out.
        pub vswitch_id: Option<String>,
        /// Tags.
        pub tags: Option<Vec<Tag>>,
        /// Plain hosts that run and have nothing of Sampan's on them, to try the attach script on.
        pub bare: Option<bool>,
    }

    /// Answer of `POST /sampan/machines`.
    pub struct CreateMachinesResponse {
        /// The new instances.
        pub instance_ids: Vec<String>,
        /// The id of this request.
        pub request_id: String,
    }

    /// Answer of `DELETE /sampan/machines/{InstanceId}`.
    pub struct DeleteMachineResponse {
        /// The instance that is gone.
        pub instance_id: String,
        /// The id of this request.
        pub request_id: String,
    }
}
