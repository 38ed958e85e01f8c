//! `sampan task`: the user's view of asynchronous work.

use std::{io::IsTerminal as _, time::Duration};

use anyhow::bail;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::{
    Global,
    client::Client,
    output::{entries, print_object, scalar},
};

/// How often a task is asked for: the API has no watch.
const POLL: Duration = Duration::from_millis(250);

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Follow a task until it has ended
    Watch {
        /// Task id, T-…
        task_id: String,
    },
    /// Show a task
    Show {
        /// Task id, T-…
        task_id: String,
    },
}

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = super::client(global)?;
    match command {
        Command::Watch { task_id } => watch(&client, &task_id).await.map(|_| ()),
        Command::Show { task_id } => {
            let task = client.get(&format!("/tasks/{task_id}"), &[]).await?;
            let mut fields: Vec<(&str, String)> = ["task_id", "task_type", "cluster_id", "state", "created", "updated"]
                .map(|name| (name, scalar(&task[name])))
                .to_vec();
            let stages = entries(&task["stages"]);
            let lines: Vec<String> = stages.iter().map(stage_line).collect();
            fields.push(("stages", lines.join("\n")));
            fields.push(("error", scalar(&task["error"]["message"])));
            print_object(global.output, &task, &fields)
        }
    }
}

fn stage_line(stage: &Value) -> String {
    format!("{}: {} {}", scalar(&stage["name"]), scalar(&stage["state"]), scalar(&stage["message"]))
        .trim_end()
        .to_owned()
}

/// Follows a task until it has ended: bars on a terminal, a line per change otherwise. A failed task is an error.
pub(crate) async fn watch(client: &Client, task_id: &str) -> anyhow::Result<Value> {
    let mut view = View::new();
    loop {
        let task = client.get(&format!("/tasks/{task_id}"), &[]).await?;
        view.show(&task);
        match task["state"].as_str() {
            Some("running") => tokio::time::sleep(POLL).await,
            Some("success") => return Ok(task),
            _ => bail!(
                "task {task_id} failed: {} (see `sampan task show {task_id}`)",
                task["error"]["message"].as_str().unwrap_or("no reason was given")
            ),
        }
    }
}

/// What was shown, so that only changes are shown again.
struct View {
    bars: Option<MultiProgress>,
    shown: Vec<(String, Option<ProgressBar>)>,
}

impl View {
    fn new() -> Self {
        Self { bars: std::io::stderr().is_terminal().then(MultiProgress::new), shown: Vec::new() }
    }

    fn show(&mut self, task: &Value) {
        for (index, stage) in entries(&task["stages"]).iter().enumerate() {
            let line = stage_line(stage);
            if self.shown.len() <= index {
                let bar = self.bars.as_ref().map(|bars| bars.add(new_bar()));
                self.shown.push((String::new(), bar));
            }
            let (last, bar) = &mut self.shown[index];
            if *last == line {
                continue;
            }
            match bar {
                Some(bar) => update_bar(bar, stage),
                None if stage["state"] != "waiting" => eprintln!("{line}"),
                None => {}
            }
            *last = line;
        }
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{prefix:2} {spinner} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn update_bar(bar: &ProgressBar, stage: &Value) {
    let text = format!("{:<14} {}", scalar(&stage["name"]), scalar(&stage["message"]));
    match stage["state"].as_str() {
        Some("success") => {
            bar.set_prefix("✓");
            bar.finish_with_message(text);
        }
        Some("fail") => {
            bar.set_prefix("✗");
            bar.abandon_with_message(text);
        }
        Some("running") => {
            bar.enable_steady_tick(Duration::from_millis(120));
            bar.set_message(text);
        }
        _ => bar.set_message(text),
    }
}
