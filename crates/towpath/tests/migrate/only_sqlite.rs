//! What is SQLite's own.

use towpath::migrate::{self, Engine, Error};

use crate::both::{ONE, file};
use crate::database::{Database, options};

fn database() -> Database {
    let database = Database::of(Engine::Sqlite).unwrap();
    database.write(&ONE);
    database.up().unwrap();
    database
}

const REBUILD: &str = "-- tow: rewrite
CREATE TABLE new_a (x INTEGER PRIMARY KEY, y TEXT NOT NULL);
INSERT INTO new_a SELECT * FROM a WHERE x < 3;
DROP TABLE a;
ALTER TABLE new_a RENAME TO a;";

#[test]
fn a_table_is_made_anew_and_what_refers_to_it_stays() {
    let database = Database::of(Engine::Sqlite).unwrap();
    database.write(&[(
        "0001_a.up.sql",
        "CREATE TABLE a (x INTEGER PRIMARY KEY, y TEXT);
        CREATE TABLE b (a INTEGER REFERENCES a (x) ON DELETE CASCADE);",
    )]);
    database.up().unwrap();
    database.run("INSERT INTO a VALUES (1, 'one'), (2, 'two'); INSERT INTO b VALUES (1), (2)");
    database.write(&[("0002_a.up.sql", REBUILD)]);
    assert_eq!(database.up().unwrap(), [2]);
    assert_eq!(database.ask("SELECT count(*) FROM b"), ["2"]);
    assert_eq!(database.ask("PRAGMA foreign_keys"), ["1"]);
}

#[test]
fn a_rewrite_that_leaves_rows_without_what_they_refer_to_is_refused() {
    let database = Database::of(Engine::Sqlite).unwrap();
    database.write(&[(
        "0001_a.up.sql",
        "CREATE TABLE a (x INTEGER PRIMARY KEY, y TEXT);
        CREATE TABLE b (a INTEGER REFERENCES a (x) ON DELETE CASCADE);",
    )]);
    database.up().unwrap();
    database.run("INSERT INTO a VALUES (1, 'one'), (9, 'nine'); INSERT INTO b VALUES (1), (9)");
    database.write(&[("0002_a.up.sql", REBUILD)]);
    let error = database.up().unwrap_err();
    assert!(
        matches!(&error, Error::ForeignKeys(2, rows) if rows.len() == 1),
        "{error}"
    );
    assert_eq!(database.ask("SELECT count(*) FROM a"), ["2"]);
}

#[test]
fn a_full_disk_leaves_nothing() {
    let database = database();
    let sql =
        "CREATE TABLE b (x BLOB); INSERT INTO b SELECT zeroblob(100000) FROM a, a AS c, a AS d;";
    database.run("INSERT INTO a VALUES (1, ''), (2, ''), (3, ''), (4, '')");
    database.write(&[("0002_b.up.sql", sql)]);
    let (before, all) = (database.schema(), database.load().unwrap());
    let mut db = database.open();
    let pages: u32 = file(&db)
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    file(&db)
        .pragma_update(None, "max_page_count", pages + 20)
        .unwrap();
    let error = migrate::up(&mut db, &all, None, &options()).unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    assert!(
        error.diagnostic("db").render(false).contains("make room"),
        "{error}"
    );
    assert_eq!(database.schema(), before);
    assert_eq!(database.up().unwrap(), [2]);
}

#[test]
fn no_lock_is_taken_through_a_link() {
    let database = database();
    let (lock, other) = (
        database.dir.join("app.db.migrating"),
        database.dir.join("other"),
    );
    std::fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&other, &lock).unwrap();
    assert!(matches!(database.up(), Err(Error::Io(..))));
    assert!(!other.exists());
}

#[test]
fn triggers_with_statements_of_their_own_are_applied_whole() {
    let database = database();
    let sql = "CREATE TRIGGER t AFTER INSERT ON a BEGIN
        UPDATE a SET y = CASE WHEN new.x > 1 THEN 'many;' ELSE 'one' END WHERE x = new.x;
        DELETE FROM a WHERE y = '';
    END;
    CREATE VIRTUAL TABLE f USING fts5(y);";
    database.write(&[("0002_t.up.sql", sql)]);
    assert_eq!(database.up().unwrap(), [2]);
    database.run("INSERT INTO a VALUES (2, 'x')");
    assert_eq!(database.ask("SELECT y FROM a"), ["many;"]);
}

#[test]
fn folders_that_nobody_would_write_are_refused() {
    let cases: [(&[&str], &str); 6] = [
        (&["1.up.sql"], "`1.up.sql` is not of the form"),
        (&["0001_.up.sql"], "is not of the form"),
        (&["0001_a.down.sql"], "without its .up.sql"),
        (&["0001_a.sql"], "is not of the form"),
        (&["x001_a.up.sql"], "is not of the form"),
        (&["99999999999999999999_a.up.sql"], "is not of the form"),
    ];
    for (files, says) in cases {
        let database = Database::of(Engine::Sqlite).unwrap();
        files
            .iter()
            .for_each(|name| database.write(&[(*name, "SELECT 1;")]));
        let text = database.load().expect_err("a refusal").to_string();
        assert!(text.contains(says), "{files:?}: {text}");
    }
}
