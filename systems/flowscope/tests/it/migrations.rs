//! Migrations of this version and of the next.

use std::fs;
use std::path::Path;

use crate::harness::{Database, Instance, migration};

fn schema(database: &Database) -> Vec<String> {
    let conn = database.open();
    let mut query = conn
        .prepare(
            "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema ORDER BY 1",
        )
        .unwrap();
    let rows = query.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn every_migration_can_be_taken_back() {
    let database = Database::migrated();
    Instance::ready(&database).sign_in().trace("a", "t1");
    let before = schema(&database);
    database.apply(&migration("overlays/v2/migrations/0002_notes.up.sql"));
    assert_ne!(schema(&database), before);
    database.apply(&migration("overlays/v2/migrations/0002_notes.down.sql"));
    assert_eq!(schema(&database), before);
    assert_eq!(database.number("SELECT count(*) FROM traces"), 1);
    database.apply(&migration("migrations/0001_traces.down.sql"));
    assert!(schema(&database).is_empty());
}

#[test]
fn this_version_works_on_before_and_after_the_next_ones_migration() {
    let database = Database::migrated();
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    session.trace("a", "before");
    database.apply(&migration("overlays/v2/migrations/0002_notes.up.sql"));
    session.trace("a", "after");
    for id in ["before", "after"] {
        assert_eq!(session.get(&format!("/api/traces/{id}")).json()["count"], 1);
    }
    assert_eq!(
        session.get("/api/search?q=answer").json()["traces"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    Instance::ready(&database).sign_in();
}

#[test]
fn the_broken_version_carries_the_same_migrations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("overlays");
    let files = fs::read_dir(root.join("v2/migrations")).unwrap();
    let mut compared = 0;
    for file in files {
        let name = file.unwrap().file_name();
        let read =
            |overlay: &str| fs::read(root.join(overlay).join("migrations").join(&name)).unwrap();
        assert_eq!(read("v2"), read("broken"), "{name:?}");
        compared += 1;
    }
    assert_eq!(compared, 2);
}
