//! Clients that do not take what they asked for.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::app::App;
use crate::client::Conn;
use crate::secure::SecureGateway;
use crate::support::{Bounds, Gateway, table, until};

/// Less than TLS takes into its own buffer, more than the sockets take.
const TAIL: usize = 60_000;

async fn gateway(app: &App, bounds: Bounds<'_>) -> SecureGateway {
    let hosts = ["a.test", "b.test"];
    let gateway = SecureGateway::within(&hosts, table(&[app.addr]), bounds).await;
    // Accepted connections have it from their listener.
    rustix::net::sockopt::set_socket_send_buffer_size(&gateway.listeners[1], 4_096).unwrap();
    gateway
}

/// A client for which the kernel keeps little, and which has asked for so many bytes.
async fn asking(gateway: &SecureGateway, bytes: usize, more: &str) -> Conn {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8_192).unwrap();
    let stream = socket.connect(gateway.secure).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("a.test").unwrap();
    let client = gateway.authority.client(&["http/1.1"]);
    let mut conn = Conn::over(client.connect(name, stream).await.unwrap());
    let head =
        format!("POST /echo HTTP/1.1\r\nHost: a.test\r\n{more}Content-Length: {bytes}\r\n\r\n");
    conn.send(head.as_bytes()).await.unwrap();
    conn.send(&vec![b'x'; bytes]).await.unwrap();
    conn
}

#[tokio::test]
async fn a_client_that_reads_nothing_gives_up_its_place() {
    let app = App::start();
    // Places for two connections.
    let bounds = Bounds {
        descriptors: "68",
        stall_ms: 500,
    };
    let gateway = gateway(&app, bounds).await;
    let _kept = asking(&gateway, TAIL, "").await;
    let _last = asking(&gateway, TAIL, "Connection: close\r\n").await;
    until("both were answered", || async { app.count() == 2 }).await;
    until("both places are free", || async {
        let (one, two) = tokio::join!(gateway.connect("a.test"), gateway.connect("a.test"));
        one.is_ok() && two.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_all() {
    let app = App::start();
    let bounds = Bounds {
        stall_ms: 2_000,
        ..Bounds::default()
    };
    let gateway = gateway(&app, bounds).await;
    let mut conn = asking(&gateway, 2 * TAIL, "Connection: close\r\n").await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    let mut pace = tokio::time::interval(Duration::from_millis(40));
    for _ in 0..2 * TAIL / 1_000 {
        pace.tick().await;
        conn.stream.read_exact(&mut [0; 1_000]).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_is_gone_without_a_word_is_found_out() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let client = TcpStream::connect(gateway.addr).await.unwrap();
    // Only the kernel can tell: it has a timer for a connection that is asked whether it lives, and for no idle other.
    let port = |addr: SocketAddr| format!("0100007F:{:04X}", addr.port());
    let wanted = [gateway.addr, client.local_addr().unwrap()].map(port);
    until("it is asked within a minute", || async {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let mut lines = table.lines().map(|line| line.split_whitespace().collect());
        let line = lines.find(|line: &Vec<&str>| line[1..3] == wanted);
        let Some((timer, left)) = line.and_then(|line| line[5].split_once(':')) else {
            return false;
        };
        // Hundredths of a second.
        timer == "02" && u64::from_str_radix(left, 16).unwrap() <= 6_000
    })
    .await;
}
