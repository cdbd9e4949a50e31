//! Migrations that take longer than applications wait for a lock, and what must not be migrated at all just now.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use towpath::agent::api::{Begin, Begun, What};
use towpath::agent::{Client, socket};
use towpath::load::FailureKind;
use towpath::release::{Migrating, Tree};

use crate::fixture::{Fixture, STAGING};
use crate::load::{Traffic, lost_and_doubled};
use crate::machine::until_within;
use crate::whole::whole;

/// A query that keeps a core busy for that many seconds here, as far as a shorter one tells.
fn busy(seconds: f64) -> String {
    let query = |rows: f64| {
        format!(
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows:.0}) SELECT max(n) AS n FROM c"
        )
    };
    let db = Connection::open_in_memory().unwrap();
    let mut rows = 100_000.0;
    loop {
        let begun = Instant::now();
        db.query_row(&query(rows), (), |row| row.get::<_, i64>(0))
            .unwrap();
        let took = begun.elapsed().as_secs_f64();
        if took > 0.5 {
            return query(rows * seconds / took);
        }
        rows *= 2.0;
    }
}

fn is_applied(fixture: &Fixture) -> bool {
    let file = fixture.state(STAGING).join("data/db.db");
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'slow'";
    let found = Connection::open(file).and_then(|db| db.query_row(sql, (), |row| row.get(0)));
    found.unwrap_or(0) == 1
}

#[test]
fn an_expansion_that_takes_long_is_applied_while_requests_wait() {
    let mut fixture = Fixture::new();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let listen = fixture.listen(STAGING);
    let up = format!("CREATE TABLE slow AS {};\n", busy(9.0));
    fixture.write("migrations/0001_slow.up.sql", &up);
    fixture.write("migrations/0001_slow.down.sql", "DROP TABLE slow;\n");
    let version = fixture.commit();
    let traffic = Traffic::start(&fixture, &listen);
    let deploy = fixture.start(&["deploy", "-e", STAGING, "--json"]);
    // Trying it out comes first, and on a busy machine that takes longer than anything else is waited for.
    until_within(Duration::from_secs(300), "the migration", || {
        let run = fixture.seen(STAGING)?.run?;
        (run.step? == "migrate:db" && !is_applied(&fixture)).then_some(())
    });
    // Asked while it is at work, answered when it is over, by the version that was there before.
    let answered = fixture.get(&listen, "/version");
    assert!(is_applied(&fixture), "nobody waited: {answered:?}");
    assert_eq!(answered.as_deref(), Ok("v1"));
    let course: serde_json::Value = fixture.end(deploy).expect(0).json();
    let steps = course["steps"].as_array().unwrap().iter();
    let steps: Vec<&str> = steps.filter_map(|step| step["step"].as_str()).collect();
    let at = |name: &str| steps.iter().position(|step| *step == name);
    assert!(at("hold") < at("migrate:db"), "{steps:?}");
    assert!(at("migrate:db") < at("resume"), "{steps:?}");
    assert!(at("resume") < at("launch:web"), "{steps:?}");
    whole(&fixture, STAGING, &version).unwrap();
    traffic.more();
    let report = traffic.stop();
    let (lost, doubled) = lost_and_doubled(&fixture, &report);
    // A client has ten seconds of patience, and on a busy machine the migration takes longer than it was made for.
    let gave_up = report.requests.failed_by.get(&FailureKind::TimeOut);
    let gave_up = gave_up.copied().unwrap_or(0);
    let failed = report.requests.failed - gave_up;
    println!(
        "a slow expansion: {failed} of {} requests failed, {gave_up} more gave up after 10 s, {lost} of {} writes lost",
        report.requests.total,
        report.writes.len()
    );
    assert_eq!((failed, lost, doubled), (0, 0, 0));
    fixture.down(STAGING);
}

#[test]
fn a_contraction_of_a_tree_is_refused_under_a_release_that_does_not_know_it() {
    let fixture = Fixture::new();
    fixture.migration();
    let mut fixture = fixture;
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let sql = "-- tow: contract\nCREATE TABLE only_new (x);\n";
    fixture.write("migrations/9000_contract.up.sql", sql);
    let root = fixture.repo();
    let tree = Tree {
        manifest: std::fs::read_to_string(root.join("tow.toml")).unwrap(),
        root,
    };
    let what = What::Migrate {
        how: Migrating::Up,
        resource: None,
        tree: Some(tree),
    };
    let client = Client::new(socket(&fixture.state(STAGING)));
    let begin = Begin::new(what, "test".to_owned());
    let begun: Result<Begun, _> = fixture.run(client.post("/v1/runs", &begin));
    let trouble = begun.expect_err("a refusal").into_trouble();
    assert_eq!(
        (trouble.exit, trouble.diagnostic.code.as_ref()),
        (4, "migrate::needed")
    );
    assert!(trouble.diagnostic.message.contains("r1"), "{trouble:?}");
    fixture.down(STAGING);
}
