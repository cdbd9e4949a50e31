//! State that is lost or put back: what serves goes on, and is not made worse by looking.

use std::path::PathBuf;

use crate::fixture::{Fixture, STAGING};
use crate::machine::{kill, members, until};

fn files(fixture: &Fixture, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixture.state(STAGING)).unwrap().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path()).collect()
}

#[test]
fn a_gateway_that_lost_its_table_gets_it_back() {
    let mut fixture = Fixture::new();
    fixture.bring(STAGING).expect(0);
    fixture.commit();
    fixture.bring(STAGING).expect(0);
    let listen = fixture.listen(STAGING);
    let version = fixture.get(&listen, "/version").unwrap();
    for damage in ["remove", "garble"] {
        for file in files(&fixture, "gateway.json") {
            match damage {
                "remove" => std::fs::remove_file(file).unwrap(),
                _ if file.ends_with("gateway.json") => std::fs::write(file, "{garb").unwrap(),
                _ => {}
            }
        }
        let before = fixture.status(STAGING).gateway.unwrap().pid;
        kill(before);
        until("the gateway to serve the live version again", || {
            let other = fixture
                .seen(STAGING)?
                .gateway
                .is_some_and(|gateway| gateway.pid != before);
            let answer = fixture.get(&listen, "/version").ok()?;
            (other && answer == version).then_some(())
        });
    }
    fixture.down(STAGING);
}

#[test]
fn an_agent_without_its_journal_stops_nothing() {
    let fixture = Fixture::new();
    fixture.bring(STAGING).expect(0);
    let listen = fixture.listen(STAGING);
    let version = fixture.get(&listen, "/version").unwrap();
    fixture.end_agent(STAGING);
    let running = members(&fixture.state(STAGING));
    let saved = fixture.dir.join("saved");
    std::fs::create_dir(&saved).unwrap();
    for file in files(&fixture, "state.db") {
        std::fs::rename(&file, saved.join(file.file_name().unwrap())).unwrap();
    }
    let said = fixture.tow(&["status", "-e", STAGING]).expect(1);
    assert!(said.err.contains("state::older"), "{}", said.err);
    assert_eq!(fixture.get(&listen, "/version").unwrap(), version);
    assert_eq!(members(&fixture.state(STAGING)), running);
    files(&fixture, "state.db")
        .iter()
        .for_each(|file| std::fs::remove_file(file).unwrap());
    for entry in std::fs::read_dir(&saved).unwrap().flatten() {
        std::fs::rename(entry.path(), fixture.state(STAGING).join(entry.file_name())).unwrap();
    }
    assert_eq!(fixture.status(STAGING).verdict, "serving");
    fixture.down(STAGING);
}

#[test]
fn nobody_else_reads_what_an_environment_holds() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    fixture.bring(STAGING).expect(0);
    for name in [
        "data",
        "backups",
        "blobs",
        "run",
        "logs",
        "state.db",
        "signing.key",
    ] {
        let path = fixture.state(STAGING).join(name);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
    fixture.down(STAGING);
}

#[test]
fn a_link_in_the_place_of_a_database_is_not_followed() {
    let mut fixture = Fixture::new();
    fixture.bring(STAGING).expect(0);
    let target = fixture.dir.join("precious");
    std::fs::write(&target, "precious").unwrap();
    let database = fixture.state(STAGING).join("data/db.db");
    let saved = fixture.dir.join("saved.db");
    std::fs::rename(&database, &saved).unwrap();
    std::os::unix::fs::symlink(&target, &database).unwrap();
    let before = std::fs::metadata(&target).unwrap();
    fixture.commit();
    let said = fixture.bring(STAGING);
    assert!(
        [1, 3, 5].contains(&said.code),
        "{}: {}",
        said.code,
        said.err
    );
    let after = std::fs::metadata(&target).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((before.uid(), before.len()), (after.uid(), after.len()));
    std::fs::remove_file(&database).unwrap();
    std::fs::rename(&saved, &database).unwrap();
    fixture.down(STAGING);
}
