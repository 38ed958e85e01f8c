//! How a control plane is put back to a backup: what its machines run meanwhile, and how the snapshot gets to them.
//!
//! Each machine does two things by itself, as processes that end: it receives the snapshot (etcd still runs), and it makes
//! etcd's data anew from it (etcd does not run). The former data stays beside it until the next return, so that it can be
//! put back. Both may be killed and started again at any instruction.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sampan_agents::spec::Process;
use sampan_store::{
    MasterKey,
    model::{Cluster, Fault, Machine, Outcome, Restore, RestorePhase},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};

use super::{
    etcd_flags,
    parts::{component, process},
};
use crate::{backup::Reader, ports::Dialer};

/// Where a machine waits for the snapshot.
const SOCKET: &str = "/run/sampan-restore.sock";
/// Names of the processes.
pub(crate) const RECEIVE: &str = "etcd-receive";
pub(crate) const REPLACE: &str = "etcd-replace";
pub(crate) const TAKE_BACK: &str = "etcd-take-back";
/// Revisions that are left out, so that nobody takes an old one for a new one.
const REVISION_BUMP: &str = "1000000000";
/// A machine that takes nothing for so long has failed.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pieces on their way.
const PIECES_MAX: usize = 4;

/// Waits for the snapshot `$1` (its SHA-256), unless it is there already.
const RECEIVE_SCRIPT: &str = r#"set -eu
cd /var/lib/etcd
whole() { [ -e incoming ] && echo "$1  incoming" | sha256sum -c --status; }
whole "$1" && exit 0
rm -f incoming /run/sampan-restore.sock
timeout 900 socat -u UNIX-LISTEN:/run/sampan-restore.sock,mode=600 OPEN:incoming,creat,trunc,mode=600
whole "$1" || { echo "the snapshot did not arrive whole"; rm -f incoming; exit 1; }
sync -f incoming
"#;

/// Makes etcd's data from the snapshot, when etcd has ended, once for the task `$1`; the rest is the command that does it.
/// An etcd of a pod on the same machine has other flags.
const REPLACE_SCRIPT: &str = r#"set -eu
cd /var/lib/etcd
task=$1; shift
[ -e "replaced-$task" ] && exit 0
tries=0
while pgrep -f '[-]-data-dir=/var/lib/etcd/member' >/dev/null; do
  tries=$((tries + 1))
  [ "$tries" -lt 100 ] || { echo "etcd does not end"; exit 1; }
  sleep 0.3
done
[ -e "before-$task" ] || rm -rf before-* replaced-*
rm -rf restoring
"$@"
if [ -e member ] && [ ! -e "before-$task" ]; then mv member "before-$task"; fi
rm -rf member
mv restoring member
: > "replaced-$task"
rm -f incoming
sync -f .
"#;

/// Puts the former data back, once for the task `$1`; that there is none is fine: nothing was replaced then. On a machine that
/// is no member of etcd (`$2` is `no`) there was none, and nothing stays with which it could begin by itself.
const TAKE_BACK_SCRIPT: &str = r#"set -eu
cd /var/lib/etcd
tries=0
while pgrep -f '[-]-data-dir=/var/lib/etcd/member' >/dev/null; do
  tries=$((tries + 1))
  [ "$tries" -lt 100 ] || { echo "etcd does not end"; exit 1; }
  sleep 0.3
done
if [ -e "before-$1" ]; then
  rm -rf member
  mv "before-$1" member
elif [ "$2" = no ]; then
  rm -rf member
fi
rm -rf restoring incoming "replaced-$1"
sync -f .
"#;

