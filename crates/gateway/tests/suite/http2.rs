//! HTTP/2 on the client's side: the same checks, the same table, and an end without a lost request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use towpath_gateway::api::{Cache, OnExpiry, Retire};

use crate::app::{App, LARGE};
use crate::secure::{Http2, SecureGateway};
use crate::support::{Bounds, Process, table, until};

async fn gateway(app: &App) -> SecureGateway {
    SecureGateway::serving(&["a.test", "b.test"], table(&[app.addr])).await
}

#[tokio::test]
async fn an_instance_is_told_the_same_as_over_http1() {
    let app = App::start();
    let gateway = gateway(&app).await;
    let mut client = gateway.http2("a.test").await.unwrap();
    let request = Request::get("https://a.test:444/head?q")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x_user", "root")
        .header("x-forwarded-for", "1.2.3.4")
        .header("te", "trailers")
        .header("x-kept", "yes")
        .body(Full::default())
        .unwrap();
    let answer = client.send(request).await.unwrap();
    let text = answer.text();
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.remove(0), "GET /head?q");
    lines.sort_unstable();
    let wanted = [
        "cookie: a=1; b=2",
        "forwarded: for=127.0.0.1;proto=https",
        "host: a.test:444",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: a.test:444",
        "x-forwarded-proto: https",
        "x-kept: yes",
    ];
    assert_eq!(lines, wanted);
    assert!(!answer.headers.contains_key("connection"));
}

#[tokio::test]
async fn what_http1_refuses_is_refused() {
    let app = App::start();
    let gateway = gateway(&app).await;
    let mut client = gateway.http2("a.test").await.unwrap();
    let ask = |method: &str, uri: &str| Request::builder().method(method).uri(uri);
    let many = (0..200).fold(ask("GET", "https://a.test/"), |asked, n| {
        asked.header(format!("x-{n}"), "y")
    });
    let long = ask("GET", "https://a.test/").header("x", "y".repeat(100_000));
    let cases = [
        (ask("TRACE", "https://a.test/"), 405),
        (ask("GET", "https://a.test/").header("host", "b.test"), 400),
        (
            ask("GET", "https://a.test/")
                .header("host", "a.test")
                .header("host", "a.test"),
            400,
        ),
        (ask("GET", "https://u@a.test/"), 400),
        (ask("GET", "http://a.test/"), 400),
        (ask("GET", "https://b.test/"), 421),
        (many, 431),
        (long, 431),
        (ask("GET", "https://a.test/").header("host", "a.test"), 200),
        (ask("PUT", "https://a.test/"), 200),
    ];
    for (index, (request, status)) in cases.into_iter().enumerate() {
        let answer = client.send(request.body(Full::default()).unwrap()).await;
        let got = answer.as_ref().map_or(0, |answer| answer.status.as_u16());
        assert_eq!(got, status, "case {index}: {answer:?}");
    }
    // What the protocol forbids ends its stream, and no other.
    for (name, value) in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
    ] {
        let request = ask("GET", "https://a.test/").header(name, value);
        let answer = client.send(request.body(Full::default()).unwrap()).await;
        // hyper's client takes them off before it sends them.
        assert_eq!(answer.unwrap().status, 200, "{name}");
    }
    let connect = ask("CONNECT", "a.test:443").body(Full::default()).unwrap();
    let answer = client.send(connect).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 405));
    assert_eq!(app.count(), 5);
}

