//! Counters a thread, merged when read, as Prometheus text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Method;

use crate::api::{Count, Counts};

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

/// Whose a request is: the service and the template of its route, never its path. There are as many as a table has
/// routes, and two: a client must not be able to make more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Label {
    pub(crate) service: String,
    pub(crate) route: String,
}

impl Label {
    /// Of a route; what follows an `@` in a pool's name tells generations of the same service apart.
    pub(crate) fn new(pool: &str, route: &str) -> Arc<Label> {
        let service = pool.split('@').next().unwrap_or_default();
        Arc::new(Label {
            service: service.to_owned(),
            route: route.to_owned(),
        })
    }

    /// Of what this process answers itself.
    pub(crate) fn own(route: &str) -> Arc<Label> {
        Label::new("gateway", route)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    label: Arc<Label>,
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
    websockets: BTreeMap<String, u64>,
    answered: u64,
}

/// One thread's counters. Only a scrape ever contends for the lock.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Book>);

impl Metrics {
    /// A request was answered: its status is the one sent, 499 when the client left before.
    pub(crate) fn answered(
        &self,
        label: &Arc<Label>,
        method: &Method,
        status: u16,
        took: Duration,
    ) {
        let seconds = took.as_secs_f64();
        let mut book = self.book();
        let key = Key {
            label: Arc::clone(label),
            method: method_label(method),
            // An instance may say any number.
            status: if (100..600).contains(&status) {
                status
            } else {
                0
            },
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

    pub(crate) fn websocket_opened(&self, service: &str) {
        *self
            .book()
            .websockets
            .entry(service.to_owned())
            .or_default() += 1;
    }

    pub(crate) fn websocket_closed(&self, service: &str) {
        if let Some(count) = self.book().websockets.get_mut(service) {
            *count -= 1;
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests answered by all threads.
pub(crate) fn answered(threads: &[Arc<Metrics>]) -> u64 {
    threads.iter().map(|metrics| metrics.book().answered).sum()
}

/// What the counters of each service come to; what this process answered itself is not among it.
pub(crate) fn counts(threads: &[Arc<Metrics>]) -> Counts {
    let mut counts = Counts {
        bounds: BOUNDS.to_vec(),
        services: BTreeMap::new(),
    };
    for (key, series) in merge(threads).series {
        if key.label.service == "gateway" {
            continue;
        }
        let of = counts.services.entry(key.label.service.clone());
        let of = of.or_insert_with(|| Count {
            requests: 0,
            errors: 0,
            buckets: vec![0; BOUNDS.len()],
        });
        of.requests += series.count;
        of.errors += if key.status >= 500 || key.status == 0 {
            series.count
        } else {
            0
        };
        for (mine, more) in of.buckets.iter_mut().zip(series.buckets) {
            *mine += more;
        }
    }
    counts
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
        for (service, count) in &book.websockets {
            *all.websockets.entry(service.clone()).or_default() += count;
        }
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
    let seen = book.series.keys().map(|key| key.label.service.as_str());
    let services: BTreeSet<&str> = seen
        .chain(book.websockets.keys().map(String::as_str))
        .collect();
    for service in services {
        let count = book.websockets.get(service).copied().unwrap_or_default();
        let service = escaped(service);
        writeln!(
            text,
            "websocket_connections_active{{service=\"{service}\"}} {count}"
        )?;
    }
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
    let (service, route) = (escaped(&key.label.service), escaped(&key.label.route));
    let status = match key.status {
        0 => "other".to_owned(),
        status => status.to_string(),
    };
    format!(
        "service=\"{service}\",method=\"{}\",route=\"{route}\",status_code=\"{status}\"",
        key.method
    )
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
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
