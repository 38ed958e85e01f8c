//! From domain faults to codes: the one table.

use sampan_api::{Code, Refusal};
use sampan_store::model::{Fault, FaultKind};

/// The refusal that a fault is on the wire. Messages of internal faults are for the log; the edge replaces them.
pub fn refusal(fault: Fault) -> Refusal {
    let code = match &fault.kind {
        FaultKind::InvalidParameter(_) => Code::InvalidParameter,
        FaultKind::MissingParameter(_) => Code::MissingParameter,
        FaultKind::ClusterNotFound => Code::ErrorClusterNotFound,
        FaultKind::NotFound(what) => match what.as_str() {
            "NodePool" => Code::ErrorNodePoolNotFound,
            "Task" => Code::ErrorTaskNotFound,
            "Trigger" => Code::ErrorTriggerNotFound,
            "Backup" => Code::ErrorBackupNotFound,
            "Application" => Code::ErrorApplicationNotFound,
            "Node" | "Machine" => Code::ErrorNodeNotFound,
            "Kubeconfig" => Code::ErrorKubeconfigUnavailable,
            _ => Code::InvalidParameter,
        },
        FaultKind::ClusterState => Code::ErrorClusterState,
        FaultKind::DeletionProtected => Code::DeletionProtected,
        FaultKind::QuotaExceeded(what) => match what.as_str() {
            "Backup" => Code::QuotaExceededBackup,
            "Node" => Code::QuotaExceededNode,
            "NodePool" => Code::QuotaExceededNodePool,
            "Trigger" => Code::QuotaExceededTrigger,
            _ => Code::QuotaExceededCluster,
        },
        FaultKind::NonceUsed => Code::SignatureNonceUsed,
        FaultKind::Forbidden => Code::StatusForbidden,
        FaultKind::Throttled => Code::Throttling,
        FaultKind::Unsupported => Code::NotSupported,
        FaultKind::Conflict | FaultKind::Unavailable => Code::ServiceUnavailable,
        FaultKind::Internal => Code::InternalError,
    };
    Refusal::new(code, fault.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_clients_match_on() {
        let check = |fault: Fault, code: &str, status: u16| {
            let refusal = refusal(fault);
            assert_eq!((refusal.code.as_str(), refusal.status()), (code, status));
        };
        check(Fault::no_cluster("c1"), "ErrorClusterNotFound", 404);
        check(Fault::not_found("Task", "T-1"), "ErrorTaskNotFound", 404);
        check(Fault::not_found("NodePool", "np1"), "ErrorNodePoolNotFound", 404);
        check(Fault::state("busy"), "ErrorClusterState", 400);
        check(Fault::new(FaultKind::DeletionProtected, "x"), "DeletionProtected", 403);
        check(Fault::new(FaultKind::QuotaExceeded("Node".into()), "x"), "QuotaExceeded.Node", 400);
        check(Fault::new(FaultKind::QuotaExceeded("ManagedCluster".into()), "x"), "QuotaExceeded.Cluster", 400);
        check(Fault::new(FaultKind::NonceUsed, "x"), "SignatureNonceUsed", 400);
        check(Fault::missing("name"), "MissingParameter", 400);
        check(Fault::internal("secret"), "InternalError", 500);
    }
}
