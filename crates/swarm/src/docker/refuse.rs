//! What a cluster does not do, said as an engine would that is no manager.

use http::StatusCode;

use super::{Answer, Call, not_found};
use crate::model::Refusal;

/// Refuses what belongs to swarm mode, in words.
pub(super) fn answer(call: &Call, room: &str) -> Answer {
    let what = match room {
        "swarm" => {
            "This node is not a swarm manager. The nodes of this cluster are members of its swarm already; nodes \
                    come and go by the cluster's API"
        }
        "nodes" => "This node is not a swarm manager. The nodes of this cluster are listed by docker info",
        "tasks" | "secrets" | "configs" => {
            "This node is not a swarm manager. Services of this cluster are those of its applications (/projects, /services)"
        }
        "plugins" => {
            return match call.path.trim_matches('/') {
                "plugins" => Ok(crate::fleet::wire::answer(StatusCode::OK, &serde_json::json!([]))),
                _ => Err(Refusal::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "plug-ins of this cluster's engines are not managed here",
                )),
            };
        }
        "session" | "grpc" => {
            return Err(Refusal::new(
                StatusCode::NOT_IMPLEMENTED,
                "BuildKit sessions are not offered; build with DOCKER_BUILDKIT=0",
            ));
        }
        "distribution" => {
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "registries are asked by docker pull only"));
        }
        _ => return Err(not_found(call)),
    };
    Err(Refusal::unavailable(what))
}
