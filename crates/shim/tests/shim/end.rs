//! Endings: asked for, by itself, of a tree that resists, of the shim.
use std::fs;
use std::thread;

use rustix::process::Signal;
use towpath_shim::client::{Error, ask};
use towpath_shim::protocol::{Policy, Request, State};
use towpath_shim::tree;

use crate::harness::{HOUR_MS, PATIENCE, Shim, alive, program, signal, status, until};

/// Leaves a daemon in a session of its own, and ends with 5 when it is told to.
const DAEMON: &str = "import os, signal, time
if os.fork():
    os.wait()
    print('ready', flush=True)
    while not os.path.exists('go'): time.sleep(0.005)
    os._exit(5)
os.setsid()
if os.fork(): os._exit(0)
DAEMON
open('daemon', 'w').write(str(os.getpid()))
while True: time.sleep(1000)";
const RESISTS: &str = "signal.signal(signal.SIGTERM, signal.SIG_IGN)";

/// Eight processes that are somebody else at any moment: each forks and ends.
const CHAINS: &str = "import os, time
for _ in range(8):
    if os.fork() == 0:
        os.setsid()
        while True:
            if os.fork(): os._exit(0)
print('ready', flush=True)
while True: time.sleep(1000)";

fn daemon(does: &str) -> Shim {
    Shim::python(&DAEMON.replace("DAEMON", does))
}

fn daemon_pid(shim: &Shim) -> u32 {
    until("the daemon", || {
        fs::read_to_string(shim.path("daemon")).ok()?.parse().ok()
    })
}

#[test]
fn the_exit_status_is_there_though_nobody_asked() {
    let mut shim = Shim::sh("exit 42").start();
    let exit = shim.end_of_child();
    assert_eq!((exit.code, exit.signal, exit.left), (Some(42), None, 0));
    let mut shim = Shim::sh("kill -9 $$").start();
    let exit = shim.end_of_child();
    assert_eq!((exit.code, exit.signal, exit.left), (None, Some(9), 0));
    assert!(!shim.spec.socket.exists());
}

#[test]
fn restarts_pause_longer_and_longer_and_come_to_an_end() {
    let mut shim = Shim::sh("exit 3")
        .with(|spec| spec.restart.policy = Policy::Always)
        .start();
    let end = shim.end();
    assert_eq!(end.restarts, 4);
    assert_eq!(end.state, State::Ended);
    assert_eq!(end.last_exit.unwrap().code, Some(3));
    let remarks = shim.lines("tow");
    let count = |start: &str| {
        remarks
            .iter()
            .filter(|line| line.starts_with(start))
            .count()
    };
    assert_eq!(
        (
            count("started "),
            count("exited with status 3"),
            count("gave up")
        ),
        (5, 5, 1)
    );
    let pauses = remarks
        .iter()
        .filter_map(|line| line.strip_prefix("starts again in "))
        .count();
    assert_eq!(pauses, 4, "{remarks:?}");
}

#[test]
fn success_is_not_restarted_where_only_failure_is() {
    let script = "echo run >> runs; [ $(wc -l < runs) -ge 3 ]";
    let mut shim = Shim::sh(script)
        .with(|spec| spec.restart.policy = Policy::OnFailure)
        .start();
    assert_eq!(shim.end().restarts, 2);
}

#[test]
fn a_stop_ends_the_pause_and_no_start_follows() {
    let mut shim = Shim::sh("exit 1")
        .with(|spec| {
            spec.restart.policy = Policy::Always;
            (spec.restart.backoff_ms, spec.restart.backoff_max_ms) = (HOUR_MS, HOUR_MS);
        })
        .start();
    until("it pauses", || {
        matches!(shim.status().state, State::Backoff { .. }).then_some(())
    });
    assert_eq!(shim.stop(HOUR_MS).state, State::Ended);
    assert_eq!(shim.end().restarts, 0);
    let mut shim = Shim::sh("exec sleep 1000")
        .with(|spec| spec.restart.policy = Policy::Always)
        .start();
    shim.main();
    assert_eq!(shim.stop(HOUR_MS).last_exit.unwrap().signal, Some(15));
    assert_eq!(shim.end().restarts, 0);
}

