//! Whoever waits is told to leave, by Ctrl-C or by a CI that ends its job.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::canary::set;
use crate::fixture::{Fixture, MANIFEST, Running, STAGING, Said};
use crate::machine::until;
use crate::whole::whole;

/// Tells a command until it heeds it: what it does at that moment may be what it has to bring to an end.
fn told(fixture: &Fixture, mut running: Running, signal: Signal) -> Said {
    let pid = Pid::from_raw(running.0.id().try_into().unwrap()).unwrap();
    until("it leaves", || {
        kill_process(pid, signal).unwrap();
        running.0.try_wait().unwrap()
    });
    fixture.end(running)
}

#[test]
fn who_waits_for_the_end_of_a_window_may_leave() {
    let mut fixture = Fixture::new();
    fixture.bring(STAGING).expect(0);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let version = fixture.commit();
        let running = fixture.start(&["deploy", "-e", STAGING, "--wait"]);
        whole(&fixture, STAGING, &version).unwrap();
        let said = told(&fixture, running, signal);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("deploy::detached"), "{said:?}");
        whole(&fixture, STAGING, &version).unwrap();
    }
    fixture.tow(&["rollback", "-e", STAGING]).expect(0);
    fixture.down(STAGING);
}

#[test]
fn who_waits_for_the_end_of_an_overlap_may_leave() {
    let keyed = "[secrets]\nKEY = { kind = \"jwt\", overlap = \"1h\" }\n\n[resources]\n";
    let manifest = MANIFEST.replace("[resources]\n", keyed).replace(
        "run = \"APP worker\"",
        "run = \"APP worker\"\nsecrets = [\"KEY\"]",
    );
    let mut fixture = Fixture::with(&manifest);
    let home = fixture.dir.join("config");
    fixture.env.push(("XDG_CONFIG_HOME", home));
    set(&fixture, "KEY", STAGING, "the-key-that-it-had-at-first").expect(0);
    let version = fixture.commit();
    fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let rotate = ["secrets", "rotate", "KEY", "-e", STAGING];
    let running = fixture.start(&[&rotate[..], &["--wait"]].concat());
    let stage = || -> Value {
        let listed = fixture.tow(&["secrets", "list", "-e", STAGING, "--json"]);
        listed.json::<Value>()[0]["rotation"]["stage"].clone()
    };
    until("both are good", || (stage() == "overlapping").then_some(()));
    let said = told(&fixture, running, Signal::INT);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("secret::detached"), "{said:?}");
    assert_eq!(stage(), "overlapping");
    fixture.tow(&[&rotate[..], &["--undo"]].concat()).expect(0);
    whole(&fixture, STAGING, &version).unwrap();
    fixture.down(STAGING);
}
