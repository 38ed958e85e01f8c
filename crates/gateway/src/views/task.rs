//! Tasks and events.

use sampan_api::types;
use sampan_store::model::{Event, Level, ResultStatus, Stage, StageState, Task, TaskState};

use super::time;

/// A task with the events that belong to it.
pub fn task(task: &Task, events: &[Event]) -> types::Task {
    let current = task.stages.iter().find(|stage| matches!(stage.state, StageState::Running | StageState::Fail));
    types::Task {
        task_id: task.id.clone(),
        cluster_id: task.cluster_id.clone(),
        task_type: task.task_type.as_str().into(),
        state: match task.state {
            TaskState::Running => "running",
            TaskState::Fail => "fail",
            TaskState::Success => "success",
        }
        .into(),
        created: time(task.created),
        updated: time(task.updated),
        task_result: task
            .results
            .iter()
            .map(|result| types::TaskResult { data: result.data.clone(), status: result_status(result.status).into() })
            .collect(),
        current_stage: current.map(|stage| stage.name.clone()),
        stages: Some(task.stages.iter().map(stage).collect()),
        events: Some(events.iter().map(task_event).collect()),
        error: task
            .error
            .as_ref()
            .map(|error| types::TaskError { code: error.code.clone(), message: error.message.clone() }),
        target: Some(types::TaskTarget { id: task.cluster_id.clone(), kind: "cluster".into() }),
        ..types::Task::default()
    }
}

fn result_status(status: ResultStatus) -> &'static str {
    match status {
        ResultStatus::Initial => "initial",
        ResultStatus::Success => "success",
        ResultStatus::Failed => "failed",
    }
}

fn stage(stage: &Stage) -> types::TaskStage {
    let state = match stage.state {
        StageState::Waiting => "waiting",
        StageState::Running => "running",
        StageState::Success => "success",
        StageState::Fail => "fail",
    };
    types::TaskStage {
        name: Some(stage.name.clone()),
        state: state.into(),
        start_time: stage.started.map(time).unwrap_or_default(),
        end_time: stage.finished.map(time).unwrap_or_default(),
        message: stage.message.clone(),
        outputs: None,
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

fn task_event(event: &Event) -> types::TaskEvent {
    types::TaskEvent {
        action: event.event_type.clone(),
        level: level(event.level).into(),
        message: event.message.clone(),
        reason: event.reason.clone(),
        source: event.source.clone(),
        timestamp: time(event.time),
    }
}

/// An event.
pub fn event(event: &Event) -> types::Event {
    types::Event {
        event_id: event.id.clone(),
        kind: event.event_type.clone(),
        source: event.source.clone(),
        subject: event.subject.clone(),
        time: time(event.time),
        cluster_id: event.cluster_id.clone(),
        data: types::EventData {
            level: level(event.level).into(),
            reason: event.reason.clone(),
            message: event.message.clone(),
        },
    }
}
