//! Rotation under load: nobody is signed out, nobody is refused, and afterwards what the old value was given out for is.
//! The same where the command or the agent is killed on the way, and the other way round.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use towpath::secret::{File, Identity};

use crate::fixture::{Fixture, Running, STAGING, Said, tow};
use crate::machine::{self, until};

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
        with_input(&fixture, &["secrets", "set", name, "-e", STAGING], value).expect(0);
    }
    fixture
}

/// Runs the command with this on its standard input.
pub fn with_input(fixture: &Fixture, arguments: &[&str], input: &str) -> Said {
    let mut child = fixture.command(&tow(), arguments);
    let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
    let written = child.stdin.take().unwrap().write_all(input.as_bytes());
    // A command that refuses before it reads may have gone.
    let _ = written;
    fixture.end(Running(child))
}

fn deploy(fixture: &Fixture) -> String {
    fixture
        .tow(&["deploy", "-e", STAGING, "--allow-dirty"])
        .expect(0);
    fixture.listen(STAGING)
}

fn rotate(fixture: &Fixture, name: &str, more: &[&str]) -> Said {
    fixture.tow(&[&["secrets", "rotate", name, "-e", STAGING], more].concat())
}

/// One client: its connection stays, as that of a browser does.
pub struct Line {
    listen: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Line {
    /// To this address.
    pub fn to(listen: &str) -> Line {
        Line {
            listen: listen.to_owned(),
            stream: None,
        }
    }

    /// Status and body of a GET.
    pub fn get(&mut self, path: &str, header: &str) -> Result<(u16, String), String> {
        let answer = self.ask(path, header).map_err(|error| error.to_string());
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    fn ask(&mut self, path: &str, header: &str) -> std::io::Result<(u16, String)> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.listen)?;
                stream.set_read_timeout(Some(machine::PATIENCE))?;
                BufReader::new(stream)
            }
        };
        let stream = self.stream.insert(stream);
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\n{header}\r\n\r\n",
            self.listen
        );
        stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let status = line
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok());
        let mut length = 0;
        while line.trim_end() != "" {
            line.clear();
            stream.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let broken = || std::io::Error::other("no answer");
        Ok((status.ok_or_else(broken)?, String::from_utf8(body).unwrap()))
    }
}

fn get(listen: &str, path: &str, header: &str) -> Result<(u16, String), String> {
    Line::to(listen).get(path, header)
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

/// What became of the requests.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    failed: AtomicU64,
    signed_out: AtomicU64,
    refused: AtomicU64,
    /// Sessions that have a token of the round.
    renewed: AtomicU64,
    round: AtomicU64,
    key: Mutex<String>,
    stop: AtomicBool,
    why: Mutex<BTreeMap<String, u64>>,
}

impl Counts {
    fn add(&self, to: &AtomicU64) {
        to.fetch_add(1, Ordering::SeqCst);
    }

    /// Sends one, and counts it as `denied` where it was not let in.
    fn send(
        &self,
        line: &mut Line,
        path: &str,
        header: &str,
        denied: &AtomicU64,
    ) -> Option<String> {
        let answer = line.get(path, header);
        self.add(&self.requests);
        match answer {
            Ok((200, body)) => return Some(body),
            Ok((401, _)) => self.add(denied),
            other => {
                self.add(&self.failed);
                let why = format!("{:?}", other.map(|(status, _)| status));
                *self.why.lock().unwrap().entry(why).or_default() += 1;
            }
        }
        None
    }

    fn has_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

const SESSIONS: u64 = 6;

/// People who stay signed in, who come and go, and programs that call with a key.
struct Load {
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(listen: &str) -> Load {
        let counts = Arc::new(Counts::default());
        *counts.key.lock().unwrap() = OLD_KEY.to_owned();
        let mut works: Vec<fn(&Counts, &str)> = vec![calls, calls, comes];
        works.extend((0..SESSIONS).map(|_| stays as fn(&Counts, &str)));
        let threads = works.into_iter().map(|work| {
            let (counts, listen) = (counts.clone(), listen.to_owned());
            std::thread::spawn(move || work(&counts, &listen))
        });
        let load = Load {
            threads: threads.collect(),
            counts,
        };
        load.more();
        load
    }

