//! What is PostgreSQL's own: servers and sessions that are killed, indexes built beside writers, rights.

use std::sync::Arc;
use std::time::Duration;

use towpath::migrate::{self, Engine, Error, Options, State};
use towpath::resource::Connection;

use crate::both::ONE;
use crate::database::{Database, options};
use crate::server::{Server, kill_backend, until};

fn database() -> Option<Database> {
    let database = Database::of(Engine::Postgres)?;
    database.write(&ONE);
    database.up().unwrap();
    database.run("INSERT INTO a SELECT n, 'y' FROM generate_series(1, 100) n");
    Some(database)
}

fn of_own_server() -> Option<(Arc<Server>, Database)> {
    let server = Arc::new(Server::own()?);
    let database = Database::on(Engine::Postgres, Some(server.clone()));
    database.write(&ONE);
    database.up().unwrap();
    database.run("INSERT INTO a SELECT n, 'y' FROM generate_series(1, 100) n");
    Some((server, database))
}

/// The server process of a runner, once it runs something like that.
fn backend(server: &Server, like: &str) -> i32 {
    until("the statement", || {
        let mut root = server.try_connect("postgres", "postgres")?;
        let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tow/migrate' AND query LIKE $1 AND state = 'active'";
        Some(root.query_opt(sql, &[&like]).ok()??.get(0))
    })
}

const SLOW: &str = "UPDATE a SET y = 'new';\nCREATE TABLE b (x INTEGER);\nSELECT pg_sleep(600);";

#[test]
fn a_backend_killed_in_the_middle_leaves_nothing() {
    let Some((server, database)) = of_own_server() else {
        return;
    };
    database.write(&[("0002_b.up.sql", SLOW)]);
    let before = database.schema();
    let error = std::thread::scope(|scope| {
        let runner = scope.spawn(|| database.up());
        kill_backend(backend(&server, "%pg_sleep(600)%"));
        runner.join().unwrap().expect_err("its backend is gone")
    });
    assert!(
        error.to_string().contains("broke") || error.to_string().contains("terminat"),
        "{error}"
    );
    server.begins_anew();
    assert_eq!(database.schema(), before);
    assert_eq!(
        database.ask("SELECT count(*) FROM a WHERE y = 'new'"),
        ["0"]
    );
    database.write(&[("0002_b.up.sql", "CREATE TABLE b (x INTEGER);")]);
    assert_eq!(database.up().unwrap(), [2]);
}

#[test]
fn a_server_killed_in_the_middle_leaves_nothing() {
    let Some((server, database)) = of_own_server() else {
        return;
    };
    database.write(&[("0002_b.up.sql", SLOW)]);
    let before = database.schema();
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| database.up());
        backend(&server, "%pg_sleep(600)%");
        server.kill();
        runner.join().unwrap().expect_err("its server is gone");
    });
    server.start();
    assert_eq!(database.schema(), before);
    assert_eq!(
        database.ask("SELECT count(*) FROM a WHERE y = 'y'"),
        ["100"]
    );
    database.write(&[("0002_b.up.sql", "CREATE TABLE b (x INTEGER);")]);
    assert_eq!(database.up().unwrap(), [2]);
}

#[test]
fn an_index_whose_build_broke_off_is_dropped_and_built_again() {
    let Some((server, database)) = of_own_server() else {
        return;
    };
    database.write(&[(
        "0002_i.up.sql",
        "-- tow: no-transaction\nCREATE INDEX CONCURRENTLY \"A x\" ON a (x);",
    )]);
    // A writer that does not end keeps the build waiting.
    let Connection::Postgres(mut writer) = database.open() else {
        return;
    };
    writer
        .batch_execute("BEGIN; INSERT INTO a VALUES (0, 'w')")
        .unwrap();
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| database.up());
        kill_backend(backend(&server, "CREATE INDEX CONCURRENTLY%"));
        runner.join().unwrap().expect_err("its backend is gone");
    });
    drop(writer);
    server.begins_anew();
    let row = &migrate::applied(&mut database.open()).unwrap()[&2];
    assert_eq!((row.state, row.applied_ms), (State::Started, 0));
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(database.ask(invalid), ["1"]);
    assert_eq!(database.up().unwrap(), [2]);
    assert_eq!(database.ask(invalid), ["0"]);
    assert!(
        database
            .schema()
            .iter()
            .any(|line| line.contains("\"A x\""))
    );
}

#[test]
fn what_nobody_can_tell_is_left_to_a_person() {
    let Some(database) = database() else { return };
    database.write(&[(
        "0002_t.up.sql",
        "-- tow: no-transaction\nINSERT INTO a VALUES (7, 'seven');",
    )]);
    let all = database.load().unwrap();
    // As a runner leaves it that ended in the middle.
    database.run(&format!(
        "INSERT INTO towpath_migrations VALUES (2, 't', '{}', 0, 'expand', 'started', 0, 1)",
        all[1].checksum()
    ));
    let error = database.up().unwrap_err();
    crate::snapshot::told("unfinished", Engine::Postgres, &error);
    assert_eq!(
        migrate::baseline(&mut database.open(), &all, 2, &options()).unwrap(),
        [2]
    );
    assert!(database.up().unwrap().is_empty());
}

