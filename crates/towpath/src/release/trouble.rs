//! Saying well why a release did not come in.

use towpath_shim::protocol::Exit;

use serde_json::Value;

use super::{OpenRun, StepState, Version};
use crate::diagnostic::Diagnostic;
use crate::supervise::{NotReady, Process};

/// What a row says that a run or a step failed with.
pub(super) fn failure(data: Option<&Value>) -> Diagnostic {
    let read = data.and_then(|data| serde_json::from_value(data.clone()).ok());
    read.unwrap_or_else(|| Diagnostic::error("deploy::failed", "the run failed"))
}

/// A run is stuck: at what, what is done and undone, what serves, and how to go on.
pub(super) fn stuck(environment: &str, run: &OpenRun, why: Diagnostic) -> Diagnostic {
    let id = run.plan.run;
    let found = run
        .steps
        .iter()
        .find(|(_, state)| matches!(state, StepState::Stuck(_)));
    let (step, undoing) = match found {
        Some((name, StepState::Stuck(stuck))) => (name.as_str(), stuck.undoing.is_some()),
        _ => ("", false),
    };
    let at = match undoing {
        true => format!("{id} is stuck while it undoes `{step}`"),
        false => format!("{id} is stuck at `{step}`"),
    };
    let is = |state: fn(&StepState) -> bool| {
        let names = run
            .intents
            .iter()
            .filter(|name| run.steps.get(*name).is_some_and(state));
        let names: Vec<&str> = names
            .map(String::as_str)
            .filter(|name| *name != step)
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let undone = is(|state| *state == StepState::Undone).map(|names| format!("undone: {names}"));
    let stands = is(|state| matches!(state, StepState::Ok(_) | StepState::Failed(_)))
        .map(|names| format!("done, and not undone: {names}"));
    let goes = match run.is_past_pivot() {
        true => "tries it again, and finishes the run",
        false => "tries again, and undoes what is left",
    };
    let mut told = why.note(at);
    for note in [stands, undone].into_iter().flatten() {
        told = told.note(note);
    }
    told.note(requests_go(environment, run))
        .note(format!(
            "nothing else runs in {environment} until it has ended"
        ))
        .help(format!(
            "mend that, then `tow cancel -e {environment}` {goes}"
        ))
}

/// Where requests go, as far as the journal knows.
fn requests_go(environment: &str, run: &OpenRun) -> String {
    let switch = run.steps.get("switch");
    let name =
        |version: Option<Version>| version.map_or("nothing".to_owned(), |found| found.name());
    match switch {
        _ if run.steps.contains_key("close") => format!("{environment} answers no requests"),
        Some(StepState::Ok(_)) => format!("requests go to {}", name(run.new_version())),
        None | Some(StepState::Undone | StepState::Failed(_)) => match &run.plan.old {
            Some(old) => format!("requests go to {}", old.name()),
            None => format!("{environment} serves nothing yet"),
        },
        Some(_) => format!(
            "requests go to {} or to {}",
            name(run.plan.old.clone()),
            name(run.new_version())
        ),
    }
}

/// `exited with status 1`, `was ended by signal 9`, ...
pub fn ending(exit: Option<&Exit>) -> String {
    match exit {
        Some(Exit {
            start_error: Some(why),
            ..
        }) => format!("could not be started: {why}"),
        Some(Exit {
            code: Some(code), ..
        }) => format!("exited with status {code}"),
        Some(Exit {
            signal: Some(signal),
            ..
        }) => format!("was ended by signal {signal}"),
        _ => "ended".to_owned(),
    }
}

/// An instance did not become ready: everything that one would look up next.
pub(super) fn not_ready(
    environment: &str,
    run: &OpenRun,
    process: &Process,
    why: &NotReady,
) -> Diagnostic {
    let new = run
        .new_version()
        .map_or_else(String::new, |version| version.name());
    unready(&new, process, why)
        .note(still_serving(environment, run.plan.old.as_ref()))
        .help(format!(
            "run `tow logs {} -e {environment}`",
            process.service
        ))
}

/// The same of any version, without what that means.
pub(super) fn unready(version: &str, process: &Process, why: &NotReady) -> Diagnostic {
    let mut diagnostic = headline(version, process, why);
    // Of one that died, or could not have its port, the answers say nothing more.
    let is_plain = why.exit.is_none() && why.taken_by.is_none();
    if let Some((question, answer, ago)) = why.last.as_ref().filter(|_| is_plain) {
        diagnostic = diagnostic.note(format!(
            "last probe, {:.1} s ago: {question} -> {answer}",
            ago.as_secs_f64()
        ));
    }
    if let Some(exit) = why.exit.as_ref().filter(|exit| exit.left > 0) {
        let left = exit.left;
        diagnostic = diagnostic.note(format!(
            "its main process ended and left {left} running: it puts itself into the background, and must not"
        ));
    }
    if let Some(port) = process.port {
        diagnostic = diagnostic.note(listening(port, &why.listens, !why.tail.is_empty()));
    }
    if !why.tail.is_empty() {
        diagnostic = diagnostic.note(format!("its last lines:\n{}", why.tail.join("\n")));
    }
    diagnostic
}

fn headline(new: &str, process: &Process, why: &NotReady) -> Diagnostic {
    let service = &process.service;
    let gone = why.exit.is_some();
    match () {
        () if why.taken_by.is_some() => {
            let port = process.port.unwrap_or(0);
            let holder = why.taken_by.as_deref().unwrap_or_default();
            Diagnostic::error(
                "deploy::port-taken",
                format!("port {port} of service `{service}` of {new} is taken by {holder}"),
            )
        }
        () if gone => {
            let how = ending(why.exit.as_ref());
            let often = match why.starts {
                0 | 1 => "once".to_owned(),
                starts => format!("{starts} times"),
            };
            let text = format!("service `{service}` of {new} {how}, {often}");
            Diagnostic::error("deploy::died", text)
        }
        () => {
            let within = process
                .ready
                .as_ref()
                .map_or(why.waited, |ready| ready.within);
            let text = format!(
                "service `{service}` of {new} did not become ready within {} s",
                within.as_secs()
            );
            Diagnostic::error("deploy::not-ready", text)
        }
    }
}

fn listening(port: u16, listens: &[u16], has_lines: bool) -> String {
    let below = if has_lines {
        "; its last lines are below"
    } else {
        "; it wrote nothing"
    };
    let others: Vec<String> = listens.iter().map(u16::to_string).collect();
    match (listens.contains(&port), others.is_empty()) {
        (true, _) => format!("it listens on {port}{below}"),
        (false, true) => format!("it does not listen on {port}, nor on any other port{below}"),
        (false, false) => format!(
            "it listens on {}, and should on $PORT, {port}{below}",
            others.join(", ")
        ),
    }
}

fn still_serving(environment: &str, old: Option<&Version>) -> String {
    match old {
        Some(old) => format!(
            "{environment} still serves {}; nothing was switched",
            old.name()
        ),
        None => format!("{environment} serves nothing yet; what was started is stopped again"),
    }
}
