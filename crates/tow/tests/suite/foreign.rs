//! Foreign migrators: tried on copies, with the version that serves on what they leave; then in earnest.

use rusqlite::Connection;
use towpath::load::Report;

use crate::fixture::{Fixture, STAGING, Said};
use crate::kill::{self, die_at, undone};
use crate::load::Traffic;
use crate::machine::{self, until};
use crate::matrix::{Run, names};
use crate::snapshot::check_said;
use crate::whole::whole;

const MANIFEST: &str = r#"
app = "fixture"

[services.web]
build = "true"
run = "exec python3 app.py serve"
needs = ["db"]
ready = { http = "/health", every = "20ms", within = "WITHIN", timeout = "10s" }
restart = { backoff = "50ms" }

[resources]
db = { kind = "sqlite", migrate = MIGRATE }

[traffic]
rate = 40
connections = 4
requests = [{ weight = 2, get = "/version" }]

[traffic.write]
weight = 2
post = "/write"
body = "${id}"
expect = 201
read = "/write/${id}"

[environments.local]
[environments.staging]
window = "1h"
"#;

pub const ON_START: &str = "{ on_start = true }";
const OWN_FILE: &str = "{ on_start = true }, file = \"own.sqlite\"";
pub const RUN: &str = "{ run = \"python3 app.py migrate\" }";
pub const DEPLOY: [&str; 3] = ["deploy", "-e", STAGING];
const FIRST: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)";

/// An application with a migration serves, and has rows.
fn served(migrate: &str) -> Fixture {
    let manifest = manifest(migrate, "60s");
    let mut fixture = Fixture::with(&manifest);
    fixture.write("app.py", include_str!("foreign.py"));
    fixture.write(
        "on-start",
        if migrate.contains("on_start") {
            "yes"
        } else {
            ""
        },
    );
    fixture.write("query", "SELECT body FROM notes");
    fixture.write("insert", "INSERT INTO notes (body) VALUES (?)");
    steps(&fixture, &[FIRST]);
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    db(&fixture)
        .execute("INSERT INTO notes (body) VALUES ('old')", ())
        .unwrap();
    fixture
}

fn manifest(migrate: &str, within: &str) -> String {
    MANIFEST
        .replace("MIGRATE", migrate)
        .replace("WITHIN", within)
}

/// The migrations of the next version, each a line.
fn steps(fixture: &Fixture, steps: &[&str]) {
    fixture.write("steps", &steps.join("\n"));
}

fn db(fixture: &Fixture) -> Connection {
    let data = fixture.state(STAGING).join("data");
    let own = data.join("db/own.sqlite");
    let path = if own.exists() {
        own
    } else {
        data.join("db.db")
    };
    Connection::open(path).unwrap()
}

fn columns(fixture: &Fixture) -> String {
    let sql = "SELECT group_concat(name, ' ') || ': ' || (SELECT count(*) FROM notes) FROM pragma_table_info('notes')";
    db(fixture).query_row(sql, (), |row| row.get(0)).unwrap()
}

/// No copy is left, nor anything that ran on one.
fn nothing_left(fixture: &Fixture) {
    assert!(!fixture.state(STAGING).join("rehearsal").exists());
}

fn refused(fixture: &mut Fixture, code: i32) -> Said {
    let said = fixture.tow(&DEPLOY).expect(code);
    nothing_left(fixture);
    said
}

/// Acknowledged writes that are not in the database.
fn lost(fixture: &Fixture, report: &Report) -> usize {
    let db = db(fixture);
    let mut query = db.prepare("SELECT 1 FROM notes WHERE body = ?").unwrap();
    let mut is_there = |id: &String| query.exists([id]).unwrap();
    report.writes.iter().filter(|id| !is_there(id)).count()
}

const TITLE: &str = "ALTER TABLE notes ADD COLUMN title TEXT";
const RENAME: &str = "ALTER TABLE notes RENAME COLUMN body TO text";

