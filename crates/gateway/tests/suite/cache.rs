//! Answers that are given again without asking an instance.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use towpath_gateway::api::{Cache, Cors, Edge, Route, Table};

use crate::app::App;
use crate::client::{Conn, Response};
use crate::support::{Gateway, route, table, until};

/// Everything is kept for a while; the pool has a name of its own in each release.
fn keeping(app: &App, release: &str, ttl_ms: u64) -> Table {
    let mut table = table(&[app.addr]);
    let pool = table.pools.remove("app").unwrap();
    let name = format!("app@{release}");
    table.pools.insert(name.clone(), pool);
    table.routes = vec![Route {
        cache: Some(Cache {
            ttl_ms,
            max_bytes: 1000,
        }),
        pool: name,
        ..route("/")
    }];
    table
}

const LONG: u64 = 600_000;

async fn send(gateway: &Gateway, method: &str, path: &str, more: &str) -> Response {
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    conn.ask(method, path, more, b"").await.unwrap()
}

async fn ask(gateway: &Gateway, path: &str, more: &str) -> Response {
    send(gateway, "GET", path, more).await
}

fn is_hit(answer: &Response) -> bool {
    answer.header("cache-status") == Some("gateway; hit")
}

/// How many of two requests reach the application.
async fn asked(gateway: &Gateway, app: &App, path: &str, more: &str) -> u64 {
    let before = app.count();
    for _ in 0..2 {
        ask(gateway, path, more).await;
    }
    app.count() - before
}

#[tokio::test]
async fn an_answer_is_given_again_as_it_was() {
    let app = App::start();
    let gateway = Gateway::serving(keeping(&app, "d1", LONG)).await;
    let more = "X-Answer: content-type: text/x-own\r\nX-Answer: etag: \"1\"\r\n";
    let first = ask(&gateway, "/with?a=1", more).await;
    assert!(
        !is_hit(&first) && first.header("age").is_none(),
        "{first:?}"
    );
    let again = ask(&gateway, "/with?a=1", more).await;
    assert!(is_hit(&again), "{again:?}");
    assert_eq!((again.text(), app.count()), ("with".to_owned(), 1));
    assert_eq!(again.header("content-type"), Some("text/x-own"));
    assert_eq!(again.header("etag"), Some("\"1\""));
    assert_eq!(again.header("content-length"), Some("4"));
    assert_eq!(again.header("age"), Some("0"));
    ask(&gateway, "/with?a=2", more).await;
    assert_eq!(app.count(), 2, "another query is another answer");
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    conn.get_of("other.test", "/with?a=1").await.unwrap();
    assert_eq!(app.count(), 3, "another host is another answer");
}

#[tokio::test]
async fn what_is_somebodys_own_is_neither_kept_nor_given() {
    let app = App::start();
    let gateway = Gateway::serving(keeping(&app, "d1", LONG)).await;
    for (n, answer) in [
        "cache-control: private",
        "cache-control: no-store",
        "cache-control: no-cache",
        "cache-control: max-age=0",
        "cache-control: max-age=60, s-maxage=0",
        "set-cookie: session=1",
        "vary: *",
        "expires: 0",
        "pragma: no-cache",
        "age: 601",
    ]
    .into_iter()
    .enumerate()
    {
        let more = format!("X-Answer: {answer}\r\n");
        assert_eq!(
            asked(&gateway, &app, &format!("/with?{n}"), &more).await,
            2,
            "{answer}"
        );
    }
    // One that anybody may have is there, and they get another all the same.
    assert_eq!(asked(&gateway, &app, "/with", "").await, 1);
    for request in [
        "Authorization: Bearer x\r\n",
        "Cookie: session=1\r\n",
        "Range: bytes=0-1\r\n",
        "Cache-Control: no-cache\r\n",
        "Pragma: no-cache\r\n",
        "X-Original-URL: /admin\r\n",
        "X-Rewrite-Url: /admin\r\n",
        "X-Host: b.test\r\n",
        "X-Original-Host: b.test\r\n",
        "X-API-Key: k\r\n",
        "X-Auth-Request-Email: a\r\n",
        "X-Amz-Security-Token: t\r\n",
        "Private-Token: t\r\n",
        "Remote-User: a\r\n",
        "X-Remote-User: a\r\n",
        "X-Authenticated-User: a\r\n",
        "X-SSL-Client-Cert: c\r\n",
    ] {
        assert_eq!(
            asked(&gateway, &app, "/with", request).await,
            2,
            "{request}"
        );
        let (name, _) = request.split_once(':').unwrap();
        let other = format!("/with?{name}");
        assert_eq!(asked(&gateway, &app, &other, request).await, 2, "{request}");
        assert_eq!(
            asked(&gateway, &app, &other, "").await,
            1,
            "{request} was kept"
        );
    }
    for method in ["POST", "HEAD", "PUT"] {
        let before = app.count();
        for _ in 0..2 {
            let mut conn = Conn::open(gateway.addr).await.unwrap();
            conn.ask(method, "/with", "", b"").await.unwrap();
        }
        assert_eq!(app.count() - before, 2, "{method}");
    }
}

