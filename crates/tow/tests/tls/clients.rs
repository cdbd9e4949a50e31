//! Clients that were written by others.

use std::process::{Command, Output};

use crate::fixture::{Fixture, STAGING};
use crate::issuer::{until_of, with_issuer};

fn run(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; `make tls` installs it"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn h2load_curl_and_a_browser_are_served() {
    let (fixture, names, mut pebble) = with_issuer();
    pebble.start(&fixture, &names, 86_400);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    until_of(&fixture, "issued", "a.test", |one| one.good);
    let ca = fixture.dir.join("root.pem");
    std::fs::write(&ca, pebble.root_pem(&fixture)).unwrap();
    h2load(&fixture);
    curl(&fixture, ca.to_str().unwrap());
    browser(&fixture, ca.to_str().unwrap());
    fixture.down(STAGING);
}

fn h2load(fixture: &Fixture) {
    let url = format!("https://{}/version", fixture.secure);
    let mut command = Command::new("h2load");
    command.args([
        "-n",
        "20000",
        "-c",
        "16",
        "-m",
        "20",
        "-t",
        "1",
        "--connect-to",
    ]);
    command.arg(fixture.secure.to_string());
    command.arg(url.replace("127.0.0.1", "a.test"));
    let said = text(&run(&mut command).stdout);
    let lines = said.lines().filter(|line| {
        [
            "finished in",
            "requests:",
            "status codes:",
            "Application protocol",
            "TLS Protocol",
        ]
        .iter()
        .any(|word| line.starts_with(word))
    });
    lines.for_each(|line| println!("h2load: {line}"));
    assert!(said.contains("Application protocol: h2"), "{said}");
    assert!(
        said.contains("20000 succeeded, 0 failed, 0 errored, 0 timeout"),
        "{said}"
    );
    assert!(said.contains("status codes: 20000 2xx"), "{said}");
}

fn curl(fixture: &Fixture, ca: &str) {
    let port = fixture.secure.port();
    let resolve = |port: u16| format!("a.test:{port}:127.0.0.1");
    let form = "%{http_code} HTTP/%{http_version} %{redirect_url} %{ssl_verify_result}";
    let mut asked = 0;
    for (protocol, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--cacert",
            ca,
            protocol,
            "-o",
            "/dev/null",
            "-w",
            form,
        ]);
        command.args([
            "--resolve",
            &resolve(port),
            &format!("https://a.test:{port}/version"),
        ]);
        assert_eq!(
            text(&run(&mut command).stdout),
            format!("200 HTTP/{version}  0")
        );
        asked += 1;
    }
    let plain = fixture.listen_port();
    let mut command = Command::new("curl");
    command.args([
        "-sSL",
        "--cacert",
        ca,
        "--resolve",
        &resolve(port),
        "--resolve",
        &resolve(plain),
    ]);
    command.arg(format!("http://a.test:{plain}/version"));
    assert_eq!(text(&run(&mut command).stdout), "v1");
    println!("curl: {asked} of 2 protocols, and the way from http");
}

/// It trusts the issuer as a person would have it trust one.
fn browser(fixture: &Fixture, ca: &str) {
    let home = fixture.dir.join("home");
    let store = home.join(".pki/nssdb");
    std::fs::create_dir_all(&store).unwrap();
    let store = format!("sql:{}", store.display());
    let mut command = Command::new("certutil");
    command.args(["-N", "--empty-password", "-d", &store]);
    assert!(run(&mut command).status.success());
    let mut command = Command::new("certutil");
    command.args(["-A", "-t", "C,,", "-n", "issuer", "-i", ca, "-d", &store]);
    assert!(run(&mut command).status.success());
    let picture = fixture.dir.join("picture.png");
    let page = |more: &[&str]| {
        let rules = format!("MAP a.test 127.0.0.1:{}", fixture.secure.port());
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ]);
        command.arg(format!("--host-resolver-rules={rules}"));
        command
            .args(more)
            .arg("https://a.test/version")
            .env("HOME", &home);
        run(&mut command)
    };
    let dumped = page(&["--dump-dom"]);
    let dom = text(&dumped.stdout);
    assert!(dom.contains("v1"), "{dom}\n{}", text(&dumped.stderr));
    page(&[
        &format!("--screenshot={}", picture.display()),
        "--window-size=400,300",
    ]);
    let png = std::fs::read(&picture).unwrap();
    assert!(
        png.starts_with(b"\x89PNG") && png.len() > 500,
        "{} bytes",
        png.len()
    );
    println!("chromium: the page, and a picture of {} bytes", png.len());
}
