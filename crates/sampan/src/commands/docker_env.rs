//! `sampan docker-env`: points Docker's own clients at a Swarm cluster.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::{
    Global,
    master::{self, Certificates},
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Cluster, name or id
    cluster: String,
    /// Where the certificates are written; ~/.docker/sampan/CLUSTER without it
    #[arg(long, value_name = "DIR")]
    cert_path: Option<PathBuf>,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<()> {
    let client = super::client(global)?;
    let id = super::cluster::find(&client, &arguments.cluster).await?;
    let url = master::url(&client, &id).await?;
    let dir = match arguments.cert_path {
        Some(dir) => std::path::absolute(&dir).with_context(|| format!("{}", dir.display()))?,
        None => {
            let home = std::env::var_os("HOME").context("HOME is not set: name a directory with --cert-path")?;
            PathBuf::from(home).join(".docker/sampan").join(&id)
        }
    };
    Certificates::of(&client, &id).await?.write(&dir)?;
    let dir = dir.to_str().context("the directory's name is not UTF-8")?;
    let quoted = dir.replace('\'', r"'\''");
    println!("export DOCKER_HOST={}", url.replacen("https://", "tcp://", 1));
    println!("export DOCKER_TLS_VERIFY=1");
    println!("export DOCKER_CERT_PATH='{quoted}'");
    eprintln!("# use: eval \"$(sampan docker-env {})\"", arguments.cluster);
    Ok(())
}
