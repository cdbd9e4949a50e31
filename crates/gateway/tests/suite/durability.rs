//! The state that survives a kill.

use towpath_gateway::api::{Apply, Mode, OnExpiry};

use crate::app::App;
use crate::client::Conn;
use crate::support::{Gateway, Process, table};

#[tokio::test]
async fn a_state_file_cut_at_any_byte_is_this_or_the_one_before() {
    let (old, new) = (App::start(), App::start());
    let mut gateway = Gateway::serving(table(&[old.addr])).await;
    gateway.switch("second", table(&[new.addr])).await;
    gateway.process.kill();
    let state = gateway.folder.path().join("state");
    let whole = std::fs::read(&state).unwrap();
    for cut in 0..=whole.len() {
        std::fs::write(&state, &whole[..cut]).unwrap();
        gateway.restart().await;
        let found = gateway.control().state().await.unwrap();
        let expected = if cut == whole.len() {
            ("second", new.addr)
        } else {
            ("first", old.addr)
        };
        assert_eq!(
            (found.label.as_str(), &found.table),
            (expected.0, &table(&[expected.1])),
            "cut at {cut}"
        );
        gateway.process.kill();
    }
    println!("durability: {} cuts", whole.len() + 1);
}

#[tokio::test]
async fn a_broken_file_never_becomes_the_one_before() {
    let app = App::start();
    let mut gateway = Gateway::serving(table(&[app.addr])).await;
    gateway.switch("second", table(&[])).await;
    gateway.process.kill();
    let state = gateway.folder.path().join("state");
    std::fs::write(&state, b"torn").unwrap();
    gateway.restart().await;
    gateway.switch("third", table(&[])).await;
    gateway.process.kill();
    std::fs::write(&state, b"torn").unwrap();
    gateway.restart().await;
    assert_eq!(gateway.control().state().await.unwrap().label, "first");
    // Where nothing is left it is closed, says so, and can be given a table.
    gateway.process.kill();
    std::fs::write(&state, b"torn").unwrap();
    std::fs::write(state.with_file_name("state.before"), b"torn").unwrap();
    gateway.restart().await;
    let found = gateway.control().state().await.unwrap();
    assert_eq!(
        (found.label.as_str(), found.mode),
        ("state lost", Mode::Closed)
    );
    assert_eq!(gateway.switch("again", table(&[app.addr])).await.epoch, 1);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_at_any_time() {
    let mut gateway = Gateway::serving(table(&[])).await;
    let mut acknowledged = 1;
    for round in 0..20_u32 {
        let control = gateway.control().clone();
        let (done, mut seen) = tokio::sync::watch::channel(acknowledged);
        let writer = tokio::spawn(async move {
            for turn in 0.. {
                let apply = Apply {
                    label: format!("{round}-{turn}"),
                    expect: None,
                    table: table(&[]),
                };
                match control.apply(&apply).await {
                    Ok(state) => done.send_replace(state.epoch),
                    Err(_) => return,
                };
            }
        });
        // A different moment of the writing each time.
        let wanted = acknowledged + 1 + u64::from(round % 5);
        seen.wait_for(|epoch| *epoch >= wanted).await.unwrap();
        for _ in 0..round * 37 {
            tokio::task::yield_now().await;
        }
        gateway.process.kill();
        writer.await.unwrap();
        let last = *seen.borrow();
        gateway.restart().await;
        let found = gateway.control().state().await.unwrap().epoch;
        assert!(
            found == last || found == last + 1,
            "{found} after {last} was acknowledged"
        );
        acknowledged = found;
    }
}

async fn status(gateway: &Gateway) -> u16 {
    Conn::open(gateway.addr)
        .await
        .unwrap()
        .get("/")
        .await
        .unwrap()
        .status
}

#[tokio::test]
async fn a_kill_under_a_hold_leaves_it_closed_only_if_that_was_agreed() {
    let app = App::start();
    let mut gateway = Gateway::serving(table(&[app.addr])).await;
    gateway.hold(OnExpiry::Closed, 30_000).await;
    gateway.process.kill();
    gateway.restart().await;
    assert_eq!((status(&gateway).await, app.count()), (503, 0));
    // Whoever comes back may hold it again, and go on.
    let held = gateway.hold(OnExpiry::Closed, 30_000).await;
    gateway.resume(&held.token).await;
    assert_eq!(status(&gateway).await, 200);
    gateway.hold(OnExpiry::Old, 30_000).await;
    gateway.process.kill();
    gateway.restart().await;
    assert_eq!(status(&gateway).await, 200);
}

#[tokio::test]
async fn a_gateway_that_only_reads_leaves_the_file_alone() {
    let gateway = Gateway::serving(table(&[])).await;
    let state = gateway.folder.path().join("state");
    let before = std::fs::read(&state).unwrap();
    let _second =
        Process::start(&gateway.listener, &gateway.folder.path().join("c2"), &state).await;
    assert_eq!(std::fs::read(&state).unwrap(), before);
}
