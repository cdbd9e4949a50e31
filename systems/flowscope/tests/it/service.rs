//! The service as a process: readiness, a graceful end, and a sudden one.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use serde_json::json;

use crate::harness::{Database, Engine, Instance, Session, eventually, file};
use crate::{http, on_both};

on_both!(
    it_is_ready_only_with_its_schema_and_becomes_so_by_itself,
    a_database_that_is_not_there_is_not_created,
    a_stop_answers_what_is_under_way,
    what_was_acknowledged_survives_a_kill,
);

fn it_is_ready_only_with_its_schema_and_becomes_so_by_itself(engine: Engine) {
    let database = Database::empty(engine);
    let instance = Instance::listening(&database);
    let answer = instance.get("/health");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["status"], "unhealthy");
    assert_eq!(answer.json()["error"], "schema: table `users` is missing");
    assert_eq!(instance.get("/livez").status, 200);
    let database = database.with_tables();
    instance.becomes_ready();
    instance.sign_in();
    database.run("DROP TABLE rollup_cursor");
    assert_eq!(instance.get("/health").status, 503);
}

fn a_database_that_is_not_there_is_not_created(engine: Engine) {
    let database = Database::empty(engine);
    take_away(&database);
    let instance = Instance::listening(&database);
    let answer = instance.get("/health");
    assert_eq!(
        (answer.status, &answer.json()["dependency"]),
        (503, &json!("database"))
    );
    let nobody = instance.session("0000");
    assert_eq!(nobody.get("/api/traces").status, 503);
    assert!(!is_there(&database));
}

fn take_away(database: &Database) {
    match database {
        Database::File(folder) => std::fs::remove_file(file(folder)).unwrap(),
        Database::Served(server, name) => {
            server
                .open("postgres")
                .run(&format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

fn is_there(database: &Database) -> bool {
    match database {
        Database::File(folder) => file(folder).exists(),
        Database::Served(server, name) => server.try_open(name).is_some(),
    }
}

fn a_stop_answers_what_is_under_way(engine: Engine) {
    let database = Database::migrated(engine);
    let mut instance = Instance::ready(&database);
    let session = instance.sign_in();
    let bearer = format!("Authorization: Bearer {}", session.token);
    let path = "/api/traces/next?app=quiet&timeout_ms=30000";
    let polling = http::send(&session.address, "GET", path, &[&bearer], None);
    let body = json!({ "id": "late", "app": "a", "name": "n" }).to_string();
    let mut writing = half_a_write(&session.address, &bearer, body.len());
    instance.process.terminate();
    // The poll would last 30 s: its answer says that the signal has arrived.
    assert_eq!(http::receive(polling).status, 204);
    writing.write_all(body.as_bytes()).unwrap();
    assert_eq!(http::receive(writing).status, 201);
    assert!(instance.process.ended().success());
    assert_eq!(database.number("SELECT count(*) FROM traces"), 1);
}

/// A POST without its body, once the service has asked for the body.
fn half_a_write(address: &str, bearer: &str, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /api/traces HTTP/1.1\r\nHost: {address}\r\n{bearer}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[test]
fn a_stop_leaves_one_whole_file() {
    let database = Database::migrated(Engine::Sqlite);
    let mut instance = Instance::ready(&database);
    instance.sign_in().trace("a", "t1");
    instance.process.terminate();
    assert!(instance.process.ended().success());
    let Database::File(folder) = &database else {
        unreachable!()
    };
    let wal = file(folder).with_extension("db-wal");
    assert!(!wal.exists(), "the last connection has checkpointed");
}

fn what_was_acknowledged_survives_a_kill(engine: Engine) {
    let database = Database::migrated(engine);
    let mut instance = Instance::ready(&database);
    let session = instance.sign_in();
    let acknowledged = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (session, acknowledged) = (&session, &acknowledged);
            scope.spawn(move || write_until_it_ends(session, writer, acknowledged));
        }
        eventually("some writes", || {
            (acknowledged.lock().unwrap().len() > 200).then_some(())
        });
        instance.process.kill();
    });
    each_is_there_once(&database, &acknowledged.into_inner().unwrap());
}

/// Checks that each of these traces was kept, and none twice.
pub fn each_is_there_once(database: &Database, acknowledged: &[String]) {
    let mut kept = HashMap::new();
    for id in database.open().texts("SELECT trace_id FROM traces") {
        *kept.entry(id).or_insert(0) += 1;
    }
    for id in acknowledged {
        let rows = kept.get(id).copied().unwrap_or(0);
        assert_eq!(rows, 1, "{id} of {} acknowledged", acknowledged.len());
    }
    let twice = kept.iter().find(|(_, rows)| **rows > 1);
    assert_eq!(twice, None, "though nobody sent it twice");
}

/// Writes one trace after another until an answer is missing.
fn write_until_it_ends(session: &Session, writer: u32, acknowledged: &Mutex<Vec<String>>) {
    let bearer = format!("Authorization: Bearer {}", session.token);
    for n in 0.. {
        let id = format!("w{writer}-{n}");
        let body = json!({ "id": id, "app": "a", "name": "n" });
        let headers = [bearer.as_str(), "Connection: close"];
        let sent = http::try_send(
            &session.address,
            "POST",
            "/api/traces",
            &headers,
            Some(&body),
        );
        match sent.and_then(http::try_receive) {
            Ok(answer) if answer.status == 201 => acknowledged.lock().unwrap().push(id),
            _ => return,
        }
    }
}
