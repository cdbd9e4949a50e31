//! Choosing an instance, and what happens when one is gone.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use towpath_gateway::api::{Health, Route, Table};

use crate::app::App;
use crate::client::{Conn, Response};
use crate::support::{Gateway, Load, table, until};

async fn ask(gateway: &Gateway, method: &str, path: &str, more: &str, body: &[u8]) -> Response {
    Conn::open(gateway.addr)
        .await
        .unwrap()
        .ask(method, path, more, body)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_killed_under_load_costs_nothing_while_another_is_there() {
    let apps = [App::start(), App::start()];
    let gateway = Gateway::serving(table(&[apps[0].addr, apps[1].addr])).await;
    let load = Load::start(gateway.addr, 64, "/");
    let mut apps = apps.into_iter().map(Some).collect::<Vec<_>>();
    for turn in 0..10 {
        load.reached(500).await;
        let mut app = apps[turn % 2].take().unwrap();
        app.kill();
        load.reached(200).await;
        let again = App::again(app.addr, Arc::clone(&app.seen));
        let served = again.count();
        apps[turn % 2] = Some(again);
        let back = apps[turn % 2].as_ref().unwrap();
        until("it serves again", || async { back.count() > served }).await;
    }
    let (failed, requests) = load.stop("killed instance").await;
    println!("killed instance: 10 kills");
    assert_eq!(failed, 0);
    assert!(requests > 5_000, "{requests}");
}

#[tokio::test]
async fn the_only_instance_may_start_again_within_a_request() {
    let mut app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    assert_eq!(
        ask(&gateway, "POST", "/echo", "", b"one").await.text(),
        "one"
    );
    app.kill();
    let addr = gateway.addr;
    let waiting = tokio::spawn(async move {
        Conn::open(addr)
            .await
            .unwrap()
            .ask("POST", "/echo", "", b"two")
            .await
    });
    until("it was refused", || async {
        gateway
            .control()
            .state()
            .await
            .unwrap()
            .targets
            .values()
            .any(|t| !t.healthy)
    })
    .await;
    let _again = App::again(app.addr, Arc::clone(&app.seen));
    assert_eq!(waiting.await.unwrap().unwrap().text(), "two");
}

#[tokio::test]
async fn with_no_instance_the_answer_says_so() {
    let mut app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    app.kill();
    let response = ask(&gateway, "GET", "/", "", b"").await;
    assert_eq!(
        (response.status, response.text().as_str()),
        (503, "no healthy instance of pool app\n")
    );
    assert_eq!(response.header("retry-after"), Some("1"));
    let state = gateway.control().state().await.unwrap();
    let target = &state.targets[&format!("i{}", app.addr.port())];
    assert!(
        target
            .last_error
            .as_ref()
            .is_some_and(|text| text.contains("refused")),
        "{target:?}"
    );
    gateway.switch("none", table(&[])).await;
    assert_eq!(ask(&gateway, "GET", "/", "", b"").await.status, 503);
}

/// Method, path, header lines, body, status, and how often it reached the instance.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static [u8],
    u16,
    u64,
);

/// An instance that takes a request and closes the connection: what is sent a second time, and what is not.
#[tokio::test]
async fn only_what_may_be_repeated_is_repeated() {
    let app = App::start();
    let mut with_key = table(&[app.addr]);
    with_key.routes.push(Route {
        path: "/echo/keyed".to_owned(),
        idempotency_key: true,
        ..with_key.routes[0].clone()
    });
    let gateway = Gateway::serving(with_key).await;
    let big = vec![b'x'; 100_000];
    let key = "Idempotency-Key: 7\r\n";
    let cases: [Case; 9] = [
        ("GET", "/echo", "", b"", 200, 2),
        ("HEAD", "/echo", "", b"", 200, 2),
        ("PUT", "/echo", "", b"body", 200, 2),
        ("DELETE", "/echo", "", b"", 200, 2),
        ("POST", "/echo", "", b"body", 502, 1),
        ("PATCH", "/echo", "", b"body", 502, 1),
        ("POST", "/echo", key, b"body", 502, 1),
        ("POST", "/echo/keyed", "", b"body", 502, 1),
        ("POST", "/echo/keyed", key, b"body", 200, 2),
    ];
    for (method, path, more, body, status, reached) in cases {
        let before = app.count();
        app.seen.slam.store(1, SeqCst);
        let response = ask(&gateway, method, path, more, body).await;
        assert_eq!(
            (response.status, app.count() - before),
            (status, reached),
            "{method} {path} {more}"
        );
        if method == "PUT" {
            assert_eq!(response.body, body);
        }
    }
    // Twice is too often.
    app.seen.slam.store(2, SeqCst);
    assert_eq!(ask(&gateway, "GET", "/echo", "", b"").await.status, 502);
    // So is a body that was too large to keep.
    let before = app.count();
    app.seen.slam.store(1, SeqCst);
    let large = ask(&gateway, "PUT", "/echo", "", &big).await;
    assert!(
        large.status == 200 || app.count() - before == 1,
        "{} after {}",
        large.status,
        app.count() - before
    );
}

