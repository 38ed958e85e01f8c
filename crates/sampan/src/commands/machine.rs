//! `sampan machine`: the inventory of machines that are in no cluster, and those that are.

use serde_json::json;

use crate::{
    Global,
    output::{Column, entries, print_list, print_object, scalar},
};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List machines
    #[command(visible_alias = "ls")]
    List,
    /// Add machines to the inventory
    Create {
        /// VPC, made when it does not exist
        #[arg(long)]
        vpc: String,
        /// vSwitch, made when it does not exist
        #[arg(long)]
        vswitch: Option<String>,
        /// Instance type
        #[arg(long, default_value = "ecs.g6.large")]
        instance_type: String,
        /// How many
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Plain Debian hosts that run, with nothing of Sampan on them: to try the attach line on
        #[arg(long)]
        bare: bool,
    },
    /// Remove machines that are in no cluster
    Delete {
        /// Instance ids
        #[arg(required = true)]
        machines: Vec<String>,
    },
}

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = super::client(global)?;
    match command {
        Command::List => {
            let machines = client.get("/sampan/machines", &[]).await?;
            let columns: [Column; 7] = [
                ("INSTANCE", |machine| scalar(&machine["instance_id"])),
                ("STATE", |machine| scalar(&machine["state"])),
                ("KIND", |machine| scalar(&machine["kind"])),
                ("TYPE", |machine| scalar(&machine["instance_type"])),
                ("ADDRESS", |machine| scalar(&machine["ip_address"])),
                ("VPC", |machine| scalar(&machine["vpc_id"])),
                ("CLUSTER", |machine| scalar(&machine["cluster_id"])),
            ];
            print_list(global.output, &machines, &entries(&machines), &columns)
        }
        Command::Create { vpc, vswitch, instance_type, count, bare } => {
            let vswitch = vswitch.unwrap_or_else(|| format!("vsw-{vpc}-1"));
            let body = json!({
                "vpc_id": vpc, "vswitch_id": vswitch, "instance_type": instance_type, "count": count, "bare": bare,
            });
            let answer = client.json("POST", "/sampan/machines", &[], Some(&body)).await?;
            let ids: Vec<String> = entries(&answer["instance_ids"]).iter().map(scalar).collect();
            print_object(global.output, &answer, &[("instances", ids.join(" "))])
        }
        Command::Delete { machines } => {
            for id in machines {
                client.json("DELETE", &format!("/sampan/machines/{id}"), &[], None).await?;
                eprintln!("deleted {id}");
            }
            Ok(())
        }
    }
}
