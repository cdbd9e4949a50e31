//! Each part of an environment killed or hung in turn: which it is and why is said, the rest serves, and it recovers.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use towpath::agent::api::{Component, HealthStatus, Word};

use crate::databases::installed;
use crate::fixture::{Fixture, STAGING};
use crate::load::Traffic;
use crate::machine::{self, until, until_ok};

/// A service that serves, one that it can do without, a worker, and what they need.
const MANIFEST: &str = r#"
app = "fixture"
promote = ["staging", "production"]
health = { live = "/livez", ready = "/readyz", errors = true }

[services.web]
run = "APP web"
env = { DATA = "DATA" }
route = "/"
needs = ["db", "files", "ai"NEEDS]
optional = ["ai"OPTIONAL]
replicas = 2
ready = { http = "/health", every = "20ms", within = "60s", timeout = "10s" }
alive = { http = "/health", every = "100ms", timeout = "2s" }

[services.ai]
run = "APP web"
env = { DATA = "DATA" }
ready = { http = "/health", every = "20ms", within = "60s", timeout = "10s" }
alive = { http = "/health", every = "100ms", timeout = "2s" }

[services.worker]
role = "worker"
run = "APP worker"
env = { DATA = "DATA" }
ready = { log = "works on", every = "20ms" }
restart = { policy = "always", backoff = "50ms", backoff_max = "1s", limit = 1000 }

[resources]
db = { kind = "KIND", alive = { every = "100ms", timeout = "2s" } }
files = { kind = "storage", alive = { every = "100ms" } }
MORE

[traffic]
rate = 60
connections = 4
fresh = 0.3
requests = [{ weight = 4, get = "/version" }]

[traffic.write]
weight = 2
post = "/write"
body = "${id}"
expect = 201
read = "/write/${id}"

[environments.local]
listen = "LISTEN"
[environments.staging]
window = "0s"
[environments.production]
window = "1h"
"#;

fn manifest(kind: &str, more: &str) -> String {
    let name = if more.is_empty() { "" } else { ", \"cache\"" };
    MANIFEST
        .replace("KIND", kind)
        .replace("NEEDS", name)
        .replace("OPTIONAL", name)
        .replace("MORE", more)
}

fn health(fixture: &Fixture) -> Option<HealthStatus> {
    fixture.seen(STAGING)?.health
}

/// Waits until the part is so; gives all of it as it was then.
fn becomes(fixture: &Fixture, name: &str, word: Word) -> HealthStatus {
    until(&format!("`{name}` to be {}", word.text()), || {
        let found = health(fixture)?;
        (found.components.get(name)?.status == word).then_some(found)
    })
}

fn recovers(fixture: &Fixture) -> HealthStatus {
    let found = until_ok(|| {
        let found = health(fixture);
        let is_well = |found: &HealthStatus| found.status == Word::Healthy;
        found.clone().filter(is_well).ok_or(found)
    });
    found.unwrap_or_else(|found| panic!("it does not become healthy: {found:?}"))
}

/// Waits until a part is healthy that was not since `after_ms`, whether somebody saw it or not; and what was.
fn is_over(fixture: &Fixture, name: &str, after_ms: i64) -> String {
    until(&format!("the fault of `{name}` to be over"), || {
        let found = health(fixture)?;
        let part: Component = found.components.get(name)?.clone();
        let last = part.last.filter(|last| last.until_ms >= after_ms)?;
        (part.status == Word::Healthy).then_some(last.error.unwrap_or_default())
    })
}

fn error(found: &HealthStatus, name: &str) -> String {
    let error = &found.components[name].error;
    error.clone().unwrap_or_default()
}

fn pid(fixture: &Fixture, service: &str) -> u32 {
    until(&format!("a process of `{service}`"), || {
        let status = fixture.seen(STAGING)?;
        let mut of = status.instances.iter().filter(|one| one.service == service);
        of.find_map(|one| one.pid)
    })
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn now_ms() -> i64 {
    towpath::clock::Clock::system().wall_ms()
}

/// Status and body of what the gateway answers.
fn asked(listen: &str, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(listen).unwrap();
    stream.set_read_timeout(Some(machine::PATIENCE)).unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {listen}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok());
    (status.unwrap_or_default(), body.to_owned())
}

