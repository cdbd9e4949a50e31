//! Rotation under load: nobody is signed out, nobody is refused, and afterwards what the old value was given out for is.
//! The same where the command or the agent is killed on the way, and the other way round.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use towpath::secret::{File, Identity};

use crate::fixture::{Fixture, STAGING};
use crate::machine::{Reaped, shims, until};
use crate::rotation::{
    Client, Ended, Held, Line, Load, agent_of_rehearsal, deploy, get, killed, rotate,
};

const MANIFEST: &str = r#"
app = "fixture"
promote = ["staging"]

[services.web]
run = "python3 serve.py"
secrets = ["JWT_SECRET", "API_KEY"]
ready = { http = "/health", every = "100ms", within = "60s", timeout = "10s" }

[services.worker]
role = "worker"
run = "sleep 100000"
secrets = ["API_KEY"]

[secrets]
JWT_SECRET = { kind = "jwt", overlap = "1s" }
API_KEY = { overlap = "1s", generate = { length = 24 } }

[environments.local]
listen = "LISTEN"
[environments.staging]
window = "1h"
"#;

/// Signs with the value of now, and takes what was signed with either.
const SERVE: &str = r#"
import base64, hashlib, hmac, json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def values(name):
    return [os.environ[key] for key in (name, name + "_PREVIOUS") if key in os.environ]

def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

def signed(text, key):
    return text + "." + encoded(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest())

def token():
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": "somebody"}]
    text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return signed(text, values("JWT_SECRET")[0])

class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        text = bearer.rpartition(".")[0]
        is_somebody = any(hmac.compare_digest(signed(text, key), bearer) for key in values("JWT_SECRET"))
        is_caller = self.headers.get("x-api-key", "") in values("API_KEY")
        status = {"/me": is_somebody, "/refresh": is_somebody, "/call": is_caller}.get(self.path, True)
        body = token() if status and self.path in ("/token", "/refresh") else "-"
        self.send_response(200 if status else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *words):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

