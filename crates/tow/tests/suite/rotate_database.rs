//! The password of a PostgreSQL of ours is rotated under load: no request fails, and afterwards the old one opens nothing.

use std::os::unix::process::ExitStatusExt;

use towpath::resource::kept::Kept;
use towpath::resource::{postgres, url};

use crate::databases::{down, installed, kept, sql};
use crate::fixture::{Fixture, PRODUCTION, STAGING};
use crate::machine::Reaped;
use crate::rotation::{Client, Line, Load, agent_of_rehearsal, deploy, killed, rotate};

const NAME: &str = "DB_PASSWORD";

const MANIFEST: &str = r#"
app = "fixture"
promote = ["staging"]

[services.web]
run = "python3 serve.py"
needs = ["db"]
env = { PGHOST = "${db.host}", PGPORT = "${db.port}", PGUSER = "${db.user}", PGDATABASE = "${db.name}", PGPASSWORD = "${db.password}" }
ready = { http = "/health", every = "100ms", within = "60s", timeout = "10s" }

[secrets]
DB_PASSWORD = { kind = "database", resource = "db" }

[resources]
db = { kind = "postgres" }

[environments.local]
listen = "LISTEN"
[environments.staging]
window = "1h"
"#;

/// A session that stays, and one for each request.
const SERVE: &str = r#"
import os, subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def query(text):
    return subprocess.run(["psql", "-XqAt", "--set=ON_ERROR_STOP=1", "-c", text], capture_output=True).returncode == 0

assert query("CREATE TABLE IF NOT EXISTS seen (v text)")
pool = subprocess.Popen(["psql", "-XqAt"], stdin=subprocess.PIPE, text=True)
pool.stdin.write("SET statement_timeout = 0;\n")
pool.stdin.flush()

class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        is_good = self.path != "/write" or query("INSERT INTO seen VALUES ('x')")
        self.send_response(200 if is_good else 500)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass

ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
"#;

fn fixture() -> Option<Fixture> {
    if !installed(false) {
        return None;
    }
    let mut fixture = Fixture::with(MANIFEST);
    let home = fixture.dir.join("config");
    fixture.env.push(("XDG_CONFIG_HOME", home));
    fixture.write("serve.py", SERVE);
    fixture.commit();
    Some(fixture)
}

/// Whether somebody can connect as that.
fn opens(kept: &Kept) -> bool {
    postgres::connect(&url::of_kept(kept)["url"], "test").is_ok()
}

/// Three who write.
fn load(listen: &str) -> Load {
    let writes = || -> Client {
        let mut line = Line::to(listen);
        Box::new(move |counts| {
            counts.send(&mut line, "/write", "x-none: 1", &counts.refused);
        })
    };
    Load::start(vec![writes(), writes(), writes()])
}

fn users(fixture: &Fixture) -> String {
    let said = fixture.tow(&["secrets", "list", "-e", STAGING]).expect(0);
    let line = said.out.lines().find(|line| line.starts_with(NAME));
    line.unwrap().to_owned()
}

#[test]
fn a_password_is_rotated_under_load_and_no_request_fails() {
    let Some(fixture) = fixture() else { return };
    let listen = deploy(&fixture);
    let load = load(&listen);
    let mut before = kept(&fixture, STAGING);
    for user in [
        "fixture_staging_a",
        "fixture_staging_b",
        "fixture_staging_a",
    ] {
        let said = rotate(&fixture, NAME, &[]).expect(0);
        assert!(said.out.contains("is shut out"), "{}", said.out);
        let now = kept(&fixture, STAGING);
        assert_eq!(now.user(), user);
        assert!(now.previous.is_none() && opens(&now) && !opens(&before));
        assert!(users(&fixture).contains(user), "{}", users(&fixture));
        load.more();
        before = now;
    }
    let ended = load.stop();
    println!("3 rotations: {ended}");
    assert_eq!(ended.bad(), 0, "{ended}");
    let now = kept(&fixture, STAGING);
    let rows = sql(&now, "SELECT count(*)::text FROM seen").unwrap();
    assert_eq!(rows, [ended.requests.to_string()]);
    // Whatever anybody has made belongs to the one role.
    sql(&now, "CREATE TABLE later AS SELECT 'x'::text AS v").unwrap();
    let owners = "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(sql(&now, owners).unwrap(), ["fixture_staging"]);
    let rights =
        "SELECT concat_ws(' ', rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls)
                  FROM pg_roles WHERE rolname = session_user";
    assert_eq!(sql(&now, rights).unwrap(), ["f f f f f"]);
    fixture
        .tow(&["secrets", "audit", "-e", STAGING, "--verify"])
        .expect(0);
    // And the next version, its backup and its way back work with it.
    fixture.tow(&["deploy", "-e", STAGING, "--again"]).expect(0);
    down(&fixture, STAGING);
}

