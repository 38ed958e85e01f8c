//! One file per command.

pub(crate) mod app;
pub(crate) mod balancer;
pub(crate) mod cluster;
pub(crate) mod cs;
pub(crate) mod docker_env;
pub(crate) mod doctor;
pub(crate) mod env;
pub(crate) mod host;
pub(crate) mod image;
mod kubeconfig;
mod lifecycle;
pub(crate) mod machine;
pub(crate) mod node;
pub(crate) mod nodepool;
mod nodepool_edit;
pub(crate) mod purge;
pub(crate) mod swarm;
pub(crate) mod task;
pub(crate) mod trigger;
pub(crate) mod upgrade;

use std::path::PathBuf;

use anyhow::Context as _;

use crate::{
    Global,
    client::Client,
    data_dir::{Access, DataDir},
};

/// `--data-dir`, else `$XDG_DATA_HOME/sampan`, else `~/.local/share/sampan`.
pub(crate) fn data_dir(global: &Global) -> anyhow::Result<PathBuf> {
    if let Some(dir) = &global.data_dir {
        return Ok(dir.clone());
    }
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let base = base.or_else(home).context("neither --data-dir, XDG_DATA_HOME nor HOME is set")?;
    Ok(base.join("sampan"))
}

/// A client: of the environment that `sampan env` prints when it is set, else of the data directory.
pub(crate) fn client(global: &Global) -> anyhow::Result<Client> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let names = ["SAMPAN_ENDPOINT", "ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"];
    if global.data_dir.is_none()
        && let [Some(endpoint), Some(access_key_id), Some(access_key_secret)] = names.map(variable)
    {
        let region_id = variable("ALIBABA_CLOUD_REGION_ID").unwrap_or_else(|| "cn-hangzhou".into());
        let protocol = variable("SAMPAN_PROTOCOL").unwrap_or_else(|| "http".into());
        let ca = variable("SAMPAN_CA").map(PathBuf::from);
        return Client::new(Access { endpoint, protocol, access_key_id, access_key_secret, region_id }, ca.as_deref());
    }
    let dir = DataDir::open(&data_dir(global)?)?;
    Client::new(dir.read_access()?, Some(&dir.tls().join("ca.pem")))
}
