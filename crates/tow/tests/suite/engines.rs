//! Rehearsals of an application that runs on SQLite and on PostgreSQL: which of them it is on, and what is lost there.

use std::fs;
use std::path::Path;

use serde_json::Value;
use towpath::resource::postgres::binaries;

use crate::fixture::{Fixture, Said};

/// Nothing is where this is.
const NOWHERE: &str = "/nonexistent";

const MANIFEST: &str = r#"
app = "fixture"
promote = ["staging", "production"]

[services.web]
build = "true"
run = "exec python3 notes.py"
env = { PSQL = "PROGRAM" }
needs = ["db"]
ready = { http = "/health", every = "50ms", within = "WITHIN", timeout = "10s" }

[resources]
db = { kind = "sqlite", migrate = "migrations" }

[environments.local]
[environments.staging]
[environments.production]
window = "1h"
resources.db.kind = "postgres"

[traffic]
rate = 20
connections = 4
requests = ["/health"]

[traffic.write]
post = "/notes"
body = { id = "${id}" }
expect = 201
read = "/notes/${id}"
count = "/count"

[[traffic.zeros]]
name = "doubled notes"
get = "/notes"
value = "/twice"
of = "/all"

[rehearse]
next = { overlay = "next" }
broken = { overlay = "broken" }
requests = 80
writes = 30
INSTEAD
"#;

/// Notes, in three versions, with migrations for both.
fn notes(instead: &str) -> Fixture {
    let mut fixture = Fixture::new();
    let psql = binaries::client("psql", 0).map_or(NOWHERE.to_owned(), |p| p.display().to_string());
    let manifest = MANIFEST
        .replace("PROGRAM", &psql)
        .replace("INSTEAD", instead);
    fixture.write("tow.toml", &manifest.replace("WITHIN", "60s"));
    fixture.write("notes.py", include_str!("notes.py"));
    fixture.write("migrations/.gitkeep", "");
    for folder in ["migrations", "next/migrations", "broken"] {
        for engine in ["sqlite", "postgres"] {
            fs::create_dir_all(fixture.repo().join(folder).join(engine)).unwrap();
        }
    }
    for engine in ["sqlite", "postgres"] {
        let first = format!("migrations/{engine}/0001_notes");
        fixture.write(
            &format!("{first}.up.sql"),
            "CREATE TABLE notes (id TEXT NOT NULL);",
        );
        fixture.write(&format!("{first}.down.sql"), "DROP TABLE notes;");
        let more = format!("next/migrations/{engine}/0002_more");
        fixture.write(
            &format!("{more}.up.sql"),
            "CREATE TABLE more (id TEXT NOT NULL);",
        );
        fixture.write(&format!("{more}.down.sql"), "DROP TABLE more;");
    }
    fixture.write("next/version", "next");
    fixture.write("broken/version", "broken");
    fixture.write("broken/tow.toml", &manifest.replace("WITHIN", "1s"));
    fixture.commit();
    fixture
}

fn rehearse(fixture: &Fixture, words: &[&str]) -> (Said, Value) {
    let said = fixture.tow(&[&["rehearse", "--json"], words].concat());
    let report = serde_json::from_str(&said.out).unwrap_or_default();
    (said, report)
}

/// What each environment ran on.
fn engines(report: &Value) -> Vec<(String, String, String)> {
    let databases = report["databases"].as_array().cloned().unwrap_or_default();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    databases
        .iter()
        .map(|one| {
            (
                text(one, "environment"),
                text(one, "engine"),
                text(one, "why"),
            )
        })
        .collect()
}

/// Failed requests, lost and doubled writes of each round, and of how many.
fn rounds(report: &Value) -> Vec<[u64; 5]> {
    let rounds = report["rounds"].as_array().cloned().unwrap_or_default();
    let number = |one: &Value, place: &str| one.pointer(place).and_then(Value::as_u64).unwrap();
    let places = [
        "/requests/failed",
        "/requests/total",
        "/writes/lost",
        "/writes/doubled",
        "/writes/acknowledged",
    ];
    let counts = |one: &Value| places.map(|place| number(one, place));
    rounds.iter().map(counts).collect()
}

