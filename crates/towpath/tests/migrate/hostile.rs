//! Migrations that nobody would want: what a person is told, and that the data is as before.

use std::time::Duration;

use towpath::migrate::{self, Engine, Error, Options};
use towpath::resource::Connection;

use crate::both::ONE;
use crate::database::{Database, on_both, options};
use crate::snapshot::told;

const ROWS: &str = "SELECT x || y FROM a ORDER BY x";

/// A database with a table and rows in it.
fn begun(database: &Database) {
    database.write(&ONE);
    database.up().unwrap();
    database.run("INSERT INTO a VALUES (1, 'one'), (2, 'two'), (2, 'zwei')");
}

/// Has it fail as the snapshot says, and everything be as before.
fn fails(name: &str, database: &Database, act: impl FnOnce(&Database) -> Result<Vec<u64>, Error>) {
    let all_of_it = |database: &Database| {
        let known = migrate::applied(&mut database.open()).unwrap();
        let own: Vec<String> = database.schema();
        (own, database.ask(ROWS), known)
    };
    let before = all_of_it(database);
    let error = act(database).expect_err("it cannot be applied");
    assert_eq!(
        before,
        all_of_it(database),
        "{name} on {}: {error}",
        database.engine
    );
    told(name, database.engine, &error);
}

fn up_fails(name: &str, database: &Database, files: &[(&str, &str)]) {
    database.write(files);
    fails(name, database, Database::up);
}

#[test]
fn a_syntax_error_in_the_middle() {
    on_both(|database| {
        begun(database);
        let sql = "CREATE TABLE b (x INTEGER);\nINSERT INTO a VALUES (3, 'é');\nINSERT INTO a VALEUS (4, 'd');\nDELETE FROM a WHERE x = 1;";
        up_fails("syntax-error", database, &[("0002_b.up.sql", sql)]);
    });
}

#[test]
fn a_row_that_does_not_fit() {
    on_both(|database| {
        begun(database);
        let sql = "CREATE TABLE b (x INTEGER NOT NULL);\nINSERT INTO b SELECT NULL FROM a;";
        up_fails("row-does-not-fit", database, &[("0002_b.up.sql", sql)]);
    });
}

#[test]
fn edited_after_it_was_applied() {
    on_both(|database| {
        begun(database);
        up_fails(
            "edited",
            database,
            &[("0001_a.up.sql", "CREATE TABLE a (x INTEGER, z TEXT);")],
        );
    });
}

#[test]
fn missing_below_the_newest() {
    on_both(|database| {
        begun(database);
        std::fs::remove_file(database.folder().join("0001_a.up.sql")).unwrap();
        std::fs::remove_file(database.folder().join("0001_a.down.sql")).unwrap();
        up_fails(
            "missing",
            database,
            &[("0002_b.up.sql", "CREATE TABLE b (x INTEGER);")],
        );
    });
}

#[test]
fn two_of_one_number() {
    on_both(|database| {
        begun(database);
        let files = [("0002_b.up.sql", "SELECT 1;"), ("2_c.up.sql", "SELECT 2;")];
        up_fails("duplicate", database, &files);
    });
}

#[test]
fn a_down_that_fails() {
    on_both(|database| {
        begun(database);
        let files = [
            ("0002_b.up.sql", "CREATE TABLE b (x INTEGER);"),
            (
                "0002_b.down.sql",
                "DELETE FROM a;\nDROP TABLE b;\nDROP TABLE nowhere;",
            ),
        ];
        database.write(&files);
        database.up().unwrap();
        fails("failing-down", database, |database| {
            let all = database.load()?;
            migrate::down(&mut database.open(), &all, &[2], &options()).map(|()| Vec::new())
        });
    });
}