/// Waits until the gateway says so at its own path.
fn says(listen: &str, status: u16, word: Word) -> HealthStatus {
    until(&format!("{status} and {}", word.text()), || {
        let (found, body) = asked(listen, "GET", "/readyz");
        let health: HealthStatus = serde_json::from_str(&body).ok()?;
        (found == status && health.status == word).then_some(health)
    })
}

#[test]
fn files_that_are_gone_or_torn_are_named_and_the_rest_serves() {
    let mut fixture = Fixture::with(&manifest("sqlite", ""));
    // What has been there has to be there.
    let text = fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    let text = text.replace(
        "kind = \"sqlite\"",
        "kind = \"sqlite\", migrate = \"migrations\"",
    );
    fixture.write("tow.toml", &text);
    fixture.migration();
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let listen = fixture.listen(STAGING);
    let whole = recovers(&fixture);
    assert!(whole.components["db"].critical && whole.components["web"].critical);
    assert!(!whole.components["ai"].critical && !whole.components["worker"].critical);
    says(&listen, 200, Word::Healthy);
    assert_eq!(asked(&listen, "GET", "/livez").0, 200);
    assert_eq!(asked(&listen, "POST", "/readyz").0, 405);
    // Only the very path is the gateway's.
    assert_eq!(asked(&listen, "GET", "/readyz/x").0, 404);
    assert_eq!(asked(&listen, "GET", "/version"), (200, "v2".to_owned()));

    let data = fixture.state(STAGING).join("data");
    let (db, aside) = (data.join("db.db"), data.join("aside"));
    fs::rename(&db, &aside).unwrap();
    let found = becomes(&fixture, "db", Word::Unhealthy);
    assert!(error(&found, "db").contains("is not there"), "{found:?}");
    assert!(
        error(&found, "web").contains("`db`, which it needs"),
        "{found:?}"
    );
    assert_eq!(
        (found.status, found.components["web"].status),
        (Word::Unhealthy, Word::Degraded)
    );
    let said = says(&listen, 503, Word::Unhealthy);
    assert!(error(&said, "db").contains("is not there"), "{said:?}");
    assert_eq!(fixture.get(&listen, "/version"), Ok("v2".to_owned()));
    let text = fixture.tow(&["status", "-e", STAGING]).expect(0).out;
    assert!(text.starts_with("staging FAILING"), "{text}");
    assert!(text.contains("  db  unhealthy for "), "{text}");
    fs::rename(&aside, &db).unwrap();
    recovers(&fixture);
    says(&listen, 200, Word::Healthy);

    let whole = fs::read(&db).unwrap();
    fs::write(&db, vec![b'x'; whole.len()]).unwrap();
    let found = becomes(&fixture, "db", Word::Unhealthy);
    assert!(error(&found, "db").contains("not a database"), "{found:?}");
    fs::write(&db, whole).unwrap();
    recovers(&fixture);

    let before = now_ms();
    fs::rename(data.join("files"), data.join("elsewhere")).unwrap();
    let found = becomes(&fixture, "files", Word::Unhealthy);
    assert!(error(&found, "files").contains("No such file"), "{found:?}");
    fs::rename(data.join("elsewhere"), data.join("files")).unwrap();
    recovers(&fixture);
    assert!(is_over(&fixture, "files", before).contains("No such file"));
    fixture.down(STAGING);
}

