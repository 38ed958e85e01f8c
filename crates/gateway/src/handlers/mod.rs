//! The table from operations to handlers, one file per resource. A handler decodes, calls control and encodes: about ten
//! lines, no decisions.

mod account;
mod attach;
mod autoscaling;
mod cluster;
mod convert;
mod create;
mod info;
mod lifecycle;
mod machine;
mod node;
mod node_pool;
mod swarm;
mod trigger;
mod upgrade;

use sampan_api::operations as op;

use crate::edge::router::{Handler, Route};

/// Boxes an `async fn(Call) -> Result<Reply, Refusal>` for the table.
macro_rules! route {
    ($operation:expr, $handler:path) => {{
        let handler: Handler = |call| Box::pin($handler(call));
        Route { operation: &$operation, handler }
    }};
}

/// Every operation and what answers it. A test compares it with [`sampan_api::OPERATIONS`].
pub fn routes() -> Vec<Route> {
    vec![
        route!(op::OPEN_ACK_SERVICE, account::open_service),
        route!(op::DESCRIBE_USER_QUOTA, account::quota),
        route!(op::DESCRIBE_KUBERNETES_VERSION_METADATA, account::versions),
        route!(op::CREATE_CLUSTER, create::cluster_create),
        route!(op::DESCRIBE_CLUSTERS_V1, cluster::list_v1),
        route!(op::DESCRIBE_CLUSTERS, cluster::list),
        route!(op::DESCRIBE_CLUSTER_DETAIL, cluster::detail),
        route!(op::MODIFY_CLUSTER, cluster::modify),
        route!(op::CREATE_AUTOSCALING_CONFIG, autoscaling::configure),
        route!(op::MIGRATE_CLUSTER, cluster::migrate),
        route!(op::UPGRADE_CLUSTER, upgrade::begin),
        route!(op::GET_UPGRADE_STATUS, upgrade::status),
        route!(op::PAUSE_CLUSTER_UPGRADE, upgrade::pause),
        route!(op::CANCEL_CLUSTER_UPGRADE, upgrade::cancel),
        route!(op::RESUME_UPGRADE_CLUSTER, upgrade::resume),
        route!(op::MODIFY_CLUSTER_CONFIGURATION, upgrade::configure),
        route!(op::DELETE_CLUSTER, cluster::delete),
        route!(op::DESCRIBE_CLUSTER_USER_KUBECONFIG, cluster::user_config),
        route!(op::DESCRIBE_CLUSTER_CERTS, cluster::certs),
        route!(op::DESCRIBE_CLUSTER_RESOURCES, info::resources),
        route!(op::DESCRIBE_CLUSTER_LOGS, info::logs),
        route!(op::DESCRIBE_EVENTS, info::events),
        route!(op::DESCRIBE_TASK_INFO, info::task),
        route!(op::DESCRIBE_CLUSTER_NODES, node::list),
        route!(op::DELETE_CLUSTER_NODES, node::remove),
        route!(op::ATTACH_INSTANCES, attach::attach),
        route!(op::DESCRIBE_CLUSTER_ATTACH_SCRIPTS, attach::script),
        route!(op::REMOVE_CLUSTER_NODE, swarm::remove),
        route!(op::RESET_NODE, swarm::reset),
        route!(op::LIST_IMAGES, swarm::images),
        route!(op::DESCRIBE_API_VERSION, account::api_version),
        route!(op::SCALE_OUT_CLUSTER, node::scale_out),
        route!(op::UPDATE_CLUSTER_SIZE_BY_ID, node::scale_to),
        route!(op::CREATE_CLUSTER_NODE_POOL, node_pool::create),
        route!(op::SCALE_CLUSTER_NODE_POOL, node_pool::scale),
        route!(op::DESCRIBE_CLUSTER_NODE_POOLS, node_pool::list),
        route!(op::DESCRIBE_CLUSTER_NODE_POOL_DETAIL, node_pool::detail),
        route!(op::MODIFY_CLUSTER_NODE_POOL, node_pool::modify),
        route!(op::REPAIR_CLUSTER_NODE_POOL, node_pool::repair),
        route!(op::DELETE_CLUSTER_NODEPOOL, node_pool::delete),
        route!(op::CREATE_TRIGGER, trigger::create),
        route!(op::DESCRIBE_TRIGGER, trigger::list),
        route!(op::DELETE_TRIGGER, trigger::delete),
        route!(op::LIST_MACHINES, machine::list),
        route!(op::CREATE_MACHINES, machine::create),
        route!(op::DELETE_MACHINE, machine::delete),
        route!(op::STOP_CLUSTER, lifecycle::stop),
        route!(op::START_CLUSTER, lifecycle::start),
        route!(op::DESCRIBE_CLUSTER_HEALTH, lifecycle::health),
        route!(op::LIST_CLUSTER_CERTIFICATES, lifecycle::certificates),
        route!(op::CREATE_CLUSTER_BACKUP, lifecycle::backup),
        route!(op::LIST_CLUSTER_BACKUPS, lifecycle::backups),
        route!(op::DELETE_CLUSTER_BACKUP, lifecycle::backup_delete),
        route!(op::RESTORE_CLUSTER, lifecycle::restore),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_one_handler() {
        let mut handled: Vec<_> = routes().iter().map(|route| route.operation.name).collect();
        let mut offered: Vec<_> = sampan_api::OPERATIONS.iter().map(|operation| operation.name).collect();
        handled.sort_unstable();
        offered.sort_unstable();
        assert_eq!(handled, offered);
    }
}
