//! What the gateway does with requests and answers by itself: limits, other origins, headers, ids.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use towpath_gateway::api::{Apply, Cors, Edge, Limit, Route, Table};

use crate::app::App;
use crate::client::{Conn, Response};
use crate::secure::SecureGateway;
use crate::support::{Gateway, route, table};

fn window(requests: u32) -> Limit {
    Limit::Window {
        requests,
        ms: 900_000,
    }
}

fn with(edge: Edge, targets: &[SocketAddr]) -> Table {
    let mut table = table(targets);
    table.front.edge = edge;
    table
}

fn limited(requests: u32, app: &App) -> Table {
    let edge = Edge {
        limit: Some(window(requests)),
        ..Edge::default()
    };
    with(edge, &[app.addr])
}

async fn ask(gateway: &Gateway, method: &str, path: &str, more: &str) -> Response {
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    conn.ask(method, path, more, b"").await.unwrap()
}

async fn statuses(gateway: &Gateway, path: &str, more: &str, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(ask(gateway, "GET", path, more).await.status);
    }
    statuses
}

#[tokio::test]
async fn request_1001_is_one_too_many_over_however_many_connections_it_comes() {
    let app = App::start();
    let gateway = Gateway::serving(limited(1000, &app)).await;
    let (answered, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (answered, refused) = (Arc::clone(&answered), Arc::clone(&refused));
            let addr = gateway.addr;
            tokio::spawn(async move {
                let mut conn = Conn::open(addr).await.unwrap();
                for _ in 0..150 {
                    match conn.get("/").await.unwrap().status {
                        200 => answered.fetch_add(1, SeqCst),
                        429 => refused.fetch_add(1, SeqCst),
                        other => panic!("{other}"),
                    };
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    println!(
        "limit: {} of 1200 answered, {} refused",
        answered.load(SeqCst),
        refused.load(SeqCst)
    );
    assert_eq!((answered.load(SeqCst), refused.load(SeqCst)), (1000, 200));
    assert_eq!(app.count(), 1000);
    let refusal = ask(&gateway, "GET", "/", "").await;
    let number = |name: &str| refusal.header(name).unwrap().parse::<u64>().unwrap();
    assert_eq!(refusal.status, 429);
    assert!((1..=900).contains(&number("retry-after")), "{refusal:?}");
    assert_eq!(number("ratelimit-limit"), 1000);
    assert_eq!(number("ratelimit-remaining"), 0);
    assert!((1..=900).contains(&number("ratelimit-reset")));
    assert!(
        gateway
            .control()
            .metrics()
            .await
            .unwrap()
            .contains("reason=\"rate_limited\"} 201")
    );
}

#[tokio::test]
async fn an_answer_says_what_is_left() {
    let app = App::start();
    let gateway = Gateway::serving(limited(3, &app)).await;
    let mut left = Vec::new();
    for _ in 0..3 {
        let answer = ask(&gateway, "GET", "/", "").await;
        left.push(answer.header("ratelimit-remaining").unwrap().to_owned());
    }
    assert_eq!(left, ["2", "1", "0"]);
}

#[tokio::test]
async fn a_made_up_x_forwarded_for_does_not_help() {
    let app = App::start();
    let gateway = Gateway::serving(limited(2, &app)).await;
    for n in 0..4 {
        let said = format!(
            "X-Forwarded-For: 198.51.100.{n}\r\nForwarded: for=198.51.100.{n}\r\nX-Real-IP: 198.51.100.{n}\r\n"
        );
        let answer = ask(&gateway, "GET", "/", &said).await;
        assert_eq!(answer.status, if n < 2 { 200 } else { 429 }, "request {n}");
    }
}

#[tokio::test]
async fn behind_a_proxy_the_client_it_names_is_counted_and_not_what_that_client_says() {
    let app = App::start();
    let mut routes = limited(2, &app);
    routes.front.trust = vec!["127.0.0.0/8".to_owned()];
    let gateway = Gateway::serving(routes).await;
    // What the client itself has written stands to the left of what the proxy adds.
    let said = |own: usize, client: &str| format!("X-Forwarded-For: 10.0.0.{own}, {client}\r\n");
    let mut found = Vec::new();
    for (own, client) in [
        (1, "203.0.113.1"),
        (2, "203.0.113.1"),
        (3, "203.0.113.1"),
        (4, "203.0.113.2"),
        (5, "2001:db8::1"),
        (6, "2001:db8::2"),
        (7, "2001:db8:0:0:ffff::3"),
        (8, "2001:db8:0:1::1"),
    ] {
        found.push(ask(&gateway, "GET", "/", &said(own, client)).await.status);
    }
    assert_eq!(found, [200, 200, 429, 200, 200, 200, 429, 200]);
}

#[tokio::test]
async fn what_was_used_of_a_limit_outlives_a_switch_and_another_limit_begins_anew() {
    let (app, next) = (App::start(), App::start());
    let gateway = Gateway::serving(limited(3, &app)).await;
    assert_eq!(statuses(&gateway, "/", "", 2).await, [200, 200]);
    gateway.switch("next", limited(3, &next)).await;
    assert_eq!(statuses(&gateway, "/", "", 2).await, [200, 429]);
    assert_eq!(next.count(), 1);
    gateway.switch("more", limited(4, &next)).await;
    assert_eq!(
        statuses(&gateway, "/", "", 5).await,
        [200, 200, 200, 200, 429]
    );
}

#[tokio::test]
async fn a_route_may_have_a_limit_of_its_own_or_none() {
    let app = App::start();
    let mut routes = limited(2, &app);
    routes.routes.push(Route {
        limit: Some(window(1)),
        ..route("/sign-in")
    });
    routes.routes.push(Route {
        unlimited: true,
        ..route("/assets")
    });
    let gateway = Gateway::serving(routes.clone()).await;
    assert_eq!(statuses(&gateway, "/sign-in", "", 2).await, [200, 429]);
    assert_eq!(statuses(&gateway, "/", "", 3).await, [200, 200, 429]);
    assert_eq!(statuses(&gateway, "/assets/a", "", 4).await, [200; 4]);
    gateway.switch("again", routes).await;
    assert_eq!(statuses(&gateway, "/sign-in/x", "", 1).await, [429]);
}

#[tokio::test]
async fn another_spelling_of_a_path_has_the_same_limit() {
    let app = App::start();
    let mut routes = limited(100, &app);
    routes.routes.push(Route {
        limit: Some(window(1)),
        ..route("/Sign-in")
    });
    routes.routes.push(Route {
        unlimited: true,
        ..route("/assets")
    });
    let gateway = Gateway::serving(routes).await;
    assert_eq!(statuses(&gateway, "/Sign-in", "", 1).await, [200]);
    for path in [
        "/Sign-in",
        "/sign-IN",
        "/%73ign-in",
        "/%53ign%2din/x",
        "//sign-in",
        "/./sign-in",
        "/x/../sign-in",
        "/x/%2E%2e/sign-in",
        "/sign-in;a=1",
        "/\\sign-in",
        "/assets/../sign-in",
        "/assets/..%2fsign-in",
        "/assets/..;/sign-in",
        "/assets/../../sign-in?next=/assets",
        // As it is written it has the limit too.
        "/Sign-in/../assets/a",
    ] {
        assert_eq!(statuses(&gateway, path, "", 1).await, [429], "{path}");
    }
    for path in ["/assets/a", "/assets/sign-in", "/assets/%61//b"] {
        let answer = ask(&gateway, "GET", path, "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("ratelimit-limit"), None, "{path}");
    }
    for path in ["/assets/..", "/ASSETS/a", "/sign-ins", "/%2573ign-in"] {
        let answer = ask(&gateway, "GET", path, "").await;
        assert_eq!(answer.header("ratelimit-limit"), Some("100"), "{path}");
    }
}

#[tokio::test]
async fn a_smooth_limit_lets_its_burst_through_and_then_waits() {
    let app = App::start();
    let edge = Edge {
        limit: Some(Limit::Smooth {
            requests: 1,
            ms: 3_600_000,
            burst: 4,
        }),
        ..Edge::default()
    };
    let gateway = Gateway::serving(with(edge, &[app.addr])).await;
    assert_eq!(
        statuses(&gateway, "/", "", 5).await,
        [200, 200, 200, 200, 429]
    );
    let refused = ask(&gateway, "GET", "/", "").await;
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3_000..=3_600).contains(&wait), "{wait}");
}

fn cors(origins: &[&str], credentials: bool) -> Edge {
    let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Edge {
        cors: Some(Cors {
            origins: texts(origins),
            credentials,
            methods: texts(&["GET", "POST"]),
            headers: texts(&["content-type"]),
            expose: texts(&["x-total"]),
            max_age_s: 600,
        }),
        ..Edge::default()
    }
}

const HOME: &str = "https://app.example.com";

fn from(origin: &str) -> String {
    format!("Origin: {origin}\r\n")
}

fn before(origin: &str) -> String {
    format!(
        "Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n"
    )
}

/// What an answer says of other origins.
fn said(answer: &Response) -> BTreeMap<&str, &str> {
    let headers = answer.headers.iter();
    headers
        .filter(|(name, _)| name.starts_with("access-control-"))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_read_answers_and_a_foreign_one_may_not() {
    let app = App::start();
    let edge = cors(&[HOME, "http://localhost:3000"], true);
    let gateway = Gateway::serving(with(edge, &[app.addr])).await;
    let wanted: BTreeMap<_, _> = [
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-origin", HOME),
        ("access-control-expose-headers", "x-total"),
    ]
    .into();
    let answer = ask(&gateway, "GET", "/", &from(HOME)).await;
    assert_eq!((answer.status, said(&answer)), (200, wanted));
    assert_eq!(answer.header("vary"), Some("Origin"));
    for foreign in [
        "https://evil.example.com",
        "https://app.example.com.evil.com",
        "https://xapp.example.com",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://APP.example.com",
        "null",
        "*",
        "",
    ] {
        let answer = ask(&gateway, "GET", "/", &from(foreign)).await;
        assert_eq!(said(&answer), BTreeMap::new(), "{foreign}");
        assert_eq!(answer.header("vary"), Some("Origin"), "{foreign}");
    }
    let none = ask(&gateway, "GET", "/", "").await;
    assert_eq!(
        none.header("vary"),
        Some("Origin"),
        "a cache would mix them up"
    );
}

#[tokio::test]
async fn what_an_application_says_of_other_origins_is_taken_off() {
    let app = App::start();
    let gateway = Gateway::serving(with(cors(&[HOME], true), &[app.addr])).await;
    let own = "X-Answer: access-control-allow-origin: *\r\nX-Answer: access-control-allow-credentials: true\r\nX-Answer: vary: accept, origin\r\n";
    let foreign = format!("{}{own}", from("https://evil.example.com"));
    let answer = ask(&gateway, "GET", "/with", &foreign).await;
    assert_eq!(said(&answer), BTreeMap::new());
    assert_eq!(answer.header("vary"), Some("accept, origin"));
    // Without a list it is the application's own affair.
    gateway.switch("none", table(&[app.addr])).await;
    let answer = ask(&gateway, "GET", "/with", &foreign).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn a_preflight_is_answered_and_no_instance_sees_it() {
    let app = App::start();
    let mut routes = with(cors(&[HOME], false), &[app.addr]);
    routes.front.edge.limit = Some(window(1));
    let gateway = Gateway::serving(routes).await;
    let wanted: BTreeMap<_, _> = [
        ("access-control-allow-headers", "content-type"),
        ("access-control-allow-methods", "GET, POST"),
        ("access-control-allow-origin", HOME),
        ("access-control-max-age", "600"),
    ]
    .into();
    for _ in 0..3 {
        let answer = ask(&gateway, "OPTIONS", "/x", &before(HOME)).await;
        assert_eq!((answer.status, said(&answer)), (204, wanted.clone()));
    }
    let foreign = ask(
        &gateway,
        "OPTIONS",
        "/x",
        &before("https://evil.example.com"),
    )
    .await;
    assert_eq!((foreign.status, said(&foreign)), (403, BTreeMap::new()));
    assert_eq!(app.count(), 0);
    // One that is none is the application's.
    let plain = ask(&gateway, "OPTIONS", "/x", &from(HOME)).await;
    assert_eq!((plain.status, app.count()), (200, 1));
    // A page has to be able to read that it is refused.
    let refused = ask(&gateway, "GET", "/", &from(HOME)).await;
    assert_eq!(refused.status, 429);
    assert_eq!(said(&refused)["access-control-allow-origin"], HOME);
}

#[tokio::test]
async fn everybody_is_let_in_without_cookies_only() {
    let app = App::start();
    let gateway = Gateway::serving(with(cors(&["*"], false), &[app.addr])).await;
    let answer = ask(&gateway, "GET", "/", &from("https://any.example.com")).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    for wrong in [
        cors(&["*"], true),
        cors(&["*", HOME], false),
        cors(&["app.example.com"], false),
        Edge {
            headers: [("x-a".to_owned(), "a\r\nset-cookie: b".to_owned())].into(),
            ..Edge::default()
        },
        Edge {
            limit: Some(window(0)),
            ..Edge::default()
        },
    ] {
        let apply = Apply {
            label: "wrong".to_owned(),
            expect: None,
            table: with(wrong.clone(), &[app.addr]),
        };
        let refused = gateway.control().apply(&apply).await;
        assert!(refused.is_err(), "{wrong:?}");
    }
    let state = gateway.control().state().await.unwrap();
    assert_eq!(state.label, "first", "nothing was changed");
}

fn headers() -> Edge {
    let headers = [
        ("content-security-policy", "default-src 'self'"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ];
    Edge {
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        hsts: Some("max-age=31536000".to_owned()),
        ..Edge::default()
    }
}

#[tokio::test]
async fn answers_have_the_headers_that_they_lack_and_keep_their_own() {
    let app = App::start();
    let gateway = Gateway::serving(with(headers(), &[app.addr])).await;
    // Those of an instance, and the gateway's own.
    let mut nowhere = with(headers(), &[app.addr]);
    nowhere.routes[0].path = "/only".to_owned();
    for path in ["/", "/missing"] {
        let answer = ask(&gateway, "GET", path, "").await;
        for (name, value) in &headers().headers {
            assert_eq!(answer.header(name), Some(value.as_str()), "{path} {name}");
        }
        assert_eq!(answer.header("strict-transport-security"), None, "no https");
        gateway.switch("nowhere", nowhere.clone()).await;
    }
    gateway.switch("back", with(headers(), &[app.addr])).await;
    let own =
        "X-Answer: x-frame-options: SAMEORIGIN\r\nX-Answer: content-security-policy: img-src *\r\n";
    let answer = ask(&gateway, "GET", "/with", own).await;
    let values = |name: &str| {
        let headers = answer.headers.iter();
        let values = headers.filter(|(known, _)| known == name);
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(values("x-frame-options"), ["SAMEORIGIN"]);
    assert_eq!(values("content-security-policy"), ["img-src *"]);
    assert_eq!(values("x-content-type-options"), ["nosniff"]);
}

#[tokio::test]
async fn hsts_is_for_those_who_came_by_https() {
    const HSTS: &str = "strict-transport-security";
    let app = App::start();
    let routes = with(headers(), &[app.addr]);
    let secure = SecureGateway::serving(&["a.test"], routes.clone()).await;
    let mut conn = secure.connect("a.test").await.unwrap();
    let answer = conn.get_of("a.test", "/").await.unwrap();
    assert_eq!(answer.header(HSTS), Some("max-age=31536000"));
    let gateway = Gateway::serving(routes.clone()).await;
    let by = "X-Forwarded-Proto: https\r\n";
    assert_eq!(ask(&gateway, "GET", "/", by).await.header(HSTS), None);
    let mut behind = routes;
    behind.front.trust = vec!["127.0.0.1".to_owned()];
    gateway.switch("behind", behind).await;
    let answer = ask(&gateway, "GET", "/", by).await;
    assert_eq!(answer.header(HSTS), Some("max-age=31536000"));
    assert_eq!(ask(&gateway, "GET", "/", "").await.header(HSTS), None);
}

#[tokio::test]
async fn a_request_has_one_id_from_the_client_to_the_instance_and_back() {
    let app = App::start();
    let edge = Edge {
        request_id: true,
        ..Edge::default()
    };
    let gateway = Gateway::serving(with(edge, &[app.addr])).await;
    let arrived = |answer: &Response| -> Vec<String> {
        let text = answer.text();
        let lines = text.lines();
        let ids = lines.filter_map(|line| line.strip_prefix("x-request-id: "));
        ids.map(str::to_owned).collect()
    };
    let kept = ask(&gateway, "GET", "/head", "X-Request-Id: one-2.3\r\n").await;
    assert_eq!(kept.header("x-request-id"), Some("one-2.3"));
    assert_eq!(arrived(&kept), ["one-2.3"]);
    let long = format!("X-Request-Id: {}\r\n", "x".repeat(129));
    let mut made = Vec::new();
    for said in [
        "",
        "X-Request-Id: \r\n",
        "X-Request-Id: a b\r\n",
        "X-Request-Id: <script>\r\n",
        "X-Request-Id: a\r\nX-Request-Id: b\r\n",
        &long,
    ] {
        let answer = ask(&gateway, "GET", "/head", said).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert_eq!(arrived(&answer), std::slice::from_ref(&id), "{said:?}");
        assert!(id.len() == 32 && !made.contains(&id), "{said:?}: {id}");
        made.push(id);
    }
    // Also where no instance is asked, and whatever an instance says.
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    let bad = conn
        .ask("TRACE", "/", "X-Request-Id: t1\r\n", b"")
        .await
        .unwrap();
    assert_eq!((bad.status, bad.header("x-request-id")), (405, Some("t1")));
    let own = "X-Request-Id: mine\r\nX-Answer: x-request-id: theirs\r\n";
    let answer = ask(&gateway, "GET", "/with", own).await;
    assert_eq!(answer.header("x-request-id"), Some("mine"));
}