    fn more(&self) {
        let total = || self.counts.requests.load(Ordering::SeqCst);
        let goal = total() + 60;
        until("requests go on", || (total() >= goal).then_some(()));
    }

    /// Every session gets a new token by its old one, and callers the new key.
    fn renew(&self, key: Option<String>) {
        if let Some(key) = key {
            *self.counts.key.lock().unwrap() = key;
        }
        self.counts.renewed.store(0, Ordering::SeqCst);
        self.counts.round.fetch_add(1, Ordering::SeqCst);
        until("every session has a new token", || {
            let renewed = self.counts.renewed.load(Ordering::SeqCst);
            (renewed >= SESSIONS).then_some(())
        });
        // A request that was on its way with the old key has ended by then.
        self.more();
    }

    /// Requests, failed, signed out, refused.
    fn stop(mut self) -> [u64; 4] {
        self.more();
        self.counts.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let counts = &self.counts;
        println!("failures: {:?}", counts.why.lock().unwrap());
        [
            &counts.requests,
            &counts.failed,
            &counts.signed_out,
            &counts.refused,
        ]
        .map(|count| count.load(Ordering::SeqCst))
    }
}

/// Nobody goes on behind a test that has failed.
impl Drop for Load {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::SeqCst);
    }
}

fn pace() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Signs in once, and stays.
fn stays(counts: &Counts, listen: &str) {
    let mut line = Line::to(listen);
    let mut token = sign_in(listen);
    let mut round = 0;
    while !counts.has_stopped() {
        let now = counts.round.load(Ordering::SeqCst);
        let path = if now == round { "/me" } else { "/refresh" };
        let answer = counts.send(&mut line, path, &bearer(&token), &counts.signed_out);
        if let (Some(new), "/refresh") = (&answer, path) {
            token.clone_from(new);
            round = now;
            counts.add(&counts.renewed);
        }
        if answer.is_none() {
            // Whoever is signed out signs in again, so that every time counts.
            token = get(listen, "/token", "x-none: 1").map_or(token, |(_, token)| token);
        }
        pace();
    }
}

/// Signs in, and uses that at once.
fn comes(counts: &Counts, listen: &str) {
    let mut line = Line::to(listen);
    while !counts.has_stopped() {
        if let Some(token) = counts.send(&mut line, "/token", "x-none: 1", &counts.signed_out) {
            counts.send(&mut line, "/me", &bearer(&token), &counts.signed_out);
        }
        pace();
    }
}

