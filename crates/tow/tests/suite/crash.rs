//! SIGKILL of other processes than the agent alone, and of the agent at any moment.

use std::time::Duration;

use crate::fixture::{Fixture, MANIFEST, STAGING};
use crate::kill::{DEPLOY, ROLLBACK, die_with, places, steps, undone};
use crate::load::{Traffic, lost_and_doubled};
use crate::machine::{self, is_alive, members, shims, until};
use crate::whole::{doubled_workers, whole};

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

/// Kills of an agent and its gateway together, under load.
struct Together {
    fixture: Fixture,
    traffic: Traffic,
    kills: u64,
}

impl Together {
    fn new() -> Together {
        let fixture = served();
        let traffic = Traffic::start(&fixture, &fixture.listen(STAGING));
        Together {
            fixture,
            traffic,
            kills: 0,
        }
    }

    /// The agent dies at `place` of the run that `arguments` begin, and the gateway with it. The run ends with `code`
    /// all the same, and `version` serves.
    fn kill(&mut self, arguments: &[&str], place: &str, code: i32, version: &str) {
        let fixture = &self.fixture;
        let gateway = Some(pid_of(fixture, "gateway"));
        die_with(gateway, fixture, STAGING, arguments, place, code)
            .and_then(|()| whole(fixture, STAGING, version).map(drop))
            .unwrap_or_else(|why| panic!("{place}: {why}"));
        self.traffic.more();
        self.kills += 1;
    }

    /// Only requests that were inside a gateway may have failed.
    fn end(self, what: &str) {
        let report = self.traffic.stop();
        let (lost, _) = lost_and_doubled(&self.fixture, &report);
        let requests = &report.requests;
        println!(
            "agent and gateway, {what}: {} kills, {} requests, {} failed in the gateway, {} writes, {lost} lost",
            self.kills,
            requests.total,
            requests.failed,
            report.writes.len()
        );
        assert!(
            requests.failed <= CONNECTIONS * self.kills,
            "{:?}",
            requests.failures
        );
        assert_eq!((lost, doubled_workers(&self.fixture)), (0, 0));
        self.fixture.down(STAGING);
    }
}

#[test]
fn a_deployment_goes_on_though_agent_and_gateway_are_killed_together() {
    let mut together = Together::new();
    together.fixture.commit();
    for place in places("apply", &steps(&together.fixture, &DEPLOY)) {
        let next = together.fixture.commit();
        together.kill(&DEPLOY, &place, 0, &next);
    }
    together.end("deploy");
}

#[test]
fn an_undo_goes_on_though_agent_and_gateway_are_killed_together() {
    let mut together = Together::new();
    together.fixture.write("worker-mode", "die");
    together.fixture.migration();
    together.fixture.commit();
    for place in places("undo", &undone(&together.fixture, &DEPLOY)) {
        together.fixture.migration();
        together.fixture.commit();
        together.kill(&DEPLOY, &place, 5, "v2");
    }
    together.end("undo of a deployment");
}

#[test]
fn a_roll_back_goes_on_though_agent_and_gateway_are_killed_together() {
    let mut together = Together::new();
    for place in places("apply", &steps(&together.fixture, &ROLLBACK)) {
        let back = format!("v{}", together.fixture.version - 1);
        together.kill(&ROLLBACK, &place, 0, &back);
        // What served before was retired: there is nothing to go back to any more.
        for _ in 0..2 {
            together.fixture.commit();
            together.fixture.tow(&DEPLOY).expect(0);
        }
    }
    together.end("roll-back");
}

#[test]
fn an_undo_of_a_roll_back_goes_on_though_agent_and_gateway_are_killed_together() {
    let mut together = Together::new();
    std::fs::write(together.fixture.data("worker-dies-v1"), "").unwrap();
    for place in places("undo", &undone(&together.fixture, &ROLLBACK)) {
        together.kill(&ROLLBACK, &place, 5, "v2");
    }
    together.end("undo of a roll-back");
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

/// Process ids of workers by what they wrote themselves, the last one last.
fn workers(fixture: &Fixture) -> Vec<u32> {
    let text = std::fs::read_to_string(fixture.data("worker")).unwrap_or_default();
    let starts = text.lines().filter_map(|line| line.strip_prefix("start "));
    starts
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .collect()
}

#[test]
fn a_worker_that_has_cleared_its_environment_is_not_doubled_by_a_killed_shim() {
    let hidden = "env -i DATA=$DATA setsid APP worker & exec sleep 100000";
    let fixture = Fixture::with(&MANIFEST.replace("APP worker", hidden));
    fixture.tow(&DEPLOY).expect(0);
    let first = until("the worker starts", || workers(&fixture).last().copied());
    let worker = live(&fixture, "worker").remove(0);
    kill_shim(&fixture, &worker, "v1");
    let second = until("the next worker starts", || {
        workers(&fixture)
            .last()
            .copied()
            .filter(|pid| *pid != first)
    });
    assert!(!is_alive(first), "it survives the sweep");
    assert_eq!(doubled_workers(&fixture), 0);
    machine::kill(shims(&fixture.state(STAGING))[&worker][0]);
    fixture.down(STAGING);
    assert!(!is_alive(second), "it survives `tow down`");
    let left: Vec<u32> = workers(&fixture)
        .into_iter()
        .filter(|pid| is_alive(*pid))
        .collect();
    assert_eq!(left, [0; 0], "left after `tow down`");
}
