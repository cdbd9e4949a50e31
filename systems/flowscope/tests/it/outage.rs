//! A PostgreSQL that dies, comes back, hangs, hangs up, or is not there at all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Database, Instance, Process, Session, eventually};
use crate::http;
use crate::server::{self, Server};
use crate::service::each_is_there_once;

/// What writers are told.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
    enough: AtomicBool,
}

impl Told {
    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn refused(&self) -> usize {
        self.refused.lock().unwrap().len()
    }

    /// Lets writers go on for as long as this is kept, and no longer should the test fail.
    fn until_dropped(&self) -> Enough<'_> {
        Enough(&self.enough)
    }

    /// Writes one trace after another, each once, whatever the answers.
    fn write(&self, session: &Session, writer: usize) {
        for n in 0.. {
            if self.enough.load(Ordering::Relaxed) {
                return;
            }
            let id = format!("w{writer}-{n}");
            let body = json!({ "id": id, "app": "a", "name": "n", "spans": [{ "name": "s" }] });
            let answer = session.post("/api/traces", &body);
            match answer.status {
                201 => self.acknowledged.lock().unwrap().push(id),
                503 => {
                    self.refused.lock().unwrap().push(answer.text);
                    // As any client would, so that the server has a core to come back on.
                    std::thread::sleep(Duration::from_millis(10));
                }
                other => panic!("{other}: {}", answer.text),
            }
        }
    }
}

struct Enough<'a>(&'a AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_server_killed_under_load_takes_nothing_with_it() {
    if !server::is_found() {
        return;
    }
    let server = Server::of_its_own();
    let database = Database::on(&server).with_tables();
    let mut instances = [Instance::ready(&database), Instance::ready(&database)];
    let mut worker = Process::worker(&database);
    let session = instances[0].sign_in();
    let told = Told::default();
    std::thread::scope(|scope| {
        let _until = told.until_dropped();
        for writer in 0..6 {
            let session = instances[writer % 2].session(&session.token);
            let told = &told;
            scope.spawn(move || told.write(&session, writer));
        }
        for _ in 0..3 {
            live_through_a_death(&server, &instances, &told);
        }
    });
    for instance in &mut instances {
        assert!(instance.process.runs());
    }
    let acknowledged = told.acknowledged.into_inner().unwrap();
    each_is_there_once(&database, &acknowledged);
    let refused = told.refused.into_inner().unwrap();
    println!(
        "{} acknowledged, 0 lost, 0 doubled; {} refused",
        acknowledged.len(),
        refused.len()
    );
    assert!(
        refused
            .iter()
            .all(|text| !text.contains("not-to-be-printed"))
    );
    eventually("the worker has caught up", || {
        let counted = database.number("SELECT coalesce(sum(traces), 0)::bigint FROM rollups");
        (counted == database.number("SELECT count(*) FROM traces")).then_some(())
    });
    assert_eq!(session.get("/api/rollups/doubled").json()["doubled"], 0);
    worker.terminate();
    assert!(worker.ended().success());
}

fn live_through_a_death(server: &Server, instances: &[Instance; 2], told: &Told) {
    let before = told.acknowledged();
    eventually("writes", || {
        (told.acknowledged() > before + 100).then_some(())
    });
    server.kill();
    let before = told.refused();
    eventually("refusals", || (told.refused() > before + 10).then_some(()));
    for instance in instances {
        let answer = instance.get("/health");
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json()["dependency"], "database");
        assert!(
            answer.json()["error"]
                .as_str()
                .unwrap()
                .contains("PostgreSQL in")
        );
        assert_eq!(instance.get("/livez").status, 200);
    }
    server.start_again();
    instances.iter().for_each(Instance::becomes_ready);
    let before = told.acknowledged();
    eventually("writes again", || {
        (told.acknowledged() > before + 100).then_some(())
    });
}

#[test]
fn a_connection_that_breaks_between_requests_costs_nobody_an_answer() {
    if !server::is_found() {
        return;
    }
    let server = server::shared();
    let database = Database::on(&server).with_tables();
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    for round in 0..5 {
        hang_up(&database);
        for _ in 0..8 {
            assert_eq!(session.get("/api/traces").status, 200);
        }
        hang_up(&database);
        session.trace("a", &format!("t{round}"));
    }
    assert_eq!(database.number("SELECT count(*) FROM traces"), 5);
}

/// Ends every session but our own, and waits until they are gone.
fn hang_up(database: &Database) {
    let mut conn = database.open();
    let others =
        "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    conn.run(&format!("SELECT pg_terminate_backend(pid) {others}"));
    eventually("no session is left", || {
        // The service looks for new traces all the time, and comes back at once.
        let old = format!(
            "SELECT count(*) {others} AND backend_start < (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())"
        );
        (conn.texts(&old) == ["0"]).then_some(())
    });
}

#[test]
fn a_commit_that_fails_is_not_acknowledged() {
    if !server::is_found() {
        return;
    }
    let database = Database::on(&server::shared()).with_tables();
    database.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'refused at the end'; END $$;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON traces DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW WHEN (new.app = 'refused') EXECUTE FUNCTION refuse();",
    );
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    let refused = json!({ "id": "r", "app": "refused", "name": "n" });
    let answer = session.post("/api/traces", &refused);
    assert_eq!(answer.status, 500, "{}", answer.text);
    session.trace("a", "t1");
    assert_eq!(session.get("/api/traces/r").status, 404);
    assert_eq!(session.get("/api/traces/t1").json()["count"], 1);
}

#[test]
fn a_server_that_hangs_is_said_to_and_waited_for() {
    if !server::is_found() {
        return;
    }
    let server = Server::of_its_own();
    let database = Database::on(&server).with_tables();
    let instance = Instance::ready(&database);
    let session = instance.sign_in();
    let running = Running::stopped(&server);
    let bearer = format!("Authorization: Bearer {}", session.token);
    let headers = [bearer.as_str(), "Connection: close"];
    let body = json!({ "id": "t1", "app": "a", "name": "n" });
    let writing = http::send(
        &session.address,
        "POST",
        "/api/traces",
        &headers,
        Some(&body),
    );
    let answer = instance.get("/health");
    assert_eq!(answer.status, 503);
    assert!(answer.text.contains("no answer within"), "{}", answer.text);
    assert_eq!(instance.get("/livez").status, 200);
    drop(running);
    assert_eq!(http::receive(writing).status, 201);
    instance.becomes_ready();
    assert_eq!(session.get("/api/traces/t1").json()["count"], 1);
}

/// A server that goes on running when this is dropped, though the test may have failed.
struct Running<'a>(&'a Server);

impl<'a> Running<'a> {
    fn stopped(server: &'a Arc<Server>) -> Self {
        server.signal("STOP");
        Self(server)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.signal("CONT");
    }
}

#[test]
fn a_server_that_was_never_there_is_named_without_its_password() {
    // Nothing listens on port 1.
    let url = "postgres://someone:secret@127.0.0.1:1/flowscope";
    let instance = Instance::on_url(url, "demo");
    let answer = instance.get("/health");
    assert_eq!(answer.status, 503);
    assert!(
        answer.text.contains("PostgreSQL at 127.0.0.1:1"),
        "{}",
        answer.text
    );
    assert!(!answer.text.contains("secret"), "{}", answer.text);
    let refused = instance.session("0000").get("/api/traces");
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(instance.get("/livez").status, 200);
}
