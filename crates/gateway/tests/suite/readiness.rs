//! The gateway's own paths: what is answered at them, when, and that no path of the application is.

use towpath_gateway::api::{Apply, OwnPaths, Readiness, Table, Word};
use towpath_gateway::control::Error;

use crate::app::App;
use crate::client::Conn;
use crate::support::{Gateway, route, table, until};

fn own(app: &App) -> Table {
    let mut table = table(&[app.addr]);
    table.front.own = OwnPaths {
        live: Some("/livez".to_owned()),
        ready: Some("/readyz".to_owned()),
    };
    table
}

fn word(ready: bool, text: &str) -> Word {
    Word {
        ready,
        json: format!("{{\"status\":\"{text}\"}}"),
    }
}

async fn asked(gateway: &Gateway, method: &str, path: &str) -> (u16, String) {
    let mut conn = Conn::open(gateway.addr).await.unwrap();
    let response = conn.ask(method, path, "", b"").await.unwrap();
    (response.status, response.text())
}

#[tokio::test]
async fn nothing_is_said_to_be_well_that_nobody_has_said() {
    let app = App::start();
    let gateway = Gateway::serving(own(&app)).await;
    assert_eq!(asked(&gateway, "GET", "/livez").await.0, 200);
    let (status, text) = asked(&gateway, "GET", "/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("nobody has said"), "{text}");

    let said = Readiness {
        now: word(true, "healthy"),
        lasts_ms: 600_000,
        afterwards: word(false, "silent"),
    };
    let control = gateway.control();
    control.readiness(&said).await.unwrap();
    let (status, text) = asked(&gateway, "GET", "/readyz").await;
    assert_eq!((status, text.as_str()), (200, "{\"status\":\"healthy\"}"));
    let ill = Readiness {
        now: word(false, "unhealthy"),
        ..said.clone()
    };
    control.readiness(&ill).await.unwrap();
    assert_eq!(asked(&gateway, "GET", "/readyz").await.0, 503);
    assert_eq!(asked(&gateway, "GET", "/livez").await.0, 200);

    let short = Readiness {
        lasts_ms: 1,
        ..said
    };
    control.readiness(&short).await.unwrap();
    until("what was said is over", || async {
        asked(&gateway, "GET", "/readyz").await == (503, "{\"status\":\"silent\"}".to_owned())
    })
    .await;
}

#[tokio::test]
async fn the_very_paths_are_its_own_and_no_others() {
    let app = App::start();
    let gateway = Gateway::serving(own(&app)).await;
    assert_eq!(asked(&gateway, "HEAD", "/livez").await.0, 200);
    assert_eq!(asked(&gateway, "POST", "/livez").await.0, 405);
    for path in ["/livez/", "/livez/x", "/xlivez", "/"] {
        let (_, text) = asked(&gateway, "GET", path).await;
        assert!(!text.contains("\"status\":\"healthy\""), "{path}: {text}");
    }
    let text = gateway.control().metrics().await.unwrap();
    assert!(text.contains("route=\"/livez\""), "{text}");

    let mut taken = own(&app);
    taken.routes.push(route("/readyz"));
    let mut same = own(&app);
    same.front.own.ready.clone_from(&same.front.own.live);
    let mut none = own(&app);
    none.front.own.live = Some("live".to_owned());
    for table in [taken, same, none] {
        let apply = Apply {
            label: "wrong".to_owned(),
            expect: None,
            table,
        };
        let refused = gateway.control().apply(&apply).await;
        let is_400 = matches!(&refused, Err(Error::Refused { status: 400, .. }));
        assert!(is_400, "{refused:?}");
    }
}

#[tokio::test]
async fn what_was_to_be_said_afterwards_is_said_by_the_next_process() {
    let app = App::start();
    let mut gateway = Gateway::serving(own(&app)).await;
    let said = |ready| Readiness {
        now: word(true, "healthy"),
        lasts_ms: 600_000,
        afterwards: word(ready, "silent"),
    };
    for (ready, status) in [(false, 503), (true, 200)] {
        gateway.control().readiness(&said(ready)).await.unwrap();
        let now = (200, "{\"status\":\"healthy\"}".to_owned());
        assert_eq!(asked(&gateway, "GET", "/readyz").await, now);
        gateway.process.kill();
        gateway.restart().await;
        let silent = (status, "{\"status\":\"silent\"}".to_owned());
        assert_eq!(asked(&gateway, "GET", "/readyz").await, silent);
    }
    // What it cannot read, or what is of another boot of the machine, nobody has said.
    let file = gateway.folder.path().join("state.ready");
    let whole = std::fs::read_to_string(&file).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let torn = whole[..whole.len() - 1].to_owned();
    for damaged in [torn, whole.replace(boot.trim(), "another"), String::new()] {
        gateway.process.kill();
        std::fs::write(&file, damaged).unwrap();
        gateway.restart().await;
        let (status, text) = asked(&gateway, "GET", "/readyz").await;
        assert!(status == 503 && text.contains("nobody has said"), "{text}");
    }
}

#[tokio::test]
async fn a_word_that_cannot_be_kept_is_said_all_the_same_and_none_is_left_behind() {
    let app = App::start();
    let mut gateway = Gateway::serving(own(&app)).await;
    let said = Readiness {
        now: word(true, "healthy"),
        lasts_ms: 600_000,
        afterwards: word(true, "silent"),
    };
    gateway.control().readiness(&said).await.unwrap();
    // A folder stands where it would be written.
    std::fs::create_dir(gateway.folder.path().join("state.ready.new")).unwrap();
    gateway.control().readiness(&said).await.unwrap();
    assert_eq!(asked(&gateway, "GET", "/readyz").await.0, 200);
    gateway.process.kill();
    gateway.restart().await;
    let (status, text) = asked(&gateway, "GET", "/readyz").await;
    assert!(status == 503 && text.contains("nobody has said"), "{text}");
}
