//! What is counted: by the gateway of requests, here of health; as Prometheus reads it, and of the last minute in a few
//! numbers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use towpath_gateway::api::{Count, Counts};

use super::api::{Component, HealthStatus, TrafficStatus, Word};
use super::health::Monitor;
use crate::release::{World, gateway_client};

/// Pause between two looks at the counters, and at where they are to be given.
const LOOK: Duration = Duration::from_secs(5);

/// What is looked back at: a minute.
const KEPT: usize = 13;

/// Longest wait for the gateway, and for a client.
const ANSWERS: Duration = Duration::from_secs(2);

/// Clients at once.
const CLIENTS: usize = 16;

/// The longest head of a request, bytes.
const HEAD: usize = 8 * 1024;

/// The counters of the last minute, oldest first.
#[derive(Default)]
pub(super) struct Samples(VecDeque<(Instant, Counts)>);

impl Samples {
    fn take(&mut self, at: Instant, counts: Counts) {
        // They begin again with the gateway's process.
        let before = self.0.back().map(|(_, before)| total(before));
        if before.is_some_and(|before| total(&counts) < before) {
            self.0.clear();
        }
        self.0.push_back((at, counts));
        while self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// By service, of those that were asked for anything.
    pub fn traffic(&self) -> BTreeMap<String, TrafficStatus> {
        let (Some((first, before)), Some((last, now))) = (self.0.front(), self.0.back()) else {
            return BTreeMap::new();
        };
        let seconds = last.duration_since(*first).as_secs_f64();
        let of = now.services.iter().filter_map(|(name, count)| {
            let lately = since(count, before.services.get(name));
            let is_any = lately.requests > 0 && seconds > 0.0;
            is_any.then(|| (name.clone(), summary(&lately, &now.bounds, seconds)))
        });
        of.collect()
    }
}

fn total(counts: &Counts) -> u64 {
    counts.services.values().map(|count| count.requests).sum()
}

fn since(now: &Count, before: Option<&Count>) -> Count {
    let Some(before) = before else {
        return now.clone();
    };
    let buckets = now.buckets.iter().zip(&before.buckets);
    Count {
        requests: now.requests.saturating_sub(before.requests),
        errors: now.errors.saturating_sub(before.errors),
        buckets: buckets
            .map(|(now, before)| now.saturating_sub(*before))
            .collect(),
    }
}

fn summary(count: &Count, bounds: &[f64], seconds: f64) -> TrafficStatus {
    TrafficStatus {
        requests_per_second: count.requests as f64 / seconds,
        errors_per_second: count.errors as f64 / seconds,
        p50_ms: quantile(count, bounds, 0.5) * 1000.0,
        p95_ms: quantile(count, bounds, 0.95) * 1000.0,
    }
}

/// Within its bucket a request is taken to be as likely anywhere; what took longer than the last bound counts as that.
fn quantile(count: &Count, bounds: &[f64], share: f64) -> f64 {
    let wanted = count.requests as f64 * share;
    let (mut below, mut lower) = (0.0, 0.0);
    for (bound, inside) in bounds.iter().zip(&count.buckets) {
        let inside = *inside as f64;
        if inside > 0.0 && below + inside >= wanted {
            return lower + (bound - lower) * (wanted - below) / inside;
        }
        (below, lower) = (below + inside, *bound);
    }
    lower
}

/// Everything, as Prometheus text. What the gateway does not say is left out.
pub(super) async fn text(world: &World, monitor: &Monitor) -> String {
    let requests = timeout(ANSWERS, gateway_client(world).metrics()).await;
    let mut text = requests.ok().and_then(Result::ok).unwrap_or_default();
    let health = timeout(ANSWERS, super::status::health(world, monitor)).await;
    if let Ok(Ok(Some(health))) = health {
        // Writing to a string does not fail.
        let _ = write_health(&mut text, &health);
    }
    text
}

fn write_health(text: &mut String, health: &HealthStatus) -> std::fmt::Result {
    let gateway = ("gateway".to_owned(), &health.gateway);
    let parts = health
        .components
        .iter()
        .map(|(name, one)| (name.clone(), one));
    let parts: Vec<(String, &Component)> = parts.chain([gateway]).collect();
    text.push_str("# HELP tow_component_health 1 healthy, 0.5 degraded, 0 unhealthy.\n# TYPE tow_component_health gauge\n");
    let whole = number(health.status);
    writeln!(
        text,
        "tow_component_health{{component=\"environment\",kind=\"environment\"}} {whole}"
    )?;
    for (name, part) in &parts {
        let (kind, number) = (&part.kind, number(part.status));
        writeln!(
            text,
            "tow_component_health{{component=\"{name}\",kind=\"{kind}\"}} {number}"
        )?;
    }
    text.push_str("# HELP tow_component_restarts_total Starts after the first.\n# TYPE tow_component_restarts_total counter\n");
    for (name, part) in &parts {
        if let Some(restarts) = part.restarts {
            writeln!(
                text,
                "tow_component_restarts_total{{component=\"{name}\"}} {restarts}"
            )?;
        }
    }
    text.push_str("# HELP database_connections_active Connections to the database.\n# TYPE database_connections_active gauge\n");
    for (name, part) in &parts {
        if let Some(connections) = part.connections {
            writeln!(
                text,
                "database_connections_active{{resource=\"{name}\"}} {connections}"
            )?;
        }
    }
    Ok(())
}

fn number(word: Word) -> &'static str {
    match word {
        Word::Healthy => "1",
        Word::Degraded => "0.5",
        Word::Unhealthy => "0",
    }
}

