//! `sampan nodepool update|repair|delete`.

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{
    cluster::find,
    nodepool::{find_pool, label},
    task,
};
use crate::{
    Global,
    client::Client,
    output::{print_object, scalar},
};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Change a node pool; what is not given stays
    Update(Box<Update>),
    /// Repair nodes that are not in service: restart them, replace them if that does not help
    Repair {
        /// Name or id of the cluster
        cluster: String,
        /// Name or id of the pool
        pool: String,
        /// Name of a node, or id of its instance; none: all of the pool
        #[arg(long = "node", value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Delete a node pool and its nodes, which are drained before
    #[command(visible_alias = "rm")]
    Delete {
        /// Name or id of the cluster
        cluster: String,
        /// Name or id of the pool
        pool: String,
        /// Do not drain, and break off what goes on in the pool
        #[arg(long)]
        force: bool,
    },
}

#[derive(clap::Args)]
pub(crate) struct Update {
    /// Name or id of the cluster
    cluster: String,
    /// Name or id of the pool
    pool: String,
    /// Another name
    #[arg(long)]
    name: Option<String>,
    /// Labels, KEY=VALUE; they take the place of all that the pool has
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// The pool shall have no labels
    #[arg(long, conflicts_with = "labels")]
    no_labels: bool,
    /// Taints, KEY=VALUE:EFFECT; they take the place of all that the pool has
    #[arg(long = "taint", value_name = "KEY=VALUE:EFFECT")]
    taints: Vec<String>,
    /// The pool shall have no taints
    #[arg(long, conflicts_with = "taints")]
    no_taints: bool,
    /// Nodes that are there get labels and taints, too
    #[arg(long)]
    update_nodes: bool,
    /// Nodes in total
    #[arg(long)]
    nodes: Option<u32>,
    /// Instance type of new nodes
    #[arg(long)]
    instance_type: Option<String>,
    /// Whether nodes that are not Ready are repaired by themselves
    #[arg(long)]
    auto_repair: Option<bool>,
    /// Fewest and most nodes of a pool that scales by itself, MIN..MAX; off: it does not
    #[arg(long, value_name = "MIN..MAX|off")]
    auto_scaling: Option<String>,
}

pub(crate) async fn run(global: &Global, client: &Client, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Update(update) => {
            let id = find(client, &update.cluster).await?;
            let path = format!("/clusters/{id}/nodepools/{}", find_pool(client, &id, &update.pool).await?);
            let answer = client.json("PUT", &path, &[], Some(&body(&update)?)).await?;
            finish(global, client, &answer).await
        }
        Command::Repair { cluster, pool, nodes } => {
            let id = find(client, &cluster).await?;
            let path = format!("/clusters/{id}/nodepools/{}/repair", find_pool(client, &id, &pool).await?);
            let answer = client.json("POST", &path, &[], Some(&json!({ "nodes": nodes }))).await?;
            finish(global, client, &answer).await
        }
        Command::Delete { cluster, pool, force } => {
            let id = find(client, &cluster).await?;
            let path = format!("/clusters/{id}/nodepools/{}", find_pool(client, &id, &pool).await?);
            let query: &[(&str, &str)] = if force { &[("force", "true")] } else { &[] };
            let answer = client.json("DELETE", &path, query, None).await?;
            finish(global, client, &answer).await
        }
    }
}

async fn finish(global: &Global, client: &Client, answer: &Value) -> anyhow::Result<()> {
    task::watch(client, &scalar(&answer["task_id"])).await?;
    print_object(global.output, answer, &[("task_id", scalar(&answer["task_id"]))])
}

