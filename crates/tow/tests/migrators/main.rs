//! Migrators of others, on real databases: Alembic and node-pg-migrate. `make migrators` fetches them; one that is missing
//! fails.
#![allow(missing_docs, clippy::print_stdout)]
#![allow(clippy::unwrap_used)] // in the helpers of tests as in the tests themselves

#[allow(dead_code)] // what other tests need
#[path = "../suite/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "../suite/machine.rs"]
mod machine;
#[allow(dead_code)]
#[path = "../suite/whole.rs"]
mod whole;

mod alembic;
mod node;

use std::path::PathBuf;
use std::process::Command;

use fixture::{Fixture, STAGING};
use whole::whole;

const DEPLOY: [&str; 3] = ["deploy", "-e", STAGING];

/// The folder of what was fetched, copied to where services that run as users of their own reach it.
fn fetched(fixture: &Fixture, name: &str) -> PathBuf {
    let from = std::env::var_os("TOWPATH_MIGRATORS").expect("`make migrators` says where they are");
    let to = fixture.dir.join(name);
    let from = PathBuf::from(from).join(name);
    let done = Command::new("cp").arg("-r").arg(&from).arg(&to).status();
    assert!(done.unwrap().success(), "{} is copied", from.display());
    to
}

/// What is asked of a migrator, whoever it is.
struct Migrator {
    name: &'static str,
    /// Adds what gives the table a title.
    title: fn(&Fixture),
    /// Adds what gives its column another name.
    rename: fn(&Fixture),
    /// Adds what fails behind something that does not.
    fails: fn(&Fixture),
    /// What it keeps of what it has applied.
    applied: fn(&Fixture) -> Vec<String>,
    /// The columns of the table.
    columns: fn(&Fixture) -> String,
}

/// An additive migration goes in and stays when going back; what the version that serves does not bear, and what fails,
/// touches nothing.
fn holds(mut fixture: Fixture, migrator: &Migrator) {
    let name = migrator.name;
    fixture.write("query", "SELECT body FROM notes");
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    whole(&fixture, STAGING, "v2").unwrap();
    assert_eq!((migrator.columns)(&fixture), "body id", "{name}");

    (migrator.title)(&fixture);
    fixture.write("query", "SELECT title FROM notes");
    fixture.commit();
    let said = fixture.tow(&DEPLOY).expect(0);
    assert!(said.err.contains("title"), "{name}: {}", said.err);
    whole(&fixture, STAGING, "v3").unwrap();
    let applied = (migrator.applied)(&fixture);

    let back = fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    assert!(back.err.contains("the schema stays as"), "{}", back.err);
    whole(&fixture, STAGING, "v2").unwrap();
    assert_eq!((migrator.columns)(&fixture), "body id title", "{name}");

    (migrator.rename)(&fixture);
    fixture.write("query", "SELECT text FROM notes");
    fixture.commit();
    let said = fixture.tow(&DEPLOY).expect(4);
    assert!(said.err.contains("rehearse::old-fails"), "{}", said.err);
    (migrator.fails)(&fixture);
    fixture.commit();
    let said = fixture.tow(&DEPLOY).expect(5);
    assert!(
        said.err.contains("rehearse::migrator-failed"),
        "{}",
        said.err
    );
    assert_eq!((migrator.columns)(&fixture), "body id title", "{name}");
    assert_eq!((migrator.applied)(&fixture), applied, "{name}");
    whole(&fixture, STAGING, "v2").unwrap();
    println!(
        "{name}: 2 of 2 applied, 2 of 2 refused on a copy, 0 of 2 of those touched the database"
    );
    fixture.down(STAGING);
}