#[test]
fn an_application_migrates_itself_beside_the_one_that_serves() {
    let mut fixture = served(ON_START);
    let traffic = Traffic::start(&fixture, &fixture.listen(STAGING));
    steps(&fixture, &[FIRST, TITLE]);
    fixture.write("query", "SELECT title FROM notes");
    let version = fixture.commit();
    let dry = fixture
        .tow(&["deploy", "-e", STAGING, "--dry-run"])
        .expect(0);
    assert!(
        dry.out.contains("the schema stays as it was left"),
        "{}",
        dry.out
    );
    let said = fixture.tow(&DEPLOY).expect(0);
    assert!(said.err.contains("title TEXT"), "{}", said.err);
    whole(&fixture, STAGING, &version).unwrap();
    nothing_left(&fixture);
    traffic.more();
    assert!(columns(&fixture).starts_with("id body title: "));
    let back = fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    let price = "the schema stays as the application left it; rows written since stay";
    assert!(back.err.contains(price), "{}", back.err);
    whole(&fixture, STAGING, "v2").unwrap();
    traffic.more();
    let report = traffic.stop();
    let lost = lost(&fixture, &report);
    println!(
        "on_start: {} requests, {} failed; {} writes, {lost} lost",
        report.requests.total,
        report.requests.failed,
        report.writes.len()
    );
    assert_eq!(report.requests.failed, 0, "{:?}", report.requests.failures);
    assert_eq!(lost, 0);
    assert!(!report.writes.is_empty());
    fixture.down(STAGING);
}

#[test]
fn a_schema_that_the_old_version_does_not_bear_is_refused() {
    for migrate in [ON_START, RUN] {
        let mut fixture = served(migrate);
        fixture.manifest(&manifest(migrate, "2s"));
        fixture.commit();
        fixture.tow(&DEPLOY).expect(0);
        steps(&fixture, &[FIRST, RENAME]);
        fixture.write("query", "SELECT text FROM notes");
        fixture.commit();
        let said = refused(&mut fixture, 4);
        if migrate == RUN {
            check_said(&fixture, "old-fails", &said);
        }
        assert!(said.err.contains("rehearse::old-fails"), "{}", said.err);
        assert_eq!(columns(&fixture), "id body: 1");
        whole(&fixture, STAGING, "v3").unwrap();
        fixture.down(STAGING);
    }
}

#[test]
fn a_schema_that_the_old_version_reads_and_does_not_write_is_refused() {
    let mut fixture = served(ON_START);
    let no =
        "CREATE TRIGGER owned BEFORE INSERT ON notes BEGIN SELECT RAISE(ABORT, 'no owner'); END";
    steps(&fixture, &[FIRST, no]);
    fixture.commit();
    let said = refused(&mut fixture, 4);
    assert!(said.err.contains("r1 does not write"), "{}", said.err);
    whole(&fixture, STAGING, "v2").unwrap();
    fixture.down(STAGING);
}

#[test]
fn what_never_becomes_ready_is_refused_on_a_copy() {
    let mut fixture = served(ON_START);
    steps(&fixture, &[FIRST, TITLE]);
    fixture.write("mode", "exits");
    fixture.commit();
    let said = refused(&mut fixture, 5);
    check_said(&fixture, "exits-on-a-copy", &said);
    assert_eq!(columns(&fixture), "id body: 1");
    whole(&fixture, STAGING, "v2").unwrap();
    fixture.down(STAGING);
}

#[test]
fn what_migrates_itself_and_is_not_ready_leaves_its_backup_or_is_put_back() {
    let mut fixture = served("{ on_start = true, rehearse = false }");
    let backed_up = |fixture: &Fixture| {
        let run = fixture.status(STAGING).ended[0].run;
        let backups = fixture.state(STAGING).join("backups");
        backups.join(format!("{run}-db.db")).is_file()
    };
    steps(&fixture, &[FIRST, TITLE]);
    fixture.write("mode", "exits");
    fixture.commit();
    fixture.tow(&DEPLOY).expect(5);
    // What was written since is not in it.
    assert_eq!(columns(&fixture), "id body title: 1");
    assert!(backed_up(&fixture), "nothing is left of before");
    whole(&fixture, STAGING, "v2").unwrap();
    fixture.down(STAGING);
    steps(
        &fixture,
        &[FIRST, TITLE, "ALTER TABLE notes ADD COLUMN more TEXT"],
    );
    fixture.commit();
    fixture.tow(&DEPLOY).expect(5);
    assert_eq!(columns(&fixture), "id body title: 1");
    assert!(backed_up(&fixture), "nothing is left of before");
    fixture.write("mode", "");
    let version = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, &version).unwrap();
    assert_eq!(columns(&fixture), "id body title more: 1");
    fixture.down(STAGING);
}

