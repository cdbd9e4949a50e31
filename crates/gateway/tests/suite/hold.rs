//! Holds: a barrier, a lease, and what its end does.

use towpath_gateway::api::{Hold, Mode, OnExpiry, Renew, Resume};
use towpath_gateway::control::Error;

use crate::app::App;
use crate::client::{Conn, Response};
use crate::support::{Gateway, Load, Process, table, until};

const CYCLES: usize = 1000;
const CONNECTIONS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_reaches_the_application_in_a_thousand_holds_and_nothing_fails() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let load = Load::start(gateway.addr, CONNECTIONS, "/");
    load.reached(CONNECTIONS as u64).await;
    let mut slipped = 0;
    for _ in 0..CYCLES {
        let held = gateway.hold(OnExpiry::Old, 20_000).await;
        let before = app.count();
        until("all wait", || async {
            gateway.waiting().await == CONNECTIONS as u64
        })
        .await;
        slipped += app.count() - before;
        gateway.resume(&held.token).await;
        load.reached(CONNECTIONS as u64 / 4).await;
    }
    let (failed, requests) = load.stop("hold").await;
    println!("hold: {CYCLES} holds with {CONNECTIONS} waiting, {slipped} requests slipped through");
    assert_eq!((failed, slipped), (0, 0));
    assert!(requests as usize >= CYCLES * CONNECTIONS / 4, "{requests}");
}

fn get(gateway: &Gateway, path: &'static str) -> tokio::task::JoinHandle<Response> {
    let addr = gateway.addr;
    tokio::spawn(async move { Conn::open(addr).await.unwrap().get(path).await.unwrap() })
}

#[tokio::test]
async fn a_holder_that_dies_is_released_by_its_lease() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    gateway.hold(OnExpiry::Old, 300).await;
    let waiter = get(&gateway, "/");
    assert_eq!(waiter.await.unwrap().status, 200);
    assert_eq!(gateway.control().state().await.unwrap().mode, Mode::Open);
}

#[tokio::test]
async fn a_holder_that_dies_leaves_it_closed_when_that_was_agreed() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    gateway.hold(OnExpiry::Closed, 300).await;
    let response = get(&gateway, "/").await.unwrap();
    assert_eq!(
        (response.status, response.header("retry-after").is_some()),
        (503, true)
    );
    assert_eq!(
        (gateway.control().state().await.unwrap().mode, app.count()),
        (Mode::Closed, 0)
    );
    gateway
        .control()
        .resume(&Resume { token: None })
        .await
        .unwrap();
    assert_eq!(get(&gateway, "/").await.unwrap().status, 200);
}

#[tokio::test]
async fn only_the_holder_renews_and_resumes() {
    let gateway = Gateway::serving(table(&[])).await;
    let held = gateway.hold(OnExpiry::Old, 5_000).await;
    let other = Hold {
        holder: "other".to_owned(),
        lease_ms: 1_000,
        on_expiry: OnExpiry::Old,
    };
    match gateway.control().hold(&other).await {
        Err(Error::Conflict(conflict)) => {
            assert_eq!(conflict.holder.as_deref(), Some("test"));
            assert!(
                conflict
                    .left_ms
                    .is_some_and(|left| left > 0 && left <= 5_000),
                "{conflict:?}"
            );
        }
        answer => panic!("{answer:?}"),
    }
    for token in [None, Some("wrong".to_owned())] {
        let answer = gateway.control().resume(&Resume { token }).await;
        assert!(matches!(answer, Err(Error::Conflict(_))), "{answer:?}");
    }
    let renew = Renew {
        token: held.token.clone(),
        lease_ms: 20_000,
        on_expiry: OnExpiry::Closed,
    };
    let renewed = gateway.control().renew(&renew).await.unwrap();
    assert!(renewed.left_ms > 5_000, "{renewed:?}");
    gateway.resume(&held.token).await;
    assert!(matches!(
        gateway.control().renew(&renew).await,
        Err(Error::Conflict(_))
    ));
    let long = Hold {
        holder: "test".to_owned(),
        lease_ms: 30_001,
        on_expiry: OnExpiry::Old,
    };
    assert!(matches!(
        gateway.control().hold(&long).await,
        Err(Error::Refused { status: 400, .. })
    ));
}

#[tokio::test]
async fn a_hold_that_does_not_drain_fails_and_traffic_goes_on() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let slow = get(&gateway, "/wait");
    until("it is under way", || async { app.count() == 1 }).await;
    let hold = Hold {
        holder: "test".to_owned(),
        lease_ms: 200,
        on_expiry: OnExpiry::Closed,
    };
    let answer = gateway.control().hold(&hold).await;
    assert!(
        matches!(&answer, Err(Error::Refused { status: 504, .. })),
        "{answer:?}"
    );
    assert_eq!(get(&gateway, "/").await.unwrap().status, 200);
    assert_eq!(gateway.control().state().await.unwrap().mode, Mode::Open);
    app.seen.go.notify_one();
    assert_eq!(slow.await.unwrap().text(), "waited");
}

