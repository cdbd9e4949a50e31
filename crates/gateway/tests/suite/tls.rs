//! TLS: which certificate is shown, what a bad one touches, renewal, and the way from http.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use towpath_gateway::api::{Challenges, Front, Table};
use towpath_gateway::certificate;

use crate::app::App;
use crate::client::Conn;
use crate::secure::{Authority, DAY, SecureGateway, shake};
use crate::support::{Gateway, Load, route, table, until};

const HOSTS: [&str; 2] = ["a.test", "b.test"];

/// The leaf in a PEM text.
fn leaf(pem: &str) -> Vec<u8> {
    use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .to_vec()
}

/// What a client was told when it was turned away.
fn alert<T>(answer: io::Result<T>) -> String {
    match answer {
        Ok(_) => "it was let in".to_owned(),
        Err(error) => error.to_string(),
    }
}

const UNRECOGNISED: &str = "received fatal alert: UnrecognisedName";

#[tokio::test]
async fn each_host_has_its_certificate_and_other_names_hear_an_alert() {
    let app = App::start();
    let gateway = SecureGateway::serving(&HOSTS, table(&[app.addr])).await;
    for host in HOSTS {
        let mut conn = gateway.connect(host).await.unwrap();
        let head = format!("GET /head HTTP/1.1\r\nHost: {host}\r\n\r\n");
        conn.send(head.as_bytes()).await.unwrap();
        let text = conn.receive(false).await.unwrap().text();
        assert!(text.contains("\nx-forwarded-proto: https\n"), "{text}");
        assert!(
            text.contains("\nforwarded: for=127.0.0.1;proto=https\n"),
            "{text}"
        );
    }
    assert_ne!(
        gateway.shown("a.test").await.unwrap(),
        gateway.shown("b.test").await.unwrap()
    );
    assert_eq!(alert(gateway.connect("c.test").await), UNRECOGNISED);
    // An address is no name: with two certificates nobody knows which is meant.
    assert_eq!(alert(gateway.connect("127.0.0.1").await), UNRECOGNISED);
    // The alert is out before it is counted.
    until("both are counted", || async {
        let metrics = gateway.process.control.metrics().await.unwrap();
        metrics.contains("{reason=\"no_certificate\"} 2\n")
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_for_the_hosts_of_its_certificate_only() {
    let app = App::start();
    let gateway = SecureGateway::serving(&HOSTS, table(&[app.addr])).await;
    let mut conn = gateway.connect("a.test").await.unwrap();
    for (host, status) in [("a.test", 200), ("A.TEST:8443", 200), ("b.test", 421)] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        conn.send(head.as_bytes()).await.unwrap();
        assert_eq!(conn.receive(false).await.unwrap().status, status, "{host}");
    }
    assert_eq!(app.count(), 2);
}

/// What is put in place of a good file, and what is said of it.
fn spoiled(authority: &Authority, host: &str) -> Vec<(&'static str, Vec<u8>)> {
    let good = authority.good(host).into_bytes();
    let other = authority.good(host);
    let key = other.find("-----BEGIN PRIVATE").unwrap();
    let own_key = good
        .windows(18)
        .position(|some| some == b"-----BEGIN PRIVATE")
        .unwrap();
    vec![
        ("no certificate", Vec::new()),
        ("cut off", good[..own_key].to_vec()),
        ("cut off", good[..good.len() - 40].to_vec()),
        ("cut off", good[..200].to_vec()),
        (
            "cannot be read",
            good.iter()
                .map(|byte| if *byte == b'M' { b'N' } else { *byte })
                .collect(),
        ),
        (
            "not that of",
            [&good[..own_key], &other.as_bytes()[key..]].concat(),
        ),
        ("is not for a.test", authority.good("c.test").into_bytes()),
        ("no certificate", vec![0; 1000]),
        ("no file of", vec![b'x'; 300_000]),
    ]
}

#[tokio::test]
async fn a_bad_file_touches_one_host_only_and_what_was_served_is_served_on() {
    let app = App::start();
    let mut gateway = SecureGateway::serving(&HOSTS, table(&[app.addr])).await;
    let before = gateway.shown("a.test").await.unwrap();
    let spoiled = spoiled(&gateway.authority, "a.test");
    for (words, bytes) in &spoiled {
        std::fs::write(gateway.file("a.test"), bytes).unwrap();
        let state = gateway.state_of("a.test").await;
        let problem = state.problem.unwrap_or_default();
        assert!(
            state.served && problem.contains(words),
            "{words}: {problem}"
        );
        assert_eq!(gateway.shown("a.test").await.unwrap(), before, "{words}");
    }
    for (words, bytes) in &spoiled {
        std::fs::write(gateway.file("a.test"), bytes).unwrap();
        gateway.restart().await;
        let state = gateway.process.control.state().await.unwrap();
        let bad = &state.certificates.hosts["a.test"];
        let problem = bad.problem.clone().unwrap_or_default();
        assert!(!bad.served && problem.contains(words), "{words}: {problem}");
        assert_eq!(
            alert(gateway.connect("a.test").await),
            UNRECOGNISED,
            "{words}"
        );
        let mut conn = gateway.connect("b.test").await.unwrap();
        conn.send(b"GET / HTTP/1.1\r\nHost: b.test\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(conn.receive(false).await.unwrap().status, 200, "{words}");
    }
    gateway.renew("a.test").await;
    assert_eq!(gateway.state_of("a.test").await.problem, None);
    gateway.connect("a.test").await.unwrap();
}

#[tokio::test]
async fn what_is_no_file_is_not_opened_and_names_that_are_none_are_passed_over() {
    let gateway = SecureGateway::serving(&["b.test"], table(&[])).await;
    let folder = gateway.folder.path().join("certificates");
    let fifo = std::process::Command::new("mkfifo")
        .arg(gateway.file("a.test"))
        .status();
    assert!(fifo.unwrap().success());
    std::fs::create_dir(gateway.file("c.test")).unwrap();
    std::os::unix::fs::symlink("nowhere", gateway.file("d.test")).unwrap();
    for name in ["B.test.pem", ".pem", "b.test.pem.new", "x y.pem"] {
        std::fs::write(folder.join(name), "x").unwrap();
    }
    let certificates = gateway.process.control.certificates().await.unwrap();
    let served: Vec<_> = certificates
        .hosts
        .iter()
        .map(|(host, one)| (host.as_str(), one.served))
        .collect();
    assert_eq!(
        served,
        [
            ("a.test", false),
            ("b.test", true),
            ("c.test", false),
            ("d.test", false)
        ]
    );
    // A folder that has gone takes nothing with it.
    std::fs::rename(&folder, folder.with_extension("gone")).unwrap();
    let certificates = gateway.process.control.certificates().await.unwrap();
    assert!(certificates.problem.is_some() && certificates.hosts["b.test"].served);
    gateway.connect("b.test").await.unwrap();
}

#[tokio::test]
async fn times_and_modes_are_told_and_served() {
    let gateway = SecureGateway::serving(&[], table(&[])).await;
    let cases = [
        ("a.test", -2 * DAY, -DAY, "expired"),
        ("b.test", DAY, 2 * DAY, "not valid yet"),
    ];
    for (host, from, to, words) in cases {
        let pem = gateway.authority.issue(host, from, to);
        std::fs::write(gateway.file(host), pem).unwrap();
        std::os::unix::fs::chown(gateway.file(host), None, None).unwrap();
        set_mode(&gateway, host, 0o600);
        let state = gateway.state_of(host).await;
        assert!(
            state.served && state.problem.unwrap_or_default().contains(words),
            "{host}"
        );
        let answer = alert(gateway.connect(host).await).to_lowercase();
        assert!(
            answer.contains("expired") || answer.contains("not valid yet"),
            "{answer}"
        );
    }
    gateway.renew("c.test").await;
    set_mode(&gateway, "c.test", 0o640);
    let state = gateway.state_of("c.test").await;
    assert!(
        state.served
            && state
                .problem
                .unwrap_or_default()
                .contains("others than its owner")
    );
    let lifetime = state.not_after.unwrap() - state.not_before.unwrap();
    assert_eq!(lifetime, 2 * DAY);
}

fn set_mode(gateway: &SecureGateway, host: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(gateway.file(host), mode).unwrap();
}

#[tokio::test]
async fn what_cannot_be_served_is_not_written() {
    use std::os::unix::fs::PermissionsExt;
    let gateway = SecureGateway::serving(&["a.test"], table(&[])).await;
    let folder = gateway.folder.path().join("certificates");
    let good = std::fs::read(gateway.file("a.test")).unwrap();
    let bad = spoiled(&gateway.authority, "a.test");
    for (words, bytes) in bad.iter().filter(|(words, _)| !words.contains("no file")) {
        let refused = certificate::write(&folder, "a.test", bytes)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(words), "{words}: {refused}");
    }
    for host in ["", "../a", "a/b", ".a", "A.test", "a b"] {
        let refused = certificate::write(&folder, host, &good)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("no host name"), "{refused}");
    }
    // What a writer that was killed left beside is in nobody's way.
    std::fs::write(folder.join("a.test.pem.new"), "half").unwrap();
    let next = gateway.authority.good("a.test");
    certificate::write(&folder, "a.test", next.as_bytes()).unwrap();
    assert_eq!(
        std::fs::read(gateway.file("a.test")).unwrap(),
        next.as_bytes()
    );
    let mode = std::fs::metadata(gateway.file("a.test"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_and_survive_a_kill_without_a_failed_request() {
    let app = App::start();
    let mut gateway = SecureGateway::serving(&HOSTS, table(&[app.addr])).await;
    let client = gateway.authority.client(&["http/1.1"]);
    let load = Load::over(gateway.secure, 32, "/", Some((client, "a.test")));
    for _ in 0..10 {
        load.reached(500).await;
        let pem = gateway.renew("a.test").await;
        assert_eq!(gateway.shown("a.test").await.unwrap(), leaf(&pem));
    }
    let (failed, requests) = load.stop("renewal").await;
    assert_eq!(failed, 0);
    assert!(requests > 5_000, "{requests}");
    let before = gateway.shown("a.test").await.unwrap();
    gateway.restart().await;
    assert_eq!(gateway.shown("a.test").await.unwrap(), before);
}

#[tokio::test]
async fn what_is_no_handshake_ends_and_harms_nobody() {
    let app = App::start();
    let gateway = SecureGateway::serving(&["a.test"], table(&[app.addr])).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..],
        &[22, 3, 1, 255, 255, 0],
        &[0; 600],
    ] {
        let mut stream = TcpStream::connect(gateway.secure).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // An alert, or nothing; never a response.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    }
    // The one certificate there is serves who names no host.
    let client = gateway.authority.client(&[]);
    assert!(
        alert(shake(gateway.secure, &client, "127.0.0.1").await).contains("not valid for name")
    );
    let nothing = gateway.authority.client(&["spdy/1"]);
    assert!(
        alert(shake(gateway.secure, &nothing, "a.test").await).contains("NoApplicationProtocol")
    );
    let mut conn = gateway.connect("a.test").await.unwrap();
    conn.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(conn.receive(false).await.unwrap().status, 200);
    assert_eq!(app.count(), 1);
}

fn for_hosts(app: &App) -> Table {
    let mut table = table(&[app.addr]);
    table.routes = HOSTS
        .map(|host| towpath_gateway::api::Route {
            host: Some(host.to_owned()),
            ..route("/")
        })
        .to_vec();
    table
}

async fn plain(gateway: &SecureGateway, host: &str, path: &str) -> (u16, String) {
    let mut conn = Conn::open(gateway.plain).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\nx");
    conn.send(head.as_bytes()).await.unwrap();
    let response = conn.receive(false).await.unwrap();
    let place = response.header("location").map(str::to_owned);
    (response.status, place.unwrap_or_else(|| response.text()))
}

#[tokio::test]
async fn http_leads_to_https_and_answers_issuers() {
    let app = App::start();
    let gateway = SecureGateway::redirecting(&["a.test"], for_hosts(&app)).await;
    let to = |place: &str| (308, place.to_owned());
    assert_eq!(
        plain(&gateway, "a.test", "/x?y=%20").await,
        to("https://a.test/x?y=%20")
    );
    assert_eq!(
        plain(&gateway, "A.test:80", "//e.test/").await,
        to("https://A.test//e.test/")
    );
    let (status, words) = plain(&gateway, "b.test", "/").await;
    assert!(
        status == 503 && words.contains("no certificate yet"),
        "{status} {words}"
    );
    assert_eq!(plain(&gateway, "c.test", "/").await.0, 404);
    let challenge = "/.well-known/acme-challenge/token-1";
    assert_eq!(plain(&gateway, "b.test", challenge).await.0, 404);
    let answers = [("token-1".to_owned(), "token-1.thumb".to_owned())].into();
    gateway
        .process
        .control
        .challenges(&Challenges { answers })
        .await
        .unwrap();
    assert_eq!(
        plain(&gateway, "b.test", challenge).await,
        (200, "token-1.thumb".to_owned())
    );
    gateway
        .process
        .control
        .challenges(&Challenges::default())
        .await
        .unwrap();
    assert_eq!(plain(&gateway, "b.test", challenge).await.0, 404);
    assert_eq!(app.count(), 0);
    // Without https the application has its paths to itself.
    gateway.switch(for_hosts(&app)).await;
    assert_eq!(
        plain(&gateway, "a.test", challenge).await,
        (200, "hello".to_owned())
    );
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn another_port_of_https_is_named() {
    let app = App::start();
    let gateway = SecureGateway::serving(&["a.test"], table(&[app.addr])).await;
    let mut routes = for_hosts(&app);
    routes.front.https = Some(8443);
    gateway.switch(routes).await;
    assert_eq!(
        plain(&gateway, "a.test", "/").await,
        (308, "https://a.test:8443/".to_owned())
    );
}

#[tokio::test]
async fn only_a_trusted_proxy_is_believed() {
    let app = App::start();
    let gateway = Gateway::serving(table(&[app.addr])).await;
    let said = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.test\r\n\
        X-Forwarded-For: 10.0.0.2\r\nX-Real-IP: 198.51.100.7\r\nForwarded: for=198.51.100.7;proto=https\r\n";
    let overwritten = "forwarded: for=127.0.0.1;proto=http\nhost: app.test\nx-forwarded-for: 127.0.0.1\n\
        x-forwarded-host: app.test\nx-forwarded-proto: http";
    let kept = "forwarded: for=198.51.100.7;proto=https, for=127.0.0.1;proto=http\nhost: app.test\n\
        x-forwarded-for: 198.51.100.7, 10.0.0.2, 127.0.0.1\nx-forwarded-host: shop.test\n\
        x-forwarded-proto: https\nx-real-ip: 198.51.100.7";
    for (trust, wanted) in [("10.0.0.0/8", overwritten), ("127.0.0.0/8", kept)] {
        let mut routes = table(&[app.addr]);
        routes.front.trust = vec!["192.0.2.1".to_owned(), trust.to_owned()];
        gateway.switch(trust, routes).await;
        let mut conn = Conn::open(gateway.addr).await.unwrap();
        let text = conn.ask("GET", "/head", said, b"").await.unwrap().text();
        let mut lines: Vec<&str> = text.lines().skip(1).collect();
        lines.sort_unstable();
        assert_eq!(lines.join("\n"), wanted, "{trust}");
    }
    let mut wrong = table(&[app.addr]);
    wrong.front = Front {
        trust: vec!["10.0.0.1/8".to_owned()],
        ..Front::default()
    };
    let apply = towpath_gateway::api::Apply {
        label: "wrong".to_owned(),
        expect: None,
        table: wrong,
    };
    let refused = gateway
        .control()
        .apply(&apply)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("\"10.0.0.1/8\" is no network"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_websocket_is_carried_over_tls() {
    let app = App::start();
    let gateway = SecureGateway::serving(&["a.test"], table(&[app.addr])).await;
    let mut conn = gateway.connect("a.test").await.unwrap();
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    conn.send(upgrade.as_bytes()).await.unwrap();
    assert_eq!(conn.head().await.unwrap().status, 101);
    conn.send(b"\x81\x82\0\0\0\0ok").await.unwrap();
    let mut bytes = [0; 8];
    conn.stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"\x81\x02hi\x81\x02ok");
}