/// The request's body: only what was given.
fn body(update: &Update) -> anyhow::Result<Value> {
    let (mut info, mut config, mut group, mut body) = (Map::new(), Map::new(), Map::new(), Map::new());
    if let Some(name) = &update.name {
        info.insert("name".into(), json!(name));
    }
    if update.no_labels || !update.labels.is_empty() {
        config.insert("labels".into(), update.labels.iter().map(|text| label(text)).collect());
    }
    if update.no_taints || !update.taints.is_empty() {
        let taints: anyhow::Result<Vec<Value>> = update.taints.iter().map(|text| taint(text)).collect();
        config.insert("taints".into(), json!(taints?));
    }
    if let Some(nodes) = update.nodes {
        group.insert("desired_size".into(), json!(nodes));
    }
    if let Some(instance_type) = &update.instance_type {
        group.insert("instance_types".into(), json!([instance_type]));
    }
    if let Some(auto_repair) = update.auto_repair {
        body.insert("management".into(), json!({ "auto_repair": auto_repair }));
    }
    if let Some(scaling) = &update.auto_scaling {
        body.insert("auto_scaling".into(), auto_scaling(scaling)?);
    }
    for (name, part) in [("nodepool_info", info), ("kubernetes_config", config), ("scaling_group", group)] {
        if !part.is_empty() {
            body.insert(name.into(), Value::Object(part));
        }
    }
    if update.update_nodes {
        body.insert("update_nodes".into(), json!(true));
    }
    anyhow::ensure!(!body.is_empty(), "nothing is to be changed; say what, for example with --label env=prod");
    Ok(Value::Object(body))
}

fn taint(text: &str) -> anyhow::Result<Value> {
    let (key, effect) = text.rsplit_once(':').with_context(|| format!("{text:?} is not KEY=VALUE:EFFECT"))?;
    let (key, value) = key.split_once('=').unwrap_or((key, ""));
    Ok(json!({ "key": key, "value": value, "effect": effect }))
}

fn auto_scaling(text: &str) -> anyhow::Result<Value> {
    if text == "off" {
        return Ok(json!({ "enable": false }));
    }
    let bounds =
        text.split_once("..").and_then(|(min, max)| Some((min.parse::<u32>().ok()?, max.parse::<u32>().ok()?)));
    let (min, max) = bounds.with_context(|| format!("{text:?} is neither MIN..MAX, for example 1..4, nor off"))?;
    Ok(json!({ "enable": true, "min_instances": min, "max_instances": max, "type": "cpu" }))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    fn body_of(arguments: &[&str]) -> anyhow::Result<Value> {
        let line = Line::try_parse_from(["nodepool", "update", "c", "p"].iter().chain(arguments)).unwrap();
        match line.command {
            Command::Update(update) => body(&update),
            _ => unreachable!(),
        }
    }

    #[test]
    fn only_what_is_given_is_sent() {
        let sent = body_of(&["--label", "env=prod", "--taint", "k=v:NoSchedule", "--update-nodes"]).unwrap();
        assert_eq!(
            sent,
            json!({
                "kubernetes_config": {
                    "labels": [{"key": "env", "value": "prod"}],
                    "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}],
                },
                "update_nodes": true,
            })
        );
        assert_eq!(body_of(&["--no-labels"]).unwrap(), json!({"kubernetes_config": {"labels": []}}));
        let scaling = json!({"enable": true, "min_instances": 1, "max_instances": 4, "type": "cpu"});
        assert_eq!(body_of(&["--auto-scaling", "1..4"]).unwrap(), json!({"auto_scaling": scaling}));
        assert_eq!(body_of(&["--auto-scaling", "off"]).unwrap(), json!({"auto_scaling": {"enable": false}}));
        assert_eq!(body_of(&["--auto-repair", "false"]).unwrap(), json!({"management": {"auto_repair": false}}));
        assert_eq!(body_of(&["--nodes", "3"]).unwrap(), json!({"scaling_group": {"desired_size": 3}}));
    }

    #[test]
    fn what_cannot_be_meant() {
        for arguments in [&[][..], &["--taint", "k"], &["--auto-scaling", "many"]] {
            assert!(body_of(arguments).is_err(), "{arguments:?}");
        }
    }
}
