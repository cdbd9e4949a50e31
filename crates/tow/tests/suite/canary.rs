//! A secret that a service does its best to spread is found nowhere: no argument, no environment of another process,
//! no log, journal, artifact, backup, and nothing that a command says. What is planted is found.

use std::fs;
use std::process::Command;

use towpath::clock::Clock;
use towpath::secret::{File, Identity, Value};

use crate::fixture::{Fixture, PRODUCTION, STAGING, Said};
use crate::machine::until;
use crate::trace::{base64, files, holds, processes, traces};

const MANIFEST: &str = r#"
app = "fixture"
promote = ["staging", "production"]

[services.web]
build = "true"
run = "python3 serve.py"
release = "python3 tell.py"
secrets = ["CANARY"]
needs = ["db"]
ready = { http = "/health", every = "20ms", within = "WITHIN", timeout = "10s" }

[services.other]
role = "worker"
run = "sleep 100000"

[resources]
db = { kind = "sqlite", migrate = "migrations" }

[environments.local]
listen = "LISTEN"
[environments.staging]
window = "1h"
[environments.production]
window = "1h"
"#;

/// Says the secret in every way that it can think of.
const TELL: &str = r#"
import base64, os, sys, time, urllib.parse
key = os.environ["CANARY"]
def say(text, to=1):
    os.write(to, text.encode())
say("raw " + key + "\n")
say("error: " + key + " is wrong\n", 2)
say("Authorization: Basic " + base64.b64encode(("me:" + key).encode()).decode() + "\n")
say("base64 " + base64.b64encode(key.encode()).decode() + "\n")
say("url ?key=" + urllib.parse.quote(key, safe="") + "\n")
for part in [key[:3], key[3:9], key[9:], "\n"]:
    say(part)
    time.sleep(0.02)
say("x" * 16380 + key + "\n")
"#;

const SERVE: &str = r#"
import hashlib, os
from http.server import BaseHTTPRequestHandler, HTTPServer
exec(open("tell.py").read())
sick = os.path.exists("sick")
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        text = key if sick else hashlib.sha256(key.encode()).hexdigest()
        self.send_response(503 if sick else 200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *words):
        pass
HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
"#;

/// Letters that every encoding changes; another in each run, as every process of the machine is looked at.
fn canary() -> String {
    format!("Kanari/77+\"voegel\"={:06x}", std::process::id())
}

/// Of the tests beside it, whose services are no leak of its own.
const OTHER: &str = "a value of some length";

/// A fixture whose commands have an identity of their own.
fn fixture(manifest: &str) -> Fixture {
    let mut fixture = Fixture::with(manifest);
    let home = fixture.dir.join("config");
    fixture.env.push(("XDG_CONFIG_HOME", home));
    fixture.write("serve.py", SERVE);
    fixture.write("tell.py", TELL);
    fixture.commit();
    fixture
}

pub fn set(fixture: &Fixture, name: &str, environment: &str, value: &str) -> Said {
    let words = ["secrets", "set", name, "-e", environment];
    fixture.tow_with(&words, &format!("{value}\n"))
}

/// Processes that are an instance of `web`, below its shim.
fn of_web(fixture: &Fixture, environment: &str) -> Vec<u32> {
    let instances = fixture.status(environment).instances;
    let web = instances.iter().filter(|one| one.service == "web");
    web.filter_map(|one| one.pid).collect()
}

/// Each writes the names of what it was given.
const NAMES: &str = r#"
app = "fixture"

[services.web]
run = "env | cut -d= -f1 > $DATA/web; exec APP web"
release = "env | cut -d= -f1 > $DATA/release"
env = { DATA = "DATA" }
ready = { exec = "env | cut -d= -f1 > $DATA/ready", every = "20ms", within = "60s", timeout = "10s" }

[services.worker]
role = "worker"
run = "env | cut -d= -f1 > $DATA/worker; exec sleep 100000"
env = { DATA = "DATA" }

[environments.local]
listen = "LISTEN"
[environments.staging]
"#;

#[test]
fn services_have_nothing_of_the_environment_that_tow_was_called_in() {
    let mut fixture = Fixture::with(NAMES);
    fixture.env.push(("AWS_SECRET_ACCESS_KEY", "x".into()));
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let agent = fixture.seen(STAGING).unwrap().agent_pid;
    let has = |text: &[u8]| holds(text, &[b"AWS_SECRET_ACCESS_KEY".to_vec()]);
    // Who called had it, and so has the agent that was started for that.
    assert!(has(&fs::read(format!("/proc/{agent}/environ")).unwrap()));
    for who in ["web", "release", "ready", "worker"] {
        let names = until(who, || {
            let names = fs::read_to_string(fixture.data(who)).ok()?;
            names.contains("DATA").then_some(names)
        });
        assert!(!has(names.as_bytes()), "{who}: {names}");
    }
    fixture.down(STAGING);
}