#[test]
fn what_ignores_the_signal_is_killed_after_the_grace() {
    let script = "trap '' TERM; sh -c 'echo up; while :; do sleep 1; done' & wait";
    let mut shim = Shim::sh(script).start();
    shim.line("up");
    let exit = shim.stop(50).last_exit.unwrap();
    assert_eq!(exit.signal, Some(9));
    assert!(shim.marked().is_empty());
    shim.end();
}

#[test]
fn a_second_stop_shortens_the_first_and_both_are_answered() {
    let mut shim = Shim::sh("trap '' TERM; echo up; while :; do sleep 1; done").start();
    shim.line("up");
    let socket = shim.spec.socket.clone();
    let first = thread::spawn(move || ask(&socket, &Request::Stop { grace_ms: None }, PATIENCE));
    until("it stops", || {
        matches!(shim.status().state, State::Stopping).then_some(())
    });
    assert_eq!(shim.stop(1).state, State::Ended);
    assert_eq!(status(first.join().unwrap().unwrap()).state, State::Ended);
    shim.end();
}

#[test]
fn a_daemon_is_counted_and_ended_before_the_shim() {
    for (does, grace_ms) in [("pass", HOUR_MS), (RESISTS, 20)] {
        let mut shim = daemon(does)
            .with(|spec| spec.stop.grace_ms = grace_ms)
            .start();
        let daemon = daemon_pid(&shim);
        assert!(shim.status().pids.contains(&daemon));
        fs::write(shim.path("go"), "").unwrap();
        let end = shim.end();
        let exit = end.last_exit.unwrap();
        assert_eq!((exit.code, exit.left), (Some(5), 1));
        assert!(!alive(daemon));
        assert!(end.pids.is_empty());
    }
}

#[test]
fn a_daemon_ends_with_a_stop() {
    let mut shim = daemon(RESISTS).start();
    let daemon = daemon_pid(&shim);
    shim.line("ready");
    shim.stop(20);
    assert!(!alive(daemon));
    assert!(shim.marked().is_empty());
    shim.end();
}

#[test]
fn what_an_ended_child_left_is_gone_before_the_next_start() {
    // Each run counts those of the run before that it still sees.
    let script = "n=$(cat left 2>/dev/null); [ -n \"$n\" ] && kill -0 $n 2>/dev/null && echo double
setsid sleep 1000 & echo $! > left; echo run >> runs; exit 1";
    let mut shim = Shim::sh(script)
        .with(|spec| spec.restart.policy = Policy::Always)
        .start();
    let end = shim.end();
    assert_eq!((end.restarts, end.last_exit.unwrap().left), (4, 1));
    assert_eq!(shim.lines("out"), [""; 0]);
}

#[test]
fn forking_does_not_escape_a_stop() {
    for _ in 0..3 {
        let mut shim = Shim::python(CHAINS).start();
        shim.line("ready");
        shim.stop(5);
        assert!(shim.marked().is_empty());
        shim.end();
    }
}

#[test]
fn forking_does_not_escape_a_sweep() {
    let mut shim = Shim::python(CHAINS).start();
    shim.line("ready");
    shim.kill();
    let killed = tree::sweep(&shim.spec.mark).unwrap();
    assert!(shim.marked().is_empty());
    assert!(killed >= 8, "{killed} killed");
    println!("{killed} processes killed to end 8 chains");
}

#[test]
fn a_killed_shim_takes_its_child_along_and_a_sweep_the_rest() {
    let mut shim = daemon("pass").start();
    let daemon = daemon_pid(&shim);
    shim.line("ready");
    let child = shim.main();
    let mut both = [child, daemon];
    both.sort_unstable();
    assert_eq!(shim.marked(), both);
    shim.kill();
    until("the child dies", || (!alive(child)).then_some(()));
    assert_eq!(shim.marked(), [daemon]);
    assert_eq!(tree::sweep(&shim.spec.mark).unwrap(), 1);
    assert!(!alive(daemon));
    // The directory is free: the next shim replaces the socket that was left.
    shim.launch();
    shim.main();
    shim.stop(20);
    shim.end();
}

