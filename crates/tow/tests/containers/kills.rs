//! Whoever has a part in a container is killed in turn.

use std::collections::BTreeMap;

use towpath::agent::api::Status;

use crate::application::{BUILT, application, lost_and_doubled, version};
use crate::engine::Engine;
use crate::fixture::{Fixture, STAGING};
use crate::load::Traffic;
use crate::machine::{self, until, until_ok};
use crate::release::answers;

/// The programs of ours that keep containers, by instance.
pub fn keepers(fixture: &Fixture) -> BTreeMap<String, u32> {
    let status = fixture.status(STAGING);
    let of = |one: &towpath::agent::api::InstanceStatus| Some((one.id.0.clone(), one.pid?));
    status.instances.iter().filter_map(of).collect()
}

/// The engine's client below a keeper.
fn client_of(keeper: u32) -> u32 {
    let children = format!("/proc/{keeper}/task/{keeper}/children");
    until("the keeper has a client", || {
        let text = std::fs::read_to_string(&children).unwrap_or_default();
        text.split_whitespace().next()?.parse().ok()
    })
}

/// Waits until exactly the live instances run, in one container each, and answer.
pub fn whole(fixture: &Fixture, engine: &Engine) -> Status {
    let look = || {
        let status = fixture.seen(STAGING).ok_or("no agent answers")?;
        let wanted: Vec<String> = status
            .instances
            .iter()
            .map(|one| one.id.0.clone())
            .collect();
        let found = engine.containers();
        match status.verdict == "serving" && found == wanted {
            true if status.instances.iter().all(|one| one.state == "ready") => Ok(status),
            _ => Err(format!(
                "{}: {:?}, containers {found:?}",
                status.verdict, status.instances
            )),
        }
    };
    until_ok(look).unwrap_or_else(|why| panic!("{why}"))
}

/// Kills it; without its engine a deployment is refused, and what runs goes on.
fn kill(victim: &str, fixture: &Fixture, engine: &mut Engine, before: &Status, load: &Traffic) {
    let name = &before.instances[0].id.0;
    match victim {
        "agent" => {
            machine::kill(before.agent_pid);
            until("it is gone", || {
                (!machine::is_alive(before.agent_pid)).then_some(())
            });
            fixture.status(STAGING);
        }
        "client" => machine::kill(client_of(keepers(fixture)[name])),
        "keeper" => machine::kill(keepers(fixture)[name]),
        "shim" => {
            let shims = machine::shims(&fixture.state(STAGING));
            machine::kill(shims[name][0]);
        }
        "container" => drop(engine.ask(&["kill", &engine.of(name)])),
        _ => {
            engine.kill();
            load.more();
            let without = load.failed();
            println!("engine away: {without} of {} requests failed", load.total());
            assert_eq!(without, 0, "what runs goes on without its engine");
            let refused = fixture.tow(&["deploy", "-e", STAGING, "--again"]).expect(1);
            assert!(
                refused.err.contains("container::no-engine"),
                "{}",
                refused.err
            );
            assert!(
                refused.err.contains("nothing was touched"),
                "{}",
                refused.err
            );
            engine.up();
        }
    }
}

#[test]
fn whoever_is_killed_leaves_one_container_each() {
    let mut engine = Engine::plain();
    let fixture = application(&engine, BUILT);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let listen = fixture.listen(STAGING);
    let expected = version(&fixture);
    let kills: [(&str, bool); 6] = [
        ("agent", true),
        ("client", true),
        ("keeper", true),
        ("shim", false),
        ("container", false),
        ("engine", false),
    ];
    for (victim, must_be_zero) in kills {
        let before = whole(&fixture, &engine);
        let name = before.instances[0].id.0.clone();
        let container = engine.of(&name);
        let load = Traffic::start(&fixture, &listen);
        kill(victim, &fixture, &mut engine, &before, &load);
        load.more();
        until_ok(|| {
            let now = engine.of(&name);
            match (must_be_zero, now == container) {
                (true, true) => Ok(()),
                (false, false) if !now.is_empty() => Ok(()),
                _ => Err(format!(
                    "after the {victim} was killed: {container} became {now}"
                )),
            }
        })
        .unwrap_or_else(|why| panic!("{why}"));
        whole(&fixture, &engine);
        answers(&fixture, &listen, &expected);
        load.more();
        let report = load.stop();
        let (lost, doubled) = lost_and_doubled(&fixture, STAGING, &report);
        println!(
            "{victim} killed: {} of {} requests failed ({:.0}/s), {lost} of {} writes lost",
            report.requests.failed,
            report.requests.total,
            report.requests.rate,
            report.writes.len()
        );
        assert_eq!((lost, doubled), (0, 0));
        if must_be_zero {
            assert_eq!(
                report.requests.failed,
                0,
                "{:?}",
                report.requests.failures.first()
            );
        }
    }
    fixture.down(STAGING);
    assert_eq!(engine.containers(), Vec::<String>::new());
}
