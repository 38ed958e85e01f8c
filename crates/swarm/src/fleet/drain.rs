//! Nodes that leave: what moves is moved first, then the node leaves the swarm.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use super::{Fleet, Member, cache::Membership, is_of_application, observe::text, reschedule};
use crate::model::{Container, Refusal};

impl Fleet {
    /// One step of a node that leaves.
    pub(crate) async fn release(&self, member: &Member) -> Result<Membership, Refusal> {
        if *member.cache().membership() == Membership::Left {
            return Ok(Membership::Left);
        }
        if !self.still_to_move(member).is_empty() {
            // It goes on serving meanwhile.
            return Ok(Membership::Member);
        }
        member.refresh_info().await?;
        let info = member.cache().info();
        if text(&info, "/Swarm/LocalNodeState") != "inactive" {
            match member.client.post("/swarm/leave?force=1", &Value::Null).await {
                Err(refusal) if refusal.status != StatusCode::SERVICE_UNAVAILABLE || !member.is_reachable() => {
                    return Err(refusal);
                }
                // The engine says 503 for "not part of a swarm", which is what was asked for.
                _ => {}
            }
        }
        tracing::info!(node = member.name, "a node left the swarm");
        Ok(Membership::Left)
    }

    /// Containers on a node that leaves which have to be elsewhere before it goes.
    pub(crate) fn still_to_move(&self, member: &Member) -> Vec<Arc<Container>> {
        let view = self.current();
        let mine = view.containers.iter().filter(|container| container.node == member.name);
        mine.filter(|container| is_of_application(container) || reschedule::moves(container)).cloned().collect()
    }

    /// Whether a node that leaves may go: nothing that moves is left on it, and it is no member any more (or is dead).
    pub(crate) fn is_drained(&self, member: &Member) -> bool {
        if !member.spec().leaving {
            return false;
        }
        let (left, reachable) = {
            let cache = member.cache();
            (*cache.membership() == Membership::Left, cache.is_reachable())
        };
        left || (!reachable && self.still_to_move(member).is_empty())
    }
}