#[test]
fn services_that_die_or_hang_are_named_and_the_rest_serves() {
    let metrics = unused();
    let given = format!("[environments.staging]\nmetrics = \"{metrics}\"");
    let text = manifest("sqlite", "").replace("[environments.staging]", &given);
    let fixture = Fixture::with(&text);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let listen = fixture.listen(STAGING);
    recovers(&fixture);
    let traffic = Traffic::start(&fixture, &listen);

    let ai = pid(&fixture, "ai");
    signal(ai, Signal::STOP);
    let found = becomes(&fixture, "ai", Word::Unhealthy);
    assert!(
        error(&found, "ai").contains("no answer within 2000 ms"),
        "{found:?}"
    );
    assert!(
        error(&found, "web").contains("`ai`, which it can do without"),
        "{found:?}"
    );
    assert_eq!(found.status, Word::Degraded);
    says(&listen, 200, Word::Degraded);
    traffic.more();
    signal(ai, Signal::CONT);
    recovers(&fixture);

    let before = now_ms();
    machine::kill(ai);
    let why = is_over(&fixture, "ai", before);
    assert!(why.contains("was ended by signal 9"), "{why}");

    let dies = fixture.data("worker-dies-v1");
    fs::write(&dies, "").unwrap();
    machine::kill(pid(&fixture, "worker"));
    // First how it ended, then how it ends again and again.
    let found = until("the worker to say why it dies", || {
        let found = becomes(&fixture, "worker", Word::Unhealthy);
        error(&found, "worker")
            .contains("exited with status 1")
            .then_some(found)
    });
    assert_eq!(found.status, Word::Degraded);
    traffic.more();
    fs::remove_file(&dies).unwrap();
    recovers(&fixture);
    let report = traffic.stop();
    assert_eq!(report.requests.failed, 0, "{report:?}");
    counted(&fixture, &metrics, report.requests.total);

    let web = pid(&fixture, "web");
    signal(web, Signal::STOP);
    let found = becomes(&fixture, "web", Word::Degraded);
    assert!(
        error(&found, "web").contains("1 of 2: web-d1-"),
        "{found:?}"
    );
    assert_eq!(
        (found.components["web"].ready, found.components["web"].of),
        (Some(1), Some(2))
    );
    signal(web, Signal::CONT);
    recovers(&fixture);

    // Nobody who asks waits for a gateway that hangs.
    let gateway = machine::members(&fixture.state(STAGING))["gateway"].clone();
    gateway.iter().for_each(|pid| signal(*pid, Signal::STOP));
    let found = until("the gateway to be unhealthy", || {
        health(&fixture).filter(|found| found.gateway.status == Word::Unhealthy)
    });
    gateway.iter().for_each(|pid| signal(*pid, Signal::CONT));
    assert_eq!(found.status, Word::Unhealthy);
    recovers(&fixture);
    fixture.down(STAGING);
}

#[test]
fn what_cannot_be_started_again_is_unhealthy_and_a_silent_shim_kills_nobody() {
    let fixture = Fixture::with(&manifest("sqlite", ""));
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    recovers(&fixture);
    let ai = pid(&fixture, "ai");
    let shims = machine::shims(&fixture.state(STAGING));
    let (name, shim) = shims
        .iter()
        .find(|(name, _)| name.starts_with("ai-"))
        .unwrap();
    let shim = shim[0];
    signal(shim, Signal::STOP);
    let found = becomes(&fixture, "ai", Word::Unhealthy);
    assert!(error(&found, "ai").contains("does not answer"), "{found:?}");
    signal(shim, Signal::CONT);
    recovers(&fixture);
    assert_eq!(pid(&fixture, "ai"), ai);

    // In the place of its folder stands a file.
    let run = fixture.state(STAGING).join("run");
    let (dir, aside) = (run.join(name), run.join("aside"));
    fs::rename(&dir, &aside).unwrap();
    fs::write(&dir, "").unwrap();
    machine::kill(shim);
    machine::kill(ai);
    let found = becomes(&fixture, "ai", Word::Unhealthy);
    assert!(
        error(&found, "ai").contains("cannot be started"),
        "{found:?}"
    );
    let text = fixture.tow(&["ps", "-e", STAGING]).expect(0).out;
    assert!(text.contains("unhealthy"), "{text}");
    fs::remove_file(&dir).unwrap();
    fs::rename(&aside, &dir).unwrap();
    recovers(&fixture);
    fixture.down(STAGING);
}

