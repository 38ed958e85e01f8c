//! Questions about what is only appended.

/// The most events that one query returns.
pub const EVENTS_PER_PAGE_MAX: u32 = 1_000;

/// The most log lines that one query returns.
pub const LOG_LINES_PER_QUERY_MAX: u32 = 10_000;

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Of this account.
    pub account_id: String,
    /// About this cluster only.
    pub cluster_id: Option<String>,
    /// Of this type only; upper and lower case are the same.
    pub event_type: Option<String>,
    /// This many of the newest are left out.
    pub offset: u64,
    /// At most this many; more than [`EVENTS_PER_PAGE_MAX`] counts as that.
    pub limit: u32,
}

/// A part of a longer list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The part.
    pub items: Vec<T>,
    /// Length of the whole list.
    pub total: u64,
}
