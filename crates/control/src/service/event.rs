//! Events and logs, as users ask for them.

use sampan_store::{
    EventQuery, LOG_LINES_PER_QUERY_MAX, Page,
    model::{Event, LogLine, Outcome},
};

use super::{RequestContext, Service, fields};

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// Page, counted from 1.
    pub number: u32,
    /// Entries per page.
    pub size: u32,
}

impl Paging {
    /// Checks a page number (default 1) and a page size (default `default`, at most `max`).
    ///
    /// # Errors
    /// InvalidParameter of the field.
    pub fn check(number: (&str, Option<i64>), size: (&str, Option<i64>), default: u32, max: u32) -> Outcome<Self> {
        Ok(Self {
            number: fields::number(number.0, number.1.unwrap_or(1), 1..=1_000_000)?,
            size: fields::number(size.0, size.1.unwrap_or(i64::from(default)), 1..=i64::from(max))?,
        })
    }

    /// Entries before the page.
    pub fn offset(&self) -> usize {
        (self.number as usize - 1).saturating_mul(self.size as usize)
    }

    /// The page of a whole list.
    pub fn cut<T>(&self, all: Vec<T>) -> Page<T> {
        let total = all.len() as u64;
        Page { items: all.into_iter().skip(self.offset()).take(self.size as usize).collect(), total }
    }
}

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsWanted {
    /// Of this cluster.
    pub cluster_id: Option<String>,
    /// Of this type.
    pub event_type: Option<String>,
}

impl Service {
    /// Events of the caller's account, newest first.
    ///
    /// # Errors
    /// Unavailable when the disk does not answer.
    pub async fn events(&self, ctx: &RequestContext, wanted: EventsWanted, paging: Paging) -> Outcome<Page<Event>> {
        let query = EventQuery {
            account_id: ctx.account_id.clone(),
            cluster_id: wanted.cluster_id.filter(|id| !id.is_empty()),
            event_type: wanted.event_type.filter(|t| !t.is_empty()),
            offset: paging.offset() as u64,
            limit: paging.size,
        };
        Ok(self.store.events(&query).await?)
    }

    /// The log of a cluster, oldest line first; also of a deleted one.
    ///
    /// # Errors
    /// ClusterNotFound.
    pub async fn cluster_logs(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<Vec<LogLine>> {
        let cluster = self.any_cluster(ctx, cluster_id)?;
        Ok(self.store.logs(&cluster.id, LOG_LINES_PER_QUERY_MAX).await?)
    }
}
