//! Migrations through a whole deployment, and by hand.

use rusqlite::Connection;
use serde_json::Value;

use crate::fixture::{Fixture, MANIFEST, PRODUCTION, STAGING};
use crate::machine::until;
use crate::snapshot::{check_said, check_shape};
use crate::whole::whole;

const DEPLOY: [&str; 3] = ["deploy", "-e", STAGING];

const REWRITE: &str = "-- tow: rewrite
CREATE TABLE new_notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
INSERT INTO new_notes SELECT id, body FROM notes;
DROP TABLE notes;
ALTER TABLE new_notes RENAME TO notes;
";

/// A version serves, on a database with a table and rows.
fn served(manifest: &str) -> Fixture {
    let mut fixture = Fixture::with(manifest);
    let sql = "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, old TEXT);\n\
        INSERT INTO notes (body, old) VALUES ('one', 'x'), ('two', 'y');\n";
    fixture.write("migrations/0001_notes.up.sql", sql);
    fixture.write("migrations/0001_notes.down.sql", "DROP TABLE notes;\n");
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    fixture
}

fn db(fixture: &Fixture, environment: &str) -> Connection {
    Connection::open(fixture.state(environment).join("data/db.db")).unwrap()
}

fn columns(fixture: &Fixture, environment: &str) -> String {
    let sql = "SELECT group_concat(name, ' ') || ': ' || (SELECT count(*) FROM notes) FROM pragma_table_info('notes')";
    db(fixture, environment)
        .query_row(sql, (), |row| row.get(0))
        .unwrap()
}

#[test]
fn a_rewrite_comes_in_while_requests_wait_and_cannot_be_rolled_back() {
    let mut fixture = served(MANIFEST);
    fixture.write("migrations/0002_rewrite.up.sql", REWRITE);
    let version = fixture.commit();
    let dry = fixture
        .tow(&["deploy", "-e", STAGING, "--dry-run"])
        .expect(0);
    assert!(dry.out.contains("0002_rewrite, rewrite"), "{}", dry.out);
    assert_eq!(columns(&fixture, STAGING), "id body old: 2");
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, &version).unwrap();
    assert_eq!(columns(&fixture, STAGING), "id body: 2");
    let status = fixture.status(STAGING);
    assert!(status.warm.is_none());
    check_said(
        &fixture,
        "rollback-behind-rewrite",
        &fixture.tow(&["rollback", "-e", STAGING]),
    );
    whole(&fixture, STAGING, &version).unwrap();
    fixture.down(STAGING);
}

#[test]
fn a_rewrite_whose_version_does_not_come_up_is_undone_with_the_backup() {
    let mut fixture = served(MANIFEST);
    fixture.manifest(&MANIFEST.replace("within = \"60s\", timeout = \"10s\"", "within = \"2s\""));
    fixture.write("migrations/0002_rewrite.up.sql", REWRITE);
    fixture.write("mode", "never-ready");
    fixture.commit();
    fixture.tow(&DEPLOY).expect(5);
    assert_eq!(columns(&fixture, STAGING), "id body old: 2");
    whole(&fixture, STAGING, "v2").unwrap();
    fixture.down(STAGING);
}

#[test]
fn a_contraction_waits_for_the_end_of_the_window() {
    let mut fixture = served(MANIFEST);
    fixture.write(
        "migrations/0002_old.up.sql",
        "-- tow: contract\nALTER TABLE notes DROP COLUMN old;\n",
    );
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    assert_eq!(columns(&fixture, STAGING), "id body old: 2");
    let said = fixture.tow(&["migrate", "up", "-e", STAGING]);
    check_said(&fixture, "contraction-waits", &said);
    // The next release makes room: the one that does not know it is gone.
    let version = fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    until("the contraction", || {
        (columns(&fixture, STAGING) == "id body: 2").then_some(())
    });
    whole(&fixture, STAGING, &version).unwrap();
    fixture.down(STAGING);
}

#[test]
fn a_contraction_that_fails_leaves_the_release_and_is_tried_again_by_hand() {
    let mut fixture = served(&MANIFEST.replace("window = \"1h\"", "window = \"0s\""));
    let sql = "-- tow: contract\nDELETE FROM notes;\nDROP TABLE only_here;\n";
    fixture.write("migrations/0002_old.up.sql", sql);
    fixture.commit();
    // Tried on a copy of the database first, where the table is.
    let said = fixture.tow(&DEPLOY).expect(0);
    assert!(!said.err.contains("migrate"), "{}", said.err);
    let failed = || {
        let status = fixture.status(STAGING);
        let last = status.ended.first()?.clone();
        (last.operation.to_string() == "migrate" && last.outcome == "undone").then_some(())
    };
    until("the contraction to fail", failed);
    assert_eq!(columns(&fixture, STAGING), "id body old: 2");
    db(&fixture, STAGING)
        .execute_batch("CREATE TABLE only_here (x)")
        .unwrap();
    fixture.tow(&["migrate", "up", "-e", STAGING]).expect(0);
    assert_eq!(columns(&fixture, STAGING), "id body old: 0");
    fixture.down(STAGING);
}