#[test]
fn a_secret_is_found_nowhere_and_a_planted_one_is() {
    let mut fixture = fixture(&MANIFEST.replace("WITHIN", "60s"));
    let (canary, mut said) = (canary(), Vec::new());
    for environment in ["local", STAGING, PRODUCTION] {
        said.push(set(&fixture, "CANARY", environment, &canary).expect(0));
    }
    let argument = "as-an-argument-41";
    said.push(
        fixture
            .tow(&["secrets", "set", "CANARY", argument, "-e", STAGING])
            .expect(2),
    );
    fixture.commit();
    said.push(fixture.tow(&["up"]).expect(0));
    said.push(fixture.tow(&["deploy", "-e", STAGING]).expect(0));
    said.push(fixture.tow(&["promote", "-e", PRODUCTION]).expect(0));
    // One that is never ready, and says the secret when it is asked why.
    fixture.write("sick", "");
    fixture.manifest(&MANIFEST.replace("WITHIN", "2s"));
    fixture.commit();
    let sick = fixture.tow(&["deploy", "-e", STAGING]).expect(5);
    assert!(sick.err.contains("-> 503 \"[secret]\""), "{}", sick.err);
    said.push(sick);
    for arguments in [
        &["logs", "-n", "1000"][..],
        &["status", "--json"],
        &["config", "--json"],
        &["config", "--explain"],
        &["secrets", "list"],
        &["secrets", "audit", "--verify"],
        &["releases"],
    ] {
        let arguments = [arguments, &["-e", STAGING]].concat();
        said.push(fixture.tow(&arguments).expect(0));
    }
    // It has it, and it was all in the log.
    let listen = fixture.listen(STAGING);
    let is_hash = fixture.get(&listen, "/").unwrap();
    assert_eq!(is_hash.len(), 64, "{is_hash}");
    let log = fixture
        .tow(&["logs", "web", "-e", STAGING, "-n", "1000"])
        .expect(0)
        .out;
    for line in [
        "raw [secret]",
        "error: [secret] is wrong",
        "Basic ",
        "url ?key=[secret]",
    ] {
        assert!(log.contains(line), "{line} in\n{log}");
    }

    let traces = traces(&canary);
    nowhere(&fixture, &traces, &said);
    assert!(!format!("{said:?}").contains(argument));
    let secret = fixture
        .tow(&["secrets", "get", "CANARY", "-e", STAGING])
        .expect(0);
    assert_eq!(secret.out.trim_end(), canary);
    planted(&fixture, &canary, &traces);
    for environment in ["local", STAGING, PRODUCTION] {
        fixture.down(environment);
    }
}

/// Looks everywhere.
fn nowhere(fixture: &Fixture, traces: &[Vec<u8>], said: &[Said]) {
    let mut allowed = Vec::new();
    for environment in ["local", STAGING, PRODUCTION] {
        allowed.extend(of_web(fixture, environment));
    }
    let mut found = Vec::new();
    let looked_at = files(&fixture.dir, traces, &mut found);
    let having = processes(traces, &allowed, &mut found);
    for one in said {
        if holds(format!("{}{}", one.out, one.err).as_bytes(), traces) {
            found.push(format!("what a command said: {one:?}"));
        }
    }
    assert_eq!(found, Vec::<String>::new(), "of {looked_at} files");
    assert!(
        having >= 3 && looked_at > 100,
        "{having} processes, {looked_at} files"
    );
    println!(
        "nowhere in {looked_at} files, {} outputs; {having} processes have it",
        said.len()
    );
}

