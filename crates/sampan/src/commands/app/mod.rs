//! `sampan app`: applications of a Swarm cluster.

mod logs;
mod wait;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    Global,
    master::Master,
    output::{Column, entries, print_list, print_object, scalar},
};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Create an application from a Compose template and wait until it runs
    Deploy(Template),
    /// List applications
    #[command(visible_alias = "ls")]
    List {
        /// Cluster, name or id
        cluster: String,
    },
    /// Show an application, its services and containers
    Show(Target),
    /// Set the number of containers of a service
    Scale {
        /// Cluster, name or id
        cluster: String,
        /// `application_service`
        service: String,
        /// Containers
        count: u32,
    },
    /// Set a service's share of its route's requests
    Weight {
        /// Cluster, name or id
        cluster: String,
        /// `application_service`
        service: String,
        /// 0 to 100
        weight: u32,
    },
    /// Replace the template of an application, at once or beside the old version
    Update {
        #[command(flatten)]
        template: Template,
        /// Run the new version beside the old one until `confirm` or `rollback`
        #[arg(long)]
        blue_green: bool,
    },
    /// End a blue-green release with the new version
    Confirm {
        #[command(flatten)]
        target: Target,
        /// Leave the weights as they are
        #[arg(long)]
        keep_weights: bool,
    },
    /// End a blue-green release with the old version
    Rollback(Target),
    /// Pull the images and make the containers anew
    Redeploy(Target),
    /// Start an application
    Start(Target),
    /// Stop an application
    Stop {
        #[command(flatten)]
        target: Target,
        /// Seconds until containers are killed
        #[arg(long, default_value_t = 10)]
        time: u32,
    },
    /// Remove an application
    Rm {
        #[command(flatten)]
        target: Target,
        /// Kill its containers
        #[arg(long)]
        force: bool,
        /// Remove its volumes too
        #[arg(long)]
        volumes: bool,
    },
    /// Print what an application's containers write
    Logs(logs::Arguments),
}

/// Which application.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// Cluster, name or id
    pub(super) cluster: String,
    /// Application
    pub(super) name: String,
}

/// An application's template and what goes with it.
#[derive(clap::Args)]
pub(crate) struct Template {
    #[command(flatten)]
    target: Target,
    /// The template
    #[arg(short, long, value_name = "FILE", default_value = "docker-compose.yml")]
    file: PathBuf,
    /// A variable of the template, `NAME=value`; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Version
    #[arg(long)]
    version: Option<String>,
    /// What it is
    #[arg(long)]
    description: Option<String>,
    /// Pull the images first
    #[arg(long)]
    latest_image: bool,
    /// Return at once
    #[arg(long = "async")]
    no_wait: bool,
}

impl Template {
    fn body(&self) -> anyhow::Result<Value> {
        let template = std::fs::read_to_string(&self.file)
            .with_context(|| format!("cannot read the template {}", self.file.display()))?;
        let variables =
            self.env.iter().map(|pair| pair.split_once('=').with_context(|| format!("--env {pair} is not NAME=value")));
        let environment = variables.collect::<anyhow::Result<BTreeMap<&str, &str>>>()?;
        let mut body = json!({ "template": template, "environment": environment, "latest_image": self.latest_image });
        if let Some(version) = &self.version {
            body["version"] = json!(version);
        }
        if let Some(description) = &self.description {
            body["description"] = json!(description);
        }
        Ok(body)
    }
}

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = super::client(global)?;
    let master = Master::of(&client, cluster_of(&command)).await?;
    match command {
        Command::Deploy(template) => deploy(&master, &template).await,
        Command::List { .. } => list(global, &master).await,
        Command::Show(target) => show(global, &master, &target.name).await,
        Command::Scale { service, count, .. } => {
            let body = json!({ "type": "scale_to", "value": count });
            master.json("POST", &format!("/services/{service}/scale"), Some(&body)).await?;
            wait::for_service(&master, &service).await
        }
        Command::Weight { service, weight, .. } => {
            let body = json!({ "weight": weight });
            master.json("POST", &format!("/services/{service}/weight"), Some(&body)).await?;
            eprintln!("{service} has the weight {weight}");
            Ok(())
        }
        Command::Update { template, blue_green } => update(&master, &template, blue_green).await,
        Command::Confirm { target, keep_weights } => {
            let path = format!("/projects/{}/confirm-update?force={}", target.name, !keep_weights);
            act(&master, &path, &target.name).await
        }
        Command::Rollback(target) => {
            act(&master, &format!("/projects/{}/rollback-update?force=true", target.name), &target.name).await
        }
        Command::Redeploy(target) => act(&master, &format!("/projects/{}/redeploy", target.name), &target.name).await,
        Command::Start(target) => act(&master, &format!("/projects/{}/start", target.name), &target.name).await,
        Command::Stop { target, time } => {
            act(&master, &format!("/projects/{}/stop?t={time}", target.name), &target.name).await
        }
        Command::Rm { target, force, volumes } => {
            let path = format!("/projects/{}?force={force}&v={volumes}", target.name);
            master.json("DELETE", &path, None).await?;
            wait::until_gone(&master, &target.name).await
        }
        Command::Logs(arguments) => logs::run(&master, &arguments).await,
    }
}

