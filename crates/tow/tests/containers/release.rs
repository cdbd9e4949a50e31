//! Deploying, switching, rolling back and promoting under load; a registry; a planted fault.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use towpath::agent::api::{Begin, Begun, What};
use towpath::agent::{Client, socket};
use towpath::release::Sabotage;

use crate::application::{self, BUILT, application, lost_and_doubled, version};
use crate::engine::Engine;
use crate::fixture::{Fixture, PRODUCTION, STAGING, tow};
use crate::load::Traffic;
use crate::machine::{until, until_ok};

/// Waits until only `expected` answers.
pub fn answers(fixture: &Fixture, listen: &str, expected: &str) {
    let answered = until_ok(|| {
        let all: Vec<_> = (0..4).map(|_| fixture.get(listen, "/version")).collect();
        match all.iter().all(|one| one.as_deref() == Ok(expected)) {
            true => Ok(()),
            false => Err(format!("{all:?} instead of {expected}")),
        }
    });
    answered.unwrap_or_else(|why| panic!("{why}"));
}

fn told(what: &str, fixture: &Fixture, environment: &str, traffic: Traffic) -> u64 {
    let report = traffic.stop();
    let (lost, doubled) = lost_and_doubled(fixture, environment, &report);
    let requests = &report.requests;
    println!(
        "{what}: {} of {} requests failed ({:.0}/s), {lost} of {} writes lost, {doubled} doubled",
        requests.failed,
        requests.total,
        requests.rate,
        report.writes.len()
    );
    assert!(
        requests.total > 100 && report.writes.len() > 20,
        "hardly any load"
    );
    if requests.failed > 0 {
        println!("  {:?}", requests.failures.first());
    }
    assert_eq!((lost, doubled), (0, 0));
    requests.failed
}

#[test]
fn an_image_is_built_switched_to_rolled_back_and_promoted_under_load() {
    let (near, far) = (Engine::with_bridge(), Engine::plain());
    let mut fixture = application(&near, BUILT);
    let first = version(&fixture);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let listen = fixture.listen(STAGING);
    answers(&fixture, &listen, &first);
    let load = Traffic::start(&fixture, &listen);
    let second = fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    answers(&fixture, &listen, &second);
    load.more();
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    answers(&fixture, &listen, &first);
    load.more();
    let failed = told("deployed and rolled back", &fixture, STAGING, load);
    assert_eq!(failed, 0);

    // Another engine has to be brought what no registry has.
    fixture.env = vec![("DOCKER_HOST", far.host())];
    fixture.tow(&["promote", "-e", PRODUCTION]).expect(0);
    let there = fixture.listen(PRODUCTION);
    answers(&fixture, &there, &first);
    let load = Traffic::start(&fixture, &there);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    fixture.tow(&["promote", "-e", PRODUCTION]).expect(0);
    answers(&fixture, &there, &second);
    load.more();
    fixture.tow(&["rollback", "-e", PRODUCTION]).expect(0);
    answers(&fixture, &there, &first);
    load.more();
    let failed = told("promoted and rolled back", &fixture, PRODUCTION, load);
    assert_eq!(failed, 0);
    let ids = |engine: &Engine| engine.ask(&["images", "--all", "--no-trunc", "--quiet"]);
    let (near_ids, far_ids) = (ids(&near), ids(&far));
    let carried = far_ids.lines().filter(|id| near_ids.contains(*id)).count();
    assert_eq!(carried, 2, "{far_ids}\nof\n{near_ids}");

    for (environment, engine) in [(STAGING, &near), (PRODUCTION, &far)] {
        fixture.down(environment);
        assert_eq!(engine.containers(), Vec::<String>::new());
    }
}