#[test]
fn another_runner_at_work() {
    on_both(|database| {
        begun(database);
        database.write(&[("0002_b.up.sql", "CREATE TABLE b (x INTEGER);")]);
        let mut other = database.open();
        // As a runner that is at work holds it.
        let held: Option<std::fs::File> = match &mut other {
            Connection::Sqlite(_) => {
                let file = database.dir.join("app.db.migrating");
                let file = std::fs::File::options()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(file)
                    .unwrap();
                rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
                Some(file)
            }
            Connection::Postgres(client) => {
                let digest = towpath::id::Digest::of(b"public.towpath_migrations").0;
                let key = i64::from_be_bytes(digest[..8].try_into().unwrap());
                client
                    .execute("SELECT pg_advisory_lock($1)", &[&key])
                    .unwrap();
                None
            }
        };
        fails("another-runner", database, |database| {
            let all = database.load()?;
            let soon = Options {
                runner_wait: Duration::from_millis(100),
                ..options()
            };
            migrate::up(&mut database.open(), &all, None, &soon)
        });
        drop((held, other));
        assert_eq!(database.up().unwrap(), [2]);
    });
}

#[test]
fn a_lock_that_somebody_else_holds() {
    on_both(|database| {
        begun(database);
        let mut other = database.open();
        match &mut other {
            Connection::Sqlite(db) => db.execute_batch("BEGIN IMMEDIATE; DELETE FROM a").unwrap(),
            Connection::Postgres(client) => client.batch_execute("BEGIN; DELETE FROM a").unwrap(),
        }
        up_fails(
            "locked",
            database,
            &[("0002_b.up.sql", "ALTER TABLE a ADD COLUMN z INTEGER;")],
        );
        drop(other);
        assert_eq!(database.up().unwrap(), [2]);
    });
}

#[test]
fn longer_than_it_may_take() {
    let Some(database) = Database::of(Engine::Postgres) else {
        return;
    };
    begun(&database);
    let sql = "-- tow: statement-timeout 100ms\nUPDATE a SET y = 'new';\nSELECT pg_sleep(60);";
    up_fails("too-long", &database, &[("0002_b.up.sql", sql)]);
}

#[test]
fn what_an_expansion_must_not_do() {
    on_both(|database| {
        begun(database);
        let sql = "-- Not needed any more.\nCREATE TABLE b (x INTEGER);\nALTER TABLE a\n  DROP COLUMN y;\nDELETE FROM a;\n\
            ALTER TABLE a RENAME TO old;\nDROP TABLE b, c;\nALTER TABLE a ADD COLUMN must TEXT NOT NULL;\nDROP TABLE b;";
        up_fails("destructive", database, &[("0002_b.up.sql", sql)]);
    });
}

#[test]
fn a_table_made_anew() {
    on_both(|database| {
        begun(database);
        let sql = "CREATE TABLE new_a (x BIGINT, y TEXT);\nINSERT INTO new_a SELECT * FROM a;\nDROP TABLE a;\nALTER TABLE new_a RENAME TO a;";
        up_fails("rebuild", database, &[("0002_b.up.sql", sql)]);
    });
}

#[test]
fn a_transaction_of_its_own() {
    on_both(|database| {
        begun(database);
        let sql = "DELETE FROM a WHERE x = 1;\nCOMMIT;\nBEGIN;\nCREATE TABLE b (x INTEGER);";
        up_fails("transaction", database, &[("0002_b.up.sql", sql)]);
        if database.engine == Engine::Postgres {
            let hidden = "DO $$ BEGIN DELETE FROM a; COMMIT; END $$;";
            up_fails(
                "transaction-in-a-block",
                database,
                &[("0002_b.up.sql", hidden)],
            );
        }
        // The words are not all there is.
        database.write(&[("0002_b.up.sql", sql)]);
        let all = migrate::load(&database.folder(), database.engine).unwrap();
        let unchecked = migrate::up(&mut database.open(), &all, None, &options());
        assert!(
            matches!(unchecked, Err(Error::Transaction(2))),
            "{unchecked:?}"
        );
    });
}