fn cluster_of(command: &Command) -> &str {
    match command {
        Command::Deploy(template) | Command::Update { template, .. } => &template.target.cluster,
        Command::List { cluster } | Command::Scale { cluster, .. } | Command::Weight { cluster, .. } => cluster,
        Command::Show(target)
        | Command::Rollback(target)
        | Command::Redeploy(target)
        | Command::Start(target)
        | Command::Confirm { target, .. }
        | Command::Stop { target, .. }
        | Command::Rm { target, .. } => &target.cluster,
        Command::Logs(arguments) => &arguments.target.cluster,
    }
}

async fn deploy(master: &Master, template: &Template) -> anyhow::Result<()> {
    let mut body = template.body()?;
    body["name"] = json!(template.target.name);
    master.json("POST", "/projects/", Some(&body)).await?;
    if template.no_wait { Ok(()) } else { wait::for_project(master, &template.target.name).await }
}

async fn update(master: &Master, template: &Template, blue_green: bool) -> anyhow::Result<()> {
    let mut body = template.body()?;
    if blue_green {
        body["update_method"] = json!("blue-green");
    }
    let name = &template.target.name;
    master.json("POST", &format!("/projects/{name}/update"), Some(&body)).await?;
    if template.no_wait { Ok(()) } else { wait::for_project(master, name).await }
}

/// A change without a body, and its end.
async fn act(master: &Master, path: &str, name: &str) -> anyhow::Result<()> {
    master.json("POST", path, None).await?;
    wait::for_project(master, name).await
}

async fn list(global: &Global, master: &Master) -> anyhow::Result<()> {
    let projects = master.json("GET", "/projects/?containers=false", None).await?;
    let columns: [Column; 5] = [
        ("NAME", |project| scalar(&project["name"])),
        ("VERSION", |project| scalar(&project["version"])),
        ("STATE", |project| scalar(&project["current_state"])),
        ("SERVICES", |project| entries(&project["services"]).len().to_string()),
        ("UPDATED", |project| scalar(&project["updated"])),
    ];
    print_list(global.output, &projects, &entries(&projects), &columns)
}

async fn show(global: &Global, master: &Master, name: &str) -> anyhow::Result<()> {
    let project = master.json("GET", &format!("/projects/{name}"), None).await?;
    let field = |name: &'static str| (name, scalar(&project[name]));
    let fields = [
        field("name"),
        field("description"),
        field("version"),
        field("desired_state"),
        field("current_state"),
        field("message"),
        field("created"),
        field("updated"),
    ];
    print_object(global.output, &project, &fields)?;
    if global.output != crate::output::Format::Table {
        return Ok(());
    }
    println!();
    let columns: [Column; 6] = [
        ("SERVICE", |service| scalar(&service["id"])),
        ("STATE", |service| scalar(&service["current_state"])),
        ("IMAGE", |service| scalar(&service["definition"]["image"])),
        ("CONTAINERS", |service| service["containers"].as_object().map_or(0, |all| all.len()).to_string()),
        ("WEIGHT", |service| scalar(&service["weight"])),
        ("MESSAGE", |service| scalar(&service["message"])),
    ];
    let services = entries(&project["services"]);
    print_list(global.output, &project["services"], &services, &columns)?;
    println!();
    let containers: Vec<Value> = services
        .iter()
        .filter_map(|service| service["containers"].as_object())
        .flat_map(|containers| containers.values().cloned())
        .collect();
    let columns: [Column; 5] = [
        ("CONTAINER", |container| scalar(&container["name"])),
        ("NODE", |container| scalar(&container["node"])),
        ("IP", |container| scalar(&container["ip"])),
        ("STATUS", |container| scalar(&container["status"])),
        ("HEALTH", |container| scalar(&container["health"])),
    ];
    print_list(global.output, &Value::Null, &containers, &columns)
}
