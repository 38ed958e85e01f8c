//! Tasks: what the user sees of work in the background.

use serde_json::{Map, Value};

wire! {
    /// Answer of `GET /tasks/{task_id}`.
    pub struct Task {
        /// The task.
        pub task_id: String,
        /// The cluster it is about.
        pub cluster_id: String,
        /// What it does, for example `cluster_create`.
        pub task_type: String,
        /// `running`, `fail` or `success`.
        pub state: String,
        /// When it began: RFC 3339.
        pub created: String,
        /// When it last went on: RFC 3339.
        pub updated: String,
        /// What became of each resource it deals with.
        pub task_result: Vec<TaskResult>,
        /// The stage it is in.
        pub current_stage: Option<String>,
        /// All stages.
        pub stages: Option<Vec<TaskStage>>,
        /// What happened.
        pub events: Option<Vec<TaskEvent>>,
        /// Why it failed.
        pub error: Option<TaskError>,
        /// What it was asked to do; never with secrets.
        pub parameters: Option<Map<String, Value>>,
        /// What it leaves behind.
        pub outputs: Option<Map<String, Value>>,
        /// The resource it works on.
        pub target: Option<TaskTarget>,
    }

    /// What became of one resource.
    pub struct TaskResult {
        /// The resource.
        pub data: String,
        /// `success`, `failed` or `initial`.
        pub status: String,
    }

    /// A part of a task.
    pub struct TaskStage {
        /// Which part, for example `control_plane`.
        pub name: Option<String>,
        /// `running`, `fail` or `success`.
        pub state: String,
        /// When it began: RFC 3339.
        pub start_time: String,
        /// When it ended: RFC 3339, or empty.
        pub end_time: String,
        /// What it did.
        pub message: String,
        /// What it leaves behind.
        pub outputs: Option<Map<String, Value>>,
    }

    /// Something that happened in a task.
    pub struct TaskEvent {
        /// What was done.
        pub action: String,
        /// `info`, `warning` or `error`.
        pub level: String,
        /// In words.
        pub message: String,
        /// In one word.
        pub reason: String,
        /// Who says so.
        pub source: String,
        /// When: RFC 3339.
        pub timestamp: String,
    }

    /// Why a task failed.
    pub struct TaskError {
        /// In one word.
        pub code: String,
        /// In words.
        pub message: String,
    }

    /// The resource a task works on.
    pub struct TaskTarget {
        /// Its id.
        pub id: String,
        /// Its kind, for example `cluster`.
        #[serde(rename = "type")]
        pub kind: String,
    }
}