#[test]
fn what_an_expansion_must_not_do_is_refused_before_anything_is_touched() {
    let mut fixture = served(MANIFEST);
    let before = fixture.status(STAGING).ended.len();
    fixture.write(
        "migrations/0002_old.up.sql",
        "ALTER TABLE notes DROP COLUMN old;\n",
    );
    fixture.commit();
    check_said(&fixture, "expansion-drops", &fixture.tow(&DEPLOY).expect(3));
    fixture.write(
        "migrations/0002_old.up.sql",
        "CREATE TABLE a (x);\nINSERT INTO nowhere VALUES (1);\n",
    );
    fixture.commit();
    check_said(&fixture, "expansion-fails", &fixture.tow(&DEPLOY).expect(3));
    assert_eq!(fixture.status(STAGING).ended.len(), before);
    whole(&fixture, STAGING, "v2").unwrap();
    fixture.down(STAGING);
}

#[test]
fn migrations_are_written_applied_looked_at_and_taken_back_by_hand() {
    let fixture = Fixture::new();
    fixture.tow(&["migrate", "new", "Notes"]).expect(3);
    let said = fixture.tow(&["migrate", "new", "notes"]).expect(0);
    assert_eq!(
        said.out.lines().next(),
        Some("migrations/0001_notes.up.sql")
    );
    let said = fixture
        .tow(&["migrate", "new", "search", "--engine", "sqlite"])
        .expect(0);
    assert_eq!(
        said.out.lines().next(),
        Some("migrations/sqlite/0002_search.up.sql")
    );
    fixture.write(
        "migrations/0001_notes.up.sql",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY);\n",
    );
    fixture.write("migrations/0001_notes.down.sql", "DROP TABLE notes;\n");
    fixture.write(
        "migrations/sqlite/0002_search.up.sql",
        "CREATE INDEX found ON notes (id);\n",
    );
    fixture.write(
        "migrations/sqlite/0002_search.down.sql",
        "DROP INDEX found;\n",
    );
    let dry = fixture.tow(&["migrate", "up", "--dry-run"]).expect(0);
    check_said(&fixture, "migrate-dry-run", &dry);
    fixture.tow(&["migrate", "up"]).expect(0);
    let again = fixture.tow(&["migrate", "up"]).expect(0);
    assert!(again.out.contains("nothing to do"), "{}", again.out);
    let status: Value = fixture
        .tow(&["migrate", "status", "--json"])
        .expect(0)
        .json();
    assert_eq!(status[0]["drift"], Value::Array(Vec::new()));
    check_shape("migrations", &status);
    db(&fixture, "local")
        .execute_batch("CREATE TABLE by_hand (x)")
        .unwrap();
    let drifted = fixture.tow(&["migrate", "status"]).expect(0);
    assert!(drifted.out.contains("+table by_hand"), "{}", drifted.out);
    fixture.tow(&["migrate", "down", "1"]).expect(0);
    let state = |index: usize| {
        let status: Value = fixture
            .tow(&["migrate", "status", "--json"])
            .expect(0)
            .json();
        status[0]["migrations"][index]["state"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!([state(0), state(1)], ["applied", "pending"]);
    fixture.tow(&["migrate", "baseline", "2"]).expect(0);
    assert_eq!(state(1), "baseline");
    fixture.tow(&["migrate", "baseline", "7"]).expect(3);
    // Elsewhere they are those of the release that serves, and there is none.
    fixture.tow(&["migrate", "up", "-e", PRODUCTION]).expect(4);
    fixture.down("local");
}

const RENAME: &str = "ALTER TABLE notes RENAME COLUMN old TO older;\n";

#[test]
fn the_check_says_of_migrations_what_a_deployment_would() {
    let mut fixture = served(MANIFEST);
    fixture.tow(&["check"]).expect(0);
    fixture.write("migrations/0002_older.up.sql", RENAME);
    fixture.commit();
    let checked = fixture.tow(&["check"]).expect(3);
    let said = checked.err.lines().next().unwrap_or_default();
    assert!(said.starts_with("error[migrate::"), "{}", checked.err);
    let place = "migrations/0002_older.up.sql:1:";
    assert!(checked.err.contains(place), "{}", checked.err);
    let refused = fixture.tow(&DEPLOY).expect(3);
    assert!(refused.err.contains(said), "{said}\n{}", refused.err);
    let json: Value = fixture.tow(&["check", "--json"]).expect(3).json();
    assert_eq!(json["file"], "tow.toml");
    assert_eq!(
        json["migrations"][0]["file"],
        "migrations/0002_older.up.sql"
    );
    fixture.write(
        "migrations/0002_older.up.sql",
        &format!("-- tow: contract\n{RENAME}"),
    );
    fixture.tow(&["check"]).expect(0);
    // Applied in staging as what it is; production is yet to come, and `tow check` asks nobody.
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    fixture.tow(&["check"]).expect(0);
    // A name that a deployment could not read is one as well.
    fixture.write("migrations/0003.up.sql", "SELECT 1;\n");
    let checked = fixture.tow(&["check"]).expect(3);
    assert!(checked.err.contains("`0003.up.sql`"), "{}", checked.err);
    fixture.down(STAGING);
}
