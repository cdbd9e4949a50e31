//! A key that may deploy one environment: each thing it must not be able to do is tried.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use serde_json::{Value, json};
use towpath::agent::routes::{Action, ROUTES};
use towpath::agent::{Client, ClientError, socket};
use towpath::id::Digest;

use crate::fixture::{Fixture, PRODUCTION, STAGING, Said, tow};
use crate::link::Linked;
use crate::whole::whole;

const PUBLIC: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKey0Key0Key0Key0Key0Key0Key0Key0Key0 me@ci\n";

/// What a key is there for; every other route must be refused, whoever adds it.
const ALLOWED: [Action; 10] = [
    Action::Hello,
    Action::Status,
    Action::Releases,
    Action::Begin,
    Action::Rows,
    Action::Cancel,
    Action::Accept,
    Action::LookForBlob,
    Action::ReceiveBlob,
    Action::TakeSecrets,
];

fn key(fixture: &Fixture) -> Client {
    Client::with_key(&socket(&fixture.state(STAGING)), "ci")
}

/// The code of the refusal, if it was one.
fn code(answer: Result<Value, ClientError>) -> String {
    match answer {
        Ok(_) => "ok".to_owned(),
        Err(error) => {
            let trouble = error.into_trouble();
            format!("{} {}", trouble.exit, trouble.diagnostic.code)
        }
    }
}

const NOT_ALLOWED: &str = "4 agent::not-allowed";

#[test]
fn every_route_that_is_not_for_deploying_is_refused() {
    let fixture = Fixture::new();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let before = fixture.status(STAGING);
    let source = fs::read_dir(fixture.state(STAGING).join("blobs")).unwrap();
    let blob = source
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.parse::<Digest>().is_ok())
        .unwrap();
    let mut refused = 0;
    for (method, path, action) in ROUTES {
        let part = match path {
            path if path.starts_with("/v1/runs") => "d1",
            path if path.starts_with("/v1/releases") => "r1",
            _ => &blob,
        };
        let path = path.replace('*', part);
        let answer = raw(&fixture, "key ci\n", method, &path);
        // Its own runs are its business, and those of others are tried elsewhere.
        let is_refused = answer.starts_with("HTTP/1.1 403") && !answer.contains("somebody else");
        assert_eq!(
            is_refused,
            !ALLOWED.contains(action),
            "{method} {path}: {answer}"
        );
        refused += usize::from(is_refused);
        let operator = raw(&fixture, "", "TRACE", &path);
        assert!(operator.starts_with("HTTP/1.1 400"), "{operator}");
    }
    println!("{} routes, {refused} refused to a key", ROUTES.len());
    assert_eq!(fixture.status(STAGING).agent_pid, before.agent_pid);
    fixture.down(STAGING);
}

