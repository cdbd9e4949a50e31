//! Rehearsals on servers: over what stands in for ssh, beside real environments that must not notice.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::fixture::{PRODUCTION, STAGING, Said, tow};
use crate::link::Linked;
use crate::machine::{self, until};
use crate::whole::whole;

const REHEARSE: &str = r#"
[[traffic.zeros]]
name = "doubled workers"
get = "/workers"
value = "/doubled"
of = "/all"

[rehearse]
first = "HEAD"
next = { overlay = "next" }
broken = { overlay = "broken" }
requests = 400
writes = 60
"#;

/// Servers with the real environments, and a tree that can be rehearsed.
fn linked() -> Linked {
    let mut linked = Linked::new();
    let path = linked.fixture.repo().join("tow.toml");
    let data = linked.fixture.dir.join("data").display().to_string();
    let real = fs::read_to_string(&path).unwrap();
    let manifest = real.replace(
        "[environments.local]",
        &format!("{REHEARSE}\n[environments.local]"),
    );
    linked.tow(&["deploy", "-e", STAGING]).expect(0);
    linked.tow(&["promote", "-e", PRODUCTION]).expect(0);
    // What it writes goes elsewhere than what the real ones write.
    let rehearsed = format!("{data}-rehearsed");
    let manifest = manifest
        .replace(&format!("{data:?}"), &format!("{rehearsed:?}"))
        .replace(
            &format!("{data}-production"),
            &format!("{rehearsed}-production"),
        )
        .replace(
            "expect = 201\nread = ",
            "expect = 201\ncount = \"/count\"\nread = ",
        );
    for folder in [rehearsed.clone(), format!("{rehearsed}-production")] {
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let fixture = &mut linked.fixture;
    fixture.write("tow.toml", &manifest);
    for folder in ["next", "broken"] {
        fs::create_dir_all(fixture.repo().join(folder)).unwrap();
        fixture.write(&format!("{folder}/version"), folder);
    }
    fixture.write("broken/mode", "never-ready");
    fixture.write(
        "broken/tow.toml",
        &manifest.replace("within = \"60s\"", "within = \"1s\""),
    );
    fixture.commit();
    linked
}

/// What is left of rehearsals on the servers.
fn left(linked: &Linked) -> Vec<PathBuf> {
    let folder = linked.fixture.dir.join("states-rehearsals");
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

/// An agent that has put its state out of the way still removes it when the command ends.
fn nothing_left(linked: &Linked) {
    until("nothing to be left of rehearsals", || {
        left(linked).is_empty().then_some(())
    });
}

/// What the application wrote in the rehearsal before, whose services may have had another user.
fn forget(linked: &Linked) {
    for folder in ["data-rehearsed", "data-rehearsed-production"] {
        for file in ["writes", "worker"] {
            let _ = fs::remove_file(linked.fixture.dir.join(folder).join(file));
        }
    }
}

fn rehearse(linked: &Linked, more: &[&str]) -> Child {
    forget(linked);
    let words = [&["rehearse", "--servers", "--skip-local", "--json"], more].concat();
    let mut command = linked.fixture.command(&tow(), &words);
    command.env("TOWPATH_PATIENCE", "5");
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Said {
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_rehearsal_on_servers_leaves_the_real_environments_alone_and_nothing_behind() {
    let linked = linked();
    let real = |environment| {
        let status = whole(&linked.fixture, environment, "v1").unwrap();
        (status.agent_pid, status.ended.len(), status.listen)
    };
    let before = [STAGING, PRODUCTION].map(real);
    let said = end(rehearse(&linked, &[]));
    let report: Value = said.json();
    assert_eq!(report["requests"]["failed"], 0, "{said:?}");
    assert!(
        report["requests"]["total"].as_u64() >= Some(400),
        "{said:?}"
    );
    assert_eq!(report["writes"]["lost"], 0, "{said:?}");
    assert_eq!(report["refused"]["outcome"], "undone", "{said:?}");
    for (host, server) in [(0, "me@staging.test:2222"), (1, "me@production.test")] {
        assert_eq!(report["hosts"][host]["server"], server);
        assert_eq!(report["hosts"][host]["load"], "through ssh");
    }
    nothing_left(&linked);
    let said = end(rehearse(&linked, &["--sabotage", "early-kill"]));
    let report: Value = said.json();
    assert_eq!(said.code, 1, "a planted fault is not found: {said:?}");
    assert!(report["requests"]["failed"].as_u64() > Some(0), "{said:?}");
    nothing_left(&linked);
    assert_eq!([STAGING, PRODUCTION].map(real), before);
    // Without the word nothing goes to a server, whatever the manifest says.
    forget(&linked);
    let before = fs::read_dir(linked.dir.join("channels")).unwrap().count();
    let words = [
        "rehearse",
        "--skip-local",
        "--requests",
        "50",
        "--writes",
        "9",
        "--json",
    ];
    let report: Value = linked.tow(&words).json();
    assert_eq!(report["hosts"], serde_json::json!([]));
    let channels = fs::read_dir(linked.dir.join("channels")).unwrap().count();
    assert_eq!(channels, before, "a server was reached");
    for environment in [STAGING, PRODUCTION] {
        linked.tow(&["down", "-e", environment]).expect(0);
    }
}

#[test]
fn a_rehearsal_that_is_cut_short_leaves_nothing_on_a_server() {
    let linked = linked();
    let states = linked.fixture.dir.join("states-rehearsals");
    for told in [Some(Signal::INT), Some(Signal::TERM), None] {
        let kills = told.is_none();
        let mut child = rehearse(
            &linked,
            &[
                "--scratch",
                &format!(
                    "{}/s{}",
                    linked.fixture.dir.display(),
                    told.map_or(0, Signal::as_raw)
                ),
            ],
        );
        for environment in [STAGING, PRODUCTION] {
            until("there is a gateway", || {
                let mut dirs = left(&linked).into_iter();
                dirs.any(|dir| {
                    dir.join("fixture")
                        .join(environment)
                        .join("gateway.json")
                        .exists()
                })
                .then_some(())
            });
        }
        let agents = machine::agents(&states);
        assert_eq!(agents.len(), 2);
        match told {
            None => child.kill().unwrap(),
            Some(signal) => {
                let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
                rustix::process::kill_process(pid, signal).unwrap();
            }
        }
        let said = end(child);
        if !kills {
            assert_eq!(said.code, 1);
            assert!(
                said.out.contains("everything it started is stopped"),
                "{said:?}"
            );
            nothing_left(&linked);
        }
        until("its agents have gone, with everything", || {
            (left(&linked).is_empty() && machine::agents(&states).is_empty()).then_some(())
        });
    }
    for environment in [STAGING, PRODUCTION] {
        linked.tow(&["down", "-e", environment]).expect(0);
    }
}

#[test]
fn servers_that_are_not_rehearsed_on_are_refused() {
    let linked = linked();
    for wrong in [
        "nowhere=me@x.test",
        "local=me@x.test",
        "production",
        "production=",
    ] {
        let said = linked.tow(&["rehearse", "--servers", wrong]).expect(2);
        assert!(said.err.contains("tow::usage"), "{said:?}");
    }
    nothing_left(&linked);
    for environment in [STAGING, PRODUCTION] {
        linked.tow(&["down", "-e", environment]).expect(0);
    }
}
