//! Migrations of this version and of the next.

use std::fs;
use std::path::Path;

use crate::harness::{Database, Engine, Instance};
use crate::on_both;

/// Everything that migrations make.
fn schema(database: &Database) -> Vec<String> {
    database.open().texts(match database.engine() {
        Engine::Sqlite => {
            "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema ORDER BY 1"
        }
        Engine::Postgres => {
            "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, collation_name)
             FROM information_schema.columns WHERE table_schema = 'public'
             UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
             UNION ALL SELECT concat_ws(' ', conrelid::regclass, pg_get_constraintdef(oid))
             FROM pg_constraint WHERE connamespace = 'public'::regnamespace
             ORDER BY 1"
        }
    })
}

on_both!(
    every_migration_can_be_taken_back,
    this_version_works_on_before_and_after_the_next_ones_migration,
);

fn every_migration_can_be_taken_back(engine: Engine) {
    let database = Database::migrated(engine);
    Instance::ready(&database).sign_in().trace("a", "t1");
    let before = schema(&database);
    database.run(&engine.migration("overlays/v2", "0002_notes.up"));
    assert_ne!(schema(&database), before);
    database.run(&engine.migration("overlays/v2", "0002_notes.down"));
    assert_eq!(schema(&database), before);
    assert_eq!(database.number("SELECT count(*) FROM traces"), 1);
    database.run(&engine.migration("", "0001_traces.down"));
    assert!(schema(&database).is_empty());
}

fn this_version_works_on_before_and_after_the_next_ones_migration(engine: Engine) {
    let database = Database::migrated(engine);
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    session.trace("a", "before");
    database.run(&engine.migration("overlays/v2", "0002_notes.up"));
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
    let mut compared = 0;
    for folder in ["migrations/sqlite", "migrations/postgres"] {
        let files = fs::read_dir(root.join("v2").join(folder)).unwrap();
        for file in files.flatten() {
            let path = Path::new(folder).join(file.file_name());
            let read = |overlay: &str| fs::read(root.join(overlay).join(&path)).unwrap();
            assert_eq!(read("v2"), read("broken"), "{path:?}");
            compared += 1;
        }
    }
    assert_eq!(compared, 4);
}
