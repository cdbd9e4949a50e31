//! The page that is shown while an environment is worked on.

use towpath_gateway::api::{Maintenance, OnExpiry, Table};

use crate::app::App;
use crate::client::{Conn, Response};
use crate::support::{Gateway, table, until};

fn closed(app: &App, maintenance: Maintenance) -> Table {
    let mut table = table(&[app.addr]);
    table.front.maintenance = Some(maintenance);
    table
}

fn saying(message: &str) -> Maintenance {
    Maintenance {
        message: Some(message.to_owned()),
        retry_after_s: 120,
        ..Maintenance::default()
    }
}

async fn ask(gateway: &Gateway, path: &str, more: &str) -> Response {
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    conn.ask("GET", path, more, b"").await.unwrap()
}

#[tokio::test]
async fn everybody_gets_a_page_as_they_like_it_and_no_instance_is_asked() {
    let app = App::start();
    let words = saying("Moving to a <new> \"engine\" & back");
    let gateway = Gateway::serving(closed(&app, words)).await;
    for (accept, kind) in [
        ("", "text/html; charset=utf-8"),
        ("Accept: */*\r\n", "text/html; charset=utf-8"),
        (
            "Accept: text/html,application/json;q=0.9\r\n",
            "text/html; charset=utf-8",
        ),
        (
            "Accept: application/json, text/plain, */*\r\n",
            "application/json",
        ),
        (
            "Accept: text/plain\r\nAccept: Application/JSON;q=1\r\n",
            "application/json",
        ),
    ] {
        let answer = ask(&gateway, "/anything", accept).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (503, Some(kind)),
            "{accept}"
        );
        assert_eq!(answer.header("retry-after"), Some("120"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        if kind == "application/json" {
            let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["message"], "Moving to a <new> \"engine\" & back");
            assert_eq!(body["retry_after_seconds"], 120);
        } else {
            let text = answer.text();
            assert!(
                text.contains("Moving to a &lt;new&gt; &quot;engine&quot; &amp; back"),
                "{text}"
            );
        }
    }
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    let post = conn.ask("POST", "/echo", "", b"abc").await.unwrap();
    assert_eq!((post.status, app.count()), (503, 0));
    gateway.switch("back", table(&[app.addr])).await;
    assert_eq!(ask(&gateway, "/", "").await.status, 200);
}

#[tokio::test]
async fn some_paths_and_some_clients_are_served_all_the_same() {
    let app = App::start();
    let mut words = saying("no");
    words.paths = vec!["/health".to_owned()];
    words.allow = vec!["203.0.113.0/24".to_owned()];
    let mut routes = closed(&app, words);
    let gateway = Gateway::serving(routes.clone()).await;
    let by = |client: &str| format!("X-Forwarded-For: {client}\r\n");
    assert_eq!(ask(&gateway, "/health", "").await.status, 200);
    assert_eq!(ask(&gateway, "/health?deep=1", "").await.status, 200);
    for path in [
        "/health/",
        "/health/x",
        "/healthy",
        "/x/../health",
        "//health",
        "/HEALTH",
    ] {
        assert_eq!(ask(&gateway, path, "").await.status, 503, "{path}");
    }
    assert_eq!(
        ask(&gateway, "/", &by("203.0.113.7")).await.status,
        503,
        "made up"
    );
    routes.front.trust = vec!["127.0.0.1".to_owned()];
    gateway.switch("behind", routes).await;
    assert_eq!(ask(&gateway, "/", &by("203.0.113.7")).await.status, 200);
    assert_eq!(
        ask(&gateway, "/", &by("203.0.113.7, 198.51.100.1"))
            .await
            .status,
        503
    );
}

#[tokio::test]
async fn it_outlives_a_killed_gateway() {
    let app = App::start();
    let mut gateway = Gateway::serving(closed(&app, saying("later"))).await;
    gateway.process.kill();
    gateway.restart().await;
    let answer = ask(&gateway, "/", "").await;
    assert!(
        answer.status == 503 && answer.text().contains("later"),
        "{answer:?}"
    );
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn who_waits_while_it_begins_gets_the_page() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let held = gateway.hold(OnExpiry::Old, 20_000).await;
    let addr = gateway.addr;
    let waiters = ["/", "/health"].map(|path| {
        tokio::spawn(async move { Conn::open(addr).await.unwrap().get(path).await.unwrap() })
    });
    until("both wait", || async { gateway.waiting().await == 2 }).await;
    let mut words = saying("since then");
    words.paths = vec!["/health".to_owned()];
    gateway.switch("closed", closed(&app, words)).await;
    gateway.resume(&held.token).await;
    let [other, health] = waiters;
    let answer = other.await.unwrap();
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("120"))
    );
    assert!(answer.text().contains("since then"), "{answer:?}");
    assert_eq!((health.await.unwrap().status, app.count()), (200, 1));
}
