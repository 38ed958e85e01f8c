//! `sampan nodepool`: friendly commands for node pools.

use serde_json::{Value, json};

use super::{cluster::find, nodepool_edit, task};
use crate::{
    Global,
    client::Client,
    output::{Column, entries, print_list, print_object, scalar},
};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the node pools of a cluster
    #[command(visible_alias = "ls")]
    List {
        /// Name or id of the cluster
        cluster: String,
    },
    /// Create a node pool
    Create {
        /// Name or id of the cluster
        cluster: String,
        /// Name of the pool
        name: String,
        /// Nodes
        #[arg(long, default_value_t = 0)]
        nodes: u32,
        /// Instance type
        #[arg(long, default_value = "ecs.g6.large")]
        instance_type: String,
        /// Labels of its nodes, KEY=VALUE
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
    },
    /// Add nodes to a pool
    Scale {
        /// Name or id of the cluster
        cluster: String,
        /// Name or id of the pool
        pool: String,
        /// How many to add
        #[arg(long)]
        add: u32,
    },
    #[command(flatten)]
    Edit(nodepool_edit::Command),
}

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = super::client(global)?;
    match command {
        Command::List { cluster } => {
            let id = find(&client, &cluster).await?;
            let pools = client.get(&format!("/clusters/{id}/nodepools"), &[]).await?;
            let columns: [Column; 5] = [
                ("NAME", |pool| scalar(&pool["nodepool_info"]["name"])),
                ("ID", |pool| scalar(&pool["nodepool_info"]["nodepool_id"])),
                ("STATE", |pool| scalar(&pool["status"]["state"])),
                ("NODES", |pool| scalar(&pool["status"]["total_nodes"])),
                ("DEFAULT", |pool| scalar(&pool["nodepool_info"]["is_default"])),
            ];
            print_list(global.output, &pools, &entries(&pools["nodepools"]), &columns)
        }
        Command::Create { cluster, name, nodes, instance_type, labels } => {
            let id = find(&client, &cluster).await?;
            let labels: Vec<Value> = labels.iter().map(|text| label(text)).collect();
            let detail = client.get(&format!("/clusters/{id}"), &[]).await?;
            let vswitches: Vec<String> = scalar(&detail["vswitch_id"]).split(',').map(str::to_owned).collect();
            let body = json!({
                "nodepool_info": { "name": name },
                "scaling_group": {
                    "instance_types": [instance_type], "vswitch_ids": vswitches, "key_pair": "sampan",
                    "instance_charge_type": "PostPaid", "system_disk_category": "cloud_efficiency", "system_disk_size": 40,
                },
                "kubernetes_config": { "runtime": "containerd", "runtime_version": "", "labels": labels },
                "count": nodes,
            });
            let answer = client.json("POST", &format!("/clusters/{id}/nodepools"), &[], Some(&body)).await?;
            if let Some(task_id) = answer["task_id"].as_str() {
                task::watch(&client, task_id).await?;
            }
            print_object(global.output, &answer, &[("nodepool_id", scalar(&answer["nodepool_id"]))])
        }
        Command::Scale { cluster, pool, add } => {
            let id = find(&client, &cluster).await?;
            let pool_id = find_pool(&client, &id, &pool).await?;
            let path = format!("/clusters/{id}/nodepools/{pool_id}");
            let answer = client.json("POST", &path, &[], Some(&json!({ "count": add }))).await?;
            task::watch(&client, &scalar(&answer["task_id"])).await?;
            print_object(global.output, &answer, &[("task_id", scalar(&answer["task_id"]))])
        }
        Command::Edit(command) => nodepool_edit::run(global, &client, command).await,
    }
}

/// The id of a pool, by its id or name; what is neither is left to the server to refuse.
pub(super) async fn find_pool(client: &Client, cluster_id: &str, pool: &str) -> anyhow::Result<String> {
    let pools = client.get(&format!("/clusters/{cluster_id}/nodepools"), &[]).await?;
    let info = |entry: &Value, name: &str| scalar(&entry["nodepool_info"][name]);
    let pools = entries(&pools["nodepools"]);
    let found = pools.iter().find(|entry| info(entry, "nodepool_id") == pool || info(entry, "name") == pool);
    Ok(found.map_or_else(|| pool.to_owned(), |entry| info(entry, "nodepool_id")))
}

/// `KEY=VALUE` as a label.
pub(super) fn label(text: &str) -> Value {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    json!({ "key": key, "value": value })
}
