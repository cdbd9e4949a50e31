//! https of an environment: certificates in its folder, and an issuer that does not answer.

use std::os::unix::fs::PermissionsExt;

use towpath::agent::api::{CertificateStatus, Status};

use crate::fixture::{Fixture, MANIFEST, STAGING};
use crate::machine::{kill, until};
use crate::tls_client::Authority;

/// Two hosts on one service.
fn manifest(tls: &str) -> String {
    MANIFEST
        .replace("replicas = 2", "routes = [\"/\", { path = \"/\", host = \"b.test\" }]")
        .replace(
            "[environments.staging]\n",
            &format!("[environments.staging]\ndomain = \"a.test\"\nlisten = \"LISTEN\"\nlisten_tls = \"SECURE\"\n{tls}\n"),
        )
        .replace("[environments.local]\nlisten = \"LISTEN\"\n", "")
}

fn of<'a>(status: &'a Status, host: &str) -> &'a CertificateStatus {
    status
        .certificates
        .iter()
        .find(|one| one.host == host)
        .unwrap()
}

fn until_of(
    fixture: &Fixture,
    what: &str,
    host: &str,
    holds: impl Fn(&CertificateStatus) -> bool,
) -> Status {
    until(what, || {
        fixture
            .seen(STAGING)
            .filter(|status| holds(of(status, host)))
    })
}

fn plain(fixture: &Fixture, path: &str) -> String {
    let listen = fixture.listen(STAGING);
    fixture.get(&listen, path).unwrap_err()
}

#[test]
fn certificates_in_the_folder_are_served_and_a_bad_one_touches_its_host_only() {
    let mut fixture = Fixture::with(&manifest("tls = \"files\""));
    let authority = Authority::new();
    let client = authority.client();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let status = fixture.status(STAGING);
    assert_eq!(status.verdict, "degraded");
    let missing = of(&status, "a.test").problem.clone().unwrap();
    assert!(missing.contains("put it into"), "{missing}");
    let file = |host: &str| {
        fixture
            .state(STAGING)
            .join(format!("certificates/{host}.pem"))
    };
    for host in ["a.test", "b.test"] {
        std::fs::write(file(host), authority.issue(host)).unwrap();
        let owners = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(file(host), owners).unwrap();
        until_of(&fixture, "the file is noticed", host, |one| {
            one.good && one.problem.is_none()
        });
    }
    assert_eq!(fixture.status(STAGING).verdict, "serving");
    let ask = |host: &str| fixture.run(client.get(fixture.secure, host, "/version"));
    for host in ["a.test", "b.test"] {
        assert_eq!(ask(host).unwrap(), (200, "v1".to_owned()), "{host}");
    }
    let good = std::fs::read(file("a.test")).unwrap();
    std::fs::write(file("a.test"), &good[..good.len() / 2]).unwrap();
    let status = until_of(&fixture, "the bad file is noticed", "a.test", |one| {
        one.problem.is_some()
    });
    let said = of(&status, "a.test").problem.clone().unwrap();
    assert!(said.contains("cut off"), "{said}");
    assert!(of(&status, "a.test").good && of(&status, "b.test").problem.is_none());
    assert_eq!(ask("a.test").unwrap().0, 200);
    // Another process has only the file to go by.
    let pid = status.gateway.unwrap().pid;
    kill(pid);
    until("another gateway", || {
        fixture
            .seen(STAGING)?
            .gateway
            .filter(|gateway| gateway.pid != pid)
    });
    let refused = ask("a.test").unwrap_err().to_string();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    assert_eq!(ask("b.test").unwrap().0, 200);
    let text = fixture.tow(&["status", "-e", STAGING]).expect(0).out;
    assert!(
        text.contains("a.test  no certificate   warning: the file is cut off"),
        "{text}"
    );
    assert!(text.contains("b.test  certificate good for "), "{text}");
    std::fs::write(file("a.test"), &good).unwrap();
    until_of(&fixture, "the good file is noticed", "a.test", |one| {
        one.good
    });
    assert_eq!(ask("a.test").unwrap().0, 200);
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let next = fixture.run(client.get(fixture.secure, "a.test", "/version"));
    assert_eq!(next.unwrap(), (200, "v2".to_owned()));
    other_listeners(&mut fixture);
    fixture.down(STAGING);
}