#[tokio::test]
async fn bodies_go_both_ways_whole_on_many_streams_of_one_connection() {
    const STREAMS: usize = 300;
    let app = App::start();
    let gateway = gateway(&app).await;
    let client = gateway.http2("a.test").await.unwrap();
    let tasks: Vec<_> = (0..STREAMS)
        .map(|index| {
            let mut client = client.clone();
            let body: Bytes = (0..index * 1_000).map(|n| n as u8).collect();
            tokio::spawn(async move {
                let request = Request::post("https://a.test/echo").body(Full::new(body.clone()));
                let answer = client.send(request.unwrap()).await.unwrap();
                assert!(answer.status == 200 && answer.body == body, "{index}");
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(app.count(), STREAMS as u64);
    let head = Request::head("https://a.test/")
        .body(Full::default())
        .unwrap();
    let answer = client.clone().send(head).await.unwrap();
    assert_eq!(
        (
            answer.headers["content-length"].to_str().unwrap(),
            answer.body.len()
        ),
        ("5", 0)
    );
}

#[tokio::test]
async fn a_hold_keeps_streams_waiting_and_a_client_that_leaves_is_forgotten() {
    let app = App::start();
    let gateway = gateway(&app).await;
    let hold = towpath_gateway::api::Hold {
        holder: "test".to_owned(),
        lease_ms: 20_000,
        on_expiry: OnExpiry::Old,
    };
    let held = gateway.process.control.hold(&hold).await.unwrap();
    let client = gateway.http2("a.test").await.unwrap();
    let waiting = || async {
        match gateway.process.control.state().await.unwrap().mode {
            towpath_gateway::api::Mode::Held { waiting, .. } => waiting,
            _ => 0,
        }
    };
    let mut tasks: Vec<_> = (0..10)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.get("https://a.test/").await })
        })
        .collect();
    until("all wait", || async { waiting().await == 10 }).await;
    // Its stream is reset.
    tasks.pop().unwrap().abort();
    until("one has left", || async { waiting().await == 9 }).await;
    let resume = towpath_gateway::api::Resume {
        token: Some(held.token),
    };
    gateway.process.control.resume(&resume).await.unwrap();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().status, 200);
    }
    assert_eq!(app.count(), 9);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_reset_and_no_other() {
    let app = App::start();
    let bounds = Bounds {
        stall_ms: 500,
        ..Bounds::default()
    };
    let gateway = SecureGateway::within(&["a.test"], table(&[app.addr]), bounds).await;
    let client = gateway.http2("a.test").await.unwrap();
    let mut left = client.clone();
    // More than a client takes of a stream that nobody reads.
    let body = Bytes::from(vec![b'x'; 4 << 20]);
    let request = Request::post("https://a.test/echo").body(Full::new(body));
    left.sender.ready().await.unwrap();
    let unread = left.sender.send_request(request.unwrap()).await.unwrap();
    until("its stream is given up", || async {
        assert_eq!(
            client.clone().get("https://a.test/").await.unwrap().status,
            200
        );
        let state = gateway.process.control.state().await.unwrap();
        state.in_flight.iter().all(|flight| flight.requests == 0)
    })
    .await;
    assert!(unread.into_body().collect().await.is_err(), "it was reset");
    // The connection goes on, also with a large body that is read.
    let body = Bytes::from(vec![b'y'; 4 << 20]);
    let request = Request::post("https://a.test/echo").body(Full::new(body.clone()));
    let answer = client.clone().send(request.unwrap()).await.unwrap();
    assert!(answer.status == 200 && answer.body == body);
}

#[tokio::test]
async fn a_kept_answer_that_nobody_reads_is_given_up_too() {
    let app = App::start();
    let mut routes = table(&[app.addr]);
    routes.routes[0].cache = Some(Cache {
        ttl_ms: 600_000,
        max_bytes: 2 * LARGE as u64,
    });
    // Places for a connection and one stream.
    let bounds = Bounds {
        descriptors: "68",
        stall_ms: 500,
    };
    let gateway = SecureGateway::within(&["a.test"], routes, bounds).await;
    let client = gateway.http2("a.test").await.unwrap();
    let ask = || Request::get("https://a.test/large").body(Full::default());
    let whole = client.clone().send(ask().unwrap()).await.unwrap();
    assert_eq!((whole.status.as_u16(), whole.body.len()), (200, LARGE));
    let mut left = client.clone();
    left.sender.ready().await.unwrap();
    let unread = left.sender.send_request(ask().unwrap()).await.unwrap();
    assert_eq!(unread.headers()["cache-status"], "gateway; hit");
    until("its place is free", || async {
        let answer = client.clone().get("https://a.test/").await.unwrap();
        answer.status == 200
    })
    .await;
    assert!(unread.into_body().collect().await.is_err(), "it was reset");
    // One that is read comes whole.
    let whole = client.clone().send(ask().unwrap()).await.unwrap();
    assert_eq!((whole.body.len(), app.count()), (LARGE, 2));
}

#[tokio::test]
async fn a_stream_that_is_read_slowly_comes_whole() {
    const WINDOW: u32 = 16 * 1024;
    let app = App::start();
    let bounds = Bounds {
        stall_ms: 1_200,
        ..Bounds::default()
    };
    let gateway = SecureGateway::within(&["a.test"], table(&[app.addr]), bounds).await;
    let client = gateway.authority.client(&["h2"]);
    let opened = Http2::within(gateway.secure, &client, "a.test", WINDOW).await;
    let mut client = opened.unwrap();
    let request = Request::get("https://a.test/large").body(Full::default());
    let response = client.sender.send_request(request.unwrap()).await.unwrap();
    let mut body = response.into_body();
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let mut taken = 0;
    // Long enough for the instance's pieces to be as large as they become; the rest at once.
    while let Some(frame) = body.frame().await {
        taken += frame.unwrap().data_ref().map_or(0, Bytes::len);
        if taken < LARGE / 4 {
            pace.tick().await;
        }
    }
    assert_eq!(taken, LARGE);
}

