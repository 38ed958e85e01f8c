//! `sampan cluster`: friendly commands for clusters.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{kubeconfig, lifecycle, task, upgrade};
use crate::{
    Global,
    client::{Client, Refused},
    output::{Column, Format, entries, print_list, print_object, scalar},
};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Create a managed Kubernetes cluster, or a Swarm cluster, and wait until it runs
    Create(Box<Create>),
    /// List clusters
    #[command(visible_alias = "ls")]
    List,
    /// Show one cluster
    Show {
        /// Name or id
        cluster: String,
    },
    /// List a cluster's nodes
    Nodes {
        /// Name or id
        cluster: String,
    },
    /// Print a kubeconfig, write it to a file, or merge it into one
    Kubeconfig(kubeconfig::Arguments),
    /// Set the number of nodes of the default pool's cluster to a larger total
    Scale {
        /// Name or id
        cluster: String,
        /// The new total
        #[arg(long)]
        nodes: u32,
        /// Return at once
        #[arg(long = "async")]
        no_wait: bool,
    },
    /// Give a standard managed cluster a highly available control plane
    Migrate {
        /// Name or id
        cluster: String,
        /// Return at once
        #[arg(long = "async")]
        no_wait: bool,
    },
    /// Remove nodes
    RemoveNode {
        /// Name or id
        cluster: String,
        /// Node names or instance ids
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Keep the machine in the inventory instead of destroying it
        #[arg(long)]
        keep: bool,
        /// Do not move its pods away first
        #[arg(long)]
        no_drain: bool,
    },
    /// Upgrade a cluster to another version of Kubernetes
    Upgrade(upgrade::Arguments),
    /// Say how the upgrade of a cluster stands
    UpgradeStatus {
        /// Name or id
        cluster: String,
    },
    /// Pause the upgrade of a cluster between two nodes
    Pause {
        /// Name or id
        cluster: String,
    },
    /// Let a paused or failed upgrade go on
    Resume {
        /// Name or id
        cluster: String,
    },
    /// Cancel the upgrade of a cluster; what is upgraded stays so
    Cancel {
        /// Name or id
        cluster: String,
    },
    /// Show a cluster's log
    Logs {
        /// Name or id
        cluster: String,
    },
    #[command(flatten)]
    Lifecycle(lifecycle::Command),
    /// Delete a cluster
    Delete {
        /// Name or id
        cluster: String,
        /// Keep its machines, VPC and load balancer
        #[arg(long)]
        retain_all: bool,
        /// Return at once
        #[arg(long = "async")]
        no_wait: bool,
    },
}

#[derive(clap::Args)]
pub(crate) struct Create {
    /// Name
    name: String,
    /// A Swarm cluster: Docker engines behind one endpoint
    #[arg(long, conflicts_with_all = ["version", "pod_cidr", "service_cidr"])]
    swarm: bool,
    /// A dedicated cluster with so many masters (3 or 5), which are nodes of it
    #[arg(long, conflicts_with = "swarm")]
    masters: Option<u32>,
    /// A managed cluster with a highly available control plane
    #[arg(long, conflicts_with_all = ["swarm", "masters"])]
    pro: bool,
    /// Overlay of a Swarm cluster's containers
    #[arg(long, requires = "swarm")]
    subnet: Option<String>,
    /// Worker nodes
    #[arg(long, default_value_t = 2)]
    nodes: u32,
    /// Kubernetes version; the newest without it
    #[arg(long)]
    version: Option<String>,
    /// Instance type of the workers
    #[arg(long, default_value = "ecs.g6.large")]
    instance_type: String,
    /// Pod network
    #[arg(long)]
    pod_cidr: Option<String>,
    /// Service network
    #[arg(long)]
    service_cidr: Option<String>,
    /// VPC to use or make; a new one without it
    #[arg(long)]
    vpc: Option<String>,
    /// A JSON file with further fields of CreateCluster; options go before it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print the request instead of sending it
    #[arg(long)]
    dry_run: bool,
    /// Return at once
    #[arg(long = "async")]
    no_wait: bool,
}

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = super::client(global)?;
    match command {
        Command::Create(arguments) => create(global, &client, *arguments).await,
        Command::List => list(global, &client).await,
        Command::Show { cluster } => show(global, &client, &cluster).await,
        Command::Nodes { cluster } => nodes(global, &client, &cluster).await,
        Command::Kubeconfig(arguments) => {
            let id = find(&client, &arguments.cluster).await?;
            kubeconfig::run(&client, &id, &arguments).await
        }
        Command::Migrate { cluster, no_wait } => {
            let id = find(&client, &cluster).await?;
            let answer = client.json("POST", &format!("/clusters/{id}/migrate"), &[], None).await?;
            follow(global, &client, &answer, no_wait).await
        }
        Command::Scale { cluster, nodes, no_wait } => {
            let id = find(&client, &cluster).await?;
            // The two kinds of clusters have different names for it.
            let body = json!({ "num_of_nodes": nodes, "size": nodes });
            let answer = client.json("PUT", &format!("/clusters/{id}"), &[], Some(&body)).await?;
            follow(global, &client, &answer, no_wait).await
        }
        Command::RemoveNode { cluster, nodes, keep, no_drain } => {
            let id = find(&client, &cluster).await?;
            let body = json!({ "nodes": nodes, "release_node": !keep, "drain_node": !no_drain });
            let answer = client.json("POST", &format!("/clusters/{id}/nodes"), &[], Some(&body)).await?;
            follow(global, &client, &answer, false).await
        }
        Command::Lifecycle(command) => lifecycle::run(global, &client, command).await,
        Command::Upgrade(arguments) => upgrade::begin(global, &client, arguments).await,
        Command::UpgradeStatus { cluster } => upgrade::status(global, &client, &cluster).await,
        Command::Pause { cluster } => upgrade::control(global, &client, &cluster, upgrade::Control::Pause).await,
        Command::Resume { cluster } => upgrade::control(global, &client, &cluster, upgrade::Control::Resume).await,
        Command::Cancel { cluster } => upgrade::control(global, &client, &cluster, upgrade::Control::Cancel).await,
        Command::Logs { cluster } => logs(global, &client, &cluster).await,
        Command::Delete { cluster, retain_all, no_wait } => {
            delete(global, &client, &cluster, retain_all, no_wait).await
        }
    }
}