#[test]
fn shutting_out_before_the_switch_is_seen() {
    let Some(fixture) = fixture() else { return };
    let rehearsing = agent_of_rehearsal(&fixture);
    let listen = deploy(&fixture);
    let load = load(&listen);
    rotate(&fixture, NAME, &["--sabotage", "early-revoke"]).expect(0);
    let ended = load.stop();
    println!("planted: {ended}");
    assert!(ended.failed > 0, "{ended}");
    fixture.down(STAGING);
    fixture.end_agent(STAGING);
    drop(rehearsing);
}

#[test]
fn it_goes_on_and_back_wherever_it_was_killed() {
    let Some(mut fixture) = fixture() else { return };
    rotate(&fixture, NAME, &[]).expect(3);
    let listen = deploy(&fixture);
    let load = load(&listen);
    for place in ["begin:before", "begin:after", "end:before", "end:after"] {
        let before = kept(&fixture, STAGING);
        killed(&fixture, NAME, &[], &format!("rotate:{place}"));
        load.more();
        if place != "end:after" {
            rotate(&fixture, NAME, &[]).expect(0);
        }
        assert!(
            !opens(&before) && opens(&kept(&fixture, STAGING)),
            "{place}"
        );
    }
    for place in [
        "apply:launch:web:after",
        "apply:switch:after",
        "apply:retire:old:after",
    ] {
        let before = kept(&fixture, STAGING);
        let mut doomed = Reaped(fixture.doomed_agent(STAGING, place));
        rotate(&fixture, NAME, &[]).expect(0);
        assert_eq!(doomed.0.wait().unwrap().signal(), Some(9), "{place}");
        assert!(
            !opens(&before) && opens(&kept(&fixture, STAGING)),
            "{place}"
        );
    }
    for place in ["begin:after", "end:before"] {
        let before = kept(&fixture, STAGING);
        killed(&fixture, NAME, &[], &format!("rotate:{place}"));
        let between = kept(&fixture, STAGING);
        assert!(
            users(&fixture).contains("is still there"),
            "{}",
            users(&fixture)
        );
        rotate(&fixture, NAME, &["--undo"]).expect(0);
        let now = kept(&fixture, STAGING);
        assert_eq!(
            (now.user(), &now.password),
            (before.user(), &before.password),
            "{place}"
        );
        assert!(opens(&now) && !opens(&between), "{place}");
    }
    rotate(&fixture, NAME, &["--undo"]).expect(3);
    // Told twice to go back it does so once.
    let before = kept(&fixture, STAGING);
    killed(&fixture, NAME, &[], "rotate:begin:after");
    killed(&fixture, NAME, &["--undo"], "rotate:undo:after");
    let said = rotate(&fixture, NAME, &["--undo"]).expect(0);
    assert!(said.err.contains("goes back"), "{}", said.err);
    let now = kept(&fixture, STAGING);
    assert_eq!((now.user(), now.back), (before.user(), false));
    assert!(now.previous.is_none() && opens(&now) && opens(&before));
    let ended = load.stop();
    println!("11 kills: {ended}");
    assert_eq!(ended.bad(), 0, "{ended}");
    // A warm version knows the old password only.
    fixture.commit();
    deploy(&fixture);
    let said = rotate(&fixture, NAME, &[]).expect(4);
    assert!(said.err.contains("secret::warm"), "{}", said.err);
    rotate(&fixture, NAME, &["--end-window"]).expect(0);
    down(&fixture, STAGING);
}