Server((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
"#;

const OLD_KEY: &str = "the-first-key-of-callers";
const OLD_SECRET: &str = "the-first-key-that-tokens-are-signed-with";

fn fixture() -> Fixture {
    with(MANIFEST)
}

fn with(manifest: &str) -> Fixture {
    let mut fixture = Fixture::with(manifest);
    let home = fixture.dir.join("config");
    fixture.env.push(("XDG_CONFIG_HOME", home));
    fixture.write("serve.py", SERVE);
    fixture.commit();
    for (name, value) in [("JWT_SECRET", OLD_SECRET), ("API_KEY", OLD_KEY)] {
        fixture
            .tow_with(&["secrets", "set", name, "-e", STAGING], value)
            .expect(0);
    }
    fixture
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

fn api_key(key: &str) -> String {
    format!("x-api-key: {key}")
}

fn sign_in(listen: &str) -> String {
    let (status, token) = get(listen, "/token", "x-none: 1").unwrap();
    assert_eq!(status, 200);
    token
}

fn status_of(listen: &str, path: &str, header: &str) -> u16 {
    get(listen, path, header).unwrap().0
}

const SESSIONS: u64 = 6;

/// People who stay signed in, who come and go, and programs that call with a key.
struct Sessions {
    load: Load,
    shared: Arc<Shared>,
}

/// What they are told, and what they have done.
struct Shared {
    listen: String,
    /// Sessions that have a token of the round.
    renewed: AtomicU64,
    round: AtomicU64,
    key: Mutex<String>,
}

impl Sessions {
    fn start(listen: &str) -> Sessions {
        let shared = Arc::new(Shared {
            listen: listen.to_owned(),
            renewed: AtomicU64::new(0),
            round: AtomicU64::new(0),
            key: Mutex::new(OLD_KEY.to_owned()),
        });
        let mut clients = vec![calls(&shared), calls(&shared), comes(&shared)];
        clients.extend((0..SESSIONS).map(|_| stays(&shared)));
        Sessions {
            load: Load::start(clients),
            shared,
        }
    }

    /// Every session gets a new token by its old one, and callers the new key.
    fn renew(&self, key: Option<String>) {
        if let Some(key) = key {
            *self.shared.key.lock().unwrap() = key;
        }
        self.shared.renewed.store(0, Ordering::SeqCst);
        self.shared.round.fetch_add(1, Ordering::SeqCst);
        until("every session has a new token", || {
            let renewed = self.shared.renewed.load(Ordering::SeqCst);
            (renewed >= SESSIONS).then_some(())
        });
        // A request that was on its way with the old key has ended by then.
        self.load.more();
    }

    fn stop(self) -> Ended {
        self.load.stop()
    }
}

/// Signs in once, and stays.
fn stays(shared: &Arc<Shared>) -> Client {
    let shared = shared.clone();
    let mut line = Line::to(&shared.listen);
    let mut token = None;
    let mut round = 0;
    Box::new(move |counts| {
        let bearing = bearer(token.get_or_insert_with(|| sign_in(&shared.listen)));
        let now = shared.round.load(Ordering::SeqCst);
        let path = if now == round { "/me" } else { "/refresh" };
        let answer = counts.send(&mut line, path, &bearing, &counts.signed_out);
        match answer {
            Some(new) if path == "/refresh" => {
                token = Some(new);
                round = now;
                shared.renewed.fetch_add(1, Ordering::SeqCst);
            }
            Some(_) => {}
            // Whoever is signed out signs in again, so that every time counts.
            None => {
                if let Ok((_, new)) = get(&shared.listen, "/token", "x-none: 1") {
                    token = Some(new);
                }
            }
        }
    })
}

/// Signs in, and uses that at once.
fn comes(shared: &Arc<Shared>) -> Client {
    let mut line = Line::to(&shared.listen);
    Box::new(move |counts| {
        if let Some(token) = counts.send(&mut line, "/token", "x-none: 1", &counts.signed_out) {
            counts.send(&mut line, "/me", &bearer(&token), &counts.signed_out);
        }
    })
}

fn calls(shared: &Arc<Shared>) -> Client {
    let shared = shared.clone();
    let mut line = Line::to(&shared.listen);
    Box::new(move |counts| {
        let key = shared.key.lock().unwrap().clone();
        counts.send(&mut line, "/call", &api_key(&key), &counts.refused);
    })
}

fn value(fixture: &Fixture, name: &str) -> String {
    let said = fixture
        .tow(&["secrets", "get", name, "-e", STAGING])
        .expect(0);
    said.out.trim_end().to_owned()
}

/// Stage of a rotation, as the list has it.
fn stage(fixture: &Fixture, name: &str) -> Option<String> {
    let listed = fixture
        .tow(&["secrets", "list", "-e", STAGING, "--json"])
        .expect(0);
    let listed: serde_json::Value = listed.json();
    let mut rows = listed.as_array().unwrap().iter();
    let row = rows.find(|row| row["name"] == name).unwrap();
    row["rotation"]["stage"].as_str().map(str::to_owned)
}

#[test]
fn a_key_and_a_value_are_rotated_under_load_and_nobody_notices() {
    let fixture = fixture();
    let listen = deploy(&fixture);
    let sessions = Sessions::start(&listen);
    let first = sign_in(&listen);
    for name in ["JWT_SECRET", "API_KEY"] {
        let said = rotate(&fixture, name, &[]).expect(0);
        assert!(said.out.contains("stays good for"), "{}", said.out);
        assert_eq!(stage(&fixture, name).as_deref(), Some("overlapping"));
        sessions.load.more();
    }
    // Both are good.
    let second = sign_in(&listen);
    let key = value(&fixture, "API_KEY");
    assert_eq!(key.len(), 24);
    assert!(
        key.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{key}"
    );
    for token in [&first, &second] {
        assert_eq!(status_of(&listen, "/me", &bearer(token)), 200);
    }
    for key in [OLD_KEY, &key] {
        assert_eq!(status_of(&listen, "/call", &api_key(key)), 200);
    }
    sessions.renew(Some(key.clone()));
    for name in ["JWT_SECRET", "API_KEY"] {
        let said = rotate(&fixture, name, &["--wait"]).expect(0);
        assert!(said.out.contains("it is revoked"), "{}", said.out);
        assert_eq!(stage(&fixture, name), None);
    }
    let ended = sessions.stop();
    println!("{ended}");
    assert_eq!(ended.bad(), 0, "{ended}");
    // The old ones are not good any more.
    assert_eq!(status_of(&listen, "/me", &bearer(&first)), 401);
    assert_eq!(status_of(&listen, "/me", &bearer(&second)), 200);
    assert_eq!(status_of(&listen, "/call", &api_key(OLD_KEY)), 401);
    assert_eq!(status_of(&listen, "/call", &api_key(&key)), 200);
    // What the file keeps of it, its history aside, is the new value alone.
    let file = File::read(&fixture.repo()).unwrap().unwrap();
    assert!(file.row(STAGING, "JWT_SECRET").unwrap().rotation.is_none());
    fixture
        .tow(&["secrets", "audit", "-e", STAGING, "--verify"])
        .expect(0);
    fixture.down(STAGING);
}

/// A rehearsal's agent takes the fault; no other does.
#[test]
fn revoking_before_the_switch_is_seen() {
    let fixture = fixture();
    let fault = ["--sabotage", "early-revoke"];
    let rehearsing = agent_of_rehearsal(&fixture);
    let listen = deploy(&fixture);
    let sessions = Sessions::start(&listen);
    for name in ["JWT_SECRET", "API_KEY"] {
        rotate(&fixture, name, &fault).expect(0);
        sessions.load.more();
    }
    let ended = sessions.stop();
    println!("planted: {ended}");
    assert!(ended.signed_out > 0 && ended.refused > 0, "{ended}");
    fixture.down(STAGING);
    fixture.end_agent(STAGING);
    drop(rehearsing);
    // The real one.
    let before = fs::read_to_string(fixture.repo().join("tow.secrets.toml")).unwrap();
    deploy(&fixture);
    let said = rotate(&fixture, "API_KEY", &fault);
    assert_ne!(said.code, 0, "{}", said.out);
    let after = fs::read_to_string(fixture.repo().join("tow.secrets.toml")).unwrap();
    assert_eq!(before, after);
    fixture.down(STAGING);
}

#[test]
fn a_command_that_is_killed_is_gone_on_with() {
    let fixture = fixture();
    let listen = deploy(&fixture);
    let sessions = Sessions::start(&listen);
    for stage in ["minted", "overlapping", "revoking", "finished"] {
        for point in ["before", "after"] {
            let old = sign_in(&listen);
            let before = value(&fixture, "JWT_SECRET");
            let place = format!("{stage}:{point}");
            let begins = matches!(
                &*place,
                "minted:before" | "minted:after" | "overlapping:before"
            );
            if !begins && place != "overlapping:after" {
                rotate(&fixture, "JWT_SECRET", &[]).expect(0);
                sessions.renew(None);
            }
            killed(&fixture, "JWT_SECRET", &[], &format!("rotate:{place}"));
            sessions.load.more();
            if place == "minted:before" {
                assert_eq!(value(&fixture, "JWT_SECRET"), before);
            }
            if begins {
                rotate(&fixture, "JWT_SECRET", &[]).expect(0);
            }
            // Whoever is signed in gets a new token while both keys are good.
            if begins || place == "overlapping:after" {
                sessions.renew(None);
            }
            assert_ne!(value(&fixture, "JWT_SECRET"), before);
            if place != "finished:after" {
                rotate(&fixture, "JWT_SECRET", &["--wait"]).expect(0);
            }
            assert_eq!(status_of(&listen, "/me", &bearer(&old)), 401, "{place}");
        }
    }
    let ended = sessions.stop();
    println!("8 kills: {ended}");
    assert_eq!(ended.bad(), 0, "{ended}");
    fixture.down(STAGING);
}

#[test]
fn an_agent_that_is_killed_is_followed_by_one_that_goes_on() {
    let fixture = fixture();
    let listen = deploy(&fixture);
    let sessions = Sessions::start(&listen);
    for place in [
        "apply:launch:web:after",
        "apply:ready:web:after",
        "apply:switch:before",
        "apply:switch:after",
        "apply:retire:old:after",
    ] {
        let old = sign_in(&listen);
        let mut doomed = Reaped(fixture.doomed_agent(STAGING, place));
        rotate(&fixture, "JWT_SECRET", &[]).expect(0);
        let status = doomed.0.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{place}");
        sessions.renew(None);
        let mut doomed = Reaped(fixture.doomed_agent(STAGING, place));
        rotate(&fixture, "JWT_SECRET", &["--wait"]).expect(0);
        let status = doomed.0.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{place}");
        assert_eq!(status_of(&listen, "/me", &bearer(&old)), 401, "{place}");
    }
    let ended = sessions.stop();
    println!("10 kills: {ended}");
    assert_eq!(ended.bad(), 0, "{ended}");
    fixture.down(STAGING);
}

#[test]
fn it_goes_back_from_every_stage() {
    let fixture = fixture();
    let listen = deploy(&fixture);
    // Nobody has the new value yet: nothing is started anew.
    killed(&fixture, "JWT_SECRET", &[], "rotate:minted:after");
    let said = rotate(&fixture, "JWT_SECRET", &["--undo"]).expect(0);
    assert!(said.err.contains("no instance had"), "{}", said.err);
    assert_eq!(stage(&fixture, "JWT_SECRET"), None);
    assert_eq!(value(&fixture, "JWT_SECRET"), OLD_SECRET);
    rotate(&fixture, "JWT_SECRET", &["--undo"]).expect(3);
    for place in ["overlapping:before", "revoking:after", "finished:before"] {
        let old = sign_in(&listen);
        killed(&fixture, "JWT_SECRET", &[], &format!("rotate:{place}"));
        let new = sign_in(&listen);
        rotate(&fixture, "JWT_SECRET", &["--undo"]).expect(0);
        assert_eq!(value(&fixture, "JWT_SECRET"), OLD_SECRET);
        // What was signed meanwhile is good until the end of the overlap.
        for token in [&old, &new] {
            assert_eq!(status_of(&listen, "/me", &bearer(token)), 200, "{place}");
        }
        rotate(&fixture, "JWT_SECRET", &["--wait"]).expect(0);
        assert_eq!(status_of(&listen, "/me", &bearer(&old)), 200, "{place}");
        assert_eq!(status_of(&listen, "/me", &bearer(&new)), 401, "{place}");
    }
    fixture.down(STAGING);
}

#[test]
fn what_is_set_between_two_stages_of_a_rotation_stays() {
    let fixture = fixture();
    deploy(&fixture);
    let words = ["secrets", "rotate", "JWT_SECRET", "-e", STAGING, "--wait"];
    let held = Held::start(&fixture, &words, "", "rotate:overlapping:after");
    fixture
        .tow_with(
            &["secrets", "set", "API_KEY", "-e", STAGING],
            "set-meanwhile",
        )
        .expect(0);
    let said = held.go_on(&fixture).expect(0);
    assert!(said.out.contains("it is revoked"), "{}", said.out);
    assert_eq!(value(&fixture, "API_KEY"), "set-meanwhile");
    assert_ne!(value(&fixture, "JWT_SECRET"), OLD_SECRET);
    assert_eq!(stage(&fixture, "JWT_SECRET"), None);
    fixture.down(STAGING);
}

#[test]
fn two_who_set_at_once_lose_nothing() {
    let fixture = fixture();
    let set = |name| ["secrets", "set", name, "-e", STAGING];
    // While one is asked for the value, there is time for another.
    let held = Held::start(&fixture, &set("API_KEY"), "asked-for", "secrets:ask:before");
    fixture
        .tow_with(&set("OTHER"), "set-by-the-first")
        .expect(0);
    held.go_on(&fixture).expect(0);
    assert_eq!(value(&fixture, "API_KEY"), "asked-for");
    assert_eq!(value(&fixture, "OTHER"), "set-by-the-first");
    // Later there is none, and nothing is written.
    let held = Held::start(&fixture, &set("API_KEY"), "too-late", "secrets:set:before");
    fixture
        .tow_with(&set("OTHER"), "set-by-the-second")
        .expect(0);
    let said = held.go_on(&fixture).expect(4);
    assert!(said.err.contains("secret::changed"), "{}", said.err);
    assert_eq!(value(&fixture, "API_KEY"), "asked-for");
    assert_eq!(value(&fixture, "OTHER"), "set-by-the-second");
    fixture.tow_with(&set("API_KEY"), "said-again").expect(0);
    assert_eq!(value(&fixture, "API_KEY"), "said-again");
    assert!(!fixture.repo().join("tow.secrets.toml.new").exists());
    fixture
        .tow(&["secrets", "audit", "-e", STAGING, "--verify"])
        .expect(0);
}

#[test]
fn however_often_it_is_told_to_it_goes_back_once() {
    let fixture = fixture();
    let listen = deploy(&fixture);
    let old = sign_in(&listen);
    killed(&fixture, "JWT_SECRET", &[], "rotate:overlapping:before");
    let new = sign_in(&listen);
    killed(&fixture, "JWT_SECRET", &["--undo"], "rotate:undo:after");
    for _ in 0..2 {
        let said = rotate(&fixture, "JWT_SECRET", &["--undo"]).expect(0);
        assert!(said.err.contains("goes back"), "{}", said.err);
        assert_eq!(value(&fixture, "JWT_SECRET"), OLD_SECRET);
    }
    rotate(&fixture, "JWT_SECRET", &["--undo", "--wait"]).expect(0);
    assert_eq!(value(&fixture, "JWT_SECRET"), OLD_SECRET);
    assert_eq!(status_of(&listen, "/me", &bearer(&old)), 200);
    assert_eq!(status_of(&listen, "/me", &bearer(&new)), 401);
    fixture.down(STAGING);
}

/// Who does not answer may well have the old value.
#[test]
fn nothing_is_revoked_past_a_shim_that_does_not_answer() {
    let fixture = fixture();
    deploy(&fixture);
    rotate(&fixture, "API_KEY", &[]).expect(0);
    let shims = shims(&fixture.state(STAGING));
    let (_, worker) = shims.iter().find(|(id, _)| id.contains("worker")).unwrap();
    let worker = Pid::from_raw(i32::try_from(worker[0]).unwrap()).unwrap();
    kill_process(worker, Signal::STOP).unwrap();
    let said = rotate(&fixture, "API_KEY", &["--wait"]);
    kill_process(worker, Signal::CONT).unwrap();
    let said = said.expect(4);
    assert!(said.err.contains("secret::silent"), "{}", said.err);
    assert_eq!(stage(&fixture, "API_KEY").as_deref(), Some("overlapping"));
    rotate(&fixture, "API_KEY", &["--wait"]).expect(0);
    assert_eq!(stage(&fixture, "API_KEY"), None);
    fixture.down(STAGING);
}

#[test]
fn what_stands_against_a_rotation_is_said_before_anything_is_touched() {
    let manifest = MANIFEST.replace(
        "API_KEY = { overlap = \"1s\",",
        "API_KEY = { interrupting = true,",
    );
    let mut fixture = with(&manifest);
    let path = fixture.repo().join("tow.secrets.toml");
    let text = || fs::read_to_string(&path).unwrap();
    deploy(&fixture);
    fixture.commit();
    let listen = deploy(&fixture);
    let before = text();
    let refused = |name: &str, more: &[&str], code: i32, why: &str| {
        let said = rotate(&fixture, name, more).expect(code);
        assert!(said.err.contains(why), "{why} in {}", said.err);
        assert_eq!(text(), before, "{why}");
    };
    // The version before is warm, and would refuse the new value.
    refused("JWT_SECRET", &[], 4, "secret::warm");
    refused("API_KEY", &["--end-window"], 4, "secret::interrupting");
    refused("OTHER", &[], 3, "secret::missing");
    refused("JWT_SECRET", &["--undo"], 3, "secret::not-rotating");
    refused("JWT_SECRET", &["value"], 2, "secret::argument");
    let short = [
        "secrets",
        "rotate",
        "JWT_SECRET",
        "-e",
        STAGING,
        "--stdin",
        "--end-window",
    ];
    let said = fixture.tow_with(&short, "too short").expect(4);
    assert!(said.err.contains("32 bytes"), "{}", said.err);
    assert_eq!(text(), before);

    // Interrupting: to its end at once, and the old value is refused.
    let said = rotate(&fixture, "API_KEY", &["--end-window", "--interrupt"]).expect(0);
    assert!(said.out.contains("it is revoked"), "{}", said.out);
    assert_eq!(status_of(&listen, "/call", &api_key(OLD_KEY)), 401);
    let key = value(&fixture, "API_KEY");
    assert_eq!(status_of(&listen, "/call", &api_key(&key)), 200);
    assert!(fixture.status(STAGING).warm.is_none());

    // In the middle of one nothing else touches it; who is let in reads both values.
    rotate(&fixture, "JWT_SECRET", &[]).expect(0);
    let set = ["secrets", "set", "JWT_SECRET", "-e", STAGING];
    fixture
        .tow_with(&set, "another-value-of-some-length-indeed")
        .expect(4);
    rotate(&fixture, "JWT_SECRET", &["--stdin"]).expect(4);
    fixture
        .tow(&["secrets", "remove", "JWT_SECRET", "-e", STAGING])
        .expect(4);
    let other = Identity::open(&fixture.dir.join("other")).unwrap();
    let contact = other.contact().to_string();
    let add = ["secrets", "people", "add", "ben", &contact, "-e", STAGING];
    fixture.tow(&add).expect(0);
    let file = File::read(&fixture.repo()).unwrap().unwrap();
    let old = file.open_previous(STAGING, "JWT_SECRET", &other).unwrap();
    assert_eq!(old.unwrap().reveal(), OLD_SECRET);
    // A row whose rotation was tampered with is not as it was signed.
    let right = text();
    fs::write(&path, right.replace("overlaps = true", "overlaps = false")).unwrap();
    rotate(&fixture, "JWT_SECRET", &[]).expect(4);
    fs::write(&path, &right).unwrap();
    rotate(&fixture, "JWT_SECRET", &["--wait"]).expect(0);

    // With nothing that serves there is nothing to overlap.
    fixture.down(STAGING);
    let said = rotate(&fixture, "JWT_SECRET", &[]).expect(0);
    assert!(said.err.contains("nothing serves"), "{}", said.err);
    assert_eq!(stage(&fixture, "JWT_SECRET"), None);
}
