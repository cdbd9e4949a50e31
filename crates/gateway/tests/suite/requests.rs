//! What a request may be: a corpus of raw bytes, and what an instance is told.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use towpath_gateway::api::Route;

use crate::app::App;
use crate::client::Conn;
use crate::secure::SecureGateway;
use crate::support::{Gateway, route, table};

const OK: &str = "Host: a\r\n";

type Case = (Vec<u8>, u16);

fn head(line: &str, headers: &str) -> Vec<u8> {
    format!("{line}\r\n{headers}\r\n").into_bytes()
}

fn get(headers: &str) -> Vec<u8> {
    head("GET / HTTP/1.1", headers)
}

fn post(headers: &str, body: &str) -> Vec<u8> {
    [
        head("POST /echo HTTP/1.1", &format!("{OK}{headers}")),
        body.into(),
    ]
    .concat()
}

fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// Bytes, and the status of the answer.
fn corpus() -> Vec<Case> {
    [
        good(),
        lengths(),
        chunks(),
        lines(),
        hosts(),
        upgrades_and_sizes(),
    ]
    .concat()
}

fn good() -> Vec<Case> {
    vec![
        (get(OK), 200),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 200),
        (head("GET http://a/x HTTP/1.1", OK), 200),
        (head("GET / HTTP/1.0", ""), 200),
        (post("Content-Length: 2\r\n", "ab"), 200),
        (
            post("Content-Length: 2\r\nContent-Length: 2\r\n", "ab"),
            200,
        ),
        (chunked("2\r\nab\r\n0\r\n\r\n"), 200),
        (chunked("2;x=y\r\nab\r\n0\r\nTrailer: x\r\n\r\n"), 200),
    ]
}

fn lengths() -> Vec<Case> {
    vec![
        (
            post(
                "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            400,
        ),
        (
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                "0\r\n\r\n",
            ),
            400,
        ),
        (
            post("Content-Length: 2\r\nContent-Length: 3\r\n", "abc"),
            400,
        ),
        (post("Content-Length: 2, 2\r\n", "ab"), 400),
        (post("Content-Length: +2\r\n", "ab"), 400),
        (post("Content-Length: -2\r\n", "ab"), 400),
        (post("Content-Length: 0x2\r\n", "ab"), 400),
        (post("Content-Length:\r\n", ""), 400),
        (post("Content-Length: 99999999999999999999\r\n", ""), 400),
        (post("Transfer-Encoding: gzip\r\n", ""), 400),
        (
            post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            400,
        ),
        (
            post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
            400,
        ),
        (
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            400,
        ),
        (post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), 400),
        (
            head("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n"),
            400,
        ),
    ]
}

fn chunks() -> Vec<Case> {
    vec![
        (chunked("g\r\n"), 400),
        (chunked("-1\r\n"), 400),
        (chunked("\r\n"), 400),
        (chunked("2\nab\r\n0\r\n\r\n"), 400),
        (chunked("2\r\nabc\r\n0\r\n\r\n"), 400),
        (chunked("11111111111111111\r\n"), 400),
    ]
}

fn lines() -> Vec<Case> {
    vec![
        (get("Host : a\r\n"), 400),
        (get(&format!("{OK}X: a\r\n b\r\n")), 400),
        (get(&format!(" X: a\r\n{OK}")), 400),
        (get(&format!("{OK}X: a\rb\r\n")), 400),
        (get(&format!("{OK}X: a\0b\r\n")), 400),
        (get(&format!("{OK}X\r\n")), 400),
        (get(&format!("{OK}: x\r\n")), 400),
        (get(&format!("{OK}X y: a\r\n")), 400),
        (b"GET / HTTP/1.1\nHost: a\n\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec(), 400),
        (head("GET  / HTTP/1.1", OK), 400),
        (head("GET / HTTP/1.1 ", OK), 400),
        (head("GET / HTTP/2.0", OK), 400),
        (head("GET /", OK), 400),
        (head("GET /\0 HTTP/1.1", OK), 400),
        (head("G@T / HTTP/1.1", OK), 400),
    ]
}

fn hosts() -> Vec<Case> {
    vec![
        (get(""), 400),
        (get("Host: a\r\nHost: a\r\n"), 400),
        (get("Host: a/b\r\n"), 400),
        (get("Host: u@a\r\n"), 400),
        (get("Host: a b\r\n"), 400),
        (head("GET http://b/ HTTP/1.1", OK), 400),
    ]
}

fn upgrades_and_sizes() -> Vec<Case> {
    vec![
        (head("TRACE / HTTP/1.1", OK), 405),
        (head("CONNECT a:1 HTTP/1.1", "Host: a:1\r\n"), 405),
        (
            post(
                "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
                "x",
            ),
            400,
        ),
        (
            get(&format!(
                "{OK}Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n"
            )),
            400,
        ),
        (
            get(&format!("{OK}Connection: upgrade\r\nUpgrade: h2c\r\n")),
            200,
        ),
        // Sizes.
        (get(&format!("{OK}{}", "X: y\r\n".repeat(200))), 431),
        (get(&format!("{OK}X: {}\r\n", "y".repeat(100_000))), 431),
        (
            head(&format!("GET /{} HTTP/1.1", "y".repeat(70_000)), OK),
            431,
        ),
    ]
}

#[tokio::test]
async fn the_corpus_is_answered_as_it_deserves_and_only_the_good_reaches_the_instance() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    judged(&app, || Conn::open(gateway.addr)).await;
}

