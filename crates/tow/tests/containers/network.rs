//! The port of a container, and who may answer on it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::application::{BUILT, application, manifest, version};
use crate::engine::Engine;
use crate::fixture::STAGING;
use crate::machine::until;
use crate::release::answers;

/// Addresses, as `/proc` shows them, that anybody listens on at `port`.
fn listening(port: u16) -> BTreeSet<String> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap());
    let lines = tables.iter().flat_map(|table| table.lines());
    let found = lines
        .filter(|line| line.contains(" 0A "))
        .filter_map(|line| {
            let (address, found) = line.split_whitespace().nth(1)?.rsplit_once(':')?;
            (u16::from_str_radix(found, 16) == Ok(port)).then(|| address.to_owned())
        });
    found.collect()
}

#[test]
fn a_published_port_is_on_loopback_alone() {
    let engine = Engine::with_bridge();
    let mut fixture = application(&engine, BUILT);
    // By `tcp` the engine's proxy would answer before the application does.
    manifest(&fixture, &format!("{BUILT}\nport = 3000"));
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let listen = fixture.listen(STAGING);
    answers(&fixture, &listen, &version(&fixture));
    let status = fixture.status(STAGING);
    for instance in &status.instances {
        let found = listening(instance.port.unwrap());
        assert_eq!(
            found,
            BTreeSet::from(["0100007F".to_owned()]),
            "{instance:?}"
        );
    }
    let second = fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    answers(&fixture, &listen, &second);
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    fixture.down(STAGING);
    assert_eq!(engine.containers(), Vec::<String>::new());
}

#[test]
fn a_container_that_does_not_listen_is_not_ready_though_its_port_accepts() {
    let engine = Engine::with_bridge();
    let mut fixture = application(&engine, BUILT);
    // A worker serves nobody; Docker's own proxy accepts connections for it all the same.
    let deaf = format!("{BUILT}\nrun = \"/app worker\"\nport = 3000");
    manifest(&fixture, &deaf);
    let text = std::fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    let text = text.replace("http = \"/health\"", "tcp = true");
    fixture.write(
        "tow.toml",
        &text.replace("within = \"60s\"", "within = \"20s\""),
    );
    fixture.commit();
    let said = fixture.tow(&["deploy", "-e", STAGING]).expect(5);
    assert!(said.err.contains("nothing listens on 3000"), "{}", said.err);
    assert_eq!(engine.containers(), Vec::<String>::new());
}

#[test]
fn whoever_takes_its_port_does_not_answer_for_it() {
    let engine = Engine::plain();
    let mut fixture = application(&engine, BUILT);
    manifest(&fixture, &format!("{BUILT}\nrun = \"/app worker\""));
    let text = std::fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    fixture.write(
        "tow.toml",
        &text.replace("within = \"60s\"", "within = \"20s\""),
    );
    fixture.commit();
    let running = fixture.start(&["deploy", "-e", STAGING]);
    let port = until("a port is planned", || {
        let status = fixture.seen(STAGING)?;
        let new = status.instances.iter().find(|one| one.side == "new")?;
        new.port
    });
    let (thief, over) = (
        TcpListener::bind(("127.0.0.1", port)).unwrap(),
        AtomicBool::new(false),
    );
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((mut stream, _)) = thief.accept() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        });
        let said = fixture.end(running);
        over.store(true, Ordering::Relaxed);
        // It waits for whoever comes next.
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        said
    });
    let said = said.expect(5);
    assert!(said.err.contains("deploy::port-taken"), "{}", said.err);
    assert_eq!(engine.containers(), Vec::<String>::new());
}
