//! WebSockets and declared streams.

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use towpath_gateway::api::{Drain, OnExpiry, Route, Table};

use crate::app::App;
use crate::client::Conn;
use crate::support::{Gateway, route, table, until};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
const CLOSED_1012: &[u8] = &[0x88, 0x02, 0x03, 0xf4];

fn with_streams(app: &App) -> Table {
    let mut table = table(&[app.addr]);
    table.routes.push(Route {
        stream: true,
        ..route("/stream")
    });
    table
}

async fn websocket(gateway: &Gateway) -> Conn {
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    conn.send(UPGRADE.as_bytes()).await.unwrap();
    assert_eq!(conn.head().await.unwrap().status, 101);
    // What the instance said right after its 101.
    assert_eq!(bytes(&mut conn, 4).await, b"\x81\x02hi");
    conn
}

async fn bytes(conn: &mut Conn, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    conn.stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn echo(conn: &mut Conn, text: &[u8]) {
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 1, 2, 3, 4];
    frame.extend(
        text.iter()
            .zip([1, 2, 3, 4].iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    conn.send(&frame).await.unwrap();
    assert_eq!(
        bytes(conn, 2 + text.len()).await,
        [&[0x81, text.len() as u8], text].concat()
    );
}

#[tokio::test]
async fn a_websocket_echoes_and_a_drain_closes_it_with_1012() {
    let (old, new) = (App::start(), App::start());
    let gateway = Gateway::serving(table(&[old.addr])).await;
    let mut socket = websocket(&gateway).await;
    // Line feeds and zeros are nobody's business now.
    echo(&mut socket, b"a\nb\0c").await;
    let epoch = gateway.switch("second", table(&[new.addr])).await.epoch;
    echo(&mut socket, b"after the switch").await;
    let state = gateway.control().state().await.unwrap();
    assert_eq!(
        (state.in_flight[0].streams, state.in_flight[0].requests),
        (1, 0)
    );
    assert!(
        gateway
            .control()
            .metrics()
            .await
            .unwrap()
            .contains("websocket_connections_active{service=\"app\"} 1\n")
    );
    let drained = gateway
        .control()
        .drain(&Drain {
            below: epoch,
            timeout_ms: 50,
        })
        .await
        .unwrap();
    assert_eq!((drained.requests, drained.streams_closed), (0, 1));
    assert_eq!(socket.rest().await.unwrap(), CLOSED_1012);
    assert!(
        gateway
            .control()
            .metrics()
            .await
            .unwrap()
            .contains("websocket_connections_active{service=\"app\"} 0\n")
    );
}

#[tokio::test]
async fn a_hold_closes_websockets_and_streams() {
    let app = App::start();
    let gateway = Gateway::serving(with_streams(&app)).await;
    let mut socket = websocket(&gateway).await;
    let mut events = Conn::open(gateway.addr).await.unwrap();
    events
        .send(b"GET /stream/events HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(events.head().await.unwrap().status, 200);
    let mut poll = Conn::open(gateway.addr).await.unwrap();
    poll.send(b"GET /stream/wait HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    until("the poll is there", || async { app.count() == 3 }).await;
    let held = gateway.hold(OnExpiry::Old, 10_000).await;
    assert_eq!(held.streams_closed, 3);
    assert_eq!(socket.rest().await.unwrap(), CLOSED_1012);
    assert_eq!(events.chunk().await.unwrap(), None);
    assert_eq!(poll.receive(false).await.unwrap().status, 503);
    gateway.resume(&held.token).await;
    websocket(&gateway).await;
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let app = App::start();
    let gateway = Gateway::serving(with_streams(&app)).await;
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    conn.send(b"GET /stream/events HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(conn.head().await.unwrap().status, 200);
    // Each is read before the next is sent, so none may be kept back.
    for number in 0..100 {
        let event = format!("data: {number}\n\n");
        app.seen.events.lock().unwrap()[0]
            .send(Bytes::from(event.clone()))
            .unwrap();
        assert_eq!(
            conn.chunk().await.unwrap().as_deref(),
            Some(event.as_bytes())
        );
    }
    drop(conn);
    until("the instance is told that the client left", || async {
        app.seen.events.lock().unwrap()[0].is_closed()
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_that_the_instance_declines_is_an_ordinary_answer() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    conn.send(UPGRADE.replace("/ws", "/head").as_bytes())
        .await
        .unwrap();
    let response = conn.receive(false).await.unwrap();
    assert_eq!((response.status, response.closes()), (200, true));
    assert!(
        response.text().contains("upgrade: websocket\n"),
        "{}",
        response.text()
    );
}
