//! SIGKILL of other processes than the agent alone, and of the agent at any moment.

use std::time::Duration;

use crate::fixture::{Fixture, STAGING};
use crate::kill::{places, steps};
use crate::load::{Traffic, lost_and_doubled};
use crate::machine::{self, is_alive, members, shims, until};
use crate::whole::{doubled_workers, whole};

const DEPLOY: [&str; 3] = ["deploy", "-e", STAGING];
/// Connections of the load, and so the most requests in flight.
const CONNECTIONS: u64 = 8;

/// One version that serves, one that is warm.
fn served() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.tow(&DEPLOY).expect(0);
    fixture.commit();
    fixture.tow(&DEPLOY).expect(0);
    fixture
}

fn pid_of(fixture: &Fixture, instance: &str) -> u32 {
    members(&fixture.state(STAGING))[instance][0]
}

/// Instances of a service whose version serves.
fn live(fixture: &Fixture, service: &str) -> Vec<String> {
    let status = fixture.status(STAGING);
    let live = status
        .instances
        .iter()
        .filter(|one| one.side == "live" && one.service == service);
    live.map(|one| one.id.to_string()).collect()
}

#[test]
fn agent_and_gateway_killed_together_fail_only_what_is_in_the_gateway() {
    let mut fixture = served();
    let traffic = Traffic::start(&fixture, &fixture.listen(STAGING));
    fixture.commit();
    let places = places("apply", &steps(&fixture, &DEPLOY));
    for place in &places {
        let next = fixture.commit();
        let mut agent = fixture.doomed_agent(STAGING, place);
        let gateway = pid_of(&fixture, "gateway");
        let command = fixture.start(&DEPLOY);
        agent.wait().unwrap();
        machine::kill(gateway);
        fixture.tow(&["status", "-e", STAGING]).expect(0);
        fixture.end(command).expect(0);
        whole(&fixture, STAGING, &next).unwrap();
        traffic.more();
    }
    let report = traffic.stop();
    let (lost, _) = lost_and_doubled(&fixture, &report);
    let requests = &report.requests;
    println!(
        "agent and gateway: {} kills, {} requests, {} failed in the gateway, {} writes, {lost} lost",
        places.len(),
        requests.total,
        requests.failed,
        report.writes.len()
    );
    assert!(
        requests.failed <= CONNECTIONS * places.len() as u64,
        "{:?}",
        requests.failures
    );
    assert_eq!((lost, doubled_workers(&fixture)), (0, 0));
    fixture.down(STAGING);
}

/// Kills the shim of `instance`; what it ran is gone, and the service is back.
fn kill_shim(fixture: &Fixture, instance: &str, version: &str) {
    let state = fixture.state(STAGING);
    let (shim, child) = (shims(&state)[instance][0], pid_of(fixture, instance));
    machine::kill(shim);
    until("the tree of the killed shim is gone", || {
        (!is_alive(child)).then_some(())
    });
    until("it is back", || {
        let now = shims(&state).get(instance)?.first().copied()?;
        (now != shim && members(&state).contains_key(instance)).then_some(())
    });
    whole(fixture, STAGING, version).unwrap();
}

#[test]
fn a_killed_shim_takes_its_tree_with_it_and_the_service_is_back() {
    let fixture = served();
    let traffic = Traffic::start(&fixture, &fixture.listen(STAGING));
    let (webs, workers) = (live(&fixture, "web"), live(&fixture, "worker"));
    let kills = [&webs[0], &workers[0], &webs[1]];
    for instance in kills {
        kill_shim(&fixture, instance, "v2");
        traffic.more();
    }
    let report = traffic.stop();
    let (lost, _) = lost_and_doubled(&fixture, &report);
    let requests = &report.requests;
    println!(
        "shims: {} kills, {} requests, {} failed in the instance, {} writes, {lost} lost",
        kills.len(),
        requests.total,
        requests.failed,
        report.writes.len()
    );
    assert!(
        requests.failed <= CONNECTIONS * 2,
        "{:?}",
        requests.failures
    );
    assert_eq!((lost, doubled_workers(&fixture)), (0, 0));
    // Its listeners go with it, so this one is without load.
    kill_shim(&fixture, "gateway", "v2");
    fixture.down(STAGING);
}

