//! The switch and the drain.

use std::time::Duration;

use towpath_gateway::api::{Apply, Drain};
use towpath_gateway::control::Error;

use crate::app::App;
use crate::client::Conn;
use crate::support::{Gateway, Load, table, until};

const SWITCHES: usize = 1000;

/// After a switch and a drain nothing reaches the old instances, so they can be ended: that is what is checked here,
/// by their counters, and no request fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_switches_lose_nothing_and_leave_nothing_behind() {
    let apps = [App::start(), App::start()];
    let gateway = Gateway::serving(table(&[apps[0].addr])).await;
    let load = Load::start(gateway.addr, 64, "/");
    let mut leaked = 0;
    for turn in 1..=SWITCHES {
        let (new, old) = (&apps[turn % 2], &apps[(turn + 1) % 2]);
        let state = gateway
            .switch(&format!("d{turn}"), table(&[new.addr]))
            .await;
        let drain = Drain {
            below: state.epoch,
            timeout_ms: 10_000,
        };
        assert_eq!(gateway.control().drain(&drain).await.unwrap().requests, 0);
        let (before, served) = (old.count(), new.count());
        until("the new instance serves", || async { new.count() > served }).await;
        leaked += old.count() - before;
    }
    let (failed, requests) = load.stop("switch").await;
    println!("switch: {SWITCHES} switches, {leaked} requests reached an instance after its drain");
    assert_eq!((failed, leaked), (0, 0));
    assert!(requests > SWITCHES as u64, "{requests}");
}

#[tokio::test]
async fn the_same_change_again_is_no_change() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let again = gateway.switch("first", table(&[app.addr])).await;
    assert_eq!(again.epoch, 1);
    assert_eq!(gateway.switch("second", table(&[app.addr])).await.epoch, 2);
    let late = Apply {
        label: "third".to_owned(),
        expect: Some(1),
        table: table(&[]),
    };
    match gateway.control().apply(&late).await {
        Err(Error::Conflict(conflict)) => assert_eq!(conflict.epoch, 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        gateway.control().state().await.unwrap().table,
        table(&[app.addr])
    );
}

#[tokio::test]
async fn a_drain_waits_for_the_answer_and_says_what_is_left_when_its_time_is_up() {
    let (old, new) = (App::start(), App::start());
    let gateway = Gateway::serving(table(&[old.addr])).await;
    let addr = gateway.addr;
    let slow =
        tokio::spawn(async move { Conn::open(addr).await.unwrap().get("/wait").await.unwrap() });
    until("it is under way", || async { old.count() == 1 }).await;
    let epoch = gateway.switch("second", table(&[new.addr])).await.epoch;
    let short = gateway
        .control()
        .drain(&Drain {
            below: epoch,
            timeout_ms: 50,
        })
        .await
        .unwrap();
    assert_eq!(short.requests, 1);
    let shown = gateway.control().state().await.unwrap().in_flight;
    assert_eq!((shown[0].epoch, shown[0].requests), (1, 1));
    let client = gateway.control().clone();
    let long = tokio::spawn(async move {
        client
            .drain(&Drain {
                below: epoch,
                timeout_ms: 20_000,
            })
            .await
            .unwrap()
    });
    let timeout = tokio::time::timeout(Duration::from_millis(50), async {
        while !long.is_finished() {
            tokio::task::yield_now().await
        }
    });
    assert!(
        timeout.await.is_err(),
        "a drain returned with a request under way"
    );
    old.seen.go.notify_one();
    assert_eq!(long.await.unwrap().requests, 0);
    assert_eq!(slow.await.unwrap().text(), "waited");
}