/// A server closes idle connections by its own clock, maybe with a request on its way: whose second sending nobody may
/// decide does not go there.
#[tokio::test]
async fn what_may_not_be_repeated_takes_no_connection_that_was_idle_for_long() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    let cases = [
        ("POST", 0, 1),
        ("POST", 0, 1),
        ("GET", 1_200, 1),
        ("POST", 0, 1),
        ("POST", 1_200, 2),
    ];
    for (method, idle_ms, connections) in cases {
        tokio::time::sleep(Duration::from_millis(idle_ms)).await;
        let response = conn.ask(method, "/echo", "", b"").await.unwrap();
        assert_eq!(response.status, 200);
        let accepted = app.seen.connections.load(SeqCst);
        assert_eq!(accepted, connections, "{method} after {idle_ms} ms");
    }
}

/// One of two takes every request and closes the connection: the second attempt is the other's.
#[tokio::test]
async fn a_second_attempt_goes_to_another_instance() {
    let (bad, good) = (App::start(), App::start());
    bad.seen.slam.store(u64::MAX, SeqCst);
    let gateway = Gateway::serving(table(&[bad.addr, good.addr])).await;
    const REQUESTS: u64 = 400;
    // Together, so that turns alone do not lead to the other one.
    let each = |_| {
        let addr = gateway.addr;
        tokio::spawn(async move {
            for _ in 0..REQUESTS / 8 {
                let mut conn = Conn::open(addr).await.unwrap();
                let response = conn.ask("GET", "/echo", "", b"").await.unwrap();
                assert_eq!(response.status, 200);
            }
        })
    };
    let clients: Vec<_> = (0..8).map(each).collect();
    for client in clients {
        client.await.unwrap();
    }
    println!(
        "second attempt: {REQUESTS} requests, {} closed",
        bad.count()
    );
    assert_eq!(good.count(), REQUESTS);
    assert!(bad.count() > 0, "nothing was closed");
}

fn checked(apps: &[&App], path: &str) -> Table {
    let mut table = table(&apps.iter().map(|app| app.addr).collect::<Vec<_>>());
    let health = Health {
        path: Some(path.to_owned()),
        interval_ms: 20,
        timeout_ms: 500,
        passes: 2,
        failures: 2,
    };
    table.pools.get_mut("app").unwrap().health = Some(health);
    table
}

#[tokio::test]
async fn an_instance_that_fails_its_checks_gets_no_requests_until_it_passes() {
    let (good, mut bad) = (App::start(), App::start());
    let gateway = Gateway::serving(checked(&[&good, &bad], "/")).await;
    let id = format!("i{}", bad.addr.port());
    let healthy = || async { gateway.control().state().await.unwrap().targets[&id].healthy };
    bad.kill();
    until("it is found unhealthy", || async { !healthy().await }).await;
    for _ in 0..50 {
        assert_eq!(ask(&gateway, "POST", "/echo", "", b"x").await.status, 200);
    }
    let again = App::again(bad.addr, Arc::clone(&bad.seen));
    until("it is found healthy", healthy).await;
    until("it serves", || async {
        ask(&gateway, "POST", "/ws-not", "", b"x").await.status == 200 && again.count() > 4
    })
    .await;
}

/// A server whose status is good at once and whose body never ends, or never comes; how often it was asked.
async fn endless(body: &'static [u8]) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, asked) = (listener.local_addr().unwrap(), Arc::default());
    let count: Arc<AtomicUsize> = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                let head = b"HTTP/1.1 200 OK\r\n\r\n";
                let mut heard = stream.write_all(head).await;
                while heard.is_ok() && !body.is_empty() {
                    heard = stream.write_all(body).await;
                }
                // Until whoever asked has gone.
                while let Ok(1..) = stream.read(&mut [0; 4096]).await {}
            });
        }
    });
    (addr, asked)
}

#[tokio::test]
async fn a_body_that_does_not_end_makes_no_good_answer_bad_and_holds_no_check_up() {
    for body in [&b"and on "[..], b""] {
        let (addr, asked) = endless(body).await;
        let mut table = table(&[addr]);
        table.pools.get_mut("app").unwrap().health = Some(Health {
            path: Some("/".to_owned()),
            interval_ms: 10,
            timeout_ms: 100,
            passes: 1,
            failures: 1,
        });
        let gateway = Gateway::serving(table).await;
        until("it was asked again and again", || async {
            asked.load(SeqCst) > 5
        })
        .await;
        let state = gateway.control().state().await.unwrap();
        let target = state.targets.values().next().unwrap();
        assert!(target.healthy, "{:?}", target.last_error);
        assert_eq!(target.last_error, None);
    }
}

#[tokio::test]
async fn checks_that_are_wrong_about_all_do_not_stop_the_traffic() {
    let app = App::start();
    // It answers /ws without an upgrade by 101, which is no success.
    let gateway = Gateway::serving(checked(&[&app], "/ws")).await;
    let state = || async {
        gateway
            .control()
            .state()
            .await
            .unwrap()
            .targets
            .into_values()
            .next()
            .unwrap()
    };
    until("it is found unhealthy", || async { !state().await.healthy }).await;
    assert!(state().await.last_error.unwrap().contains("GET /ws -> 101"));
    assert_eq!(ask(&gateway, "GET", "/", "", b"").await.status, 200);
}

#[tokio::test]
async fn connections_to_instances_are_used_again() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    for _ in 0..100 {
        assert_eq!(
            conn.ask("POST", "/echo", "", b"body").await.unwrap().text(),
            "body"
        );
    }
    assert_eq!(app.seen.connections.load(SeqCst), 1);
}
