//! Commands in containers: on which node each is, and running one to its end.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time;

use super::{Fleet, Member, client::json_request, observe::text, wire::Body};
use crate::model::{ExecOutcome, Refusal};

/// Commands whose nodes are remembered; older ones are looked for.
const EXECS_MAX: usize = 4096;
/// The end of a command's output that is kept.
const OUTPUT_MAX: usize = 4096;

/// Which node has which command.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    nodes: HashMap<String, String>,
    order: VecDeque<String>,
}

impl Fleet {
    /// Remembers the node of a command.
    pub(crate) fn remember_exec(&self, exec: &str, node: &str) {
        let mut execs = self.execs.lock().unwrap_or_else(PoisonError::into_inner);
        if execs.nodes.insert(exec.to_owned(), node.to_owned()).is_none() {
            execs.order.push_back(exec.to_owned());
        }
        while execs.order.len() > EXECS_MAX {
            if let Some(old) = execs.order.pop_front() {
                execs.nodes.remove(&old);
            }
        }
    }

    /// The node of a command.
    pub(crate) async fn member_of_exec(&self, exec: &str) -> Result<Arc<Member>, Refusal> {
        let known = self.execs.lock().unwrap_or_else(PoisonError::into_inner).nodes.get(exec).cloned();
        if let Some(member) = known.and_then(|node| self.member(&node)) {
            return Ok(member);
        }
        let healthy = self.healthy();
        let path = format!("/exec/{exec}/json");
        json_request(Method::GET, &path, None)?;
        let asked = join_all(healthy.iter().map(|member| member.client.get(&path))).await;
        let found = healthy.into_iter().zip(asked).find_map(|(member, answer)| answer.is_ok().then_some(member));
        let found = found.ok_or_else(|| Refusal::missing(format!("No such exec instance: {exec}")))?;
        self.remember_exec(exec, &found.name);
        Ok(found)
    }

    /// Runs a command to its end.
    pub(crate) async fn run_exec(
        &self,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecOutcome, Refusal> {
        let view = self.current();
        let container = view.find(id)?;
        let member = self.member_of(container)?;
        let run = async {
            let body = json!({"AttachStdout": true, "AttachStderr": true, "Cmd": command});
            let created = member.client.post(&format!("/containers/{}/exec", container.id), &body).await?;
            let exec = text(&created, "/Id").to_owned();
            let start = json!({"Detach": false, "Tty": false});
            let path = format!("/exec/{exec}/start");
            let started = member.client.send(json_request(Method::POST, &path, Some(&start))?).await?;
            let output = last_output(member.client.accepted(started).await?.into_body()).await;
            let output = output.map_err(|error| member.client.failed(&error))?;
            let ended = member.client.get(&format!("/exec/{exec}/json")).await?;
            let exit_code = ended.get("ExitCode").and_then(Value::as_i64).unwrap_or(-1);
            Ok(ExecOutcome { exit_code, output })
        };
        let late = || {
            let message = format!("the command in {} did not end within {} s", container.name, timeout.as_secs());
            Refusal::new(http::StatusCode::GATEWAY_TIMEOUT, message)
        };
        time::timeout(timeout, run).await.unwrap_or_else(|_| Err(late()))
    }
}

/// The end of what a command wrote, out of Docker's frames (8 bytes of head: stream, 0, 0, 0, length).
async fn last_output(mut body: Body) -> std::io::Result<String> {
    let mut kept = Vec::new();
    let mut head = Vec::with_capacity(8);
    let mut left = 0usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let mut data = &data[..];
        while !data.is_empty() {
            if left == 0 {
                let (part, rest) = data.split_at(data.len().min(8 - head.len()));
                head.extend_from_slice(part);
                data = rest;
                if let [_, _, _, _, a, b, c, d] = head[..] {
                    left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                    head.clear();
                }
                continue;
            }
            let (part, rest) = data.split_at(data.len().min(left));
            kept.extend_from_slice(part);
            left -= part.len();
            data = rest;
            if kept.len() > 2 * OUTPUT_MAX {
                kept.drain(..kept.len() - OUTPUT_MAX);
            }
        }
    }
    let from = kept.len().saturating_sub(OUTPUT_MAX);
    Ok(String::from_utf8_lossy(&kept[from..]).into_owned())
}
