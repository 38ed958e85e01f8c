//! `sampan cluster upgrade` and what belongs to it.

use serde_json::{Value, json};

use super::{cluster::find, task};
use crate::{
    Global,
    client::Client,
    output::{entries, print_object, scalar},
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Name or id
    cluster: String,
    /// The version to upgrade to; the newest possible one without it
    #[arg(long)]
    version: Option<String>,
    /// Only the control plane
    #[arg(long)]
    control_plane_only: bool,
    /// Nodes of a pool that may be out of service at once
    #[arg(long, value_name = "NODES")]
    parallel: Option<u32>,
    /// Return at once
    #[arg(long = "async")]
    no_wait: bool,
}

/// What is wanted of an upgrade in progress.
#[derive(Clone, Copy)]
pub(crate) enum Control {
    Pause,
    Resume,
    Cancel,
}

impl Control {
    fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }
}

pub(crate) async fn begin(global: &Global, client: &Client, arguments: Arguments) -> anyhow::Result<()> {
    let id = find(client, &arguments.cluster).await?;
    let mut body = json!({ "component_name": "k8s" });
    if let Some(version) = &arguments.version {
        body["next_version"] = json!(version);
    }
    if arguments.control_plane_only {
        body["master_only"] = json!(true);
    }
    if let Some(count) = arguments.parallel {
        body["rolling_policy"] = json!({ "max_parallelism": count });
    }
    let answer = client.json("POST", &path(&id), &[], Some(&body)).await?;
    let task_id = scalar(&answer["task_id"]);
    if !arguments.no_wait && !task_id.is_empty() {
        task::watch(client, &task_id).await?;
    }
    let fields = [("cluster_id", scalar(&answer["cluster_id"])), ("task_id", task_id)];
    print_object(global.output, &answer, &fields)
}

pub(crate) async fn status(global: &Global, client: &Client, cluster: &str) -> anyhow::Result<()> {
    let id = find(client, cluster).await?;
    let status = client.get(&format!("{}/status", path(&id)), &[]).await?;
    let finding = |finding: &Value| format!("{}: {}", scalar(&finding["level"]), scalar(&finding["message"]));
    let findings: Vec<String> = entries(&status["precheck_findings"]).iter().map(finding).collect();
    let fields = [
        ("status", scalar(&status["status"])),
        ("step", scalar(&status["upgrade_step"])),
        ("message", scalar(&status["upgrade_task"]["message"])),
        ("error", scalar(&status["error_message"])),
        ("pre-checks", findings.join("; ")),
        ("task_id", scalar(&status["task_id"])),
    ];
    print_object(global.output, &status, &fields)
}

pub(crate) async fn control(global: &Global, client: &Client, cluster: &str, control: Control) -> anyhow::Result<()> {
    let id = find(client, cluster).await?;
    let answer = client.json("POST", &format!("{}/{}", path(&id), control.word()), &[], None).await?;
    let fields = [("cluster_id", scalar(&answer["cluster_id"])), ("task_id", scalar(&answer["task_id"]))];
    print_object(global.output, &answer, &fields)
}

fn path(id: &str) -> String {
    format!("/api/v2/clusters/{id}/upgrade")
}
