//! How the nouns look on the wire. Pure: records in, wire types out; only what is true is said.

pub mod autoscaling;
pub mod cluster;
pub mod lifecycle;
pub mod machine;
pub mod node;
pub mod node_pool;
pub mod task;
pub mod trigger;
pub mod upgrade;

use sampan_store::model::{Tag, Timestamp};

/// RFC 3339 in UTC, whole seconds.
pub fn time(timestamp: Timestamp) -> String {
    timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Where a page stands in its list.
pub fn page_info(paging: sampan_control::service::event::Paging, total: u64) -> sampan_api::types::PageInfo {
    sampan_api::types::PageInfo {
        page_number: paging.number.into(),
        page_size: paging.size.into(),
        total_count: i64::try_from(total).unwrap_or(i64::MAX),
    }
}

/// A part of a request as it was recorded, without secrets; `None` when it was not sent or cannot be read any more.
fn requested<T: serde::de::DeserializeOwned>(request: &serde_json::Value, part: &str) -> Option<T> {
    let value = &request[part];
    if value.is_null() { None } else { serde_json::from_value(value.clone()).ok() }
}

/// Tags.
pub fn tags(tags: &[Tag]) -> Vec<sampan_api::types::Tag> {
    tags.iter().map(|tag| sampan_api::types::Tag { key: tag.key.clone(), value: Some(tag.value.clone()) }).collect()
}