/// What a machine of the control plane runs, given what it usually runs of it.
pub(crate) fn processes(cluster: &Cluster, machine: &Machine, mut usual: Vec<Process>) -> Vec<Process> {
    let Some(restore) = &cluster.restore else { return usual };
    let etcd = usual.iter().find(|process| process.name == "etcd");
    // One that is no member of etcd yet has no data; it becomes one afterwards, unless it is the one to begin with.
    if etcd.is_none() && !restore.members.contains(&machine.ip) {
        return usual;
    }
    match restore.phase {
        RestorePhase::Check | RestorePhase::Start | RestorePhase::StartFormer => usual,
        RestorePhase::Receive => {
            usual.push(script(RECEIVE, RECEIVE_SCRIPT, [restore.sha256.clone()]));
            usual
        }
        RestorePhase::Replace => {
            let command = restore_command(machine.version(cluster), restore, machine, etcd);
            vec![script(REPLACE, REPLACE_SCRIPT, [restore.task_id.clone()].into_iter().chain(command))]
        }
        RestorePhase::TakeBack => {
            let is_member = if machine.may_run_etcd() { "yes" } else { "no" };
            vec![script(TAKE_BACK, TAKE_BACK_SCRIPT, [restore.task_id.clone(), is_member.to_owned()])]
        }
    }
}

/// The process by which a machine does what it has to do in that phase.
pub(crate) fn restore_process(phase: RestorePhase) -> Option<&'static str> {
    match phase {
        RestorePhase::Receive => Some(RECEIVE),
        RestorePhase::Replace => Some(REPLACE),
        RestorePhase::TakeBack => Some(TAKE_BACK),
        RestorePhase::Check | RestorePhase::Start | RestorePhase::StartFormer => None,
    }
}

fn script(name: &str, text: &str, arguments: impl IntoIterator<Item = String>) -> Process {
    let mut command: Vec<String> = ["/bin/sh", "-c", text, name].map(String::from).into();
    command.extend(arguments);
    let mut script = process(name, command);
    script.oneshot = true;
    script
}

/// The data of this member. The only one gets the membership that its etcd would be started with for the first time; one of
/// several that of all who are put back with it, which is the same on all of them.
fn restore_command(version: &str, restore: &Restore, machine: &Machine, etcd: Option<&Process>) -> Vec<String> {
    const MEMBERSHIP: [&str; 4] = ["name", "initial-cluster", "initial-cluster-token", "initial-advertise-peer-urls"];
    let mut command: Vec<String> = vec![component(version, "etcdutl")];
    command.extend(["snapshot", "restore", "incoming", "--data-dir=restoring", "--mark-compacted"].map(String::from));
    command.push(format!("--bump-revision={REVISION_BUMP}"));
    if machine.etcd().is_some() {
        let flags = etcd_flags::membership(machine.ip, &restore.members);
        command.extend(flags.into_iter().map(|(name, value)| format!("--{name}={value}")));
        return command;
    }
    let is_membership = |flag: &&String| {
        let name = flag.strip_prefix("--").and_then(|flag| flag.split_once('='));
        name.is_some_and(|(name, _)| MEMBERSHIP.contains(&name))
    };
    command.extend(etcd.iter().flat_map(|etcd| &etcd.command).filter(is_membership).cloned());
    command
}

/// Changes a kubelet's environment, and so starts it again, after each return to a backup: a kubelet registers its node only
/// when it starts, and the backup may be older than the node. Pods go on meanwhile.
pub(crate) fn generation(cluster: &Cluster) -> Option<(String, String)> {
    (cluster.restores > 0).then(|| ("SAMPAN_RESTORES".to_owned(), cluster.restores.to_string()))
}

