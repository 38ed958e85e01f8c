//! What a cluster is made of and what happened: resources, logs, events, tasks.

use sampan_api::{Refusal, types};
use sampan_control::service::event::{EventsWanted, Paging};

use crate::{
    call::{Call, Reply},
    faults::refusal,
    views,
};

pub(super) async fn resources(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("ClusterId");
    let resources = call.service.cluster_resources(&call.context, id).map_err(refusal)?;
    Reply::new(&resources.iter().map(|resource| views::cluster::resource(id, resource)).collect::<Vec<_>>())
}

pub(super) async fn logs(call: Call) -> Result<Reply, Refusal> {
    let lines = call.service.cluster_logs(&call.context, call.path("ClusterId")).await.map_err(refusal)?;
    Reply::new(&lines.iter().map(views::cluster::log_line).collect::<Vec<_>>())
}

pub(super) async fn events(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::DescribeEventsQuery>()?.value;
    let size = query.page_size.or(query.max_results);
    let paging = Paging::check(("page_number", query.page_number), ("page_size", size), 50, 100).map_err(refusal)?;
    let wanted = EventsWanted { cluster_id: query.cluster_id, event_type: query.kind };
    let page = call.service.events(&call.context, wanted, paging).await.map_err(refusal)?;
    Reply::new(&types::DescribeEventsResponse {
        events: page.items.iter().map(views::task::event).collect(),
        page_info: views::page_info(paging, page.total),
        next_token: None,
    })
}

pub(super) async fn task(call: Call) -> Result<Reply, Refusal> {
    let task = call.service.task(&call.context, call.path("TaskId")).map_err(refusal)?;
    let events = call.service.task_events(&call.context, &task).await.map_err(refusal)?;
    Reply::new(&views::task::task(&task, &events))
}