#[test]
fn a_user_that_is_shut_out_already_is_let_in_again() {
    let Some(fixture) = fixture() else { return };
    deploy(&fixture);
    let before = kept(&fixture, STAGING);
    let mut doomed = Reaped(fixture.doomed_agent(STAGING, "login:shut-out:after"));
    let _ = rotate(&fixture, NAME, &[]);
    assert_eq!(doomed.0.wait().unwrap().signal(), Some(9));
    let between = kept(&fixture, STAGING);
    assert!(between.previous.is_some() && !opens(&before));
    // At once, before a run provides anything.
    killed(&fixture, NAME, &["--undo"], "rotate:undo:after");
    assert!(opens(&before));
    rotate(&fixture, NAME, &["--undo"]).expect(0);
    let now = kept(&fixture, STAGING);
    assert_eq!(
        (now.user(), &now.password),
        (before.user(), &before.password)
    );
    assert!(opens(&now) && !opens(&between));
    // Whoever has shut it out, it is provided with the next deployment.
    postgres::roles::shut_out(&now, now.user()).unwrap();
    assert!(!opens(&now));
    fixture.tow(&["deploy", "-e", STAGING, "--again"]).expect(0);
    assert!(opens(&now));
    down(&fixture, STAGING);
}

#[test]
fn a_url_that_is_a_secret_is_opened_by_the_agent() {
    let Some(fixture) = fixture() else { return };
    deploy(&fixture);
    let from = kept(&fixture, STAGING);
    let manifest = std::fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    let start = manifest.find("[secrets]").unwrap();
    let end = manifest.find("[resources]").unwrap();
    let manifest = manifest.replace(&manifest[start..end], "").replace(
        "[environments.local]",
        "[environments.production]\nresources.db = { url = \"secret:DATABASE_URL\", backup = \"provider\" }\n[environments.local]",
    );
    let manifest = manifest.replace("[\"staging\"]", "[\"staging\", \"production\"]");
    fixture.write("tow.toml", &manifest);
    let mut fixture = fixture;
    fixture.commit();
    deploy(&fixture);
    let promote = ["promote", "-e", PRODUCTION];
    let refused = fixture.tow(&promote).expect(3);
    assert!(
        refused.err.contains("missing in production: DATABASE_URL"),
        "{}",
        refused.err
    );
    let checked = fixture.tow(&["check"]).expect(3);
    assert!(
        format!("{checked:?}").contains("missing in production: DATABASE_URL"),
        "{checked:?}"
    );
    let url = url::of_kept(&from)["url"].clone();
    let set = ["secrets", "set", "DATABASE_URL", "-e", PRODUCTION];
    // Nothing is asked at that address: it is of a machine that nobody has.
    let plain = "postgres://shop:a-password@db.invalid/shop?sslmode=disable";
    fixture.tow_with(&set, plain).expect(0);
    let refused = fixture.tow(&promote).expect(4);
    let code = "promote::plain-database";
    assert!(refused.err.contains(code), "{}", refused.err);
    fixture.tow_with(&set, &url).expect(0);
    fixture.tow(&promote).expect(0);
    let listen = fixture.listen(PRODUCTION);
    let answer = Line::to(&listen).get("/write", "x-none: 1").unwrap();
    assert_eq!(answer.0, 200);
    assert_eq!(sql(&from, "SELECT v FROM seen").unwrap(), ["x"]);
    let audit = fixture
        .tow(&["secrets", "audit", "-e", PRODUCTION, "--verify"])
        .expect(0);
    assert!(audit.out.contains("DATABASE_URL 1"), "{}", audit.out);
    let rotate = ["secrets", "rotate", "DATABASE_URL", "-e", PRODUCTION];
    let refused = fixture.tow(&rotate).expect(3);
    assert!(refused.err.contains("secret::address"), "{}", refused.err);
    fixture.down(PRODUCTION);
    down(&fixture, STAGING);
}
