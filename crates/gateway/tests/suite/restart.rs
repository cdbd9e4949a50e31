//! The end of a gateway process, and another one taking over its listener.

use std::sync::atomic::Ordering::SeqCst;

use towpath_gateway::api::Retire;

use crate::app::App;
use crate::client::Conn;
use crate::support::{Gateway, Load, Process, table, until};

const CONNECTIONS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_inherit_the_listener_take_over_without_a_failure() {
    let app = App::start();
    let mut gateway = Gateway::serving(table(&[app.addr])).await;
    let load = Load::start(gateway.addr, CONNECTIONS, "/");
    for turn in 0..5 {
        load.reached(1_000).await;
        let socket = gateway.folder.path().join(format!("c{turn}"));
        let state = gateway.folder.path().join("state");
        let new = Process::start(&gateway.listener, &socket, &state).await;
        let mut old = std::mem::replace(&mut gateway.process, new);
        let drained = old
            .control
            .retire(&Retire { timeout_ms: 5_000 })
            .await
            .unwrap();
        assert_eq!(drained.requests, 0);
        assert!(old.ended().await);
        // The new one may write what the old one wrote before.
        assert_eq!(
            gateway
                .switch(&format!("d{turn}"), table(&[app.addr]))
                .await
                .epoch,
            turn + 2
        );
    }
    let (failed, requests) = load.stop("take-over").await;
    assert_eq!(failed, 0);
    assert!(requests > 5_000, "{requests}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_fails_only_the_requests_inside() {
    const KILLS: u64 = 5;
    let app = App::start();
    let mut gateway = Gateway::serving(table(&[app.addr])).await;
    let load = Load::start(gateway.addr, CONNECTIONS, "/");
    for _ in 0..KILLS {
        load.reached(1_000).await;
        gateway.process.kill();
        gateway.restart().await;
        load.reached(CONNECTIONS as u64).await;
        let after = load.tally.failed.load(SeqCst);
        load.reached(1_000).await;
        assert_eq!(
            load.tally.failed.load(SeqCst),
            after,
            "a request failed that was not inside"
        );
    }
    let (failed, requests) = load.stop("killed gateway").await;
    println!("killed gateway: {KILLS} kills, {failed} requests inside of {requests}");
    assert!(failed <= KILLS * CONNECTIONS as u64, "{failed}");
}

#[tokio::test]
async fn on_sigterm_what_is_under_way_is_finished() {
    let app = App::start();
    let mut gateway = Gateway::serving(table(&[app.addr])).await;
    let mut slow = Conn::open(gateway.addr).await.unwrap();
    slow.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    until("it is under way", || async { app.count() == 1 }).await;
    let mut other = Conn::open(gateway.addr).await.unwrap();
    assert!(!other.get("/").await.unwrap().closes());
    gateway.process.terminate();
    // Once an answer is the last of its connection the signal has been heard.
    while !other.get("/").await.unwrap().closes() {}
    app.seen.go.notify_one();
    let response = slow.receive(false).await.unwrap();
    assert_eq!(
        (response.text(), response.closes()),
        ("waited".to_owned(), true)
    );
    assert!(gateway.process.ended().await);
    assert!(!gateway.folder.path().join("c").exists());
}

#[tokio::test]
async fn only_one_process_writes_the_state() {
    let gateway = Gateway::serving(table(&[])).await;
    let (socket, state) = (
        gateway.folder.path().join("c2"),
        gateway.folder.path().join("state"),
    );
    let second = Process::start(&gateway.listener, &socket, &state).await;
    let apply = |label: &str| towpath_gateway::api::Apply {
        label: label.to_owned(),
        expect: None,
        table: table(&[]),
    };
    let refused = second
        .control
        .apply(&apply("second"))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("another gateway writes"), "{refused}");
    gateway.switch("third", table(&[])).await;
    gateway
        .control()
        .retire(&Retire { timeout_ms: 100 })
        .await
        .unwrap();
    // It has not seen the third change, so it must not write over it.
    let refused = second
        .control
        .apply(&apply("fourth"))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("has changed"), "{refused}");
}