/// Sends a snapshot to a machine that waits for it.
///
/// # Errors
/// Unavailable, when the machine does not take it; what is wrong with the file.
pub(crate) async fn send(
    dialer: &dyn Dialer,
    machine_id: &str,
    restore: &Restore,
    from: PathBuf,
    key: MasterKey,
) -> Outcome<()> {
    let broken = |error: &dyn std::fmt::Display| {
        Fault::unavailable(format!("machine {machine_id} does not take the backup {}: {error}", restore.backup_id))
    };
    let dial = timeout(CONNECT_TIMEOUT, dialer.dial(machine_id, &format!("unix:{SOCKET}"))).await;
    let mut stream = dial.map_err(|error| broken(&error))?.map_err(|error| broken(&error))?;
    let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
    let reading = tokio::task::spawn_blocking(move || read(&from, &key, &sender));
    while let Some(piece) = pieces.recv().await {
        let sent = timeout(STALL_TIMEOUT, stream.write_all(&piece)).await;
        sent.map_err(|error| broken(&error))?.map_err(|error| broken(&error))?;
    }
    reading.await.map_err(|error| broken(&error))??;
    stream.shutdown().await.map_err(|error| broken(&error))?;
    // The machine closes when it has all.
    let mut rest = [0; 1];
    let _ = timeout(STALL_TIMEOUT, stream.read(&mut rest)).await;
    Ok(())
}

