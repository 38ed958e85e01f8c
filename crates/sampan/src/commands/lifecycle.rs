//! `sampan cluster stop|start|certs|health|backup|backups|restore`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{cluster::find, task};
use crate::{
    Global,
    client::Client,
    output::{Column, entries, print_list, print_object, scalar},
};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Stop a cluster: nothing of it runs, everything stays
    Stop {
        /// Name or id
        cluster: String,
        /// Return at once
        #[arg(long = "async")]
        no_wait: bool,
    },
    /// Start a stopped cluster
    Start {
        /// Name or id
        cluster: String,
        /// Return at once
        #[arg(long = "async")]
        no_wait: bool,
    },
    /// List a cluster's certificates
    Certs {
        /// Name or id
        cluster: String,
    },
    /// Show how a cluster's parts and nodes are, since when, and why
    Health {
        /// Name or id
        cluster: String,
    },
    /// Make a backup of everything that a cluster's API holds
    Backup {
        /// Name or id
        cluster: String,
        /// Copy the backup's file there, too; it stays encrypted with the installation's master key
        #[arg(long, value_name = "DIR|FILE")]
        to: Option<PathBuf>,
    },
    /// List a cluster's backups
    Backups {
        /// Name or id
        cluster: String,
    },
    /// Put a cluster back to a backup
    Restore {
        /// Name or id
        cluster: String,
        /// Id of the backup, or the file of one
        backup: String,
        /// Return at once
        #[arg(long = "async")]
        no_wait: bool,
    },
    /// Remove a backup
    RemoveBackup {
        /// Name or id
        cluster: String,
        /// Id of the backup
        backup: String,
    },
}

pub(crate) async fn run(global: &Global, client: &Client, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Stop { cluster, no_wait } => change(global, client, &cluster, "stop", no_wait).await,
        Command::Start { cluster, no_wait } => change(global, client, &cluster, "start", no_wait).await,
        Command::Certs { cluster } => certs(global, client, &cluster).await,
        Command::Health { cluster } => health(global, client, &cluster).await,
        Command::Backup { cluster, to } => backup(global, client, &cluster, to.as_deref()).await,
        Command::Backups { cluster } => backups(global, client, &cluster).await,
        Command::Restore { cluster, backup, no_wait } => restore(global, client, &cluster, &backup, no_wait).await,
        Command::RemoveBackup { cluster, backup } => {
            let id = find(client, &cluster).await?;
            client.json("DELETE", &format!("/sampan/clusters/{id}/backups/{backup}"), &[], None).await.map(drop)
        }
    }
}

async fn change(global: &Global, client: &Client, cluster: &str, verb: &str, no_wait: bool) -> anyhow::Result<()> {
    let id = find(client, cluster).await?;
    let answer = client.json("POST", &format!("/sampan/clusters/{id}/{verb}"), &[], None).await?;
    follow(global, client, &answer, no_wait).await
}

async fn follow(global: &Global, client: &Client, answer: &Value, no_wait: bool) -> anyhow::Result<()> {
    let task_id = scalar(&answer["task_id"]);
    if !no_wait {
        task::watch(client, &task_id).await?;
    }
    let fields = [("cluster_id", scalar(&answer["cluster_id"])), ("task_id", task_id)];
    print_object(global.output, answer, &fields)
}

async fn certs(global: &Global, client: &Client, cluster: &str) -> anyhow::Result<()> {
    let id = find(client, cluster).await?;
    let answer = client.get(&format!("/sampan/clusters/{id}/certificates"), &[]).await?;
    let columns: [Column; 7] = [
        ("NAME", |it| scalar(&it["name"])),
        ("INSTANCE", |it| scalar(&it["instance_id"])),
        ("SUBJECT", |it| scalar(&it["subject"])),
        ("ISSUER", |it| scalar(&it["issuer"])),
        ("NOT AFTER", |it| scalar(&it["not_after"])),
        ("RENEWED AT", |it| scalar(&it["renewed_at"])),
        ("CONSUMER", |it| scalar(&it["consumer"])),
    ];
    print_list(global.output, &answer, &entries(&answer["certificates"]), &columns)
}