/// Requests over one connection at a time, a new one after the old one was said goodbye to.
async fn run(gateway: Arc<Dial>, stop: Arc<AtomicBool>, tally: Arc<[AtomicU64; 3]>) {
    let mut client: Option<Http2> = None;
    while !stop.load(SeqCst) {
        let mut open = match client.take() {
            Some(open) => open,
            None => {
                tally[2].fetch_add(1, SeqCst);
                Http2::open(gateway.addr, &gateway.client, "a.test")
                    .await
                    .unwrap()
            }
        };
        // Not sent where the connection was told to end: no request, then.
        if open.sender.ready().await.is_err() {
            continue;
        }
        tally[0].fetch_add(1, SeqCst);
        match open.get("https://a.test/").await {
            Ok(answer) if answer.status == 200 => client = Some(open),
            Err(error) if error.is_canceled() || is_goodbye(&error) => {
                // hyper's own word for a request that it has not sent, and the gateway's for one that it will not look at.
                tally[0].fetch_sub(1, SeqCst);
            }
            other => {
                println!("{other:?}");
                tally[1].fetch_add(1, SeqCst);
            }
        }
    }
}

/// The goodbye names the last stream that is answered, and this one is behind it: not processed, and to be sent again
/// over another connection (RFC 9113, 6.8).
fn is_goodbye(error: &hyper::Error) -> bool {
    use std::error::Error;
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR)
    })
}

struct Dial {
    addr: std::net::SocketAddr,
    client: tokio_rustls::TlsConnector,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switches_and_take_overs_fail_no_request() {
    let (one, two) = (App::start(), App::start());
    let mut gateway = gateway(&one).await;
    let dial = Arc::new(Dial {
        addr: gateway.secure,
        client: gateway.authority.client(&["h2"]),
    });
    let (stop, tally) = (
        Arc::new(AtomicBool::new(false)),
        Arc::<[AtomicU64; 3]>::default(),
    );
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            tokio::spawn(run(
                Arc::clone(&dial),
                Arc::clone(&stop),
                Arc::clone(&tally),
            ))
        })
        .collect();
    let reached = |more: u64| {
        let wanted = tally[0].load(SeqCst) + more;
        let tally = Arc::clone(&tally);
        async move {
            until("the load goes on", || async {
                tally[0].load(SeqCst) >= wanted
            })
            .await
        }
    };
    for turn in 0..4 {
        reached(500).await;
        gateway.switch(table(&[two.addr])).await;
        reached(500).await;
        gateway.switch(table(&[one.addr])).await;
        let socket = gateway.folder.path().join(format!("c{turn}"));
        let new = Process::secure(&gateway.listeners, &socket, gateway.folder.path()).await;
        let mut old = std::mem::replace(&mut gateway.process, new);
        let retire = Retire { timeout_ms: 5_000 };
        assert_eq!(old.control.retire(&retire).await.unwrap().requests, 0);
        assert!(old.ended().await);
    }
    stop.store(true, SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    let [requests, failed, connections] = [0, 1, 2].map(|index| tally[index].load(SeqCst));
    println!(
        "http/2: {failed} failed of {requests} in 8 switches and 4 take-overs, {connections} connections"
    );
    assert_eq!(failed, 0);
    assert!(requests > 4_000 && two.count() > 500, "{requests}");
    // Each take-over has said goodbye to all.
    assert!(connections >= 16 * 4, "{connections}");
}

#[tokio::test]
async fn on_sigterm_streams_are_finished() {
    let app = App::start();
    let mut gateway = gateway(&app).await;
    let mut client = gateway.http2("a.test").await.unwrap();
    let mut slow = client.clone();
    let waits = tokio::spawn(async move { slow.get("https://a.test/wait").await });
    until("it is under way", || async { app.count() == 1 }).await;
    gateway.process.terminate();
    // Once the connection takes no more streams the signal has been heard.
    while client.get("https://a.test/").await.is_ok() {}
    app.seen.go.notify_one();
    assert_eq!(waits.await.unwrap().unwrap().text(), "waited");
    assert!(gateway.process.ended().await);
}