fn read(from: &Path, key: &MasterKey, sender: &mpsc::Sender<Vec<u8>>) -> Outcome<()> {
    let mut reader = Reader::open(from, key)?;
    while let Some(chunk) = reader.next_chunk()? {
        if sender.blocking_send(chunk).is_err() {
            // Nobody listens any more; who listened says why.
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::Command;

    use sampan_store::model::{EtcdMember, EtcdStage};
    use serde_json::json;

    use super::*;
    use crate::kubernetes::tests::{now, sample_cluster, sample_control_plane};

    fn restoring(phase: RestorePhase) -> Cluster {
        let restore = Restore {
            backup_id: "manual-1".into(),
            task_id: "T-9".into(),
            requested: now(),
            phase,
            since: now(),
            sha256: "ab".into(),
            members: Vec::new(),
            anew: false,
            failure: None,
        };
        Cluster { restore: Some(restore), ..sample_cluster() }
    }

    fn usual() -> Vec<Process> {
        let etcd = ["/opt/etcd", "--name=i-cp", "--data-dir=/x", "--initial-cluster=i-cp=https://127.0.0.1:2380"];
        vec![process("etcd", etcd.map(String::from).into()), process("kube-apiserver", vec!["/opt/api".into()])]
    }

    #[test]
    fn what_runs_in_each_phase() {
        for (phase, expected) in [
            (RestorePhase::Check, vec!["etcd", "kube-apiserver"]),
            (RestorePhase::Receive, vec!["etcd", "kube-apiserver", RECEIVE]),
            (RestorePhase::Replace, vec![REPLACE]),
            (RestorePhase::Start, vec!["etcd", "kube-apiserver"]),
            (RestorePhase::TakeBack, vec![TAKE_BACK]),
            (RestorePhase::StartFormer, vec!["etcd", "kube-apiserver"]),
        ] {
            let cluster = restoring(phase);
            let machine = sample_control_plane();
            let names: Vec<String> =
                processes(&cluster, &machine, usual()).into_iter().map(|process| process.name).collect();
            assert_eq!(names, expected, "{phase:?}");
        }
        let replace = processes(&restoring(RestorePhase::Replace), &sample_control_plane(), usual()).remove(0).command;
        assert_eq!(replace[4], "T-9");
        assert!(replace[5].ends_with("/etcdutl"), "{replace:?}");
        assert!(replace.contains(&"--initial-cluster=i-cp=https://127.0.0.1:2380".to_owned()), "{replace:?}");
        assert!(!replace.contains(&"--data-dir=/x".to_owned()), "{replace:?}");
        assert_eq!(generation(&sample_cluster()), None);
        let restored: Cluster = serde_json::from_value({
            let mut cluster = serde_json::to_value(sample_cluster()).unwrap();
            cluster["restores"] = json!(2);
            cluster
        })
        .unwrap();
        assert_eq!(generation(&restored), Some(("SAMPAN_RESTORES".into(), "2".into())));
    }

    #[test]
    fn several_members_are_put_back_as_those_that_they_are_then() {
        let mut cluster = restoring(RestorePhase::Replace);
        let ips: Vec<std::net::Ipv4Addr> = [5, 6, 7].map(|last| [10, 200, 0, last].into()).into();
        if let Some(restore) = &mut cluster.restore {
            restore.members.clone_from(&ips);
        }
        let mut machine = sample_control_plane();
        machine.ip = ips[1];
        let membership = machine.membership.as_mut().unwrap();
        // One that joined when there were two.
        membership.etcd = Some(EtcdMember { stage: EtcdStage::Joined, peers: ips[..2].to_vec() });
        membership.version = Some("1.35.2".into());
        let command = processes(&cluster, &machine, usual()).remove(0).command;
        assert!(command[5].contains("1.35.2"), "the machine's own: {command:?}");
        let all = "--initial-cluster=etcd-10-200-0-5=https://10.200.0.5:2380,etcd-10-200-0-6=https://10.200.0.6:2380,\
                   etcd-10-200-0-7=https://10.200.0.7:2380";
        for flag in [all, "--name=etcd-10-200-0-6", "--initial-advertise-peer-urls=https://10.200.0.6:2380"] {
            assert!(command.contains(&flag.to_owned()), "{flag} {command:?}");
        }
        // All members were lost with their disks: this machine has none yet, and begins.
        let alone = processes(&cluster, &machine, Vec::new());
        assert_eq!(alone.len(), 1);
        assert!(alone[0].command.contains(&"--name=etcd-10-200-0-6".to_owned()), "{alone:?}");
        machine.ip = [10, 200, 0, 8].into();
        assert_eq!(processes(&cluster, &machine, Vec::new()), [], "one that is no member yet");
    }

    /// Runs a script in a folder of its own instead of etcd's.
    fn run(dir: &std::path::Path, script: &str, arguments: &[&str]) -> bool {
        let text = script.replace("/var/lib/etcd", &dir.to_string_lossy());
        let status = Command::new("/bin/sh").args(["-c", &text, "test"]).args(arguments).status().unwrap();
        status.success()
    }

    #[test]
    fn data_is_replaced_once_and_can_be_put_back() {
        let dir = std::env::temp_dir().join(format!("sampan-restore-{}", sampan_store::model::new_token(8)));
        std::fs::create_dir_all(dir.join("member")).unwrap();
        let old = dir.join("member/old");
        std::fs::write(&old, "old").unwrap();
        let make = ["T-1", "sh", "-c", "mkdir restoring && : > restoring/new"];
        assert!(!run(&dir, REPLACE_SCRIPT, &["T-1", "false"]), "a snapshot that cannot be used");
        assert!(old.exists(), "changes nothing");
        assert!(run(&dir, REPLACE_SCRIPT, &make));
        assert!(dir.join("member/new").exists() && dir.join("before-T-1/old").exists());
        assert!(run(&dir, REPLACE_SCRIPT, &["T-1", "false"]), "it is done once");
        assert!(run(&dir, TAKE_BACK_SCRIPT, &["T-1", "yes"]));
        assert!(run(&dir, TAKE_BACK_SCRIPT, &["T-1", "yes"]), "again");
        assert!(old.exists() && !dir.join("member/new").exists());
        // Killed between the two renames.
        std::fs::rename(dir.join("member"), dir.join("before-T-2")).unwrap();
        let make = ["T-2", "sh", "-c", "mkdir restoring && : > restoring/new"];
        assert!(run(&dir, REPLACE_SCRIPT, &make));
        assert!(dir.join("member/new").exists() && dir.join("before-T-2/old").exists());
        // A machine that was no member of etcd keeps nothing.
        std::fs::remove_dir_all(dir.join("before-T-2")).unwrap();
        assert!(run(&dir, TAKE_BACK_SCRIPT, &["T-2", "no"]));
        assert!(!dir.join("member").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
