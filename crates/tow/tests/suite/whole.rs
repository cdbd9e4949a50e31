//! Whether an environment is whole: what should run does, once, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use towpath::agent::api::Status;

use crate::fixture::Fixture;
use crate::machine::{members, shims, until_ok};

/// Waits until `environment` is whole and `version` answers; says what is wrong when it never is.
pub fn whole(fixture: &Fixture, environment: &str, version: &str) -> Result<Status, String> {
    until_ok(|| look(fixture, environment, version))
}

fn look(fixture: &Fixture, environment: &str, version: &str) -> Result<Status, String> {
    let status = fixture.seen(environment).ok_or("no agent answers")?;
    if let Some(run) = &status.run {
        return Err(format!(
            "{} is {:?} at {:?}: {:?}",
            run.run, run.phase, run.step, run.failure
        ));
    }
    if status.verdict != "serving" {
        return Err(format!("it is {}: {:?}", status.verdict, status.instances));
    }
    let expected = expected(&status)?;
    once(fixture, environment, &expected)?;
    let listen = status.listen.clone().ok_or("there is no gateway")?;
    for _ in 0..4 {
        let answered = fixture.get(&listen, "/version")?;
        if answered != version {
            return Err(format!("{answered} answers, not {version}"));
        }
    }
    Ok(status)
}

/// Instances that should run, by what the agent says; and each is as it should be.
fn expected(status: &Status) -> Result<BTreeSet<String>, String> {
    let mut expected = BTreeSet::from(["gateway".to_owned()]);
    for instance in &status.instances {
        let runs = instance.side == "live" || instance.port.is_some();
        let state = if runs { "ready" } else { "stopped" };
        if instance.state != state {
            return Err(format!(
                "{} is {}, not {state}",
                instance.id, instance.state
            ));
        }
        if runs {
            expected.insert(instance.id.to_string());
        }
    }
    Ok(expected)
}

/// One process and one shim for each, and none for anything else.
fn once(fixture: &Fixture, environment: &str, expected: &BTreeSet<String>) -> Result<(), String> {
    let state = fixture.state(environment);
    for (what, found) in [("processes", members(&state)), ("shims", shims(&state))] {
        let names: BTreeSet<String> = found.keys().cloned().collect();
        if names != *expected {
            return Err(format!("{what} of {names:?} run, not of {expected:?}"));
        }
        if let Some((id, pids)) = found.iter().find(|(_, pids)| pids.len() != 1) {
            return Err(format!("{id} has {what} {pids:?}"));
        }
    }
    Ok(())
}

/// Workers that worked while a later one did, by what they wrote themselves.
pub fn doubled_workers(fixture: &Fixture) -> usize {
    // Each environment has workers of its own.
    let files = ["data", "data-production"].map(|folder| fixture.dir.join(folder).join("worker"));
    files.map(|file| doubled(&file)).into_iter().sum()
}

fn doubled(file: &Path) -> usize {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let (mut now, mut doubled) = ("", BTreeSet::new());
    for line in text.lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("start"), Some(pid)) => now = pid,
            (Some("tick"), Some(pid)) if pid != now => {
                doubled.insert(pid.to_owned());
            }
            _ => {}
        }
    }
    doubled.len()
}