/// The id of the cluster with this name or id.
pub(crate) async fn find(client: &Client, name_or_id: &str) -> anyhow::Result<String> {
    let clusters = client.get("/clusters", &[]).await?;
    let clusters = entries(&clusters);
    let by = |field: &str| clusters.iter().find(|cluster| cluster[field] == name_or_id);
    let found = by("cluster_id").or_else(|| by("name"));
    match found {
        Some(cluster) => Ok(scalar(&cluster["cluster_id"])),
        None => bail!("there is no cluster {name_or_id}; `sampan cluster list` shows those that exist"),
    }
}

async fn follow(global: &Global, client: &Client, answer: &Value, no_wait: bool) -> anyhow::Result<()> {
    let task_id = scalar(&answer["task_id"]);
    if !no_wait && !task_id.is_empty() {
        task::watch(client, &task_id).await?;
    }
    let fields = [("cluster_id", scalar(&answer["cluster_id"])), ("task_id", task_id)];
    print_object(global.output, answer, &fields)
}

fn request(client: &Client, arguments: &Create) -> anyhow::Result<Value> {
    let mut body = match &arguments.file {
        Some(path) => {
            let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))?
        }
        None => json!({}),
    };
    let fields = body.as_object_mut().context("the file does not hold a JSON object")?;
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    set("name", json!(arguments.name));
    if arguments.swarm {
        set("size", json!(arguments.nodes));
        set("instance_type", json!(arguments.instance_type));
        set("network_mode", json!("vpc"));
        let optional = [("subnet_cidr", &arguments.subnet), ("vpc_id", &arguments.vpc)];
        for (name, value) in optional.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            set(name, json!(value));
        }
        if let Some(vpc) = &arguments.vpc {
            set("vswitch_id", json!(format!("vsw-{vpc}-1")));
        }
        // Machines run no SSH server: nobody has to remember it.
        fields.entry("password").or_insert_with(|| json!(format!("A1a-{}", sampan_store::model::new_token(10))));
        fields.entry("region_id").or_insert_with(|| json!(client.region_id()));
        return Ok(body);
    }
    set("cluster_type", json!(if arguments.masters.is_some() { "Kubernetes" } else { "ManagedKubernetes" }));
    if let Some(masters) = arguments.masters {
        set("master_count", json!(masters));
    }
    if arguments.pro {
        set("cluster_spec", json!("ack.pro.small"));
    }
    set("num_of_nodes", json!(arguments.nodes));
    set("worker_instance_types", json!([arguments.instance_type]));
    let optional = [
        ("kubernetes_version", &arguments.version),
        ("container_cidr", &arguments.pod_cidr),
        ("service_cidr", &arguments.service_cidr),
        ("vpcid", &arguments.vpc),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            fields.insert(name.to_owned(), json!(value));
        }
    }
    if let Some(vpc) = &arguments.vpc {
        fields.entry("vswitch_ids").or_insert_with(|| json!([format!("vsw-{vpc}-1")]));
    }
    let mut default = |name: &str, value: Value| {
        fields.entry(name).or_insert(value);
    };
    default("region_id", json!(client.region_id()));
    default("snat_entry", json!(true));
    default("worker_system_disk_category", json!("cloud_efficiency"));
    default("worker_system_disk_size", json!(40));
    default("key_pair", json!("sampan"));
    Ok(body)
}

