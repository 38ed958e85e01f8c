//! `sampan cluster kubeconfig`: prints, writes, or merges. In a merged file our entries are named after the cluster's id, so
//! that they renew themselves and never touch anything else.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_yaml_ng::{Mapping, Value};

use crate::{client::Client, data_dir::write_private};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Name or id
    pub(super) cluster: String,
    /// Merge into the file of --file, KUBECONFIG or ~/.kube/config, and make it the current context
    #[arg(long)]
    merge: bool,
    /// Where to write or merge
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The endpoint inside the VPC
    #[arg(long)]
    internal: bool,
    /// Validity in minutes, 15 to 4320
    #[arg(long)]
    minutes: Option<u32>,
}

pub(super) async fn run(client: &Client, cluster_id: &str, arguments: &Arguments) -> anyhow::Result<()> {
    let minutes = arguments.minutes.map(|minutes| minutes.to_string());
    let mut query = vec![("PrivateIpAddress", if arguments.internal { "true" } else { "false" })];
    if let Some(minutes) = &minutes {
        query.push(("TemporaryDurationMinutes", minutes));
    }
    let answer = client.get(&format!("/k8s/{cluster_id}/user_config"), &query).await?;
    let text = answer["config"].as_str().context("the answer holds no kubeconfig")?;
    if arguments.merge {
        let path = target(arguments)?;
        let existing = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let context = format!("sampan-{cluster_id}");
        let merged =
            merge(&existing, text, &context).with_context(|| format!("cannot merge into {}", path.display()))?;
        write(&path, &merged)?;
        eprintln!("{}: context {context} is current", path.display());
        return Ok(());
    }
    match &arguments.file {
        Some(path) => write(path, text),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

fn target(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    if let Some(path) = &arguments.file {
        return Ok(path.clone());
    }
    if let Some(list) = std::env::var_os("KUBECONFIG")
        && let Some(first) = std::env::split_paths(&list).next()
    {
        return Ok(first);
    }
    let home = std::env::var_os("HOME").context("HOME is not set: name a file with --file")?;
    Ok(PathBuf::from(home).join(".kube/config"))
}

/// Writes a kubeconfig, and makes its directory first.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    write_private(path, text.as_bytes())
}

/// The file's text with the new kubeconfig's only cluster, user and context in it, all named `name`, and current.
fn merge(existing: &str, new: &str, name: &str) -> anyhow::Result<String> {
    let new: Mapping = serde_yaml_ng::from_str(new).context("the new kubeconfig")?;
    let mut merged: Mapping = match serde_yaml_ng::from_str::<Option<Mapping>>(existing).context("the existing file")? {
        Some(mapping) => mapping,
        None => Mapping::new(),
    };
    for (key, value) in [("apiVersion", "v1"), ("kind", "Config")] {
        merged.entry(key.into()).or_insert_with(|| value.into());
    }
    for (list, field) in [("clusters", "cluster"), ("users", "user"), ("contexts", "context")] {
        let content = match field {
            "context" => Value::Mapping(
                [("cluster", name), ("user", name)].map(|(k, v)| (k.into(), v.into())).into_iter().collect(),
            ),
            _ => new
                .get(list)
                .and_then(|list| list.get(0)?.get(field))
                .cloned()
                .with_context(|| format!("no {field}"))?,
        };
        let mut entry = Mapping::new();
        entry.insert("name".into(), name.into());
        entry.insert(field.into(), content);
        put(&mut merged, list, Value::Mapping(entry))?;
    }
    merged.insert("current-context".into(), name.into());
    Ok(serde_yaml_ng::to_string(&merged)?)
}

/// Puts an entry into a list, in the place of the one with the same name.
fn put(config: &mut Mapping, list: &str, entry: Value) -> anyhow::Result<()> {
    let entries = config.entry(list.into()).or_insert(Value::Null);
    if entries.is_null() {
        *entries = Value::Sequence(Vec::new());
    }
    let entries = entries.as_sequence_mut().with_context(|| format!("{list} is not a list"))?;
    match entries.iter_mut().find(|other| other.get("name") == entry.get("name")) {
        Some(old) => *old = entry,
        None => entries.push(entry),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, address: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: {name}\n  cluster:\n    server: {address}\n\
             users:\n- name: {name}\n  user: {{}}\ncontexts:\n- name: {name}\n  context:\n    cluster: {name}\n\
             current-context: {name}\n"
        )
    }

    fn parsed(text: &str) -> Value {
        serde_yaml_ng::from_str(text).unwrap()
    }

    #[test]
    fn others_stay_and_the_new_one_is_current() {
        // Even another's entry of the name that the new kubeconfig uses itself.
        let merged = parsed(
            &merge(&config("kubernetes", "https://a"), &config("kubernetes", "https://b"), "sampan-c1").unwrap(),
        );
        assert_eq!(merged["clusters"].as_sequence().unwrap().len(), 2);
        assert_eq!(merged["clusters"][0]["cluster"]["server"], "https://a");
        assert_eq!(merged["clusters"][1]["cluster"]["server"], "https://b");
        assert_eq!(merged["contexts"][1]["context"]["user"], "sampan-c1");
        assert_eq!(merged["current-context"], "sampan-c1");
    }

    #[test]
    fn the_same_cluster_is_renewed() {
        let once = merge("", &config("kubernetes", "https://old"), "sampan-c1").unwrap();
        let twice = parsed(&merge(&once, &config("kubernetes", "https://new"), "sampan-c1").unwrap());
        assert_eq!(twice["clusters"].as_sequence().unwrap().len(), 1);
        assert_eq!(twice["clusters"][0]["cluster"]["server"], "https://new");
    }

    #[test]
    fn null_lists_are_lists_and_anything_else_is_refused() {
        assert!(merge("clusters: null\n", &config("a", "https://b"), "x").is_ok());
        assert!(merge("clusters: 3\n", &config("a", "https://b"), "x").is_err());
        assert!(merge("", "kind: Config\n", "x").is_err());
    }
}