#[tokio::test]
async fn what_a_trusted_proxy_says_of_who_asks_counts() {
    let app = App::start();
    let mut routes = keeping(&app, "d1", LONG);
    routes.front.trust = vec!["127.0.0.1".to_owned()];
    let gateway = Gateway::serving(routes).await;
    assert_eq!(asked(&gateway, &app, "/with", "").await, 1);
    for said in ["X-Forwarded-User: a\r\n", "X-Forwarded-Prefix: /b\r\n"] {
        assert_eq!(asked(&gateway, &app, "/with", said).await, 2, "{said}");
    }
    // Wherever they are from, they are no two answers; by whatever name they asked, they are.
    let by = |more: &str| format!("X-Forwarded-For: 203.0.113.7\r\n{more}");
    assert_eq!(asked(&gateway, &app, "/with", &by("")).await, 0);
    for host in ["a.test", "b.test", "b.t\u{e9}st", "b.t\u{e8}st"] {
        let more = by(&format!(
            "X-Forwarded-Host: app.test\r\nX-Forwarded-Host: {host}\r\n"
        ));
        assert_eq!(asked(&gateway, &app, "/with", &more).await, 1, "{host}");
    }
}

/// Times the application is asked when this is asked for again.
async fn again(gateway: &Gateway, app: &App, path: &str, more: &str) -> u64 {
    let before = app.count();
    ask(gateway, path, more).await;
    app.count() - before
}

#[tokio::test]
async fn what_is_changed_is_asked_for_again() {
    let (app, next) = (App::start(), App::start());
    let gateway = Gateway::serving(keeping(&app, "d1", LONG)).await;
    let with = |language: &str| {
        format!("X-Answer: vary: Accept-Language\r\nAccept-Language: {language}\r\n")
    };
    let fill = || async {
        for language in ["de", "en"] {
            ask(&gateway, "/with", &with(language)).await;
            assert_eq!(again(&gateway, &app, "/with", &with(language)).await, 0);
        }
        ask(&gateway, "/with?other", "").await;
    };
    for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE"] {
        fill().await;
        send(&gateway, method, "/with", "Cookie: session=1\r\n").await;
        for language in ["de", "en"] {
            let asked = again(&gateway, &app, "/with", &with(language)).await;
            assert_eq!(asked, 1, "{method} {language}");
        }
        assert_eq!(again(&gateway, &app, "/with?other", "").await, 0);
    }
    for method in ["HEAD", "OPTIONS"] {
        send(&gateway, method, "/with", "").await;
        assert_eq!(again(&gateway, &app, "/with", &with("de")).await, 0);
    }
    // What was not done changes nothing.
    send(&gateway, "POST", "/with", "X-Status: 404\r\n").await;
    assert_eq!(again(&gateway, &app, "/with", &with("de")).await, 0);
    send(&gateway, "POST", "/with", "X-Status: 303\r\n").await;
    assert_eq!(again(&gateway, &app, "/with", &with("de")).await, 1);
    // Nor does another release find what it has said before.
    gateway.switch("d2", keeping(&next, "d2", LONG)).await;
    send(&gateway, "POST", "/with", "").await;
    gateway.switch("d1", keeping(&app, "d1", LONG)).await;
    assert_eq!(again(&gateway, &app, "/with", &with("de")).await, 1);
}

