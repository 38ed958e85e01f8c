//! How an upgrade stands, in the words of catalogue 12.2.

use sampan_api::types;
use sampan_store::model::{Finding, Upgrade, UpgradePhase, UpgradeState};

/// The cluster's latest upgrade; `None`: it never had one.
pub fn status(upgrade: Option<&Upgrade>) -> types::GetUpgradeStatusResponse {
    let Some(upgrade) = upgrade else {
        return types::GetUpgradeStatusResponse {
            upgrade_step: "not_start".into(),
            ..types::GetUpgradeStatusResponse::default()
        };
    };
    let (status, task) = match upgrade.state {
        UpgradeState::Running => ("running", "running"),
        UpgradeState::Paused => ("pause", "running"),
        UpgradeState::Success => ("success", "Success"),
        // There is no word for one that was cancelled; the message says it.
        UpgradeState::Failed | UpgradeState::Cancelled => ("fail", "Failed"),
    };
    let step = match (upgrade.state, upgrade.phase) {
        (UpgradeState::Paused, _) => "pause",
        (UpgradeState::Success, _) => "success",
        (_, UpgradePhase::Precheck) => "prechecking",
        _ => "upgrading",
    };
    types::GetUpgradeStatusResponse {
        error_message: upgrade.error.clone().or_else(|| upgrade.halt.clone()).unwrap_or_default(),
        precheck_report_id: upgrade.report_id.clone(),
        status: status.into(),
        upgrade_step: step.into(),
        upgrade_task: types::UpgradeTask { status: task.into(), message: message(upgrade) },
        precheck_findings: Some(upgrade.findings.iter().map(finding).collect()),
        task_id: Some(upgrade.task_id.clone()),
    }
}

fn message(upgrade: &Upgrade) -> String {
    if !upgrade.message.is_empty() {
        return upgrade.message.clone();
    }
    let what = match upgrade.phase {
        UpgradePhase::Precheck => "pre-checks",
        UpgradePhase::Snapshot => "snapshot of etcd",
        UpgradePhase::ControlPlane => "control plane",
        UpgradePhase::Components => "components",
        UpgradePhase::Nodes => "nodes",
    };
    format!("upgrading from {} to {}: {what}", upgrade.from, upgrade.to)
}

fn finding(finding: &Finding) -> types::UpgradeFinding {
    types::UpgradeFinding {
        check: finding.check.clone(),
        level: if finding.blocks { "error" } else { "warning" }.into(),
        message: finding.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use sampan_store::model::NewUpgrade;

    use super::*;

    #[test]
    fn every_state_has_the_documents_words() {
        let now = "2024-01-01T00:00:00Z".parse().expect("a time");
        let new = NewUpgrade { from: "1.35.2".into(), to: "1.36.3".into(), ..NewUpgrade::default() };
        let upgrade = new.begin(now);
        let check = |state: UpgradeState, phase: UpgradePhase, words: [&str; 3]| {
            let shown = status(Some(&Upgrade { state, phase, ..upgrade.clone() }));
            assert_eq!([&*shown.status, &*shown.upgrade_step, &*shown.upgrade_task.status], words);
            assert!(shown.upgrade_task.message.contains("1.36.3"));
        };
        check(UpgradeState::Running, UpgradePhase::Precheck, ["running", "prechecking", "running"]);
        check(UpgradeState::Running, UpgradePhase::Nodes, ["running", "upgrading", "running"]);
        check(UpgradeState::Paused, UpgradePhase::Nodes, ["pause", "pause", "running"]);
        check(UpgradeState::Failed, UpgradePhase::Precheck, ["fail", "prechecking", "Failed"]);
        check(UpgradeState::Cancelled, UpgradePhase::Nodes, ["fail", "upgrading", "Failed"]);
        check(UpgradeState::Success, UpgradePhase::Nodes, ["success", "success", "Success"]);
        assert_eq!(status(None).upgrade_step, "not_start");
    }
}
