//! Counters of the gateway in the Prometheus text format. Bounded labels only: operation names and status codes.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Upper bounds of the latency buckets, in microseconds.
const BOUNDS_MICROS: [u64; 8] = [100, 500, 1_000, 5_000, 25_000, 100_000, 1_000_000, 10_000_000];

#[derive(Default)]
struct Latency {
    buckets: [AtomicU64; BOUNDS_MICROS.len()],
    sum_micros: AtomicU64,
    count: AtomicU64,
}

/// The gateway's counters.
#[derive(Default)]
pub(super) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    latency: Latency,
    in_flight: AtomicI64,
}

impl Metrics {
    /// A request is being worked on until the guard goes.
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// Counts an answered request.
    pub(super) fn answered(&self, operation: &'static str, status: u16, took: Duration) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry((operation, status)).or_default() += 1;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        for (bound, bucket) in BOUNDS_MICROS.iter().zip(&self.latency.buckets) {
            if micros <= *bound {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.latency.sum_micros.fetch_add(micros, Ordering::Relaxed);
        self.latency.count.fetch_add(1, Ordering::Relaxed);
    }

    /// The text of `/metrics`, beginning with `gauges` of others: (name, help, value).
    pub(super) fn render(&self, gauges: &[(&str, &str, f64)]) -> String {
        let mut text = String::with_capacity(4096);
        for (name, help, value) in gauges {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        text.push_str(
            "# HELP sampan_http_requests_total Answered requests.\n# TYPE sampan_http_requests_total counter\n",
        );
        for ((operation, status), count) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ =
                writeln!(text, "sampan_http_requests_total{{operation=\"{operation}\",status=\"{status}\"}} {count}");
        }
        self.render_latency(&mut text);
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let _ = writeln!(
            text,
            "# HELP sampan_http_requests_in_flight Requests in work.\n# TYPE sampan_http_requests_in_flight gauge\n\
             sampan_http_requests_in_flight {in_flight}"
        );
        text
    }

    fn render_latency(&self, text: &mut String) {
        const NAME: &str = "sampan_http_request_duration_seconds";
        let _ = writeln!(text, "# HELP {NAME} Time to answer.\n# TYPE {NAME} histogram");
        for (bound, bucket) in BOUNDS_MICROS.iter().zip(&self.latency.buckets) {
            let seconds = *bound as f64 / 1e6;
            let _ = writeln!(text, "{NAME}_bucket{{le=\"{seconds}\"}} {}", bucket.load(Ordering::Relaxed));
        }
        let count = self.latency.count.load(Ordering::Relaxed);
        let sum = self.latency.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "{NAME}_bucket{{le=\"+Inf\"}} {count}\n{NAME}_sum {sum}\n{NAME}_count {count}");
    }
}

/// See [`Metrics::begin`].
pub(super) struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered() {
        let metrics = Metrics::default();
        let guard = metrics.begin();
        metrics.answered("DescribeClusters", 200, Duration::from_micros(300));
        let text = metrics.render(&[("sampan_clusters", "Clusters.", 3.0)]);
        drop(guard);
        assert!(text.contains("sampan_clusters 3"));
        assert!(text.contains("sampan_http_requests_total{operation=\"DescribeClusters\",status=\"200\"} 1"));
        assert!(text.contains("sampan_http_request_duration_seconds_bucket{le=\"0.0001\"} 0"));
        assert!(text.contains("sampan_http_request_duration_seconds_bucket{le=\"0.0005\"} 1"));
        assert!(text.contains("in_flight 1"));
    }
}