async fn create(global: &Global, client: &Client, arguments: Create) -> anyhow::Result<()> {
    let body = request(client, &arguments)?;
    if arguments.dry_run {
        let format = if global.output == Format::Table { Format::Json } else { global.output };
        return crate::output::print_value(format, &body);
    }
    let answer = client.json("POST", "/clusters", &[], Some(&body)).await?;
    follow(global, client, &answer, arguments.no_wait).await?;
    if !arguments.no_wait && !arguments.swarm {
        eprintln!("next: sampan cluster kubeconfig {} --merge", arguments.name);
    }
    Ok(())
}

async fn list(global: &Global, client: &Client) -> anyhow::Result<()> {
    let clusters = client.get("/clusters", &[]).await?;
    let columns: [Column; 6] = [
        ("NAME", |cluster| scalar(&cluster["name"])),
        ("ID", |cluster| scalar(&cluster["cluster_id"])),
        ("STATE", |cluster| scalar(&cluster["state"])),
        ("NODES", |cluster| scalar(&cluster["size"])),
        ("VERSION", |cluster| scalar(&cluster["current_version"])),
        ("CREATED", |cluster| scalar(&cluster["created"])),
    ];
    print_list(global.output, &clusters, &entries(&clusters), &columns)
}

async fn show(global: &Global, client: &Client, name: &str) -> anyhow::Result<()> {
    let id = find(client, name).await?;
    let cluster = client.get(&format!("/clusters/{id}"), &[]).await?;
    // A JSON text of a Kubernetes cluster, a plain address of a Swarm cluster.
    let master = cluster["master_url"].as_str().unwrap_or_default();
    let endpoints: Value = serde_json::from_str(master).unwrap_or_else(|_| json!({ "api_server_endpoint": master }));
    let field = |name: &'static str| (name, scalar(&cluster[name]));
    let fields = [
        field("name"),
        field("cluster_id"),
        field("state"),
        field("cluster_type"),
        field("cluster_spec"),
        field("current_version"),
        field("region_id"),
        field("vpc_id"),
        field("vswitch_id"),
        field("subnet_cidr"),
        field("size"),
        ("public endpoint", scalar(&endpoints["api_server_endpoint"])),
        ("internal endpoint", scalar(&endpoints["intranet_api_server_endpoint"])),
        ("applications", scalar(&cluster["routing_url"])),
        field("deletion_protection"),
        field("created"),
        field("updated"),
    ];
    print_object(global.output, &cluster, &fields)
}

async fn nodes(global: &Global, client: &Client, name: &str) -> anyhow::Result<()> {
    let id = find(client, name).await?;
    let nodes = client.get(&format!("/clusters/{id}/nodes"), &[("pageSize", "100")]).await?;
    let columns: [Column; 6] = [
        ("NODE", |node| scalar(&node["node_name"])),
        ("INSTANCE", |node| scalar(&node["instance_id"])),
        ("STATUS", |node| scalar(&node["node_status"])),
        ("STATE", |node| scalar(&node["state"])),
        ("TYPE", |node| scalar(&node["instance_type"])),
        ("POOL", |node| scalar(&node["nodepool_id"])),
    ];
    print_list(global.output, &nodes, &entries(&nodes["nodes"]), &columns)
}

async fn logs(global: &Global, client: &Client, name: &str) -> anyhow::Result<()> {
    // A deleted or failed cluster's log stays: an id is taken as it is when no cluster has it.
    let id = find(client, name).await.unwrap_or_else(|_| name.to_owned());
    let logs = client.get(&format!("/clusters/{id}/logs"), &[]).await?;
    let columns: [Column; 2] =
        [("TIME", |line| scalar(&line["created"])), ("TEXT", |line| scalar(&line["cluster_log"]))];
    print_list(global.output, &logs, &entries(&logs), &columns)
}

async fn delete(global: &Global, client: &Client, name: &str, retain_all: bool, no_wait: bool) -> anyhow::Result<()> {
    let id = find(client, name).await?;
    let query: &[(&str, &str)] = if retain_all { &[("retain_all_resources", "true")] } else { &[] };
    match client.json("DELETE", &format!("/clusters/{id}"), query, None).await {
        Ok(answer) => follow(global, client, &answer, no_wait).await,
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) if refused.status == 404 => Ok(()),
            _ => Err(error),
        },
    }
}
