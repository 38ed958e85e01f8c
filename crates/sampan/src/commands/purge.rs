//! `sampan purge`: removes everything of an installation from Docker, for when its server will not run again.

use anyhow::{Context as _, bail};
use sampan_control::reconcile::Names;
use sampan_provider::{MachineProvider as _, docker::DockerProvider};

use crate::{Global, data_dir::DataDir, serve};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Do it; without this flag what would be removed is only listed
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<()> {
    let dir = DataDir::open(&super::data_dir(global)?)?;
    if serve::is_running(&dir) {
        bail!("the server of {} is running: stop it first", dir.root().display());
    }
    let installation = serve::read_installation(&dir)?.context("this data directory belongs to no installation")?;
    let provider = DockerProvider::connect(&installation)?;
    let inventory = provider.inventory().await?;
    let names = Names::new(&installation);
    let balancer = names.balancer();
    for machine in &inventory.machines {
        say("machine", &machine.name, arguments.yes);
        if arguments.yes {
            provider.delete_machine(&machine.name).await?;
        }
    }
    say("balancer", &balancer, arguments.yes);
    say("image registry", &names.registry(), arguments.yes);
    if arguments.yes {
        release_virtual_ips(&dir).await;
        provider.delete_host_service(&balancer).await?;
        provider.delete_host_service(&names.registry()).await?;
    }
    for network in &inventory.networks {
        say("network", network, arguments.yes);
        if arguments.yes {
            provider.delete_network(network).await?;
        }
    }
    // Volumes whose machine is gone already.
    for volume in provider.inventory().await?.volumes {
        say("volume", &volume, arguments.yes);
        if let Some(machine) = names.machine_id_of_volume(&volume).filter(|_| arguments.yes) {
            provider.delete_machine(&names.machine(machine)).await?;
        }
        if names.cluster_id_of_volume(&volume).is_some() && arguments.yes {
            provider.delete_volume(&volume).await?;
        }
    }
    Ok(())
}

/// An empty configuration makes the balancer let go of its addresses; when it is dead they go with the bridges.
async fn release_virtual_ips(dir: &DataDir) {
    let client = sampan_agents::balancer::Client::new(&dir.balancer().join("control.sock"));
    let _ = client.apply(&sampan_agents::balancer::Config::default()).await;
}

fn say(what: &str, name: &str, doing: bool) {
    eprintln!("{} {what} {name}", if doing { "removing" } else { "would remove" });
}