/// What comes back for `greeting`, and one request without a body.
fn raw(fixture: &Fixture, greeting: &str, method: &str, path: &str) -> String {
    let socket = socket(&fixture.state(STAGING));
    let place = match greeting {
        "" => socket,
        _ => socket.with_file_name("deploy.sock"),
    };
    let mut stream = UnixStream::connect(place).unwrap();
    let request =
        format!("{greeting}{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    // Who is not listened to may be cut off in the middle.
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn who_does_not_say_which_key_it_is_is_not_listened_to() {
    let fixture = Fixture::new();
    fixture.agent(STAGING);
    let long = "x".repeat(1 << 20);
    for greeting in [
        "\n",
        "key \n",
        "key ../x\n",
        "key Ci\n",
        "ci\n",
        "key ci key\n",
        &long,
    ] {
        assert_eq!(
            raw(&fixture, greeting, "GET", "/v1/status"),
            "",
            "{greeting:.20}"
        );
    }
    assert!(raw(&fixture, "key ci\n", "GET", "/v1/status").starts_with("HTTP/1.1 200"));
    fixture.down(STAGING);
}

#[test]
fn a_key_begins_deployments_and_sees_its_own_runs_only() {
    let mut fixture = Fixture::new();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let client = key(&fixture);
    let begin = |what: Value| json!({ "what": what, "actor": "ana" });
    for what in [
        json!({ "operation": "down" }),
        json!({ "operation": "rollback", "to": null }),
        json!({ "operation": "up", "root": "/", "manifest": "app = \"fixture\"" }),
    ] {
        let answer = fixture.run(client.post("/v1/runs", &begin(what.clone())));
        assert_eq!(code(answer), NOT_ALLOWED, "{what}");
    }
    assert_eq!(
        code(fixture.run(client.get("/v1/runs/d1/rows"))),
        NOT_ALLOWED
    );
    whole(&fixture, STAGING, "v2").unwrap();
    let again = json!({ "operation": "promote", "release": "r1" });
    fixture
        .run(client.post::<Value>("/v1/runs", &begin(again)))
        .unwrap();
    assert_eq!(
        code(fixture.run(key(&fixture).post("/v1/cancel", &"ana"))),
        "ok"
    );
    crate::machine::until("the run ends", || {
        fixture.seen(STAGING)?.run.is_none().then_some(())
    });
    let actor = fixture.status(STAGING).ended[0].actor.clone();
    assert_eq!(
        actor, "key ci",
        "a key acts under its own name, whatever it says"
    );
    fixture.down(STAGING);
}

#[test]
fn what_a_service_logs_is_not_for_a_key() {
    let mut fixture = Fixture::new();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    fixture.write("worker-mode", "die");
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(5);
    let releases: Value = fixture
        .tow(&["releases", "-e", STAGING, "--json"])
        .expect(0)
        .json();
    let failed = releases[0]["release"].clone();
    let begin = json!({ "what": { "operation": "promote", "release": failed }, "actor": "" });
    let heard = |client: &Client| {
        let begun: Value = fixture.run(client.post("/v1/runs", &begin)).unwrap();
        let path = format!("/v1/runs/{}/rows", begun["run"].as_str().unwrap());
        fixture.run(async {
            let mut lines = client.lines(&path).await.unwrap();
            let mut heard = String::new();
            while let Some(row) = lines.next::<Value>().await.unwrap() {
                heard.push_str(&row.to_string());
            }
            heard
        })
    };
    let operator = heard(&Client::new(socket(&fixture.state(STAGING))));
    assert!(operator.contains("its last lines:"), "{operator}");
    let key = heard(&key(&fixture));
    assert!(key.contains("is not shown to a key"), "{key}");
    assert!(!key.contains("its last lines:"), "{key}");
    fixture.down(STAGING);
}

/// The command with the public key on standard input.
fn told(linked: &Linked, arguments: &[&str], input: &str) -> Said {
    let mut command = linked.fixture.command(&tow(), arguments);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that is refused for another reason does not read it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    linked.fixture.end(crate::fixture::Running(child))
}

/// The command that sshd runs for the key, from the line that was put there.
fn forced(line: &str) -> String {
    let rest = line.strip_prefix("restrict,command=\"").unwrap();
    let end = rest.find("\" ssh-ed25519 ").unwrap();
    rest[..end].replace("\\\"", "\"").replace("\\\\", "\\")
}

#[test]
fn a_key_deploys_its_environment_from_a_ci_and_does_nothing_else() {
    let mut linked = Linked::new();
    let file = linked.dir.join("root/home/.ssh/authorized_keys");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "ssh-ed25519 AAAAOther ana\n").unwrap();
    let add = ["server", "key", "add", "-e", STAGING, "--name", "ci"];
    told(&linked, &add, "no-pty ssh-ed25519 AAAAC3 x").expect(3);
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "ssh-ed25519 AAAAOther ana\n"
    );
    told(&linked, &add, PUBLIC).expect(0);
    let once = fs::read_to_string(&file).unwrap();
    told(&linked, &add, PUBLIC).expect(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), once, "added twice");
    let lines: Vec<&str> = once.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "ssh-ed25519 AAAAOther ana"));
    linked.set("forced", forced(lines[1]));

    linked.tow(&["deploy", "-e", STAGING]).expect(0);
    assert_eq!(linked.fixture.status(STAGING).ended[0].actor, "key ci");
    for refused in [
        &["logs", "web"][..],
        &["rollback"],
        &["down"],
        &["server", "upgrade"],
    ] {
        let said = linked.tow(&[refused, &["-e", STAGING]].concat()).expect(4);
        assert!(said.err.contains("agent::not-allowed"), "{said:?}");
    }
    // Whatever is asked for, the key reaches its own environment, and that is noticed.
    assert_eq!(
        linked.refused(&["status", "-e", PRODUCTION]),
        "link::other-environment"
    );
    assert_eq!(
        linked.refused(&["deploy", "-e", PRODUCTION]),
        "link::other-environment"
    );
    linked.fixture.commit();
    linked
        .tow(&["deploy", "-e", STAGING, "--commit", "HEAD~1", "--json"])
        .expect(0);
    linked
        .tow(&["deploy", "-e", STAGING, "--commit", "HEAD"])
        .expect(0);
    whole(&linked.fixture, STAGING, "v2").unwrap();
    linked
        .tow(&["deploy", "-e", STAGING, "--release", "r1"])
        .expect(0);
    whole(&linked.fixture, STAGING, "v1").unwrap();
    linked
        .tow(&["deploy", "-e", STAGING, "--release", "r9"])
        .expect(3);
    linked
        .tow(&["deploy", "-e", STAGING, "--commit", "nothing"])
        .expect(3);

    linked.unset("forced");
    told(
        &linked,
        &["server", "key", "remove", "-e", STAGING, "--name", "ci"],
        "",
    )
    .expect(0);
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "ssh-ed25519 AAAAOther ana\n"
    );
    linked.tow(&["down", "-e", STAGING]).expect(0);
}

#[test]
fn keys_behind_a_link_are_changed_where_they_are() {
    let linked = Linked::new();
    let folder = linked.dir.join("root/home/.ssh");
    let kept = linked.dir.join("root/kept");
    for dir in [&folder, &kept] {
        fs::create_dir_all(dir).unwrap();
    }
    let (link, file) = (folder.join("authorized_keys"), kept.join("keys"));
    let other = "ssh-ed25519 AAAAOther ana\n";
    fs::write(&file, other).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("../../kept/keys", &link).unwrap();
    let named = |verb| ["server", "key", verb, "-e", STAGING, "--name", "ci"];
    told(&linked, &named("add"), PUBLIC).expect(0);
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.starts_with(other) && text.lines().count() == 2,
        "{text}"
    );
    assert_eq!(
        fs::read_link(&link).unwrap().to_str(),
        Some("../../kept/keys")
    );
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    told(&linked, &named("remove"), "").expect(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), other);
    assert_eq!(
        fs::read_dir(&kept).unwrap().count(),
        1,
        "something is left beside"
    );

    for nowhere in ["../../nowhere/keys", "../../kept"] {
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(nowhere, &link).unwrap();
        let said = told(&linked, &named("add"), PUBLIC).expect(1);
        assert!(
            said.err.contains("no link to one that can be changed"),
            "{said:?}"
        );
        assert_eq!(fs::read_link(&link).unwrap().to_str(), Some(nowhere));
    }
}
