//! Counters a thread, merged when read, as Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Method;

/// Upper bounds of the duration buckets, seconds.
const BOUNDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Why the gateway itself answered, or could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    BadRequest,
    NoRoute,
    NoHealthyInstance,
    UpstreamClosed,
    ResponseCut,
    ClientBody,
    ClientLeft,
    Closed,
    QueueFull,
    TooManyConnections,
    StreamClosed,
    Handshake,
    NoCertificate,
    ForeignOrigin,
    Maintenance,
    RateLimited,
}

impl Failure {
    fn label(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NoRoute => "no_route",
            Self::NoHealthyInstance => "no_healthy_instance",
            Self::UpstreamClosed => "upstream_closed",
            Self::ResponseCut => "response_cut",
            Self::ClientBody => "client_body",
            Self::ClientLeft => "client_left",
            Self::Closed => "closed",
            Self::QueueFull => "queue_full",
            Self::TooManyConnections => "too_many_connections",
            Self::StreamClosed => "stream_closed",
            Self::Handshake => "handshake",
            Self::NoCertificate => "no_certificate",
            Self::ForeignOrigin => "foreign_origin",
            Self::Maintenance => "maintenance",
            Self::RateLimited => "rate_limited",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    route: Arc<str>,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, Copy, Default)]
struct Series {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

impl Series {
    fn add(&mut self, other: &Series) {
        for (mine, more) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += more;
        }
        self.count += other.count;
        self.seconds += other.seconds;
    }
}

#[derive(Debug, Default)]
struct Book {
    series: BTreeMap<Key, Series>,
    failures: BTreeMap<Failure, u64>,
    websockets: u64,
    answered: u64,
}

/// One thread's counters. Only a scrape ever contends for the lock.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Book>);

impl Metrics {
    /// A request was answered: its status is the one sent, 499 when the client left before.
    pub(crate) fn answered(&self, route: &Arc<str>, method: &Method, status: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut book = self.book();
        let key = Key {
            route: Arc::clone(route),
            method: method_label(method),
            status,
        };
        let series = book.series.entry(key).or_default();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            series.buckets[bucket] += 1;
        }
        series.count += 1;
        series.seconds += seconds;
        book.answered += 1;
    }

    pub(crate) fn failed(&self, reason: Failure) {
        *self.book().failures.entry(reason).or_default() += 1;
    }

    pub(crate) fn websocket_opened(&self) {
        self.book().websockets += 1;
    }

    pub(crate) fn websocket_closed(&self) {
        self.book().websockets -= 1;
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests answered by all threads.
pub(crate) fn answered(threads: &[Arc<Metrics>]) -> u64 {
    threads.iter().map(|metrics| metrics.book().answered).sum()
}

/// All threads' counters as Prometheus text.
pub(crate) fn text(threads: &[Arc<Metrics>]) -> String {
    let merged = merge(threads);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut text, &merged);
    text
}

fn merge(threads: &[Arc<Metrics>]) -> Book {
    let mut all = Book::default();
    for metrics in threads {
        let book = metrics.book();
        for (key, series) in &book.series {
            all.series.entry(key.clone()).or_default().add(series);
        }
        for (reason, count) in &book.failures {
            *all.failures.entry(*reason).or_default() += count;
        }
        all.websockets += book.websockets;
    }
    all
}

fn write_all(text: &mut String, book: &Book) -> std::fmt::Result {
    text.push_str(
        "# HELP http_requests_total Requests answered.\n# TYPE http_requests_total counter\n",
    );
    for (key, series) in &book.series {
        writeln!(
            text,
            "http_requests_total{{{}}} {}",
            labels(key),
            series.count
        )?;
    }
    text.push_str("# HELP http_request_duration_seconds From the first byte understood to the last one sent.\n");
    text.push_str("# TYPE http_request_duration_seconds histogram\n");
    for (key, series) in &book.series {
        write_histogram(text, &labels(key), series)?;
    }
    text.push_str("# HELP websocket_connections_active WebSockets open now.\n# TYPE websocket_connections_active gauge\n");
    writeln!(text, "websocket_connections_active {}", book.websockets)?;
    text.push_str(
        "# HELP gateway_failures_total Requests the gateway refused, failed or cut, by reason.\n",
    );
    text.push_str("# TYPE gateway_failures_total counter\n");
    for (reason, count) in &book.failures {
        writeln!(
            text,
            "gateway_failures_total{{reason=\"{}\"}} {count}",
            reason.label()
        )?;
    }
    Ok(())
}

fn write_histogram(text: &mut String, labels: &str, series: &Series) -> std::fmt::Result {
    let mut below = 0;
    for (bound, count) in BOUNDS.iter().zip(series.buckets) {
        below += count;
        writeln!(
            text,
            "http_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {below}"
        )?;
    }
    writeln!(
        text,
        "http_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {}",
        series.count
    )?;
    writeln!(
        text,
        "http_request_duration_seconds_sum{{{labels}}} {}",
        series.seconds
    )?;
    writeln!(
        text,
        "http_request_duration_seconds_count{{{labels}}} {}",
        series.count
    )
}

fn labels(key: &Key) -> String {
    let route = key.route.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "method=\"{}\",route=\"{route}\",status_code=\"{}\"",
        key.method, key.status
    )
}

/// The usual methods by name, anything else as one label: a client must not be able to make series.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}