#[test]
fn a_rehearsal_goes_from_sqlite_to_postgresql_and_finds_what_is_lost_there() {
    let Some(found) = binaries::find(None) else {
        println!("skipped: this machine has no postgresql");
        return;
    };
    let fixture = notes("");
    let (said, report) = rehearse(&fixture, &[]);
    let postgres = format!("PostgreSQL {}", found.major);
    let on: Vec<(String, String)> = engines(&report)
        .into_iter()
        .map(|(environment, engine, _)| (environment, engine))
        .collect();
    let expected = [
        ("local", "SQLite"),
        ("staging", "SQLite"),
        ("production", postgres.as_str()),
    ];
    assert_eq!(
        on,
        expected.map(|(one, other)| (one.to_owned(), other.to_owned())),
        "{said:?}"
    );
    let whole = rounds(&report);
    assert_eq!(whole.len(), 1, "{said:?}");
    for [failed, requests, lost, doubled, writes] in &whole {
        assert_eq!([*failed, *lost, *doubled], [0, 0, 0], "{said:?}");
        assert!(*requests >= 80 && *writes >= 30, "{said:?}");
    }
    assert_eq!(report["refused"]["outcome"], "undone", "{said:?}");

    // Twice: what the migration had brought is gone with the rest, and comes in again.
    let words = ["--skip-local", "--sabotage", "drop-write", "--rounds", "2"];
    let (said, report) = rehearse(&fixture, &words);
    let planted = rounds(&report);
    assert_eq!((said.code, planted.len()), (1, 2), "{said:?}");
    for [_, _, lost, _, _] in &planted {
        assert!(*lost > 0, "lost writes are not found: {said:?}");
    }
    let sum = |rounds: &[[u64; 5]], at: usize| rounds.iter().map(|one| one[at]).sum::<u64>();
    println!(
        "engines: on {postgres} {} of {} requests failed, {} of {} writes lost; with the loss planted {} of {}",
        sum(&whole, 0),
        sum(&whole, 1),
        sum(&whole, 2),
        sum(&whole, 4),
        sum(&planted, 2),
        sum(&planted, 4),
    );
    nothing_left(&fixture);
}

#[test]
fn without_postgresql_a_rehearsal_is_on_sqlite_where_the_manifest_lets_it() {
    let mut fixture = notes("without_postgres = \"sqlite\"");
    fixture.env.push(("TOWPATH_POSTGRES", NOWHERE.into()));
    let (said, report) = rehearse(&fixture, &["--skip-local"]);
    let found = engines(&report);
    assert_eq!(found.len(), 2, "{said:?}");
    for (environment, engine, why) in &found {
        assert_eq!(engine, "SQLite", "{said:?}");
        let stands_in = why.contains("this machine has none");
        assert_eq!(stands_in, environment == "production", "{why}");
    }
    for [failed, _, lost, doubled, writes] in rounds(&report) {
        assert_eq!([failed, lost, doubled], [0, 0, 0], "{said:?}");
        assert!(writes >= 30, "{said:?}");
    }
    nothing_left(&fixture);

    let mut fixture = notes("");
    fixture.env.push(("TOWPATH_POSTGRES", NOWHERE.into()));
    let (said, _) = rehearse(&fixture, &["--skip-local"]);
    assert_ne!(said.code, 0);
    assert!(
        said.err.contains("resource::missing") || said.out.contains("resource::missing"),
        "{said:?}"
    );
    nothing_left(&fixture);
}

/// The environments themselves were never there.
fn nothing_left(fixture: &Fixture) {
    let states = fixture.dir.join("states");
    let left = fs::read_dir(&states).unwrap().count();
    assert_eq!(left, 0, "{}", Path::new(&states).display());
}

#[test]
fn secrets_are_made_up_for_a_rehearsal_which_needs_nobodys_identity() {
    let mut fixture = notes("");
    for file in ["tow.toml", "broken/tow.toml"] {
        let text = fs::read_to_string(fixture.repo().join(file)).unwrap();
        let text = text
            .replace(
                "run = \"exec python3 notes.py\"",
                "run = \"exec sh checked.sh\"\nsecrets = [\"KEY\"]",
            )
            .replace(
                "[environments.staging]",
                "[environments.staging]\nservices.web.env.PASSWORD = \"as-in-staging\"",
            )
            .replace(
                "resources.db.kind = \"postgres\"",
                "services.web.secrets = [\"KEY\", \"PASSWORD\"]",
            );
        fixture.write(file, &text);
    }
    fixture.write(
        "checked.sh",
        "test ${#KEY} -ge 32 && test \"${PASSWORD:-as-in-staging}\" = as-in-staging && exec python3 notes.py\n",
    );
    fixture.commit();
    let nowhere = fixture.dir.join("no-such-identity");
    fixture.env.push(("TOWPATH_IDENTITY", nowhere));
    let (said, report) = rehearse(&fixture, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(report["passed"], true, "{said:?}");
    for line in [
        "the secret KEY of staging is made up for this rehearsal",
        "the secret KEY of production is made up",
        "the secret PASSWORD of production is, in this rehearsal, what the manifest has in plain text",
    ] {
        assert!(said.err.contains(line), "{line} in {}", said.err);
    }
    assert!(!fixture.repo().join("tow.secrets.toml").exists());
    // What does need one says which is missing.
    let said = fixture.tow(&["secrets", "key"]).expect(1);
    assert!(said.err.contains("TOWPATH_IDENTITY names"), "{}", said.err);
    assert!(said.err.contains("no-such-identity"), "{}", said.err);
}
