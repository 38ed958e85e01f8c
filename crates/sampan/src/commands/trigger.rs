//! `sampan trigger`: links that redeploy an application or scale a service.

use serde_json::json;

use crate::{
    Global,
    output::{Column, entries, print_list, print_object, scalar},
};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make a trigger and print its link
    Create {
        /// Cluster, name or id
        cluster: String,
        /// Application
        application: String,
        /// What it does
        #[arg(value_parser = ["redeploy", "scaling"])]
        action: String,
        /// Service that a scaling trigger scales
        #[arg(long, required_if_eq("action", "scaling"))]
        service: Option<String>,
        /// Redeploy also when an image of the application is pushed to the installation's registry
        #[arg(long)]
        image_update: bool,
    },
    /// List triggers
    #[command(visible_alias = "ls")]
    List {
        /// Cluster, name or id
        cluster: String,
        /// Only of this application
        application: Option<String>,
    },
    /// Delete a trigger
    #[command(visible_alias = "rm")]
    Delete {
        /// Cluster, name or id
        cluster: String,
        /// Trigger
        id: String,
    },
}

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = super::client(global)?;
    let (Command::Create { cluster, .. } | Command::List { cluster, .. } | Command::Delete { cluster, .. }) = &command;
    let path = format!("/clusters/{}/triggers", super::cluster::find(&client, cluster).await?);
    match command {
        Command::Create { application, action, service, image_update, .. } => {
            let body = json!({
                "project_id": format!("default/{application}"), "action": action, "type": "application",
                "service": service, "image_update": image_update,
            });
            let trigger = client.json("POST", &path, &[], Some(&body)).await?;
            let field = |name: &'static str| (name, scalar(&trigger[name]));
            print_object(
                global.output,
                &trigger,
                &[field("id"), field("action"), field("service"), field("trigger_url")],
            )
        }
        Command::List { application, .. } => {
            let query = application.as_deref().map(|name| ("Name", name));
            let triggers = client.get(&path, query.as_slice()).await?;
            let columns: [Column; 6] = [
                ("ID", |trigger| scalar(&trigger["id"])),
                ("APPLICATION", |trigger| scalar(&trigger["name"])),
                ("ACTION", |trigger| scalar(&trigger["action"])),
                ("SERVICE", |trigger| scalar(&trigger["service"])),
                ("IMAGE UPDATE", |trigger| scalar(&trigger["image_update"])),
                ("LINK", |trigger| scalar(&trigger["trigger_url"])),
            ];
            print_list(global.output, &triggers, &entries(&triggers), &columns)
        }
        Command::Delete { id, .. } => {
            client.json("DELETE", &format!("{path}/{id}"), &[], None).await?;
            eprintln!("deleted {id}");
            Ok(())
        }
    }
}