async fn health(global: &Global, client: &Client, cluster: &str) -> anyhow::Result<()> {
    let id = find(client, cluster).await?;
    let answer = client.get(&format!("/sampan/clusters/{id}/health"), &[]).await?;
    let row = |part: String, health: &Value, since: &Value, words: String| serde_json::json!({ "part": part, "health": health, "since": since, "words": words });
    let mut rows = vec![row("cluster".into(), &answer["health"], &Value::Null, scalar(&answer["state_reason"]))];
    for it in entries(&answer["components"]) {
        rows.push(row(scalar(&it["component"]), &it["health"], &it["since"], scalar(&it["message"])));
    }
    for it in entries(&answer["etcd_members"]) {
        let problems: Vec<String> = entries(&it["problems"]).iter().map(scalar).collect();
        let size = it["db_size"].as_i64().unwrap_or_default() >> 10;
        let role = if it["leader"] == true { "leads" } else { "follows" };
        let words = format!("{role}, {size} KiB, {} {}", scalar(&it["version"]), problems.join("; "));
        rows.push(row(format!("etcd member {}", scalar(&it["name"])), &Value::Null, &Value::Null, words));
    }
    for it in entries(&answer["nodes"]) {
        rows.push(row(format!("node {}", scalar(&it["node_name"])), &it["health"], &Value::Null, String::new()));
        for condition in entries(&it["conditions"]) {
            let words = [scalar(&condition["reason"]), scalar(&condition["message"])].join(": ");
            let part = format!("  {}", scalar(&condition["type"]));
            rows.push(row(part, &condition["status"], &condition["since"], words));
        }
    }
    let columns: [Column; 4] = [
        ("PART", |it| scalar(&it["part"])),
        ("HEALTH", |it| scalar(&it["health"])),
        ("SINCE", |it| scalar(&it["since"])),
        ("IN WORDS", |it| scalar(&it["words"])),
    ];
    print_list(global.output, &answer, &rows, &columns)
}

async fn backup(global: &Global, client: &Client, cluster: &str, to: Option<&Path>) -> anyhow::Result<()> {
    let id = find(client, cluster).await?;
    let answer = client.json("POST", &format!("/sampan/clusters/{id}/backups"), &[], None).await?;
    task::watch(client, &scalar(&answer["task_id"])).await?;
    let backup_id = scalar(&answer["backup_id"]);
    let all = client.get(&format!("/sampan/clusters/{id}/backups"), &[]).await?;
    let made = entries(&all).into_iter().find(|it| scalar(&it["backup_id"]) == backup_id);
    let made = made.with_context(|| format!("backup {backup_id} is not listed"))?;
    let mut file = scalar(&made["file"]);
    if let Some(to) = to {
        let from = PathBuf::from(&file);
        let to = if to.is_dir() { to.join(from.file_name().unwrap_or_default()) } else { to.to_owned() };
        copy_private(&from, &to)?;
        file = to.display().to_string();
    }
    let field = |name: &'static str| (name, scalar(&made[name]));
    let fields = [field("backup_id"), field("revision"), field("size"), field("sha256"), ("file", file)];
    print_object(global.output, &made, &fields)
}

/// Copies a file for nobody else to read.
fn copy_private(from: &Path, to: &Path) -> anyhow::Result<()> {
    let content = std::fs::read(from).with_context(|| {
        format!("cannot read {}: the file is on the server's host, and only its owner may read it", from.display())
    })?;
    crate::data_dir::write_private(to, &content)
}

async fn backups(global: &Global, client: &Client, cluster: &str) -> anyhow::Result<()> {
    let id = find(client, cluster).await?;
    let answer = client.get(&format!("/sampan/clusters/{id}/backups"), &[]).await?;
    let columns: [Column; 6] = [
        ("ID", |it| scalar(&it["backup_id"])),
        ("KIND", |it| scalar(&it["kind"])),
        ("CREATED", |it| scalar(&it["created"])),
        ("VERSION", |it| scalar(&it["kubernetes_version"])),
        ("REVISION", |it| scalar(&it["revision"])),
        ("BYTES", |it| scalar(&it["size"])),
    ];
    print_list(global.output, &answer, &entries(&answer), &columns)
}

async fn restore(global: &Global, client: &Client, cluster: &str, backup: &str, no_wait: bool) -> anyhow::Result<()> {
    let id = find(client, cluster).await?;
    let path = Path::new(backup);
    let backup_id = if path.is_file() { bring(global, &id, path)? } else { backup.to_owned() };
    let path = format!("/sampan/clusters/{id}/backups/{backup_id}/restore");
    let answer = client.json("POST", &path, &[], None).await?;
    follow(global, client, &answer, no_wait).await
}

/// Puts the file of a backup where the server looks for backups; answers its id.
fn bring(global: &Global, cluster_id: &str, file: &Path) -> anyhow::Result<String> {
    let id = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        bail!("the name of {} must consist of letters, digits and hyphens before its ending", file.display());
    }
    let dir = crate::data_dir::DataDir::open(&super::data_dir(global)?)?.backups().join(cluster_id);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let to = dir.join(format!("{id}.backup"));
    if !to.exists() {
        copy_private(file, &to)?;
    }
    Ok(id)
}