#[test]
fn members_and_usage_are_of_the_whole_tree() {
    let script = "import os
for _ in range(3):
    if os.fork() == 0: break
data = b'x' * (20 << 20)
print('ready', flush=True)
while True: pass";
    let mut shim = Shim::python(script).start();
    until("four lines", || {
        (shim.lines("out").len() == 4).then_some(())
    });
    let now = until("CPU time", || {
        Some(shim.status()).filter(|status| status.cpu_ms >= 50)
    });
    assert_eq!(now.pids.len(), 4);
    assert_eq!(now.pids[0], shim.main());
    let mut sorted = now.pids.clone();
    sorted.sort_unstable();
    assert_eq!(tree::members(shim.pid()), sorted);
    assert!(now.rss_bytes > 80 << 20, "{}", now.rss_bytes);
    assert!(tree::usage(shim.pid()).rss_bytes > 80 << 20);
    // What was used stays counted when who used it is gone.
    assert!(shim.stop(HOUR_MS).cpu_ms >= now.cpu_ms);
    shim.end();
}

#[test]
fn an_end_leaves_room_for_the_next_shim_at_once() {
    let mut shim =
        Shim::sh("exec sleep 1000").with(|spec| spec.listen = vec!["127.0.0.1:0".into()]);
    shim.launch();
    let address = crate::listen::address(&shim);
    shim.spec.listen = vec![address.to_string()];
    let mut previous = shim.process.take();
    shim.stop(HOUR_MS);
    for _ in 0..20 {
        shim.launch();
        assert!(previous.take().unwrap().wait().unwrap().success());
        previous = shim.process.take();
        shim.stop(HOUR_MS);
        assert!(matches!(
            shim.try_ask(&Request::Status),
            Err(Error::Absent(_))
        ));
    }
    assert!(previous.unwrap().wait().unwrap().success());
}

#[test]
fn a_stopped_child_is_killed_like_any_other() {
    let mut shim = Shim::sh("exec sleep 1000").start();
    let child = shim.main();
    signal(child, Signal::STOP);
    until("it is stopped", || {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        stat.contains(") T ").then_some(())
    });
    assert_eq!(shim.stop(10).last_exit.unwrap().signal, Some(9));
    shim.end();
}

/// What loses its environment, its session and its parents keeps what the sweep goes by.
#[test]
fn a_sweep_finds_what_has_cleared_its_environment() {
    let script = "env -i setsid sh -c 'echo $$ > daemon; exec sleep 1000' & 
while [ ! -s daemon ]; do sleep 0.01; done; echo ready; exec sleep 1000";
    let mut shim = Shim::sh(script).start();
    let daemon: u32 = until("the daemon", || {
        let text = fs::read_to_string(shim.path("daemon")).ok()?;
        text.trim().parse().ok()
    });
    shim.line("ready");
    shim.kill();
    until("only the daemon is left", || {
        (shim.marked() == [daemon]).then_some(())
    });
    assert!(
        !fs::read_to_string(format!("/proc/{daemon}/environ"))
            .unwrap()
            .contains("TOWPATH")
    );
    assert_eq!(tree::sweep(&shim.spec.mark).unwrap(), 1);
    assert!(!alive(daemon));
}

/// A shim that is started from inside another's tree is not a member of it.
#[test]
fn a_shim_below_another_has_no_tag_of_it() {
    let mut inner = Shim::sh("exec sleep 1000");
    let spec = serde_json::to_vec(&inner.spec).unwrap();
    fs::write(inner.path("spec.json"), spec).unwrap();
    let program = program(&inner.dir);
    let line = format!(
        "env -u TOWPATH_MARK setsid {} {} & exec sleep 1000",
        program.get_program().display(),
        inner.dir.display()
    );
    let outer = Shim::sh(&line).start();
    until("the inner shim is up", || {
        inner.try_ask(&Request::Status).ok()
    });
    let inner_pid = inner.status().shim_pid;
    assert!(!outer.marked().contains(&inner_pid));
    assert!(!outer.marked().contains(&inner.main()));
    inner.stop(HOUR_MS);
    until("the inner shim ends", || (!alive(inner_pid)).then_some(()));
    inner.process = None;
}