/// The gateway keeps those it has.
fn other_listeners(fixture: &mut Fixture) {
    fixture.manifest(&manifest("tls = \"off\"").replace("listen_tls = \"SECURE\"\n", ""));
    fixture.commit();
    let refused = fixture.tow(&["deploy", "-e", STAGING]).expect(4);
    assert!(
        refused.err.contains("gateway::other-address"),
        "{}",
        refused.err
    );
    assert_eq!(fixture.status(STAGING).live.unwrap().name, "r2");
}

/// What plain http answers for a host.
fn by_name(listen: &str, host: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(listen).unwrap();
    let request = format!("GET /version HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// To a release without https on a gateway that has it, and to one with it where there is none.
#[test]
fn the_way_back_is_free_whatever_the_gateway_listens_on() {
    let secure = manifest("tls = \"files\"");
    let bare = manifest("tls = \"off\"").replace("listen_tls = \"SECURE\"\n", "");
    let deploy = ["deploy", "-e", STAGING];
    let mut fixture = Fixture::with(&bare);
    fixture.tow(&deploy).expect(0);
    for (manifest, other, told) in [
        (&secure, "r1", "the gateway keeps https at"),
        (&bare, "r2", "the gateway keeps no https"),
    ] {
        fixture.down(STAGING);
        fixture.manifest(manifest);
        fixture.commit();
        fixture.tow(&deploy).expect(0);
        let back = ["rollback", other, "-e", STAGING, "--dry-run"];
        let said = fixture.tow(&back).expect(0);
        assert!(said.err.contains(told), "{said:?}");
        let said = fixture.tow(&["rollback", other, "-e", STAGING]).expect(0);
        assert_eq!(
            fixture.status(STAGING).live.unwrap().name,
            other,
            "{said:?}"
        );
        // Nobody is sent to https that is not there;
        let answer = by_name(&fixture.listen(STAGING), "a.test");
        assert!(answer.starts_with("HTTP/1.1 200"), "{other}: {answer}");
    }
    fixture.down(STAGING);
}

#[test]
fn an_issuer_that_does_not_answer_is_told_of_and_not_pestered() {
    let tls = "acme = { directory = \"https://127.0.0.1:9/dir\" }";
    let mut fixture = Fixture::with(&manifest(tls));
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let tried = |one: &CertificateStatus| one.next_ms.is_some();
    let status = until_of(&fixture, "an attempt", "b.test", tried);
    let first = of(&status, "b.test").clone();
    let said = first.problem.clone().unwrap();
    assert!(
        !first.good && said.contains("https://127.0.0.1:9/dir: Connection refused"),
        "{said}"
    );
    assert_eq!(status.verdict, "degraded");
    // Nothing is made up: http says so, and https has nothing to show.
    let plain = plain(&fixture, "/version");
    assert!(plain.contains("404"), "{plain}");
    let client = Authority::new().client();
    let refused = fixture
        .run(client.get(fixture.secure, "a.test", "/"))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    let text = fixture.tow(&["status", "-e", STAGING]).expect(0).out;
    assert!(
        text.contains("b.test  no certificate   warning: the issuer: "),
        "{text}"
    );
    assert!(text.contains("; next attempt in "), "{text}");
    // Another agent remembers when the next attempt is.
    fixture.end_agent(STAGING);
    let again = fixture.status(STAGING);
    assert_eq!(of(&again, "b.test").next_ms, first.next_ms);
    // Another deployment does not wait for it.
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    until_of(&fixture, "another attempt", "b.test", |one| {
        one.next_ms > first.next_ms
    });
    fixture.down(STAGING);
}