/// The search finds what is planted: in a file, compressed, in an argument, in an environment.
fn planted(fixture: &Fixture, canary: &str, traces: &[Vec<u8>]) {
    let folder = fixture.state(STAGING).join("planted");
    fs::create_dir_all(&folder).unwrap();
    let text = format!("me:{canary}");
    fs::write(folder.join("a"), base64(text.as_bytes())).unwrap();
    fs::write(folder.join("b"), format!("the key is {canary}")).unwrap();
    assert!(
        Command::new("gzip")
            .arg(folder.join("b"))
            .status()
            .unwrap()
            .success()
    );
    let mut found = Vec::new();
    files(&folder, traces, &mut found);
    assert_eq!(found.len(), 2, "{found:?}");
    let mut leak = Command::new("sleep")
        .arg("100000")
        .env("LEAK", canary)
        .spawn()
        .unwrap();
    let mut told = Command::new("sh")
        .args(["-c", "sleep 100000 & wait", canary])
        .spawn()
        .unwrap();
    let mut found = Vec::new();
    until("both are found", || {
        found.clear();
        processes(traces, &[], &mut found);
        let has = |what: &str, pid: u32| found.contains(&format!("{what} of {pid}"));
        (has("environment", leak.id()) && has("arguments", told.id())).then_some(())
    });
    for child in [&mut leak, &mut told] {
        // Its own child ends with the group of the test, which is ours.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()));
        for pid in children.unwrap_or_default().split_whitespace() {
            crate::machine::kill(pid.parse().unwrap());
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[test]
fn what_is_missing_unreadable_or_changed_is_said_before_anything_is_touched() {
    let fixture = fixture(&MANIFEST.replace("WITHIN", "60s"));
    let refused = fixture
        .tow(&["deploy", "-e", STAGING, "--allow-dirty"])
        .expect(3);
    assert!(
        refused.err.contains("missing in staging: CANARY"),
        "{}",
        refused.err
    );
    assert!(
        refused.err.contains("tow secrets set CANARY -e staging"),
        "{}",
        refused.err
    );

    set(&fixture, "CANARY", STAGING, "the first value").expect(0);
    let path = fixture.repo().join("tow.secrets.toml");
    let first = fs::read_to_string(&path).unwrap();
    set(&fixture, "CANARY", STAGING, "the second value").expect(0);
    fixture
        .tow(&["deploy", "-e", STAGING, "--allow-dirty"])
        .expect(0);

    drifts(&fixture);
    let second = fs::read_to_string(&path).unwrap();

    // Set back whole: the agent remembers, and so does who has written it.
    fs::write(&path, &first).unwrap();
    let again = ["deploy", "-e", STAGING, "--again", "--allow-dirty"];
    let refused = fixture.tow(&again).expect(4);
    assert!(refused.err.contains("set back"), "{}", refused.err);
    fixture
        .tow(&["secrets", "get", "CANARY", "-e", STAGING])
        .expect(4);
    // One row of before, in the file of now.
    let row = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("CANARY = "))
            .unwrap()
            .to_owned()
    };
    for (changed, why) in [
        (
            second.replace(&row(&second), &row(&first)),
            "`CANARY` is version 1",
        ),
        (second.replace(&row(&second), ""), "`CANARY` was deleted"),
        (
            second.replace(&row(&second), &row(&second).replace("CANARY", "OTHER")),
            "`OTHER` was added",
        ),
    ] {
        fs::write(&path, &changed).unwrap();
        let refused = fixture.tow(&again).expect(4);
        assert!(refused.err.contains(why), "{why} in {}", refused.err);
    }
    fs::write(&path, &second).unwrap();
    readers(&fixture);
    // Production's agent is another, and can read nothing of staging.
    set(&fixture, "CANARY", PRODUCTION, "short").expect(4);
    set(&fixture, "CANARY", PRODUCTION, "changeme").expect(4);
    fixture.down(STAGING);
}

/// Staged, applied and live are told apart.
fn drifts(fixture: &Fixture) {
    // Live is what instances have been given; staged is what is here.
    let drift = ["config", "drift", "-e", STAGING];
    let said = fixture.tow(&drift).expect(0);
    assert!(said.out.contains("are the same"), "{}", said.out);
    set(fixture, "CANARY", STAGING, "the third value").expect(0);
    let said = fixture.tow(&drift).expect(0);
    let row = said
        .out
        .lines()
        .find(|line| line.starts_with("web-"))
        .expect("a row");
    let row: Vec<_> = row.split_whitespace().skip(1).collect();
    assert_eq!(
        row,
        ["CANARY", "version", "3", "version", "2", "version", "2"]
    );
    let manifest = fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    fixture.write(
        "tow.toml",
        &manifest.replace(
            "secrets = [",
            "env = { LEVEL = \"plain-level\" }\nsecrets = [",
        ),
    );
    let said = fixture.tow(&drift).expect(0);
    assert!(
        said.out.contains("LEVEL") && !said.out.contains("plain-level"),
        "{}",
        said.out
    );
    fixture.write("tow.toml", &manifest);
    fixture
        .tow(&["deploy", "-e", STAGING, "--again", "--allow-dirty"])
        .expect(0);
}

/// An agent that is no reader says so, and reads when it is one.
fn readers(fixture: &Fixture) {
    let again = ["deploy", "-e", STAGING, "--again", "--allow-dirty"];
    // Encrypted to people only: the agent says so.
    fixture
        .tow(&[
            "secrets",
            "people",
            "remove",
            "staging-agent",
            "-e",
            STAGING,
        ])
        .expect(0);
    let refused = fixture.tow(&again).expect(4);
    assert!(
        refused.err.contains("cannot read CANARY"),
        "{}",
        refused.err
    );
    fixture
        .tow(&["secrets", "people", "add", "agent", "-e", STAGING])
        .expect(0);
    fixture.tow(&again).expect(0);
}

#[test]
fn a_chain_that_was_changed_is_found_whatever_was_done_to_it() {
    let fixture = fixture(&MANIFEST.replace("WITHIN", "60s"));
    set(&fixture, "CANARY", STAGING, OTHER).expect(0);
    for _ in 0..2 {
        fixture
            .tow(&["secrets", "get", "CANARY", "-e", STAGING])
            .expect(0);
    }
    fixture
        .tow(&["deploy", "-e", STAGING, "--allow-dirty"])
        .expect(0);
    let verify = ["secrets", "audit", "-e", STAGING, "--verify"];
    let said = fixture.tow(&verify).expect(0);
    assert!(said.out.contains("instance web-"), "{}", said.out);

    let own = fixture
        .dir
        .join("config/towpath/seen/fixture/staging.audit");
    let agent = fixture.state(STAGING).join("secrets.audit");
    let mut cases = 0;
    for path in [own, agent] {
        let head = path.with_extension("head");
        let (rows, signed) = (fs::read_to_string(&path).unwrap(), fs::read(&head).unwrap());
        let lines: Vec<&str> = rows.lines().collect();
        let join = |lines: &[&str]| lines.join("\n") + "\n";
        let (first, last) = (lines[0], lines[lines.len() - 1]);
        let swapped: Vec<&str> = lines.iter().rev().copied().collect();
        let mut changes = vec![
            rows.replacen("tester", "nobody", 1)
                .replacen("instance web", "instance wab", 1),
            join(&[&lines[..], &[last]].concat()),
            join(&[first]).replace("\"seq\":1", "\"seq\":2"),
            String::new(),
        ];
        if lines.len() > 1 {
            changes.extend([join(&swapped), join(&lines[1..]), join(&lines[..1])]);
        }
        for changed in changes.iter().filter(|changed| **changed != rows) {
            fs::write(&path, changed).unwrap();
            // A last row that only the head has is what a crash leaves: it comes from there.
            let is_crash = format!("{changed}{last}\n") == rows;
            fixture.tow(&verify).expect(if is_crash { 0 } else { 1 });
            cases += 1;
        }
        // Begun anew: no rows, no head.
        fs::remove_file(&path).unwrap();
        fs::remove_file(&head).unwrap();
        let refused = fixture.tow(&verify).expect(1);
        assert!(refused.err.contains("begun anew"), "{}", refused.err);
        fs::write(&path, &rows).unwrap();
        fs::write(&head, &signed).unwrap();
        fixture.tow(&verify).expect(0);
    }
    assert!(cases >= 8, "only {cases} cases");
    fixture.down(STAGING);
}

#[test]
fn an_old_secret_holds_up_a_promotion_and_nothing_else() {
    let mut fixture = fixture(&MANIFEST.replace("WITHIN", "60s"));
    for environment in [STAGING, PRODUCTION] {
        set(&fixture, "CANARY", environment, OTHER).expect(0);
    }
    fixture
        .tow(&["deploy", "-e", STAGING, "--allow-dirty"])
        .expect(0);
    let identity = Identity::open(&fixture.dir.join("config/towpath/identity")).unwrap();
    let aged = |days: i64| {
        let mut file = File::read(&fixture.repo()).unwrap().unwrap();
        let day = 86_400;
        let set = Clock::system().wall_ms() / 1000 - days * day;
        let value = Value::new(OTHER.into()).unwrap();
        for environment in [STAGING, PRODUCTION] {
            file.set(environment, "CANARY", &value, set, &identity)
                .unwrap();
            file.sign(environment, &identity).unwrap();
        }
        file.write(&fixture.repo()).unwrap();
    };
    aged(75);
    let said = fixture.tow(&["promote", "-e", PRODUCTION]).expect(0);
    assert!(
        said.err.contains("CANARY of production is 75 days old"),
        "{}",
        said.err
    );
    aged(90);
    let refused = fixture
        .tow(&["promote", "-e", PRODUCTION, "--again"])
        .expect(4);
    assert!(refused.err.contains("secret::overdue"), "{}", refused.err);
    // What mends something goes in, and the way back is free.
    fixture.commit();
    fixture
        .tow(&["deploy", "-e", STAGING, "--allow-dirty"])
        .expect(0);
    fixture.tow(&["rollback", "r1", "-e", STAGING]).expect(0);
    fixture
        .tow(&["secrets", "rotate", "CANARY", "-e", PRODUCTION])
        .expect(0);
    let said = fixture
        .tow(&["promote", "-e", PRODUCTION, "--again"])
        .expect(0);
    assert!(!said.err.contains("days old"), "{}", said.err);
    fixture
        .tow(&["secrets", "rotate", "OTHER", "-e", PRODUCTION])
        .expect(3);
    fixture.down(STAGING);
    fixture.down(PRODUCTION);
}