#[test]
fn a_version_killed_before_the_switch_is_counted() {
    let engine = Engine::plain();
    let mut fixture = application(&engine, BUILT);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    fixture.end_agent(STAGING);
    let mut agent = rehearsing(&fixture);
    let listen = fixture.seen(STAGING).unwrap().listen.unwrap();
    let load = Traffic::start(&fixture, &listen);
    let client = Client::new(socket(&fixture.state(STAGING)));
    let what = What::Promote {
        release: "r1".parse().unwrap(),
    };
    let begin = Begin {
        sabotage: Some(Sabotage::EarlyKill),
        ..Begin::new(what, "tester".to_owned())
    };
    let _: Begun = fixture.run(client.post("/v1/runs", &begin)).unwrap();
    until("the run goes on", || {
        let status = fixture.seen(STAGING)?;
        (status.run.is_some() || status.live?.name == "r1").then_some(())
    });
    // Its steps are waited for one after the other: engines take their time on a busy machine.
    while let Some(run) = fixture.seen(STAGING).and_then(|status| status.run) {
        assert_eq!(run.failure, None);
        load.more();
    }
    load.more();
    let failed = told(
        "killed before the switch (planted)",
        &fixture,
        STAGING,
        load,
    );
    assert!(failed > 0, "a fault that is planted has to be found");
    fixture.end_agent(STAGING);
    agent.wait().unwrap();
    fixture.down(STAGING);
    assert_eq!(engine.containers(), Vec::<String>::new());
}

/// An agent that accepts planted faults.
fn rehearsing(fixture: &Fixture) -> Child {
    let mut command = Command::new(tow());
    command.args([
        "agent",
        "--app",
        "fixture",
        "--environment",
        STAGING,
        "--rehearsal",
        "--dir",
    ]);
    command.arg(fixture.state(STAGING));
    command.envs(fixture.env.iter().map(|(name, value)| (name, value)));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().unwrap();
    until("it answers", || fixture.seen(STAGING).map(drop));
    child
}

/// A registry on loopback, which engines need no certificate of.
struct Registry(Child, u16);

impl Registry {
    fn start(fixture: &Fixture) -> Registry {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        let dir = fixture.dir.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {:?} }} }}\n\
             http: {{ addr: \"127.0.0.1:{port}\" }}\n",
            dir.display().to_string()
        );
        let config = fixture.dir.join("registry.yml");
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).stdin(Stdio::null());
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the registry answers", || {
            std::net::TcpStream::connect(("127.0.0.1", port))
                .ok()
                .map(drop)
        });
        Registry(child, port)
    }

    /// Pushes what is in the application's folder, as `notes:1`.
    fn push(&self, fixture: &Fixture, engine: &Engine) -> String {
        let name = format!("127.0.0.1:{}/team/notes:1", self.1);
        let repo = fixture.repo().display().to_string();
        engine.ask(&["build", "--quiet", "--tag", &name, &repo]);
        engine.ask(&["push", "--quiet", &name]);
        engine.ask(&["rmi", &name]);
        name
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_tag_that_moves_moves_no_release() {
    let (near, far) = (Engine::plain(), Engine::plain());
    let mut fixture = application(&near, BUILT);
    let registry = Registry::start(&fixture);
    let name = registry.push(&fixture, &near);
    let first = version(&fixture);
    application::manifest(&fixture, &format!("image = {name:?}"));
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    answers(&fixture, &fixture.listen(STAGING), &first);
    let client = Client::new(socket(&fixture.state(STAGING)));
    let stored: Value = fixture.run(client.get("/v1/releases/r1")).unwrap();
    let record: Value = serde_json::from_str(stored["record"].as_str().unwrap()).unwrap();
    let pinned = record["images"]["web"]["reference"].as_str().unwrap();
    let repo = name.trim_end_matches(":1");
    assert!(pinned.starts_with(&format!("{repo}@sha256:")), "{record}");
    let artifacts = record["artifacts"].as_object().unwrap();
    assert!(artifacts.is_empty(), "{artifacts:?} are carried");

    registry.push(&fixture, &near);
    fixture.env = vec![("DOCKER_HOST", far.host())];
    fixture.tow(&["promote", "-e", PRODUCTION]).expect(0);
    answers(&fixture, &fixture.listen(PRODUCTION), &first);
    let same = fixture.tow(&["deploy", "-e", STAGING, "--again"]).expect(0);
    println!("{}", same.err);
    answers(&fixture, &fixture.listen(STAGING), &version(&fixture));

    // The registry is gone: what is here under a tag is not taken for what the tag means.
    drop(registry);
    let refused = fixture.tow(&["deploy", "-e", STAGING, "--again"]).expect(5);
    assert!(refused.err.contains("container::image"), "{}", refused.err);
    for (environment, engine) in [(STAGING, &near), (PRODUCTION, &far)] {
        fixture.down(environment);
        assert_eq!(engine.containers(), Vec::<String>::new());
    }
}