#[test]
fn a_migrator_that_fails_on_the_copy_touches_nothing() {
    let mut fixture = served(RUN);
    steps(&fixture, &[FIRST, TITLE, "CREATE TABLE notes (twice)"]);
    fixture.commit();
    let said = refused(&mut fixture, 5);
    assert!(
        said.err.contains("rehearse::migrator-failed"),
        "{}",
        said.err
    );
    assert_eq!(columns(&fixture), "id body: 1");
    whole(&fixture, STAGING, "v2").unwrap();
    fixture.down(STAGING);
}

#[test]
fn a_migrator_that_fails_half_way_leaves_what_the_old_version_bears() {
    let mut fixture = served(RUN);
    steps(
        &fixture,
        &[FIRST, TITLE, "!only-live", "CREATE TABLE later (x)"],
    );
    fixture.commit();
    let said = fixture.tow(&DEPLOY).expect(5);
    check_said(&fixture, "half-way", &said);
    assert_eq!(columns(&fixture), "id body title: 1");
    nothing_left(&fixture);
    whole(&fixture, STAGING, "v2").unwrap();
    // Mended, it goes on from there.
    steps(
        &fixture,
        &[FIRST, TITLE, "!nothing", "CREATE TABLE later (x)"],
    );
    let version = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, &version).unwrap();
    fixture.down(STAGING);
}

#[test]
fn a_migrator_that_fails_half_way_where_the_old_version_fails_asks_a_person() {
    let mut fixture = served(RUN);
    fixture.manifest(&manifest(RUN, "2s"));
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    // Away and back: what is left in between the old version does not bear.
    let back = "ALTER TABLE notes RENAME COLUMN text TO body";
    steps(&fixture, &[FIRST, RENAME, "!only-live", back]);
    fixture.commit();
    let said = fixture.tow(&DEPLOY).expect(6);
    check_said(&fixture, "half-way-stuck", &said);
    db(&fixture).execute(back, ()).unwrap();
    fixture.tow(&["cancel", "-e", STAGING]).expect(0);
    nothing_left(&fixture);
    whole(&fixture, STAGING, "v3").unwrap();
    fixture.down(STAGING);
}

#[test]
fn what_is_said_to_be_a_rewrite_comes_in_while_requests_wait() {
    let mut fixture = served(RUN);
    let rewrite = "{ run = \"python3 app.py migrate\", rewrite = true }";
    fixture.manifest(&manifest(rewrite, "2s"));
    steps(&fixture, &[FIRST, RENAME]);
    fixture.write("query", "SELECT nothing FROM notes");
    fixture.commit();
    // It fails behind the migrator: the backup is put back.
    fixture.tow(&DEPLOY).expect(5);
    assert_eq!(columns(&fixture), "id body: 1");
    whole(&fixture, STAGING, "v2").unwrap();
    fixture.write("query", "SELECT text FROM notes");
    let version = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, &version).unwrap();
    assert_eq!(columns(&fixture), "id text: 1");
    assert!(fixture.status(STAGING).warm.is_none());
    // Nor is there a cold way back, also not from behind the next release.
    let behind = |fixture: &Fixture| {
        let said = fixture.tow(&["rollback", "r1", "-e", STAGING]).expect(4);
        assert!(said.err.contains("rollback::schema"), "{}", said.err);
    };
    behind(&fixture);
    whole(&fixture, STAGING, &version).unwrap();
    let untried = RUN.replace(" }", ", rehearse = false }");
    fixture.manifest(&manifest(&untried, "60s"));
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    behind(&fixture);
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    whole(&fixture, STAGING, &version).unwrap();
    fixture.down(STAGING);
}

/// One kill after the other; afterwards `version` serves, nothing of a copy is left, and no write is lost.
struct Killed {
    fixture: Fixture,
    traffic: Traffic,
    cases: u32,
    failures: Vec<String>,
}

impl Killed {
    fn new(fixture: Fixture) -> Killed {
        let traffic = Traffic::start(&fixture, &fixture.listen(STAGING));
        Killed {
            fixture,
            traffic,
            cases: 0,
            failures: Vec::new(),
        }
    }

