//! What holds on both engines.

use towpath::migrate::{self, Engine, Error, Kind, State};
use towpath::resource::Connection;

use crate::database::{Database, on_both, options};

pub const ONE: [(&str, &str); 2] = [
    ("0001_a.up.sql", "CREATE TABLE a (x INTEGER, y TEXT);"),
    ("0001_a.down.sql", "DROP TABLE a;"),
];

#[test]
fn what_is_applied_is_applied_once_and_taken_back_whole() {
    on_both(|database| {
        database.write(&ONE);
        let before = database.schema();
        assert_eq!(database.up().unwrap(), [1]);
        assert!(database.up().unwrap().is_empty());
        let row = &migrate::applied(&mut database.open()).unwrap()[&1];
        assert_eq!((row.kind, row.state), (Kind::Expand, State::Applied));
        assert!(
            row.started_ms > 0 && row.applied_ms >= row.started_ms,
            "{row:?}"
        );
        assert!(database.schema().len() > before.len());
        let all = database.load().unwrap();
        migrate::down(&mut database.open(), &all, &[1], &options()).unwrap();
        assert_eq!(database.schema(), before);
    });
}

#[test]
fn a_table_of_the_first_form_is_brought_up_to_date_in_its_place() {
    on_both(|database| {
        database.write(&ONE);
        let sum = database.load().unwrap()[0].checksum();
        database.run(&format!(
            "CREATE TABLE towpath_migrations (version {key} PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,
                applied_ms {number} NOT NULL);
            CREATE TABLE a (x INTEGER, y TEXT);
            INSERT INTO towpath_migrations VALUES (1, 'a', '{sum}', 17)",
            key = if database.engine == Engine::Sqlite { "INTEGER" } else { "bigint" },
            number = if database.engine == Engine::Sqlite { "INTEGER" } else { "bigint" },
        ));
        // Looking changes nothing.
        let looked = migrate::applied(&mut database.open()).unwrap();
        assert_eq!(
            (looked[&1].applied_ms, looked[&1].state),
            (17, State::Applied)
        );
        database.write(&[("0002_b.up.sql", "-- tow: contract\nDROP TABLE a;")]);
        assert_eq!(database.up().unwrap(), [2]);
        let rows = migrate::applied(&mut database.open()).unwrap();
        assert_eq!((rows[&1].applied_ms, rows[&1].kind), (17, Kind::Expand));
        assert_eq!(rows[&2].kind, Kind::Contract);
    });
}

#[test]
fn each_engine_has_what_is_for_it() {
    on_both(|database| {
        database.write(&ONE);
        database.write(&[
            ("sqlite/0002_b.up.sql", "CREATE TABLE only_sqlite (x BLOB);"),
            (
                "postgres/0002_b.up.sql",
                "CREATE TABLE only_postgres (x bytea);",
            ),
        ]);
        assert_eq!(database.up().unwrap(), [1, 2]);
        let own = format!("only_{}", database.engine.folder());
        assert!(database.schema().iter().any(|line| line.contains(&own)));
        // The same number for all, and for one of them.
        for (file, other) in [
            ("0002_b.up.sql", "0002_b"),
            ("postgres/0002_c.down.sql", "0002_c"),
        ] {
            database.write(&[(file, "SELECT 1;")]);
            let error = database.load().unwrap_err();
            assert!(matches!(error, Error::Duplicate(2, ..)), "{error}");
            assert!(error.to_string().contains(other), "{error}");
            std::fs::remove_file(database.folder().join(file)).unwrap();
        }
    });
}