/// Looks at the counters again and again, and listens where the live version wants them to be given.
pub(super) async fn keep(world: Arc<World>, monitor: Arc<Monitor>) {
    let mut given: Option<Given> = None;
    let mut rows = world.store.follow();
    loop {
        let counts = timeout(ANSWERS, gateway_client(&world).counts()).await;
        if let Ok(Ok(counts)) = counts {
            monitor.samples().take(Instant::now(), counts);
        }
        let deadline = Instant::now() + LOOK;
        loop {
            let wanted = monitor.metrics_at(&world);
            if wanted.is_none() || given.as_ref().map(|given| given.at) != wanted {
                // The old one first: it may be the same port.
                drop(given.take());
                given = match wanted {
                    Some(at) => Given::start(&world, &monitor, at).await,
                    None => {
                        monitor.note(None);
                        None
                    }
                };
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || timeout(left, rows.changed()).await.is_err() {
                break;
            }
        }
    }
}

/// An address where metrics are given, until this is dropped.
struct Given {
    at: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Given {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Given {
    /// `None` where nobody can listen there; that is tried again, and said where the health is.
    async fn start(world: &Arc<World>, monitor: &Arc<Monitor>, at: SocketAddr) -> Option<Given> {
        let listener = TcpListener::bind(at).await;
        let why = listener.as_ref().err().map(ToString::to_string);
        monitor.note(why.map(|why| format!("the metrics cannot be given at {at}: {why}")));
        let (world, monitor) = (world.clone(), monitor.clone());
        let task = tokio::spawn(accept(listener.ok()?, world, monitor));
        Some(Given { at, task })
    }
}

async fn accept(listener: TcpListener, world: Arc<World>, monitor: Arc<Monitor>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        // Who comes when all places are taken is let go.
        if let Ok(place) = places.clone().try_acquire_owned() {
            let (world, monitor) = (world.clone(), monitor.clone());
            tokio::spawn(async move {
                let _ = timeout(2 * ANSWERS + ANSWERS, answer(stream, &world, &monitor)).await;
                drop(place);
            });
        }
    }
}

async fn answer(mut stream: TcpStream, world: &World, monitor: &Monitor) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if head.len() > HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let is_asked = head.starts_with(b"GET /metrics ") || head.starts_with(b"GET /metrics?");
    let (status, text) = match is_asked {
        true => ("200 OK", text(world, monitor).await),
        false => ("404 Not Found", "GET /metrics\n".to_owned()),
    };
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all((head + &text).as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(requests: u64, errors: u64, buckets: [u64; 3]) -> Counts {
        let count = Count {
            requests,
            errors,
            buckets: buckets.to_vec(),
        };
        Counts {
            bounds: vec![0.01, 0.1, 1.0],
            services: BTreeMap::from([("web".to_owned(), count)]),
        }
    }

    #[tokio::test]
    async fn the_last_minute_is_what_came_since_its_beginning() {
        let (mut samples, begun) = (Samples::default(), Instant::now());
        samples.take(begun, counts(100, 7, [100, 0, 0]));
        assert!(samples.traffic().is_empty());
        samples.take(begun + LOOK, counts(200, 12, [150, 40, 10]));
        let found = samples.traffic()["web"].clone();
        assert_eq!(
            (found.requests_per_second, found.errors_per_second),
            (20.0, 1.0)
        );
        assert_eq!((found.p50_ms.round(), found.p95_ms.round()), (10.0, 550.0));
        // Another process of the gateway counts from nothing.
        samples.take(begun + 2 * LOOK, counts(10, 0, [10, 0, 0]));
        assert!(samples.traffic().is_empty());
        for look in 3..40 {
            samples.take(
                begun + look * LOOK,
                counts(10 + u64::from(look), 0, [10, 0, 0]),
            );
        }
        assert_eq!(samples.0.len(), KEPT);
        let rate = samples.traffic()["web"].requests_per_second;
        assert!((rate - 0.2).abs() < 1e-9, "{rate}");
    }
}