    fn case(&mut self, places: &[String], code: i32, version: &str) {
        let died = die_at(&self.fixture, STAGING, &DEPLOY, &names(places), code);
        let outcome = died.and_then(|()| whole(&self.fixture, STAGING, version).map(drop));
        self.cases += 1;
        nothing_left(&self.fixture);
        if let Err(why) = outcome {
            let places = places.join(", ");
            println!("FAILED {places}: {why}");
            self.failures.push(format!("{places}: {why}"));
        }
    }

    fn end(self, what: &str) {
        self.traffic.more();
        let report = self.traffic.stop();
        let lost = lost(&self.fixture, &report);
        println!(
            "{what}: {} kills, {} failures; {} requests, {} failed; {} writes, {lost} lost",
            self.cases,
            self.failures.len(),
            report.requests.total,
            report.requests.failed,
            report.writes.len()
        );
        assert!(self.failures.is_empty(), "{:#?}", self.failures);
        assert_eq!(report.requests.failed, 0, "{:?}", report.requests.failures);
        assert_eq!(lost, 0);
        self.fixture.down(STAGING);
    }
}

/// Each of its migrations is applied once, or the next would fail.
#[test]
fn a_deployment_with_a_migrator_goes_on_from_every_step_of_it() {
    for (migrate, own) in [
        (RUN, &["rehearse", "migrator:db"][..]),
        (OWN_FILE, &["rehearse", "launch:web", "ready:web"]),
    ] {
        let mut killed = Killed::new(served(migrate));
        let mut applied = vec![FIRST.to_owned(), "CREATE TABLE t1 (x)".to_owned()];
        let next = |killed: &mut Killed, applied: &[String]| {
            let all: Vec<&str> = applied.iter().map(String::as_str).collect();
            steps(&killed.fixture, &all);
            killed.fixture.commit()
        };
        next(&mut killed, &applied);
        let run = Run {
            steps: kill::steps(&killed.fixture, &DEPLOY),
            own,
        };
        for places in run.cases("apply") {
            applied.push(format!("CREATE TABLE t{} (x)", applied.len()));
            let next = next(&mut killed, &applied);
            killed.case(&places, 0, &next);
        }
        killed.end(&format!("deploy with {migrate}"));
    }
}

#[test]
fn a_refused_deployment_goes_back_from_every_step() {
    let mut killed = Killed::new(served(RUN));
    steps(&killed.fixture, &[FIRST, TITLE, "!only-live"]);
    killed.fixture.commit();
    let own = &["rehearse", "migrator:db"];
    let back = undone(&killed.fixture, &DEPLOY);
    let there = Run {
        steps: back.iter().rev().cloned().collect(),
        own,
    };
    let back = Run { steps: back, own };
    for places in [there.cases("apply"), back.undoing()].concat() {
        killed.fixture.commit();
        killed.case(&places, 5, "v2");
    }
    assert!(columns(&killed.fixture).starts_with("id body title: "));
    killed.end("undo of a migrator that fails half-way");
}

/// The agent is killed while the migrator is at work; the next goes on.
#[test]
fn an_agent_that_dies_while_a_migrator_is_at_work_is_followed_by_one_that_goes_on() {
    for (migrate, at) in [
        (RUN, "copy"),
        (RUN, "live"),
        (ON_START, "copy"),
        (ON_START, "live"),
    ] {
        let mut fixture = served(migrate);
        let (wait, held) = (fixture.data("wait"), fixture.data("wait.held"));
        std::fs::write(&wait, "").unwrap();
        let waits = format!("!wait {at} {}", wait.display());
        steps(&fixture, &[FIRST, TITLE, &waits, "CREATE TABLE later (x)"]);
        let version = fixture.commit();
        let command = fixture.start(&DEPLOY);
        until("the migrator is at work", || held.exists().then_some(()));
        let agent = fixture.seen(STAGING).unwrap().agent_pid;
        machine::kill(agent);
        until("the agent is dead", || {
            (!machine::is_alive(agent)).then_some(())
        });
        fixture.tow(&["status", "-e", STAGING]).expect(0);
        std::fs::remove_file(&wait).unwrap();
        fixture.end(command).expect(0);
        whole(&fixture, STAGING, &version).unwrap();
        nothing_left(&fixture);
        assert_eq!(columns(&fixture), "id body title: 1", "{migrate}, {at}");
        fixture.down(STAGING);
    }
}
