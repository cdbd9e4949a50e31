//! Another build of the program takes over agent and gateway, under load.

use std::path::Path;

use towpath::agent::api::Status;

use crate::fixture::{Fixture, STAGING, Said, example, tow};
use crate::load::{Traffic, lost_and_doubled};
use crate::machine::{ended_children, members, until};
use crate::whole::{doubled_workers, whole};

fn upgrade(fixture: &Fixture, program: &Path) -> Status {
    let mut command = fixture.command(program, &["server", "upgrade", "-e", STAGING, "--json"]);
    let output = command.output().unwrap();
    let said = Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    said.expect(0).json()
}

#[test]
fn agent_and_gateway_become_another_build_and_again_the_first_without_a_failed_request() {
    let mut fixture = Fixture::new();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let before = fixture.status(STAGING);
    let traffic = Traffic::start(&fixture, &fixture.listen(STAGING));
    let instances = members(&fixture.state(STAGING));
    for (program, version) in [
        (example("next"), "next"),
        (tow(), env!("CARGO_PKG_VERSION")),
    ] {
        let after = upgrade(&fixture, &program);
        assert_eq!(after.version, version);
        assert_eq!(
            after.gateway.map(|gateway| gateway.version).as_deref(),
            Some(version)
        );
        assert_eq!(
            after.agent_pid, before.agent_pid,
            "the agent stays the same process"
        );
        whole(&fixture, STAGING, "v1").unwrap();
        traffic.more();
    }
    let next = fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    whole(&fixture, STAGING, &next).unwrap();
    let now = members(&fixture.state(STAGING));
    let kept = instances.iter().filter(|(id, _)| id.starts_with("web"));
    for (id, pids) in kept {
        assert_eq!(now.get(id), Some(pids), "{id} was started again");
    }
    // Retires the first version, whose shims an earlier program had started.
    fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    until("the agent waits for the children it inherited", || {
        ended_children(before.agent_pid).is_empty().then_some(())
    });
    let report = traffic.stop();
    let (lost, doubled) = lost_and_doubled(&fixture, &report);
    let requests = &report.requests;
    println!(
        "upgrade: 2 upgrades, {} requests, {} failed, {} writes, {lost} lost",
        requests.total,
        requests.failed,
        report.writes.len()
    );
    assert_eq!(requests.failed, 0, "{:?}", requests.failures);
    assert_eq!((lost, doubled, doubled_workers(&fixture)), (0, 0, 0));
    fixture.down(STAGING);
}