#[test]
fn a_worker_that_dies_while_a_run_is_under_way_is_named() {
    let text = manifest("sqlite", "").replace(
        "[services.worker]\n",
        "[services.worker]\nbuild = \"until test -e $DATA/built; do sleep 0.05; done\"\nbuild_env = { DATA = \"DATA\" }\n",
    );
    let mut fixture = Fixture::with(&text);
    let built = fixture.data("built");
    fs::write(&built, "").unwrap();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    recovers(&fixture);
    fs::remove_file(&built).unwrap();
    fixture.commit();
    let mut deploy = fixture.start(&["deploy", "-e", STAGING]);
    until("a run under way", || fixture.seen(STAGING)?.run);
    let dies = fixture.data("worker-dies-v1");
    fs::write(&dies, "").unwrap();
    machine::kill(pid(&fixture, "worker"));
    becomes(&fixture, "worker", Word::Unhealthy);
    assert!(deploy.0.try_wait().unwrap().is_none(), "it was to wait");
    fs::remove_file(&dies).unwrap();
    recovers(&fixture);
    fs::write(&built, "").unwrap();
    fixture.end(deploy).expect(0);
    fixture.down(STAGING);
}

/// An address that nobody listens on.
fn unused() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// The numbers of the lines that begin with `name` and hold all of `parts`.
fn numbers(text: &str, name: &str, parts: &[&str]) -> Vec<f64> {
    let is_named = |line: &&str| line.starts_with(&format!("{name}{{"));
    let lines = text.lines().filter(is_named);
    let lines = lines.filter(|line| parts.iter().all(|part| line.contains(part)));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
        .collect()
}

/// Whether the metrics hold all that was asked: by the command, at the address, and in a few numbers.
fn counted(fixture: &Fixture, address: &str, requests: u64) {
    let web = "service=\"web\"";
    // A request is counted when the gateway is done with it, which is after the client is.
    let (text, all) = until("all requests to be counted", || {
        let text = fixture.tow(&["metrics", "-e", STAGING]).expect(0).out;
        let all: f64 = numbers(&text, "http_requests_total", &[web]).iter().sum();
        (all >= requests as f64).then_some((text, all))
    });
    let took = numbers(&text, "http_request_duration_seconds_count", &[web]);
    assert_eq!(took.iter().sum::<f64>(), all);
    let failed = numbers(&text, "http_requests_total", &[web, "status_code=\"5"]);
    assert_eq!(failed.iter().sum::<f64>(), 0.0, "{text}");
    assert!(!text.contains("/write/"), "a path is a label: {text}");
    assert_eq!(
        numbers(&text, "websocket_connections_active", &[web]),
        [0.0]
    );
    let ai = numbers(&text, "tow_component_restarts_total", &["component=\"ai\""]);
    assert_eq!(ai, [1.0], "{text}");
    let whole = numbers(
        &text,
        "tow_component_health",
        &["component=\"environment\""],
    );
    assert_eq!(whole, [1.0], "{text}");
    let (status, there) = asked(address, "GET", "/metrics");
    let found: f64 = numbers(&there, "http_requests_total", &[web]).iter().sum();
    assert_eq!((status, found), (200, all), "{there}");
    assert_eq!(asked(address, "GET", "/").0, 404);
    assert_eq!(asked(address, "POST", "/metrics").0, 404);
    // The agent looks at the counters every few seconds.
    let found = until("the requests of the last minute", || {
        fixture.status(STAGING).traffic.remove("web")
    });
    assert!(
        found.requests_per_second > 0.0 && found.errors_per_second == 0.0,
        "{found:?}"
    );
    assert!(
        found.p50_ms > 0.0 && found.p50_ms <= found.p95_ms,
        "{found:?}"
    );
}