fn calls(counts: &Counts, listen: &str) {
    let mut line = Line::to(listen);
    while !counts.has_stopped() {
        let key = counts.key.lock().unwrap().clone();
        counts.send(&mut line, "/call", &api_key(&key), &counts.refused);
        pace();
    }
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
    let load = Load::start(&listen);
    let first = sign_in(&listen);
    for name in ["JWT_SECRET", "API_KEY"] {
        let said = rotate(&fixture, name, &[]).expect(0);
        assert!(said.out.contains("stays good for"), "{}", said.out);
        assert_eq!(stage(&fixture, name).as_deref(), Some("overlapping"));
        load.more();
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
    load.renew(Some(key.clone()));
    for name in ["JWT_SECRET", "API_KEY"] {
        let said = rotate(&fixture, name, &["--wait"]).expect(0);
        assert!(said.out.contains("it is revoked"), "{}", said.out);
        assert_eq!(stage(&fixture, name), None);
    }
    let [requests, failed, signed_out, refused] = load.stop();
    println!(
        "of {requests} requests {failed} failed, {signed_out} were signed out, {refused} refused"
    );
    assert_eq!([failed, signed_out, refused], [0, 0, 0], "of {requests}");
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
    let load = Load::start(&listen);
    for name in ["JWT_SECRET", "API_KEY"] {
        rotate(&fixture, name, &fault).expect(0);
        load.more();
    }
    let [requests, failed, signed_out, refused] = load.stop();
    println!(
        "planted: of {requests} requests {failed} failed, {signed_out} were signed out, {refused} refused"
    );
    assert!(signed_out > 0 && refused > 0, "{signed_out}, {refused}");
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

/// Has an agent of a rehearsal in the place of the one that is there.
pub fn agent_of_rehearsal(fixture: &Fixture) -> Reaped {
    fixture.end_agent(STAGING);
    let state = fixture.state(STAGING);
    fs::create_dir_all(&state).unwrap();
    let mut command = std::process::Command::new(tow());
    let words = [
        "agent",
        "--rehearsal",
        "--app",
        "fixture",
        "--environment",
        STAGING,
        "--dir",
    ];
    command.args(words).arg(&state).stdin(Stdio::null());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = Reaped(child.unwrap());
    until("the agent answers", || fixture.seen(STAGING));
    child
}

/// A process that does not outlive the test.
pub struct Reaped(pub std::process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the command, which is killed at `place`.
pub fn killed(fixture: &Fixture, name: &str, more: &[&str], place: &str) {
    let words = [&["secrets", "rotate", name, "-e", STAGING, "--wait"], more].concat();
    let mut command = fixture.command(&tow(), &words);
    let status = command.env("TOWPATH_KILL", place).output().unwrap().status;
    assert_eq!(status.signal(), Some(9), "{place}: {status}");
}

#[test]
fn a_command_that_is_killed_is_gone_on_with() {
    let fixture = fixture();
    let listen = deploy(&fixture);
    let load = Load::start(&listen);
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
                load.renew(None);
            }
            killed(&fixture, "JWT_SECRET", &[], &format!("rotate:{place}"));
            load.more();
            if place == "minted:before" {
                assert_eq!(value(&fixture, "JWT_SECRET"), before);
            }
            if begins {
                rotate(&fixture, "JWT_SECRET", &[]).expect(0);
            }
            // Whoever is signed in gets a new token while both keys are good.
            if begins || place == "overlapping:after" {
                load.renew(None);
            }
            assert_ne!(value(&fixture, "JWT_SECRET"), before);
            if place != "finished:after" {
                rotate(&fixture, "JWT_SECRET", &["--wait"]).expect(0);
            }
            assert_eq!(status_of(&listen, "/me", &bearer(&old)), 401, "{place}");
        }
    }
    let [requests, failed, signed_out, refused] = load.stop();
    println!(
        "8 kills: of {requests} requests {failed} failed, {signed_out} were signed out, {refused} refused"
    );
    assert_eq!([failed, signed_out, refused], [0, 0, 0], "of {requests}");
    fixture.down(STAGING);
}

#[test]
fn an_agent_that_is_killed_is_followed_by_one_that_goes_on() {
    let fixture = fixture();
    let listen = deploy(&fixture);
    let load = Load::start(&listen);
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
        load.renew(None);
        let mut doomed = Reaped(fixture.doomed_agent(STAGING, place));
        rotate(&fixture, "JWT_SECRET", &["--wait"]).expect(0);
        let status = doomed.0.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{place}");
        assert_eq!(status_of(&listen, "/me", &bearer(&old)), 401, "{place}");
    }
    let [requests, failed, signed_out, refused] = load.stop();
    println!(
        "10 kills: of {requests} requests {failed} failed, {signed_out} were signed out, {refused} refused"
    );
    assert_eq!([failed, signed_out, refused], [0, 0, 0], "of {requests}");
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
    let said = with_input(&fixture, &short, "too short").expect(4);
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
    with_input(&fixture, &set, "another-value-of-some-length-indeed").expect(4);
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
