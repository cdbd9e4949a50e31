//! The worker: one is exact whatever happens to it, two are seen.

use rusqlite::Connection;

use crate::harness::{Database, Instance, Process, eventually};

/// Traces of two applications, one in each of `seconds` that are over.
fn fill(conn: &mut Connection, first: i64, seconds: i64) {
    let batch = conn.transaction().unwrap();
    for second in first..first + seconds {
        for (app, duration) in [("a", 10), ("a", 30), ("b", 20)] {
            batch
                .prepare_cached(
                    "INSERT INTO traces (trace_id, app, name, started_at, ingested_at, duration_ms, tokens)
                     VALUES (?1, ?2, 'n', ?3, ?3, ?4, 2)",
                )
                .unwrap()
                .execute((format!("t{second}"), app, second * 1000 + 7, duration))
                .unwrap();
        }
    }
    batch.commit().unwrap();
}

const DOUBLED: &str = "SELECT count(*) - (SELECT count(*) FROM (SELECT DISTINCT app, bucket FROM rollups)) FROM rollups";

#[test]
fn one_worker_is_exact_though_it_is_killed_again_and_again() {
    const SECONDS: i64 = 1800;
    let database = Database::migrated();
    fill(&mut database.open(), 1_000_000, SECONDS);
    let mut kills = 0;
    while database.number("SELECT count(*) FROM rollups") < 2 * SECONDS {
        let mut worker = Process::worker(&database);
        // It has just committed and goes on with the next minute: killed a little later each time.
        worker.line();
        for _ in 0..kills {
            std::thread::yield_now();
            database.number("SELECT count(*) FROM sqlite_schema");
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

#[test]
fn two_workers_double_every_row() {
    let database = Database::migrated();
    let workers = [Process::worker(&database), Process::worker(&database)];
    fill(&mut database.open(), 1_000_000, 100);
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

#[test]
fn what_the_service_stores_is_rolled_up_once() {
    let database = Database::migrated();
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

#[test]
fn a_stop_does_not_wait_for_a_lock_that_another_holds() {
    let database = Database::migrated();
    let holder = database.open();
    let mut worker = Process::worker(&database);
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    worker.terminate();
    assert!(worker.ended().success());
    holder.execute_batch("COMMIT").unwrap();
}
