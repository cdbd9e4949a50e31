//! What a server starts when it comes up, with real agents: kills, and the machine's own end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal};
use towpath::agent::socket;

use crate::fixture::{Fixture, PRODUCTION, STAGING, tow};
use crate::machine::{self, agents, everything, is_alive, members, shims, until};
use crate::whole::whole;

/// `tow server run`; killed when dropped, before the fixture looks for what is left.
struct Boot(Child);

impl Boot {
    fn start(fixture: &Fixture) -> Boot {
        let log = fs::File::create(fixture.dir.join("boot.log")).unwrap();
        let mut command = fixture.command(&tow(), &["server", "run"]);
        Boot(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the boot process would hear of the end of an agent that is not its child.
fn watched(boot: &Boot, agent: u32) {
    let (dir, line) = (
        format!("/proc/{}/fdinfo", boot.0.id()),
        format!("Pid:\t{agent}"),
    );
    until("the agent that was there is watched", || {
        let files = fs::read_dir(&dir).ok()?.flatten();
        let mut texts = files.map(|file| fs::read_to_string(file.path()).unwrap_or_default());
        texts
            .any(|text| text.lines().any(|found| found == line))
            .then_some(())
    });
}

fn terminate(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
}

/// The agent that answers, once one does that is not `before`.
fn next_agent(fixture: &Fixture, environment: &str, before: u32) -> u32 {
    until("another agent answers", || {
        let pid = fixture.seen(environment)?.agent_pid;
        (pid != before).then_some(pid)
    })
}

fn states(fixture: &Fixture) -> PathBuf {
    fixture.dir.join("states")
}

/// Two versions, the first of them warm, in both environments.
fn served() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.bring(PRODUCTION).expect(0);
    fixture.commit();
    fixture.bring(PRODUCTION).expect(0);
    fixture
}

/// How a machine goes down.
#[derive(Clone, Copy)]
enum Down {
    /// The power is cut.
    Cut,
    /// Every process is told to end, and ends; the agents first.
    Told,
}

/// Everything of the machine ends, what lies in memory is gone, and it comes up as another boot.
fn reboot(fixture: &Fixture, boot: Boot, down: Down) -> Boot {
    drop(boot);
    agents(&states(fixture)).into_iter().for_each(machine::kill);
    for environment in [STAGING, PRODUCTION] {
        let state = fixture.state(environment);
        if matches!(down, Down::Told) {
            shims(&state).into_values().flatten().for_each(terminate);
            until("shims to end as they are told", || {
                everything(&state).is_empty().then_some(())
            });
        }
        machine::sweep(&states(fixture), &state);
        // That of an environment that is down is gone already.
        let _ = fs::remove_dir_all(socket(&state).parent().unwrap());
        fs::write(state.join("boot-id"), "another boot").unwrap();
    }
    Boot::start(fixture)
}

#[test]
fn agents_and_the_boot_process_may_be_killed_in_any_order() {
    let fixture = served();
    let mut boot = Boot::start(&fixture);
    let mut agent = next_agent(&fixture, STAGING, 0);
    let mut kills = 0;
    for _ in 0..3 {
        machine::kill(agent);
        agent = next_agent(&fixture, STAGING, agent);
        boot.kill();
        boot = Boot::start(&fixture);
        watched(&boot, agent);
        machine::kill(agent);
        agent = next_agent(&fixture, STAGING, agent);
        kills += 3;
        whole(&fixture, STAGING, "v2").unwrap();
    }
    boot.kill();
    machine::kill(agent);
    until("the agent is dead", || (!is_alive(agent)).then_some(()));
    boot = Boot::start(&fixture);
    next_agent(&fixture, STAGING, agent);
    for environment in [STAGING, PRODUCTION] {
        whole(&fixture, environment, "v2").unwrap();
    }
    until("one agent an environment", || {
        (agents(&states(&fixture)).len() == 2).then_some(())
    });
    println!(
        "boot: {} kills of agent and boot process, 0 of 2 environments not whole",
        kills + 2
    );
    drop(boot);
    fixture.down(STAGING);
    fixture.down(PRODUCTION);
}

#[test]
fn told_to_end_it_leaves_agents_and_services() {
    let fixture = served();
    let mut boot = Boot::start(&fixture);
    let agent = next_agent(&fixture, STAGING, 0);
    watched(&boot, agent);
    let before = members(&fixture.state(STAGING));
    terminate(boot.0.id());
    assert!(boot.0.wait().unwrap().success());
    assert_eq!(
        fixture.seen(STAGING).map(|status| status.agent_pid),
        Some(agent)
    );
    assert_eq!(members(&fixture.state(STAGING)), before);
    fixture.down(STAGING);
    fixture.down(PRODUCTION);
}

#[test]
fn a_second_one_is_refused() {
    let fixture = Fixture::new();
    let _boot = Boot::start(&fixture);
    let lock = states(&fixture).join("boot.lock");
    until("the first has the lock", || {
        fs::read_to_string(&lock)
            .ok()
            .filter(|text| text.ends_with('\n'))
    });
    let said = fixture.tow(&["server", "run"]).expect(4);
    assert!(said.err.contains("server::not-run"), "{}", said.err);
}

#[test]
fn an_environment_that_appears_gets_an_agent_and_one_that_goes_loses_nothing_else() {
    let fixture = Fixture::new();
    let _boot = Boot::start(&fixture);
    let state = fixture.state(STAGING);
    fs::create_dir_all(&state).unwrap();
    let agent = next_agent(&fixture, STAGING, 0);
    assert_eq!(
        agents(&states(&fixture)).into_iter().collect::<Vec<_>>(),
        [agent]
    );
    fs::remove_dir_all(&state).unwrap();
    machine::kill(agent);
    until("no agent is left", || {
        agents(&states(&fixture)).is_empty().then_some(())
    });
    fs::create_dir_all(&state).unwrap();
    next_agent(&fixture, STAGING, agent);
}

fn comes_back(down: Down) {
    let fixture = served();
    let mut boot = Boot::start(&fixture);
    let before = [STAGING, PRODUCTION].map(|environment| {
        let status = whole(&fixture, environment, "v2").unwrap();
        (
            status.listen,
            status.live.unwrap().release,
            status.warm.unwrap().release,
        )
    });
    for reboots in 1..=2 {
        boot = reboot(&fixture, boot, down);
        for (environment, before) in [STAGING, PRODUCTION].iter().zip(&before) {
            let status = whole(&fixture, environment, "v2")
                .unwrap_or_else(|why| panic!("{environment}, reboot {reboots}: {why}"));
            let now = (
                status.listen,
                status.live.unwrap().release,
                status.warm.unwrap().release,
            );
            assert_eq!(now, *before);
        }
    }
    // What came back is as good as what was there: the warm version takes over.
    let back = fixture.tow(&["rollback", "-e", PRODUCTION]).expect(0);
    assert!(back.err.contains("warm"), "{}", back.err);
    whole(&fixture, PRODUCTION, "v1").unwrap();
    fixture.down(PRODUCTION);
    boot = reboot(&fixture, boot, down);
    whole(&fixture, STAGING, "v2").unwrap();
    let status = until("an agent of what is down", || fixture.seen(PRODUCTION));
    assert!(status.live.is_none(), "{status:?}");
    assert!(
        everything(&fixture.state(PRODUCTION)).is_empty(),
        "what was brought down stays down"
    );
    println!("reboot: 3 reboots, 5 of 5 environments came back as they were");
    drop(boot);
    fixture.down(STAGING);
    fixture.end_agent(PRODUCTION);
}

#[test]
fn after_a_power_cut_all_is_as_it_was() {
    comes_back(Down::Cut);
}

#[test]
fn after_an_orderly_end_of_the_machine_all_is_as_it_was() {
    comes_back(Down::Told);
}

/// Ended instances of the last boot, for a fixture that is down.
fn break_ends(state: &Path) {
    for run in fs::read_dir(state.join("run")).unwrap().flatten() {
        let end = r#"{"shim_pid":1,"state":{"is":"ended"},"restarts":9,"last_exit":null,"pids":[],
            "cpu_ms":0,"rss_bytes":0,"log":{"lines":0,"bytes":0}}"#;
        fs::write(run.path().join("exit.json"), end).unwrap();
    }
}

#[test]
fn what_had_given_up_before_the_machine_went_down_is_tried_again() {
    let fixture = served();
    let boot = Boot::start(&fixture);
    next_agent(&fixture, STAGING, 0);
    drop(boot);
    agents(&states(&fixture))
        .into_iter()
        .for_each(machine::kill);
    let state = fixture.state(STAGING);
    machine::sweep(&states(&fixture), &state);
    break_ends(&state);
    fs::write(state.join("boot-id"), "another boot").unwrap();
    let boot = Boot::start(&fixture);
    whole(&fixture, STAGING, "v2").unwrap();
    drop(boot);
    fixture.down(STAGING);
    fixture.down(PRODUCTION);
}

#[test]
fn a_gateway_whose_address_comes_up_late_is_started_then() {
    let fixture = served();
    let listen = fixture.listen(STAGING);
    let boot = Boot::start(&fixture);
    drop(boot);
    agents(&states(&fixture))
        .into_iter()
        .for_each(machine::kill);
    machine::sweep(&states(&fixture), &fixture.state(STAGING));
    let taken = std::net::TcpListener::bind(&listen).unwrap();
    let boot = Boot::start(&fixture);
    next_agent(&fixture, STAGING, 0);
    drop(taken);
    whole(&fixture, STAGING, "v2").unwrap();
    drop(boot);
    fixture.down(STAGING);
    fixture.down(PRODUCTION);
}

/// `first` says that it starts, and is not ready before a second has gone by; `second` needs it.
const NEEDS: &str = r#"
app = "fixture"
promote = ["staging"]
services.second = { role = "worker", run = "APP worker", env = { DATA = "DATA" }, needs = ["first"] }
[services.first]
role = "worker"
run = "sh -c 'echo start 1 first >> $DATA/worker; sleep 1; echo tick 1 >> $DATA/worker; echo is ready; exec sleep 1000'"
env = { DATA = "DATA" }
ready = { log = "is ready", every = "20ms" }
[environments.staging]
"#;

#[test]
fn after_a_reboot_a_service_starts_after_what_it_needs() {
    let fixture = Fixture::with(NEEDS);
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let boot = Boot::start(&fixture);
    next_agent(&fixture, STAGING, 0);
    drop(boot);
    agents(&states(&fixture))
        .into_iter()
        .for_each(machine::kill);
    let state = fixture.state(STAGING);
    machine::sweep(&states(&fixture), &state);
    fs::write(state.join("boot-id"), "another boot").unwrap();
    fs::remove_file(fixture.data("worker")).unwrap();
    let boot = Boot::start(&fixture);
    let text = until("both have started", || {
        let text = fs::read_to_string(fixture.data("worker")).unwrap_or_default();
        let starts = text.lines().filter(|line| line.starts_with("start"));
        (starts.count() == 2).then_some(text)
    });
    let lines: Vec<&str> = text.lines().take(2).collect();
    assert_eq!(lines, ["start 1 first", "tick 1"], "{text}");
    drop(boot);
    fixture.down(STAGING);
}
