//! The members of a cluster's etcd, asked through whichever machine of its control plane answers.

use std::{collections::HashMap, sync::Arc};

use futures::{future::join_all, join};
use sampan_store::model::{Fault, Outcome};

use super::{
    access::Directory,
    etcd::{Alarm, EtcdClient, Member, MemberStatus},
};
use crate::ports::{Dialer, EtcdChange, EtcdMemberView};

/// etcd refuses writes beyond 2 GiB; it is told of before.
const DB_BYTES_WARN: i64 = 3 << 29;

/// Members, and how each of them is.
pub(super) async fn view(
    directory: &dyn Directory,
    dialer: &Arc<dyn Dialer>,
    cluster_id: &str,
) -> Outcome<Vec<EtcdMemberView>> {
    let clients = clients(directory, dialer, cluster_id).await?;
    let asked = join_all(clients.iter().map(EtcdClient::status)).await;
    let answers: HashMap<u64, &MemberStatus> = asked.iter().flatten().map(|one| (one.id, one)).collect();
    let mut refusal = Fault::unavailable(format!("no member of the etcd of cluster {cluster_id} can be asked"));
    // Those that are well first: a member that has lost the others lists nobody before its time is over.
    let mut order: Vec<usize> = (0..clients.len()).collect();
    order.sort_by_key(|index| !asked[*index].as_ref().is_ok_and(|one| one.healthy && !one.learner));
    for index in order {
        let (members, alarms) = join!(clients[index].members(), clients[index].alarms());
        match members {
            Ok(members) => {
                // Who cannot tell of alarms has told of the members: those count.
                let alarms = alarms.unwrap_or_default();
                return Ok(members.into_iter().map(|member| one(member, &answers, &alarms)).collect());
            }
            Err(fault) => refusal = fault,
        }
        if asked[index].is_err() {
            // Who did not even say how it is will not list the others; nor will those after it.
            break;
        }
    }
    Err(refusal)
}

/// A member as it is listed, with what it says of itself.
fn one(member: Member, answers: &HashMap<u64, &MemberStatus>, alarms: &[Alarm]) -> EtcdMemberView {
    let status = answers.get(&member.id);
    let raised = alarms.iter().filter(|alarm| alarm.member == member.id);
    let mut problems: Vec<String> = raised.map(|alarm| alarm_words(&alarm.name)).collect();
    if member.learner {
        problems.push("still learns the data".to_owned());
    }
    match status {
        None if member.name.is_empty() => problems.push("has not started yet".to_owned()),
        None => problems.push("does not answer".to_owned()),
        Some(status) => {
            problems.extend(status.errors.iter().cloned());
            if status.leader == 0 {
                problems.push("knows no leader: the members have no quorum".to_owned());
            }
            if status.db_size_in_use > DB_BYTES_WARN {
                let size = status.db_size_in_use >> 20;
                problems.push(format!("holds {size} MiB; beyond 2048 MiB nothing can be written"));
            }
        }
    }
    EtcdMemberView {
        id: member.id,
        name: member.name,
        ip: member.peer_ip,
        learner: member.learner,
        healthy: status.is_some_and(|status| status.healthy),
        leader: status.is_some_and(|status| status.leader == member.id),
        db_size: status.map_or(0, |status| status.db_size),
        db_size_in_use: status.map_or(0, |status| status.db_size_in_use),
        version: status.map(|status| status.version.clone()).unwrap_or_default(),
        problems,
    }
}

fn alarm_words(alarm: &str) -> String {
    match alarm {
        "NOSPACE" => "alarm NOSPACE: its disk space is used up, nothing can be written".to_owned(),
        "CORRUPT" => "alarm CORRUPT: its data is damaged; put the cluster back to a backup".to_owned(),
        alarm => format!("alarm {alarm}"),
    }
}

/// Changes the members, through the first that can.
pub(super) async fn change(
    directory: &dyn Directory,
    dialer: &Arc<dyn Dialer>,
    cluster_id: &str,
    change: EtcdChange,
) -> Outcome<()> {
    let clients = clients(directory, dialer, cluster_id).await?;
    let asked = join_all(clients.iter().map(EtcdClient::status)).await;
    // The member itself is not asked for its own removal or promotion: its word is worth least.
    let concerned = match change {
        EtcdChange::Promote(id) | EtcdChange::Remove(id) => Some(id),
        EtcdChange::Add(_) | EtcdChange::Move(..) => None,
    };
    let well = clients.iter().zip(&asked).filter(|(_, status)| {
        status.as_ref().is_ok_and(|one| one.healthy && !one.learner && Some(one.id) != concerned)
    });
    let Some((client, _)) = well.into_iter().next() else {
        return Err(Fault::unavailable(format!("no member of the etcd of cluster {cluster_id} is well")));
    };
    match change {
        EtcdChange::Add(ip) => client.add(ip).await,
        EtcdChange::Promote(id) => client.promote(id).await,
        EtcdChange::Remove(id) => client.remove(id).await,
        EtcdChange::Move(id, ip) => client.update(id, ip).await,
    }
}

async fn clients(directory: &dyn Directory, dialer: &Arc<dyn Dialer>, cluster_id: &str) -> Outcome<Vec<EtcdClient>> {
    let pki = directory.pki(cluster_id).await?;
    let machines = directory.control_planes(cluster_id);
    let client = |id: &String| EtcdClient::new(Arc::clone(dialer), id, Arc::clone(&pki));
    Ok(machines.iter().map(client).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_say_what_is_wrong_with_them() {
        let member = |id, name: &str| Member { id, name: name.into(), peer_ip: None, learner: false };
        let status = MemberStatus {
            id: 7,
            healthy: true,
            learner: false,
            leader: 7,
            db_size: 4096,
            db_size_in_use: 2048,
            version: "3.6.8".into(),
            revision: 1,
            errors: Vec::new(),
        };
        let well = one(member(7, "i-1"), &HashMap::from([(7, &status)]), &[]);
        assert_eq!((well.leader, well.healthy, well.db_size, well.version.as_str()), (true, true, 4096, "3.6.8"));
        assert!(well.problems.is_empty(), "{well:?}");
        let lost = MemberStatus { leader: 0, healthy: false, ..status };
        let alarms = [Alarm { member: 7, name: "NOSPACE".into() }];
        let ill = one(member(7, "i-1"), &HashMap::from([(7, &lost)]), &alarms);
        assert_eq!((ill.problems.len(), ill.leader), (2, false), "{ill:?}");
        assert_eq!(one(member(8, ""), &HashMap::new(), &alarms).problems, ["has not started yet"]);
        assert_eq!(one(member(8, "i-2"), &HashMap::new(), &alarms).problems, ["does not answer"]);
    }
}
