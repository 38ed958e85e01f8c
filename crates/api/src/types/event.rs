//! Events of the user's operations.

use super::common::PageInfo;

wire! {
    /// Query of `GET /events`.
    pub struct DescribeEventsQuery {
        /// Only events of this cluster.
        pub cluster_id: Option<String>,
        /// Only events of this type.
        #[serde(rename = "type")]
        pub kind: Option<String>,
        /// Entries per page.
        pub page_size: Option<i64>,
        /// The page, counted from 1.
        pub page_number: Option<i64>,
        /// Where the last answer stopped, for clients that do not count pages.
        pub next_token: Option<String>,
        /// Entries per answer, for clients that do not count pages.
        pub max_results: Option<i64>,
    }

    /// Answer of `GET /events`.
    pub struct DescribeEventsResponse {
        /// The events of this page, newest first.
        pub events: Vec<Event>,
        /// Which page it is.
        pub page_info: PageInfo,
        /// Where the next answer goes on, if there is more.
        pub next_token: Option<String>,
    }

    /// An event.
    pub struct Event {
        /// Its id.
        pub event_id: String,
        /// Its type, for example `cluster_create`.
        #[serde(rename = "type")]
        pub kind: String,
        /// The path of the resource.
        pub source: String,
        /// The id of the resource.
        pub subject: String,
        /// When: RFC 3339.
        pub time: String,
        /// The cluster.
        pub cluster_id: String,
        /// What happened.
        pub data: EventData,
    }

    /// What happened.
    pub struct EventData {
        /// `info`, `warning` or `error`.
        pub level: String,
        /// In one word, for example `Started`.
        pub reason: String,
        /// In words.
        pub message: String,
    }
}