#[test]
fn servers_that_die_or_hang_are_named_and_the_rest_serves() {
    if !installed(true) {
        return;
    }
    let cache = "cache = { kind = \"redis\", alive = { every = \"100ms\", timeout = \"2s\" } }";
    let fixture = Fixture::with(&manifest("postgres", cache));
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let listen = fixture.listen(STAGING);
    let whole = recovers(&fixture);
    assert!(whole.components["db"].connections.is_some(), "{whole:?}");
    let text = fixture.tow(&["metrics", "-e", STAGING]).expect(0).out;
    let connections = numbers(&text, "database_connections_active", &["resource=\"db\""]);
    assert_eq!(connections.len(), 1, "{text}");
    let traffic = Traffic::start(&fixture, &listen);
    let mut told = 0;
    for (name, status, word) in [("cache", 200, Word::Degraded), ("db", 503, Word::Unhealthy)] {
        let process = pid(&fixture, name);
        signal(process, Signal::STOP);
        let found = becomes(&fixture, name, Word::Unhealthy);
        assert!(
            error(&found, name).contains("no answer within 2000 ms"),
            "{found:?}"
        );
        let said = says(&listen, status, word);
        assert!(
            error(&said, "web").contains(&format!("`{name}`, which it")),
            "{said:?}"
        );
        traffic.more();
        signal(process, Signal::CONT);
        recovers(&fixture);

        let before = now_ms();
        machine::kill(process);
        let why = is_over(&fixture, name, before);
        assert!(!why.is_empty());
        let after = recovers(&fixture);
        assert_eq!(after.components[name].restarts, Some(1), "{after:?}");
        assert_ne!(pid(&fixture, name), process);
        traffic.more();
        told += 2;
    }
    let report = traffic.stop();
    assert_eq!(report.requests.failed, 0, "{report:?}");
    println!(
        "health: {told} faults of servers, {} requests, {} failed",
        report.requests.total, report.requests.failed
    );
    crate::databases::down(&fixture, STAGING);
}

/// Takes connections and says nothing; how many there were, and the most at once.
fn silent() -> (u16, Arc<[AtomicUsize; 3]>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let counts: Arc<[AtomicUsize; 3]> = Arc::default();
    let shared = counts.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counts = shared.clone();
            std::thread::spawn(move || hold(stream, &counts));
        }
    });
    (port, counts)
}

fn hold(mut stream: TcpStream, [all, open, most]: &[AtomicUsize; 3]) {
    all.fetch_add(1, Ordering::SeqCst);
    let now = open.fetch_add(1, Ordering::SeqCst) + 1;
    most.fetch_max(now, Ordering::SeqCst);
    // Until the other side has closed.
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
    open.fetch_sub(1, Ordering::SeqCst);
}

#[test]
fn behind_what_hangs_there_is_one_question_and_behind_metadata_none() {
    let (port, counts) = silent();
    let cache = format!(
        "cache = {{ kind = \"redis\", url = \"redis://127.0.0.1:{port}\", alive = {{ every = \"50ms\", timeout = \"100ms\" }} }}"
    );
    let mut fixture = Fixture::with(&manifest("sqlite", &cache));
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let found = becomes(&fixture, "cache", Word::Unhealthy);
    assert!(
        error(&found, "cache").contains("no answer within 100 ms"),
        "{found:?}"
    );
    until("it is asked again and again", || {
        (counts[0].load(Ordering::SeqCst) > 10).then_some(())
    });
    // One may have been given up, and not yet be gone.
    let most = counts[2].load(Ordering::SeqCst);
    assert!(most <= 2, "{most} at once");

    let text = fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    let place = format!("127.0.0.1:{port}");
    fixture.write("tow.toml", &text.replace(&place, "169.254.169.254:80"));
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let found = until("the other address is looked at", || {
        health(&fixture).filter(|found| error(found, "cache").contains("169.254"))
    });
    assert!(error(&found, "cache").contains("is not asked"), "{found:?}");
    fixture.down(STAGING);
}
