//! Coming up, and what the child is given.
use std::fs;
use std::net::TcpListener;

use rustix::process::Signal;
use towpath_shim::Identity;
use towpath_shim::protocol::{Policy, State, User};
use towpath_shim::tree;

use crate::harness::{HOUR_MS, Shim, alive, program, signal, until};

#[test]
fn the_child_gets_nothing_but_the_spec() {
    let mut shim = Shim::sh("env; ls -l /proc/self/fd; exec cat /proc/self/status")
        .with(|spec| {
            drop(
                spec.env
                    .insert("GREETING".to_owned(), "hello = world".to_owned()),
            )
        })
        .start();
    assert_eq!(shim.end_of_child().code, Some(0));
    let lines = shim.lines("out");
    let env: Vec<_> = lines
        .iter()
        .take_while(|line| !line.starts_with("total "))
        .collect();
    let path = format!("PATH={}", shim.spec.env["PATH"]);
    let mark = format!("TOWPATH_MARK={}", shim.spec.mark);
    let pwd = format!("PWD={}", shim.dir.display());
    for wanted in ["GREETING=hello = world", &path, &mark, &pwd] {
        assert!(
            env.iter().any(|line| *line == wanted),
            "{wanted} in {env:?}"
        );
    }
    assert_eq!(env.len(), 4, "{env:?}");
    for set in ["SigBlk:", "SigIgn:"] {
        let line = lines.iter().find(|line| line.starts_with(set)).unwrap();
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    // 0 to 2, and the directory that `ls` reads.
    assert_eq!(
        lines.iter().filter(|line| line.contains(" -> ")).count(),
        4,
        "{lines:?}"
    );
}

#[test]
fn listeners_are_announced_to_the_child_under_its_own_pid() {
    let script = "import os, socket
print(os.environ['LISTEN_FDS'], int(os.environ['LISTEN_PID']) - os.getpid())
for fd in (3, 4): print(socket.socket(fileno=fd).getsockname()[0])";
    let mut shim = Shim::python(script)
        .with(|spec| spec.listen = vec!["127.0.0.1:0".into(), "127.0.0.2:0".into()])
        .start();
    assert_eq!(shim.end_of_child().code, Some(0), "{}", shim.log());
    assert_eq!(shim.lines("out"), ["2 0", "127.0.0.1", "127.0.0.2"]);
}

#[test]
fn an_address_in_use_is_named_and_nothing_is_started() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut shim = Shim::sh("touch started").with(|spec| spec.listen = vec![address.clone()]);
    shim.launch_only();
    assert!(!shim.join().success());
    let error = fs::read_to_string(shim.path("error")).unwrap();
    assert!(
        error.starts_with(&format!("cannot listen on {address}: ")),
        "{error}"
    );
    assert!(!shim.path("started").exists());
}

#[test]
fn a_bad_spec_is_explained() {
    for (change, why) in [
        (0, "argv is empty"),
        (1, "stop.signal 99 is no signal"),
        (2, "cwd is not"),
    ] {
        let mut shim = Shim::sh("true").with(|spec| match change {
            0 => spec.argv.clear(),
            1 => spec.stop.signal = 99,
            _ => spec.cwd = "here".into(),
        });
        shim.launch_only();
        assert!(!shim.join().success());
        let error = fs::read_to_string(shim.path("error")).unwrap();
        assert!(error.starts_with(&format!("spec.json: {why}")), "{error}");
    }
}

#[test]
fn what_cannot_be_started_is_explained() {
    let mut shim = Shim::new(&["/no/such/program"]).start();
    let error = shim.end_of_child().start_error.unwrap();
    let dir = shim.dir.display();
    let why = "No such file or directory (os error 2)";
    assert_eq!(
        error,
        format!("cannot run /no/such/program in {dir}: {why}")
    );
    let mut shim = Shim::sh("true")
        .with(|spec| spec.cwd = "/no/such/place".into())
        .start();
    let error = shim.end_of_child().start_error.unwrap();
    assert!(
        error.starts_with("no working directory /no/such/place: "),
        "{error}"
    );
}

#[test]
fn a_failed_start_is_tried_again() {
    let mut shim = Shim::new(&["./later"]).with(|spec| {
        spec.restart.policy = Policy::OnFailure;
        spec.restart.limit = u32::MAX;
    });
    shim.launch();
    until("a try", || (shim.status().restarts > 0).then_some(()));
    fs::write(shim.path("new"), "#!/bin/sh\nexit 0\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(shim.path("new"), mode).unwrap();
    fs::rename(shim.path("new"), shim.path("later")).unwrap();
    assert_eq!(shim.end_of_child().code, Some(0));
}

#[test]
fn a_second_shim_is_refused_and_changes_nothing() {
    let mut shim = Shim::sh("echo up; exec sleep 1000").start();
    shim.line("up");
    let identity = fs::read(shim.path("shim.json")).unwrap();
    for _ in 0..10 {
        assert!(!program(&shim.dir).status().unwrap().success());
    }
    assert_eq!(fs::read(shim.path("shim.json")).unwrap(), identity);
    assert!(!shim.path("error").exists());
    assert_eq!(shim.status().pids.len(), 1);
    let identity: Identity = serde_json::from_slice(&identity).unwrap();
    assert_eq!(identity.pid, shim.pid());
    assert_eq!(tree::start_time(identity.pid), Some(identity.starttime));
    shim.stop(HOUR_MS);
    shim.end();
    assert_eq!(shim.lines("out"), ["up"]);
}

#[test]
fn ten_launched_together_run_one_child() {
    let mut shim = Shim::sh("echo up >> starts; exec sleep 1000");
    let spec = serde_json::to_vec(&shim.spec).unwrap();
    fs::write(shim.path("spec.json"), spec).unwrap();
    let mut launched: Vec<_> = (0..10)
        .map(|_| program(&shim.dir).spawn().unwrap())
        .collect();
    until("nine were refused", || {
        let ended = launched
            .iter_mut()
            .filter_map(|one| one.try_wait().unwrap())
            .count();
        (ended == 9).then_some(())
    });
    let left = launched
        .iter_mut()
        .position(|one| one.try_wait().unwrap().is_none());
    shim.process = Some(launched.remove(left.unwrap()));
    until("it is up", || shim.path("starts").exists().then_some(()));
    shim.stop(HOUR_MS);
    shim.end();
    assert_eq!(fs::read_to_string(shim.path("starts")).unwrap(), "up\n");
}

#[test]
fn another_user_gets_the_child_and_it_still_dies_with_the_shim() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let script = "echo $(id -u) $(id -g) $(id -G); exec sleep 1000";
    let mut shim = Shim::sh(script)
        .with(|spec| {
            spec.user = Some(User {
                uid: 65_534,
                gid: 65_533,
            });
            spec.cwd = "/".into();
        })
        .start();
    shim.line("65534 65533 65533");
    let child = shim.main();
    shim.kill();
    until("the child dies with its shim", || {
        (!alive(child)).then_some(())
    });
}

#[test]
fn sigterm_to_the_shim_is_a_stop_and_sighup_is_nothing() {
    let mut shim = Shim::sh("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done").start();
    shim.line("up");
    signal(shim.pid(), Signal::HUP);
    assert!(matches!(shim.status().state, State::Running { .. }));
    signal(shim.pid(), Signal::TERM);
    assert_eq!(shim.end_of_child().code, Some(7));
}