#[test]
fn what_is_taken_back_outside_of_transactions_has_the_same_time_outs() {
    let Some(database) = database() else { return };
    let header = "-- tow: no-transaction, lock-timeout 2s, statement-timeout 3s";
    let sql = "CREATE TABLE IF NOT EXISTS had AS SELECT current_setting('lock_timeout') AS lock, current_setting('statement_timeout') AS statement;";
    database.write(&[
        ("0002_b.up.sql", "CREATE TABLE b (x INTEGER);"),
        ("0002_b.down.sql", &format!("{header}\n{sql}")),
    ]);
    assert_eq!(database.up().unwrap(), [2]);
    let all = database.load().unwrap();
    migrate::down(&mut database.open(), &all, &[2], &options()).unwrap();
    assert_eq!(
        database.ask("SELECT lock || ' ' || statement FROM had"),
        ["2s 3s"]
    );
}

#[test]
fn sessions_that_an_agent_has_left_are_ended() {
    let Some(database) = database() else { return };
    let Connection::Postgres(mut left) = database.open() else {
        return;
    };
    left.batch_execute("BEGIN; ALTER TABLE a ADD COLUMN z INTEGER")
        .unwrap();
    let Connection::Postgres(mut ours) = database.open() else {
        return;
    };
    assert_eq!(migrate::end_survivors(&mut ours, "tow/migrate").unwrap(), 1);
    assert!(left.batch_execute("SELECT 1").is_err());
    ours.batch_execute("ALTER TABLE a ADD COLUMN z INTEGER")
        .unwrap();
}

#[test]
fn a_lock_that_is_given_up_soon_is_waited_for() {
    let Some(database) = database() else { return };
    database.write(&[("0002_b.up.sql", "ALTER TABLE a ADD COLUMN z INTEGER;")]);
    let all = database.load().unwrap();
    let Connection::Postgres(mut other) = database.open() else {
        return;
    };
    other
        .batch_execute("BEGIN; DELETE FROM a WHERE x = 1")
        .unwrap();
    let patient = Options {
        lock_timeout: Duration::from_millis(50),
        tries: 9,
        ..options()
    };
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| migrate::up(&mut database.open(), &all, None, &patient));
        let server = database.server.as_ref().unwrap();
        backend(server, "ALTER TABLE%");
        drop(other);
        assert_eq!(runner.join().unwrap().unwrap(), [2]);
    });
}

#[test]
fn extensions_need_rights_and_a_package() {
    let Some(database) = database() else { return };
    let server = database.server.as_ref().unwrap();
    let known: Vec<String> = server
        .root("postgres")
        .query("SELECT name FROM pg_available_extensions", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    for (name, says) in [
        ("no_such_extension", "install its package"),
        ("file_fdw", "have an administrator"),
    ] {
        if name == "file_fdw" && !known.iter().any(|known| known == name) {
            eprintln!("left out: {name} is not installed");
            continue;
        }
        database.write(&[("0002_e.up.sql", &format!("CREATE EXTENSION {name};"))]);
        let error = database.up().unwrap_err();
        let shown = error.diagnostic("db").render(false);
        assert!(shown.contains(says), "{shown}");
    }
    if known.iter().any(|known| known == "pg_trgm") {
        database.write(&[
            ("0002_e.up.sql", "CREATE EXTENSION pg_trgm;"),
            ("0002_e.down.sql", "DROP EXTENSION pg_trgm;"),
        ]);
        let all = database.load().unwrap();
        let tried = migrate::try_out(&mut database.open(), &all, None, &options()).unwrap();
        assert_eq!(tried.one_way, None);
        // What the extension brings is not the migration's.
        assert_eq!(tried.difference.len(), 1, "{:?}", tried.difference);
    }
}

#[test]
fn row_level_security_neither_stands_in_the_way_nor_leaves_rows_out_silently() {
    let Some(database) = database() else { return };
    let sql = "ALTER TABLE a ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON a USING (y = current_setting('app.tenant', true));
        UPDATE a SET y = 'b';";
    database.write(&[("0002_r.up.sql", sql)]);
    assert_eq!(database.up().unwrap(), [2]);
    assert_eq!(
        database.ask("SELECT count(*) FROM a WHERE y = 'b'"),
        ["100"]
    );
    database.write(&[
        ("0003_f.up.sql", "ALTER TABLE a FORCE ROW LEVEL SECURITY;"),
        ("0004_u.up.sql", "UPDATE a SET y = 'c';"),
    ]);
    let error = database.up().unwrap_err();
    let shown = error.diagnostic("db").render(false);
    assert!(
        matches!(&error, Error::Sql(failed) if failed.version == 4),
        "{shown}"
    );
    assert!(shown.contains("row-level security"), "{shown}");
}

#[test]
fn settings_and_roles_of_one_migration_are_gone_in_the_next() {
    let Some(database) = database() else { return };
    database.write(&[
        ("0002_s.up.sql", "CREATE SCHEMA side; SET search_path = side; SET lock_timeout = 1; CREATE TABLE t (x INTEGER);"),
        ("0003_t.up.sql", "CREATE TABLE u (x INTEGER);"),
    ]);
    assert_eq!(database.up().unwrap(), [2, 3]);
    let tables = "SELECT schemaname || '.' || tablename FROM pg_tables WHERE tablename IN ('t', 'u', 'towpath_migrations') ORDER BY 1";
    assert_eq!(
        database.ask(tables),
        ["public.towpath_migrations", "public.u", "side.t"]
    );
    let name = database.ask("SELECT current_setting('application_name')");
    assert_eq!(name, ["tow/migrate"]);
}
