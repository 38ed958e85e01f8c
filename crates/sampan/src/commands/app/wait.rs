//! Waiting for what a cluster was asked to do.

use std::time::Duration;

use anyhow::bail;
use serde_json::Value;

use crate::{client::Refused, master::Master, output::scalar};

/// How often the cluster is asked; its API has nothing to wait on.
const POLL: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_secs(900);

/// Until the application is what it shall be.
pub(super) async fn for_project(master: &Master, name: &str) -> anyhow::Result<()> {
    settled(master, &format!("/projects/{name}?containers=false"), &format!("application {name}")).await
}

/// Until the service is what it shall be.
pub(super) async fn for_service(master: &Master, id: &str) -> anyhow::Result<()> {
    settled(master, &format!("/services/{id}"), &format!("service {id}")).await
}

/// Until the application is gone.
pub(super) async fn until_gone(master: &Master, name: &str) -> anyhow::Result<()> {
    let gone = async {
        loop {
            match master.json("GET", &format!("/projects/{name}"), None).await {
                Ok(_) => tokio::time::sleep(POLL).await,
                Err(error) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 404) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    };
    tokio::time::timeout(TIMEOUT, gone).await.unwrap_or_else(|_| bail!("application {name} is still being removed"))
}

async fn settled(master: &Master, path: &str, what: &str) -> anyhow::Result<()> {
    let mut said = String::new();
    let work = async {
        loop {
            let value = master.json("GET", path, None).await?;
            let (current, desired) = (scalar(&value["current_state"]), scalar(&value["desired_state"]));
            let line = describe(what, &current, &value);
            if line != said {
                eprintln!("{line}");
                said = line;
            }
            if current == desired {
                return Ok(());
            }
            if current == "failed" {
                bail!("{what} failed: {}", scalar(&value["message"]));
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(TIMEOUT, work).await.unwrap_or_else(|_| bail!("{what} did not settle in time"))
}

fn describe(what: &str, current: &str, value: &Value) -> String {
    match scalar(&value["message"]) {
        message if message.is_empty() => format!("{what}: {current}"),
        message => format!("{what}: {current} ({message})"),
    }
}