/// Milliseconds after a run's beginning; many when all are asked for.
fn moments(until: u64) -> Vec<u64> {
    let all = std::env::var_os("TOWPATH_KILL_ALL").is_some();
    let step = if all { 37 } else { until / 4 };
    (0..until).step_by(usize::try_from(step).unwrap()).collect()
}

/// Kills the agent `after` so many milliseconds of the run that `arguments` begin.
fn kill_after(fixture: &Fixture, after: u64, arguments: &[&str], code: i32) {
    let status = fixture.status(STAGING);
    let (agent, last) = (status.agent_pid, status.ended.first().map(|run| run.run));
    let command = fixture.start(arguments);
    until("the run begins", || {
        let now = fixture.seen(STAGING)?;
        let ended = now.ended.first().map(|run| run.run);
        (now.run.is_some() || ended != last).then_some(())
    });
    // The moment itself is what is tried; nothing is waited for.
    std::thread::sleep(Duration::from_millis(after));
    machine::kill(agent);
    until("the agent is dead", || (!is_alive(agent)).then_some(()));
    fixture.tow(&["status", "-e", STAGING]).expect(0);
    let said = fixture.end(command);
    // Nobody answers a command whose agent died before it had; the run goes on all the same.
    if !(said.code == 1 && said.err.contains("agent::unreachable")) {
        said.expect(code);
    }
}

/// Ends a load in which nothing may have failed.
fn end_whole(fixture: &Fixture, traffic: Traffic, what: &str, kills: usize) {
    let report = traffic.stop();
    let (lost, doubled) = lost_and_doubled(fixture, &report);
    let requests = &report.requests;
    println!(
        "{what}: {kills} kills, {} requests, {} failed, {} writes, {lost} lost",
        requests.total,
        requests.failed,
        report.writes.len()
    );
    assert_eq!(requests.failed, 0, "{:?}", requests.failures);
    assert_eq!((lost, doubled, doubled_workers(fixture)), (0, 0, 0));
    fixture.down(STAGING);
}

#[test]
fn an_agent_killed_at_any_moment_of_a_deployment_leaves_it_whole() {
    let mut fixture = served();
    let traffic = Traffic::start(&fixture, &fixture.listen(STAGING));
    let moments = moments(1_200);
    for after in &moments {
        fixture.migration();
        let next = fixture.commit();
        kill_after(&fixture, *after, &DEPLOY, 0);
        whole(&fixture, STAGING, &next).unwrap();
    }
    end_whole(
        &fixture,
        traffic,
        "any moment of a deployment",
        moments.len(),
    );
}

#[test]
fn an_agent_killed_at_any_moment_of_an_undo_leaves_it_whole() {
    let mut fixture = served();
    let traffic = Traffic::start(&fixture, &fixture.listen(STAGING));
    let moments = moments(1_600);
    fixture.write("worker-mode", "die");
    for after in &moments {
        fixture.migration();
        fixture.commit();
        kill_after(&fixture, *after, &DEPLOY, 5);
        whole(&fixture, STAGING, "v2").unwrap();
    }
    end_whole(&fixture, traffic, "any moment of an undo", moments.len());
}

#[test]
fn commands_that_come_at_once_find_one_agent() {
    let fixture = served();
    for _ in 0..3 {
        fixture.end_agent(STAGING);
        let commands: Vec<_> = (0..6)
            .map(|_| fixture.start(&["status", "-e", STAGING]))
            .collect();
        for command in commands {
            fixture.end(command).expect(0);
        }
        until("one agent is left", || {
            (machine::agents(&fixture.dir.join("states")).len() == 1).then_some(())
        });
    }
    whole(&fixture, STAGING, "v2").unwrap();
    fixture.down(STAGING);
}
