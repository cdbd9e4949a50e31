//! Looking leaves nothing behind, and a stop leaves no more than the data.

use rustix::process::{Pid, Signal, kill_process};
use towpath::agent::api::Status;
use towpath::agent::socket;

use crate::fixture::{Fixture, STAGING};
use crate::machine::{agents, until};
use crate::snapshot::check_said;

#[test]
fn looking_at_what_is_not_there_makes_nothing() {
    let fixture = Fixture::new();
    for command in ["status", "ps", "releases", "logs", "config"] {
        fixture.tow(&[command, "-e", STAGING]).expect(0);
        fixture.tow(&[command, "-e", STAGING, "--json"]).expect(0);
    }
    check_said(
        &fixture,
        "not-there",
        &fixture.tow(&["status", "-e", STAGING]),
    );
    let status: Status = fixture
        .tow(&["status", "-e", STAGING, "--json"])
        .expect(0)
        .json();
    assert_eq!((status.verdict.as_str(), status.agent_pid), ("stopped", 0));
    assert!(!fixture.state(STAGING).exists(), "looking made a state");
    assert!(
        agents(&fixture.dir.join("states")).is_empty(),
        "looking started an agent"
    );
}

#[test]
fn nothing_stays_in_the_runtime_folder_after_down() {
    let fixture = Fixture::new();
    fixture.bring(STAGING).expect(0);
    let runtime = socket(&fixture.state(STAGING)).parent().unwrap().to_owned();
    // An agent that ends alone leaves it to those that run on.
    fixture.end_agent(STAGING);
    assert!(runtime.exists());
    fixture.down(STAGING);
    until("the folder of the sockets is gone", || {
        (!runtime.exists()).then_some(())
    });
}

#[test]
fn an_agent_that_hangs_is_named_with_what_to_do() {
    let fixture = Fixture::new();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let pid = fixture.status(STAGING).agent_pid;
    signal(pid, Signal::STOP);
    let said = fixture.tow(&["status", "-e", STAGING]);
    signal(pid, Signal::CONT);
    let said = said.expect(1).err;
    assert!(said.contains("agent::hangs"), "{said}");
    assert!(said.contains(&format!("`kill -CONT {pid}`")), "{said}");
    // It goes on as if nothing had been.
    let status = fixture.status(STAGING);
    assert_eq!(
        (status.agent_pid, status.verdict.as_str()),
        (pid, "serving")
    );
    fixture.down(STAGING);
}

#[test]
fn what_a_deployment_would_do_is_explained_where_it_would_not_begin() {
    let fixture = Fixture::new();
    let explain = ["plan", "explain", "-e", STAGING];
    for (files, counted) in [
        (1, "1 file is not committed"),
        (2, "2 files are not committed"),
    ] {
        fixture.write(&format!("other-{files}"), "");
        let said = fixture.tow(&explain).expect(0);
        assert!(said.out.contains("would bring in"), "{said:?}");
        assert!(said.err.contains(counted), "{said:?}");
        let refused = fixture.tow(&["deploy", "-e", STAGING]).expect(3);
        assert!(refused.err.contains(counted), "{refused:?}");
    }
}

#[test]
fn where_a_log_is_not_those_that_are_there_are_listed() {
    let fixture = Fixture::new();
    fixture.bring(STAGING).expect(0);
    let said = fixture.tow(&["logs", "nosuch", "-e", STAGING]).expect(2);
    assert!(
        said.err.contains("logs of build, gateway, web, worker"),
        "{said:?}"
    );
    let said = fixture.tow(&["logs", "wep", "-e", STAGING]).expect(2);
    assert!(said.err.contains("did you mean `web`?"), "{said:?}");
    fixture.down(STAGING);
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}