#[tokio::test]
async fn a_hold_whose_caller_goes_away_is_taken_back() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let slow = get(&gateway, "/wait");
    until("it is under way", || async { app.count() == 1 }).await;
    let control = gateway.control().clone();
    let hold = Hold {
        holder: "test".to_owned(),
        lease_ms: 30_000,
        on_expiry: OnExpiry::Closed,
    };
    let call = tokio::spawn(async move { control.hold(&hold).await });
    until("it is held", || async {
        gateway.control().state().await.unwrap().mode != Mode::Open
    })
    .await;
    call.abort();
    until("it is open", || async {
        gateway.control().state().await.unwrap().mode == Mode::Open
    })
    .await;
    app.seen.go.notify_one();
    assert_eq!(slow.await.unwrap().status, 200);
}

#[tokio::test]
async fn waiters_whose_client_left_are_forgotten_and_bodies_wait_unread() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let held = gateway.hold(OnExpiry::Old, 20_000).await;
    let gone = get(&gateway, "/");
    let mut kept = Conn::open(gateway.addr).await.unwrap();
    kept.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
        .await
        .unwrap();
    until("both wait", || async { gateway.waiting().await == 2 }).await;
    gone.abort();
    until("one waits", || async { gateway.waiting().await == 1 }).await;
    let body = vec![b'x'; 3_000_000];
    let (_, response) = tokio::join!(async { gateway.resume(&held.token).await }, async {
        kept.send(&body).await.unwrap();
        kept.receive(false).await.unwrap()
    });
    assert_eq!((response.status, response.body.len()), (200, body.len()));
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn a_switch_under_a_hold_sends_the_waiters_to_the_new_instances() {
    let (old, new) = (App::start(), App::start());
    let gateway = Gateway::serving(table(&[old.addr])).await;
    let held = gateway.hold(OnExpiry::Old, 20_000).await;
    let waiter = get(&gateway, "/");
    until("it waits", || async { gateway.waiting().await == 1 }).await;
    gateway.switch("second", table(&[new.addr])).await;
    assert_eq!(gateway.waiting().await, 1);
    gateway.resume(&held.token).await;
    assert_eq!(waiter.await.unwrap().status, 200);
    assert_eq!((old.count(), new.count()), (0, 1));
}

#[tokio::test]
async fn a_holder_that_lost_its_token_takes_its_own_hold_over() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let lost = gateway.hold(OnExpiry::Closed, 20_000).await;
    let waiter = get(&gateway, "/");
    until("it waits", || async { gateway.waiting().await == 1 }).await;
    let held = gateway.hold(OnExpiry::Closed, 20_000).await;
    assert_eq!((held.waiting, app.count()), (1, 0));
    let old = Resume {
        token: Some(lost.token),
    };
    assert!(matches!(
        gateway.control().resume(&old).await,
        Err(Error::Conflict(_))
    ));
    gateway.resume(&held.token).await;
    assert_eq!(waiter.await.unwrap().status, 200);
}

#[tokio::test]
async fn more_than_a_quarter_of_the_descriptors_do_not_wait_and_connections_are_bounded() {
    let app = App::start();
    let mut gateway = Gateway::serving(table(&[app.addr])).await;
    gateway.process.kill();
    let (socket, state) = (
        gateway.folder.path().join("c"),
        gateway.folder.path().join("state"),
    );
    gateway.process = Process::limited(&gateway.listener, &socket, &state, "256").await;
    let held = gateway.hold(OnExpiry::Old, 20_000).await;
    let waiters: Vec<_> = (0..64).map(|_| get(&gateway, "/")).collect();
    until("all wait", || async { gateway.waiting().await == 64 }).await;
    let refused = get(&gateway, "/").await.unwrap();
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    gateway.resume(&held.token).await;
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().status, 200);
    }
    // Half of the descriptors, less a reserve, are for clients.
    let mut open = Vec::new();
    for _ in 0..96 {
        let mut conn = Conn::open(gateway.addr).await.unwrap();
        assert_eq!(conn.get("/").await.unwrap().status, 200);
        open.push(conn);
    }
    let refused = Conn::open(gateway.addr)
        .await
        .unwrap()
        .receive(false)
        .await
        .unwrap();
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    drop(open);
    until("there is room again", || async {
        let mut conn = Conn::open(gateway.addr).await.unwrap();
        conn.get("/")
            .await
            .is_ok_and(|response| response.status == 200)
    })
    .await;
}