#[tokio::test]
async fn inside_tls_the_corpus_is_answered_the_same() {
    let app = App::start();
    let gateway = SecureGateway::serving(&["a"], table(&[app.addr])).await;
    judged(&app, || gateway.connect("a")).await;
}

async fn judged<F: Future<Output = std::io::Result<Conn>>>(app: &App, open: impl Fn() -> F) {
    let (mut wrong, mut good) = (Vec::new(), 0);
    let corpus = corpus();
    for (bytes, status) in &corpus {
        let mut conn = open().await.unwrap();
        conn.send(bytes).await.unwrap();
        let answer = conn.receive(false).await;
        let got = answer.as_ref().map(|answer| answer.status).unwrap_or(0);
        good += u64::from(*status == 200);
        if got != *status {
            let shown: String = String::from_utf8_lossy(bytes).chars().take(120).collect();
            wrong.push(format!("{shown:?}: {got} instead of {status}: {answer:?}"));
        }
    }
    println!("corpus: {} requests, {} wrong", corpus.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A body may turn out bad after its head was passed on; nothing else may.
    let chunks = 6;
    assert!(
        (good..=good + chunks).contains(&app.count()),
        "{} reached the instance, {good} were good",
        app.count()
    );
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_order_and_a_bad_one_ends_the_connection() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    let one =
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n";
    let two = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\ntwo";
    conn.send(
        format!("{one}{two}GET / HTTP/1.1\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .as_bytes(),
    )
    .await
    .unwrap();
    assert_eq!(conn.receive(false).await.unwrap().text(), "one");
    assert_eq!(conn.receive(false).await.unwrap().text(), "two");
    assert_eq!(conn.receive(false).await.unwrap().status, 400);
    assert_eq!(conn.rest().await.unwrap(), b"");
    assert_eq!(app.count(), 2);
}

#[tokio::test]
async fn an_instance_is_told_who_asks_and_nothing_of_the_hop() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let more = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=evil\r\n\
        X-Forwarded-Port: 1\r\nX-Real-IP: 1.2.3.4\r\nx_user: root\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\n\
        Keep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: x\r\nUpgrade: h2c\r\nX-Kept: yes\r\n";
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    let text = conn
        .ask("GET", "/head?q=a%20b", more, b"")
        .await
        .unwrap()
        .text();
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.remove(0), "GET /head?q=a%20b");
    lines.sort_unstable();
    let wanted = [
        "forwarded: for=127.0.0.1;proto=http",
        "host: app.test",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: app.test",
        "x-forwarded-proto: http",
        "x-kept: yes",
    ];
    assert_eq!(lines, wanted);
}

#[tokio::test]
async fn the_longest_path_wins_at_segment_boundaries_and_a_host_goes_first() {
    let (web, api, other) = (App::start(), App::start(), App::start());
    let mut routes = table(&[web.addr]);
    for (name, app) in [("api", &api), ("other", &other)] {
        routes.pools.insert(
            name.to_owned(),
            table(&[app.addr]).pools.remove("app").unwrap(),
        );
    }
    routes.routes.push(Route {
        pool: "api".to_owned(),
        strip: true,
        ..route("/api")
    });
    routes.routes.push(Route {
        pool: "other".to_owned(),
        host: Some("Other.test".to_owned()),
        ..route("/")
    });
    let gateway = Gateway::serving(routes).await;
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    let cases = [
        ("/head", "app.test", &web, "/head"),
        ("/apis", "app.test", &web, ""),
        ("/api/head?x", "app.test", &api, "/head?x"),
        ("/api", "app.test", &api, ""),
        ("/api/head", "other.TEST:80", &other, ""),
    ];
    for (path, host, app, arrives) in cases {
        let before = app.count();
        conn.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let text = conn.receive(false).await.unwrap().text();
        assert_eq!(app.count() - before, 1, "{path} of {host}");
        assert!(
            arrives.is_empty() || text.starts_with(&format!("GET {arrives}\n")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_answer_is_passed_on_whole_and_heads_have_no_body() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    let body: Vec<u8> = (0..5_000_000_u32).map(|n| n as u8).collect();
    assert!(
        conn.ask("POST", "/echo", "", &body[..1_000_000])
            .await
            .unwrap()
            .body
            == body[..1_000_000]
    );
    let head = conn.ask("HEAD", "/", "", b"").await.unwrap();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("5"))
    );
    assert_eq!(conn.get("/").await.unwrap().text(), "hello");
    let expecting = format!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    conn.send(expecting.as_bytes()).await.unwrap();
    assert_eq!(conn.head().await.unwrap().status, 100);
    conn.send(&body).await.unwrap();
    assert!(conn.receive(false).await.unwrap().body == body);
}

#[tokio::test]
async fn an_answer_has_the_version_of_the_gateway() {
    let instance = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::serving(table(&[instance.local_addr().unwrap()])).await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = instance.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
            let old = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold";
            stream.write_all(old).await.unwrap();
        }
    });
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    // The connection goes on, and the end of a body is no end of it.
    for _ in 0..2 {
        conn.send(&get(OK)).await.unwrap();
        let first = conn.stream.fill_buf().await.unwrap();
        assert!(first.starts_with(b"HTTP/1.1 200 "), "{first:?}");
        assert_eq!(conn.receive(false).await.unwrap().text(), "old");
    }
}