#[test]
fn an_existing_schema_counts_up_to_its_baseline() {
    on_both(|database| {
        database.run("CREATE TABLE a (x INTEGER, y TEXT)");
        database.write(&ONE);
        database.write(&[("0002_b.up.sql", "ALTER TABLE a ADD COLUMN z INTEGER;")]);
        let all = database.load().unwrap();
        let counted = migrate::baseline(&mut database.open(), &all, 1, &options()).unwrap();
        assert_eq!(counted, [1]);
        assert_eq!(database.up().unwrap(), [2]);
        let rows = migrate::applied(&mut database.open()).unwrap();
        assert_eq!(rows[&1].state, State::Baseline);
        let unknown = migrate::baseline(&mut database.open(), &all, 9, &options());
        assert!(matches!(unknown, Err(Error::Missing(9, _))));
    });
}

#[test]
fn a_scratch_copy_tells_what_would_change_and_whether_it_can_be_taken_back() {
    on_both(|database| {
        database.write(&ONE);
        let all = database.load().unwrap();
        let tried = migrate::try_out(&mut database.scratch(), &all, None, &options()).unwrap();
        assert_eq!((tried.versions, tried.one_way), (vec![1], None));
        assert!(
            tried.difference.iter().all(|line| line.starts_with('+')),
            "{:?}",
            tried.difference
        );
        // Takes back less than it made, or more.
        for (up, down) in [
            (
                "CREATE TABLE b (x INTEGER); CREATE TABLE c (x INTEGER);",
                "DROP TABLE b;",
            ),
            ("CREATE TABLE b (x INTEGER);", "DROP TABLE b; DROP TABLE a;"),
        ] {
            database.write(&[("0002_b.up.sql", up), ("0002_b.down.sql", down)]);
            let all = database.load().unwrap();
            let mut scratch = database.scratch();
            migrate::up(&mut scratch, &all, Some(&[1]), &options()).unwrap();
            let tried = migrate::try_out(&mut scratch, &all, None, &options()).unwrap();
            let why = tried.one_way.expect("no way back");
            assert!(why.contains("another schema"), "{why}");
        }
    });
}

#[test]
fn a_schema_that_somebody_else_has_changed_is_seen() {
    on_both(|database| {
        database.write(&ONE);
        database.up().unwrap();
        let differs = |database: &Database| {
            let all = database.load().unwrap();
            let expected = migrate::expected(
                &mut database.open(),
                &mut database.scratch(),
                &all,
                &options(),
            );
            migrate::difference(&expected.unwrap(), &database.schema())
        };
        assert!(differs(database).is_empty(), "{:?}", differs(database));
        database.run("ALTER TABLE a ADD COLUMN by_hand INTEGER; CREATE INDEX by_hand ON a (x)");
        let lines = differs(database);
        assert!(
            lines.iter().any(|line| line.contains("by_hand")),
            "{lines:?}"
        );
    });
}

#[test]
fn a_clock_that_was_set_back_puts_no_migration_before_another() {
    on_both(|database| {
        database.write(&ONE);
        database.up().unwrap();
        database.write(&[("0002_b.up.sql", "CREATE TABLE b (x INTEGER);")]);
        let all = database.load().unwrap();
        let mut back = options();
        back.clock = back.clock.shifted(-86_400_000);
        assert_eq!(
            migrate::up(&mut database.open(), &all, None, &back).unwrap(),
            [2]
        );
        let rows = migrate::applied(&mut database.open()).unwrap();
        assert!(rows[&2].started_ms >= rows[&1].applied_ms, "{rows:?}");
    });
}

#[test]
fn a_release_that_does_not_know_the_newest_migration_goes_on() {
    on_both(|database| {
        database.write(&ONE);
        database.write(&[("0002_b.up.sql", "CREATE TABLE b (x INTEGER);")]);
        database.up().unwrap();
        std::fs::remove_file(database.folder().join("0002_b.up.sql")).unwrap();
        assert!(database.up().unwrap().is_empty());
    });
}

/// The connection of a SQLite file.
pub fn file(db: &Connection) -> &rusqlite::Connection {
    match db {
        Connection::Sqlite(db) => db,
        Connection::Postgres(_) => panic!("not SQLite"),
    }
}
