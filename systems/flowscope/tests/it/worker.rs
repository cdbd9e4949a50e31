//! The worker: one is exact whatever happens to it, two are seen.

use crate::harness::{Database, Engine, Instance, Process, eventually};
use crate::{on_both, server};

/// Traces of two applications, one in each of `seconds` that are over.
fn fill(database: &Database, first: i64, seconds: i64) {
    let mut rows = Vec::new();
    for second in first..first + seconds {
        let at = second * 1000 + 7;
        for (app, duration) in [("a", 10), ("a", 30), ("b", 20)] {
            rows.push(format!(
                "('t{second}', '{app}', 'n', {at}, {at}, {duration}, 2)"
            ));
        }
    }
    let rows = rows.join(",");
    database.run(&format!(
        "INSERT INTO traces (trace_id, app, name, started_at, ingested_at, duration_ms, tokens) VALUES {rows}"
    ));
}

const DOUBLED: &str = "SELECT count(*) - (SELECT count(*) FROM (SELECT DISTINCT app, bucket FROM rollups) AS seen) FROM rollups";

on_both!(
    one_worker_is_exact_though_it_is_killed_again_and_again,
    two_workers_double_every_row,
    what_the_service_stores_is_rolled_up_once,
    a_stop_does_not_wait_for_a_lock_that_another_holds,
);

fn one_worker_is_exact_though_it_is_killed_again_and_again(engine: Engine) {
    const SECONDS: i64 = 1800;
    let database = Database::migrated(engine);
    fill(&database, 1_000_000, SECONDS);
    let mut kills = 0;
    while database.number("SELECT count(*) FROM rollups") < 2 * SECONDS {
        let mut worker = Process::worker(&database);
        // It has just committed and goes on with the next minute: killed a little later each time.
        worker.line();
        for _ in 0..kills {
            std::thread::yield_now();
            database.number("SELECT count(*) FROM users");
        }
        worker.kill();
        kills += 1;
    }
    assert!(kills > 5, "{kills} kills are too few to tell");
    assert_eq!(database.number(DOUBLED), 0);
    assert_eq!(database.number("SELECT count(*) FROM rollups"), 2 * SECONDS);
    assert_eq!(
        database.number("SELECT sum(traces) FROM rollups"),
        3 * SECONDS
    );
    assert_eq!(
        database.number("SELECT sum(tokens) FROM rollups"),
        6 * SECONDS
    );
    let odd = "SELECT count(*) FROM rollups WHERE (app, traces, p50_ms, p95_ms)
               NOT IN (VALUES ('a', 2, 10.0, 30.0), ('b', 1, 20.0, 20.0))";
    assert_eq!(database.number(odd), 0);
}

fn two_workers_double_every_row(engine: Engine) {
    let database = Database::migrated(engine);
    let workers = [Process::worker(&database), Process::worker(&database)];
    fill(&database, 1_000_000, 100);
    eventually("both have done their work", || {
        (database.number("SELECT count(*) FROM rollups") == 400).then_some(())
    });
    let instance = Instance::ready(&database);
    let counted = instance.sign_in().get("/api/rollups/doubled").json();
    assert_eq!(
        (&counted["doubled"], &counted["total"]),
        (&200.into(), &400.into())
    );
    drop(workers);
}

fn what_the_service_stores_is_rolled_up_once(engine: Engine) {
    let database = Database::migrated(engine);
    let instance = Instance::ready(&database);
    let mut worker = Process::worker(&database);
    let session = instance.sign_in();
    for n in 0..30 {
        session.trace("a", &format!("t{n}"));
    }
    eventually("all are rolled up", || {
        (database.number("SELECT coalesce(sum(traces), 0) FROM rollups") == 30).then_some(())
    });
    let listed = session.get("/api/rollups?app=a").json();
    let rows = listed["rollups"].as_array().unwrap();
    assert_eq!(
        rows.iter()
            .map(|row| row["traces"].as_i64().unwrap())
            .sum::<i64>(),
        30
    );
    assert_eq!(session.get("/api/rollups/doubled").json()["doubled"], 0);
    worker.terminate();
    assert!(worker.ended().success());
}

fn a_stop_does_not_wait_for_a_lock_that_another_holds(engine: Engine) {
    let database = Database::migrated(engine);
    let mut holder = database.open();
    let mut worker = Process::worker(&database);
    holder.hold();
    worker.terminate();
    assert!(worker.ended().success());
    holder.run("COMMIT");
}

/// A server goes on with what it was sent last, though the worker that sent it is dead: the next one has to wait for it.
#[test]
fn a_worker_begins_after_what_a_dead_one_still_commits() {
    if !server::is_found() {
        return;
    }
    let database = Database::migrated(Engine::Postgres);
    let mut dead = database.open();
    dead.hold();
    dead.run("INSERT INTO rollup_cursor (id, bucket) VALUES (1, 1000099)");
    let mut worker = Process::early_worker(&database);
    eventually("the next one waits", || {
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        (database.number(waiting) == 1).then_some(())
    });
    dead.run("COMMIT");
    assert!(worker.line().unwrap().ends_with("from second 1000100"));
}
