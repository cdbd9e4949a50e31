//! The control socket: what is refused, and in which words.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use towpath_gateway::api::{Apply, Health, Pool, Route, Table, Target};
use towpath_gateway::control::{Client, Error};

use crate::app::App;
use crate::client::Conn;
use crate::support::{Gateway, route, table};

async fn raw(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    // It need not be read to its end to be refused.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn malformed_requests_are_refused_and_change_nothing() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let socket = gateway.folder.path().join("c");
    let before = gateway.control().state().await.unwrap();
    let huge = format!("{{\"label\":\"{}\"}}", "x".repeat(2 << 20));
    let cases = [
        (request("GET", "/nothing", ""), "404"),
        (request("POST", "/v1/table", ""), "405"),
        (request("PUT", "/v1/table", ""), "400"),
        (request("PUT", "/v1/table", "{"), "400"),
        (
            request(
                "PUT",
                "/v1/table",
                "{\"label\":\"x\",\"table\":{\"routes\":[],\"pools\":{}},\"more\":1}",
            ),
            "400",
        ),
        (request("PUT", "/v1/table", "\u{0}\u{1}"), "400"),
        (request("PUT", "/v1/table", &huge), "400"),
        (
            request(
                "POST",
                "/v1/hold",
                "{\"holder\":\"\",\"lease_ms\":5,\"on_expiry\":\"old\"}",
            ),
            "400",
        ),
        (
            request(
                "POST",
                "/v1/hold",
                "{\"holder\":\"a\",\"lease_ms\":0,\"on_expiry\":\"old\"}",
            ),
            "400",
        ),
        (
            request(
                "POST",
                "/v1/hold",
                "{\"holder\":\"a\",\"lease_ms\":5,\"on_expiry\":\"never\"}",
            ),
            "400",
        ),
        (
            request("POST", "/v1/drain", "{\"below\":-1,\"timeout_ms\":1}"),
            "400",
        ),
        (
            request(
                "POST",
                "/v1/renew",
                "{\"token\":\"x\",\"lease_ms\":5,\"on_expiry\":\"old\"}",
            ),
            "409",
        ),
        ("no http at all\r\n\r\n".to_owned(), "400"),
    ];
    for (bytes, status) in cases {
        let answer = raw(&socket, bytes.as_bytes()).await;
        let shown: String = bytes.chars().take(80).collect();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{shown:?} -> {answer:?}"
        );
    }
    // Half a request from somebody who leaves.
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream
        .write_all(b"PUT /v1/table HTTP/1.1\r\nContent-Le")
        .await
        .unwrap();
    drop(stream);
    let after = gateway.control().state().await.unwrap();
    assert_eq!(
        (after.epoch, after.table, after.mode),
        (before.epoch, before.table, before.mode)
    );
}

/// Tables, and words of the refusal.
fn wrong_tables(good: &Table) -> Vec<(Table, &'static str)> {
    let with_route = |route: Route| Table {
        routes: vec![route],
        ..good.clone()
    };
    let pool = |pool: Pool| Table {
        routes: good.routes.clone(),
        pools: [("app".to_owned(), pool)].into(),
        front: Default::default(),
    };
    let target = |id: &str, port: u16| Target {
        id: id.to_owned(),
        addr: ([127, 0, 0, 1], port).into(),
    };
    let health = Health {
        path: None,
        interval_ms: 0,
        timeout_ms: 1,
        passes: 1,
        failures: 1,
    };
    vec![
        (
            with_route(Route {
                pool: "web".to_owned(),
                ..route("/")
            }),
            "no pool \"web\"; there are: app",
        ),
        (with_route(route("api")), "begins with '/'"),
        (with_route(route("/a?b")), "begins with '/'"),
        (
            with_route(Route {
                host: Some("a:1".to_owned()),
                ..route("/")
            }),
            "no host name",
        ),
        (
            Table {
                routes: vec![route("/a"), route("/a/")],
                ..good.clone()
            },
            "there twice",
        ),
        (
            pool(Pool {
                targets: vec![target("a", 1), target("a", 2)],
                health: None,
            }),
            "there twice",
        ),
        (
            pool(Pool {
                targets: vec![target("a", 1), target("b", 1)],
                health: None,
            }),
            "there twice",
        ),
        (
            pool(Pool {
                targets: vec![target("a", 0)],
                health: None,
            }),
            "no port",
        ),
        (
            pool(Pool {
                targets: vec![],
                health: Some(health),
            }),
            "at least 1",
        ),
    ]
}

#[tokio::test]
async fn a_table_that_is_wrong_is_refused_in_words() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    for (table, words) in wrong_tables(&table(&[app.addr])) {
        let apply = Apply {
            label: "wrong".to_owned(),
            expect: None,
            table,
        };
        match gateway.control().apply(&apply).await {
            Err(Error::Refused { status: 400, text }) => assert!(text.contains(words), "{text}"),
            answer => panic!("{words}: {answer:?}"),
        }
    }
    assert_eq!(gateway.control().state().await.unwrap().epoch, 1);
    assert_eq!(
        Conn::open(gateway.addr)
            .await
            .unwrap()
            .get("/")
            .await
            .unwrap()
            .status,
        200
    );
}

#[tokio::test]
async fn the_socket_is_for_the_owner_and_a_missing_one_is_unreachable() {
    let gateway = Gateway::start().await;
    let mode = std::fs::metadata(gateway.folder.path().join("c"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let nobody = Client::new(gateway.folder.path().join("nobody"));
    assert!(matches!(nobody.state().await, Err(Error::Unreachable(_))));
}

#[tokio::test]
async fn metrics_name_the_route_and_never_the_path() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    for path in ["/secret/1", "/secret/2"] {
        conn.get(path).await.unwrap();
    }
    conn.ask("BREW", "/pot", "", b"").await.unwrap();
    let text = gateway.control().metrics().await.unwrap();
    let wanted = [
        "http_requests_total{service=\"app\",method=\"GET\",route=\"/\",status_code=\"200\"} 2\n",
        "http_requests_total{service=\"app\",method=\"OTHER\",route=\"/\",status_code=\"200\"} 1\n",
        "http_request_duration_seconds_bucket{service=\"app\",method=\"GET\",route=\"/\",status_code=\"200\",le=\"+Inf\"} 2\n",
        "http_request_duration_seconds_count{service=\"app\",method=\"GET\",route=\"/\",status_code=\"200\"} 2\n",
        "websocket_connections_active{service=\"app\"} 0\n",
    ];
    for line in wanted {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(!text.contains("secret") && !text.contains("BREW"), "{text}");
    assert_eq!(gateway.control().state().await.unwrap().answered, 3);
}