#[tokio::test]
async fn an_answer_from_before_a_change_is_not_kept_after_it() {
    let app = App::start();
    let gateway = Gateway::serving(keeping(&app, "d1", LONG)).await;
    let addr = gateway.addr;
    let early = tokio::spawn(async move {
        let mut conn = Conn::open(addr).await.unwrap();
        conn.get("/wait").await.unwrap()
    });
    until("it waits", || async { app.count() == 1 }).await;
    send(&gateway, "POST", "/wait", "X-Now: 1\r\n").await;
    app.seen.go.notify_one();
    assert_eq!(early.await.unwrap().text(), "waited");
    app.seen.go.notify_one();
    assert_eq!(again(&gateway, &app, "/wait", "").await, 1);
    assert_eq!(again(&gateway, &app, "/wait", "").await, 0);
}

#[tokio::test]
async fn an_answer_is_for_those_who_ask_as_it_was_asked() {
    let app = App::start();
    let gateway = Gateway::serving(keeping(&app, "d1", LONG)).await;
    let with = |language: &str| {
        format!(
            "X-Answer: vary: Accept-Language, X-Beta\r\nX-Answer: x-said: {language}\r\nAccept-Language: {language}\r\n"
        )
    };
    for language in ["de", "en", "de", "en"] {
        let answer = ask(&gateway, "/with", &with(language)).await;
        assert_eq!(answer.header("x-said"), Some(language));
    }
    assert_eq!(app.count(), 2);
    ask(&gateway, "/with", &format!("{}X-Beta: 1\r\n", with("de"))).await;
    assert_eq!(app.count(), 3);
}

#[tokio::test]
async fn a_release_never_says_what_another_has_said() {
    let (old, new) = (App::start(), App::start());
    let gateway = Gateway::serving(keeping(&old, "d1", LONG)).await;
    let said = |who: &str| format!("X-Answer: x-said: {who}\r\n");
    // Whose answer it is stands in it: the application says what it is asked to.
    ask(&gateway, "/with", &said("old")).await;
    assert!(is_hit(&ask(&gateway, "/with", &said("again")).await));
    // One that is under way during the switch ends after it.
    let addr = gateway.addr;
    let late = tokio::spawn(async move {
        let mut conn = Conn::open(addr).await.unwrap();
        conn.get("/wait").await.unwrap()
    });
    until("it waits", || async { old.count() == 2 }).await;
    gateway.switch("d2", keeping(&new, "d2", LONG)).await;
    let answer = ask(&gateway, "/with", &said("new")).await;
    assert!(!is_hit(&answer), "{answer:?}");
    assert_eq!(answer.header("x-said"), Some("new"));
    old.seen.go.notify_one();
    assert_eq!(late.await.unwrap().text(), "waited");
    new.seen.go.notify_one();
    let answer = ask(&gateway, "/wait", "").await;
    assert!(
        !is_hit(&answer),
        "the old release's late answer is given for the new one"
    );
    assert_eq!((old.count(), new.count()), (2, 2));
    // The way back finds its own.
    gateway.switch("d1", keeping(&old, "d1", LONG)).await;
    let answer = ask(&gateway, "/with", "").await;
    assert_eq!(
        (is_hit(&answer), answer.header("x-said")),
        (true, Some("old"))
    );
}