#[test]
fn a_way_out_of_the_database() {
    on_both(|database| {
        begun(database);
        let other = database.dir.join("other.db").display().to_string();
        let statements: &[&str] = match database.engine {
            Engine::Sqlite => &[
                "ATTACH 'OTHER' AS o;\nCREATE TABLE o.a (x);",
                "VACUUM INTO 'OTHER';",
                "PRAGMA writable_schema = 1;",
            ],
            Engine::Postgres => &[
                "COPY a FROM PROGRAM 'touch OTHER';",
                "COPY (SELECT 1) TO 'OTHER';",
                "\\i OTHER\n",
            ],
        };
        for (number, sql) in statements.iter().enumerate() {
            let file = [("0002_b.up.sql", *sql)];
            up_fails(&format!("way-out-{number}"), database, &file);
            // The database itself does not let it through either.
            database.write(&[("0002_b.up.sql", sql.replace("OTHER", &other).as_str())]);
            let all = migrate::load(&database.folder(), database.engine).unwrap();
            let unchecked = migrate::up(&mut database.open(), &all, None, &options());
            assert!(unchecked.is_err() || sql.contains("writable"), "{sql}");
            assert!(!std::path::Path::new(&other).exists(), "{sql}");
            if unchecked.is_ok() {
                return;
            }
        }
    });
}

#[test]
fn outside_of_a_transaction_and_failing() {
    on_both(|database| {
        begun(database);
        let sql = match database.engine {
            Engine::Sqlite => {
                "-- tow: no-transaction\nCREATE INDEX IF NOT EXISTS a_x ON nowhere (x);"
            }
            Engine::Postgres => {
                "-- tow: no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY a_x ON a (x);"
            }
        };
        up_fails("no-transaction-fails", database, &[("0002_b.up.sql", sql)]);
    });
}

#[test]
fn outside_of_a_transaction_and_half_done() {
    on_both(|database| {
        begun(database);
        let sql = match database.engine {
            Engine::Sqlite => {
                "-- tow: no-transaction\nCREATE INDEX IF NOT EXISTS a_y ON a (y);\nCREATE UNIQUE INDEX IF NOT EXISTS a_x ON a (x);"
            }
            Engine::Postgres => {
                "-- tow: no-transaction\nCREATE INDEX CONCURRENTLY a_y ON a (y);\nCREATE UNIQUE INDEX CONCURRENTLY a_x ON a (x);"
            }
        };
        database.write(&[("0002_b.up.sql", sql)]);
        let error = database.up().unwrap_err();
        told("half-done", database.engine, &error);
        let row = &migrate::applied(&mut database.open()).unwrap()[&2];
        assert_eq!((row.state, row.statements), (migrate::State::Started, 1));
        // When the rows are right, it goes on behind what is done.
        database.run("DELETE FROM a WHERE y = 'zwei'");
        assert_eq!(database.up().unwrap(), [2]);
        let indexes = database
            .schema()
            .iter()
            .filter(|line| line.contains("a_x") || line.contains("a_y"))
            .count();
        assert_eq!(indexes, 2, "{:?}", database.schema());
    });
}

#[test]
fn a_transaction_where_there_cannot_be_one_and_none_where_nothing_is_sure() {
    on_both(|database| {
        begun(database);
        let (inside, unsure) = match database.engine {
            Engine::Sqlite => ("VACUUM;", "INSERT INTO a VALUES (3, 'c');\nVACUUM;"),
            Engine::Postgres => (
                "CREATE INDEX CONCURRENTLY i ON a (x);\nVACUUM;",
                "INSERT INTO a VALUES (3, 'c');\nCREATE INDEX CONCURRENTLY i ON a (x);",
            ),
        };
        up_fails(
            "not-in-a-transaction",
            database,
            &[("0002_b.up.sql", inside)],
        );
        let unsure = format!("-- tow: no-transaction\n{unsure}");
        up_fails("not-again", database, &[("0002_b.up.sql", unsure.as_str())]);
    });
}

#[test]
fn a_header_with_a_word_that_is_none() {
    on_both(|database| {
        begun(database);
        let sql = "-- why\n-- tow: contarct, lock-timeout 2\nSELECT 1;";
        up_fails("header", database, &[("0002_b.up.sql", sql)]);
    });
}
