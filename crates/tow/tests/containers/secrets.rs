//! A secret comes into a container, and is rotated there, as in any service.

use std::collections::BTreeSet;

use crate::application::{BUILT, application, lost_and_doubled};
use crate::engine::Engine;
use crate::fixture::{Fixture, STAGING};
use crate::kills::{keepers, whole};
use crate::load::Traffic;
use crate::machine::{self, until_ok};
use crate::trace::{files, processes, traces};

const OLD: &str = "the first key, quoted \"77\"";

fn secret(engine: &Engine) -> Fixture {
    let mut fixture = application(engine, &format!("{BUILT}\nsecrets = [\"KEY\"]"));
    let home = fixture.dir.join("config");
    fixture.env.push(("XDG_CONFIG_HOME", home));
    let manifest = std::fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    let table = "[secrets]\nKEY = { kind = \"jwt\", overlap = \"1s\" }\n";
    fixture.write("tow.toml", &format!("{manifest}\n{table}"));
    fixture.commit();
    let set = ["secrets", "set", "KEY", "-e", STAGING];
    fixture.tow_with(&set, OLD).expect(0);
    fixture.commit();
    fixture
}

/// What it was given is in its own processes' environment and its keeper's, and nowhere else that is ours.
fn is_nowhere_else(fixture: &Fixture, engine: &Engine, value: &str) {
    let traces = traces(value);
    let mut found = Vec::new();
    let looked_at = files(&fixture.dir, &traces, &mut found);
    let containers = engine.ask(&["ps", "--quiet", "--no-trunc"]);
    let of = |id: &str| engine.ask(&["inspect", "--format", "{{.State.Pid}}", id]);
    let inside = containers
        .split_whitespace()
        .map(|id| of(id).parse().unwrap());
    let allowed: Vec<u32> = keepers(fixture).into_values().chain(inside).collect();
    let having = processes(&traces, &allowed, &mut found);
    println!(
        "{} traces in {looked_at} files, and in the environment of {having} processes that should have it",
        found.len()
    );
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(having as usize, allowed.len(), "{allowed:?}");
}

fn given(fixture: &Fixture, listen: &str) -> BTreeSet<String> {
    let asked = (0..8).map(|_| fixture.get(listen, "/key").unwrap());
    asked.collect()
}

#[test]
fn a_container_is_given_its_secrets_and_they_are_rotated_under_load() {
    let engine = Engine::plain();
    let fixture = secret(&engine);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let listen = fixture.listen(STAGING);
    assert_eq!(given(&fixture, &listen), [format!("{OLD} ")].into());
    is_nowhere_else(&fixture, &engine, OLD);
    let logs = fixture.tow(&["logs", "web", "-e", STAGING]).expect(0);
    assert!(logs.out.contains("the key is"), "{}", logs.out);

    // Whoever keeps a container may die: the next has the values too, and goes on with what is there.
    let name = whole(&fixture, &engine).instances[0].id.0.clone();
    let container = engine.of(&name);
    machine::kill(keepers(&fixture)[&name]);
    whole(&fixture, &engine);
    assert_eq!(engine.of(&name), container);

    let load = Traffic::start(&fixture, &listen);
    let rotate = ["secrets", "rotate", "KEY", "-e", STAGING];
    fixture.tow(&rotate).expect(0);
    let new = fixture
        .tow(&["secrets", "get", "KEY", "-e", STAGING])
        .expect(0);
    let new = new.out.trim_end();
    assert_eq!(given(&fixture, &listen), [format!("{new} {OLD}")].into());
    fixture.tow(&[&rotate[..], &["--wait"]].concat()).expect(0);
    assert_eq!(given(&fixture, &listen), [format!("{new} ")].into());
    load.more();
    let report = load.stop();
    let (lost, doubled) = lost_and_doubled(&fixture, STAGING, &report);
    let requests = &report.requests;
    println!(
        "rotated: {} of {} requests failed ({:.0}/s), {lost} of {} writes lost, {doubled} doubled",
        requests.failed,
        requests.total,
        requests.rate,
        report.writes.len()
    );
    let failed = requests.failed;
    assert_eq!(
        (failed, lost, doubled),
        (0, 0, 0),
        "{:?}",
        requests.failures
    );
    is_nowhere_else(&fixture, &engine, new);

    // One that starts again because its shim was killed has what counts now.
    let name = whole(&fixture, &engine).instances[0].id.0.clone();
    let container = engine.of(&name);
    machine::kill(machine::shims(&fixture.state(STAGING))[&name][0]);
    until_ok(|| {
        let now = engine.of(&name);
        let is_new = !now.is_empty() && now != container;
        is_new.then_some(()).ok_or(now)
    })
    .unwrap();
    whole(&fixture, &engine);
    assert_eq!(given(&fixture, &listen), [format!("{new} ")].into());
    fixture.down(STAGING);
    assert_eq!(engine.containers(), Vec::<String>::new());
}

#[test]
fn a_name_that_the_engines_client_takes_for_its_own_is_refused() {
    let engine = Engine::plain();
    let fixture = application(&engine, &format!("{BUILT}\nsecrets = [\"HTTP_PROXY\"]"));
    let checked = fixture.tow(&["check"]).expect(3);
    assert!(
        format!("{checked:?}").contains("config::secret-name"),
        "{checked:?}"
    );
}