#[tokio::test]
async fn what_is_old_too_long_or_broken_off_is_not_given() {
    let app = App::start();
    let gateway = Gateway::serving(keeping(&app, "d1", LONG)).await;
    // As the answer itself says.
    let second = "X-Answer: cache-control: max-age=1\r\n";
    ask(&gateway, "/with?short", second).await;
    assert!(is_hit(&ask(&gateway, "/with?short", second).await));
    until("it is too old", || async {
        !is_hit(&ask(&gateway, "/with?short", second).await)
    })
    .await;
    // As the route says.
    gateway.switch("brief", keeping(&app, "d2", 50)).await;
    ask(&gateway, "/with", "").await;
    until("it is too old", || async {
        !is_hit(&ask(&gateway, "/with", "").await)
    })
    .await;
    gateway.switch("long", keeping(&app, "d3", LONG)).await;
    let long = format!("X-Answer: x-said: 1\r\nX-Body: {}\r\n", "x".repeat(1001));
    assert_eq!(asked(&gateway, &app, "/with?long", &long).await, 2);
    let fits = format!("X-Body: {}\r\n", "x".repeat(1000));
    assert_eq!(asked(&gateway, &app, "/with?fits", &fits).await, 1);
}

/// Says these bytes to whoever asks, and closes the connection; how often it was asked.
fn blunt(said: &'static str) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
            seen.fetch_add(1, SeqCst);
            stream.write_all(said.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (addr, count)
}

#[tokio::test]
async fn an_answer_that_may_be_cut_off_is_not_kept() {
    let gateway = Gateway::start().await;
    for (said, wanted) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 1),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            1,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 2),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            2,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nabc", 2),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
            2,
        ),
    ] {
        let (addr, count) = blunt(said);
        let app = App::start();
        let mut routes = keeping(&app, &addr.port().to_string(), LONG);
        for pool in routes.pools.values_mut() {
            pool.targets[0].addr = addr;
        }
        gateway.switch(&addr.to_string(), routes).await;
        for _ in 0..2 {
            let mut conn = Conn::open(gateway.addr).await.unwrap();
            let _ = conn.get("/").await;
        }
        assert_eq!(count.load(SeqCst), wanted, "{said:?}");
    }
}

#[tokio::test]
async fn what_is_kept_is_dressed_for_each_who_gets_it() {
    let app = App::start();
    let mut routes = keeping(&app, "d1", LONG);
    routes.front.edge = Edge {
        request_id: true,
        cors: Some(Cors {
            origins: vec!["https://a.test".to_owned(), "https://b.test".to_owned()],
            credentials: true,
            methods: Vec::new(),
            headers: Vec::new(),
            expose: Vec::new(),
            max_age_s: 0,
        }),
        ..Edge::default()
    };
    let gateway = Gateway::serving(routes).await;
    let mut ids = Vec::new();
    for (origin, wanted) in [
        ("https://a.test", Some("https://a.test")),
        ("https://b.test", Some("https://b.test")),
        ("https://evil.test", None),
    ] {
        let answer = ask(&gateway, "/with", &format!("Origin: {origin}\r\n")).await;
        assert_eq!(answer.header("access-control-allow-origin"), wanted);
        ids.push(answer.header("x-request-id").unwrap().to_owned());
    }
    ids.dedup();
    assert_eq!((ids.len(), app.count()), (3, 1));
}

#[tokio::test]
async fn a_route_without_it_keeps_nothing() {
    let app = App::start();
    let mut routes = keeping(&app, "d1", LONG);
    routes.routes.push(Route {
        pool: "app@d1".to_owned(),
        ..route("/head")
    });
    routes.routes.push(Route {
        stream: true,
        cache: routes.routes[0].cache,
        pool: "app@d1".to_owned(),
        ..route("/stream")
    });
    let gateway = Gateway::serving(routes).await;
    assert_eq!(asked(&gateway, &app, "/head", "").await, 2);
    assert_eq!(asked(&gateway, &app, "/stream/with", "").await, 2);
    assert_eq!(asked(&gateway, &app, "/with", "").await, 1);
}
