//! Who holds an environment, as it is said to whoever has to wait.

use super::{Holder, Runs};
use crate::clock::utc;
use crate::diagnostic::Diagnostic;
use crate::release::{Phase, World};

/// Who holds the environment, since when, and until when.
pub(super) fn under_way(world: &World, runs: &Runs) -> Diagnostic {
    let environment = &world.environment;
    let open = world.environment().ok().and_then(|now| now.open);
    let Some(run) = open else {
        return planned_for(environment, &runs.holder().unwrap_or_default());
    };
    let id = run.plan.run;
    let text = format!(
        "{environment} is held by {id}, a {} by {}",
        run.plan.operation, run.plan.actor
    );
    let at = run
        .at()
        .map_or(String::new(), |(step, _)| format!(" at `{step}`"));
    let (until, help) = match run.phase {
        Phase::Stuck => (
            format!("until a person goes on with it: it is stuck{at}"),
            format!(
                "see `tow status -e {environment}`, mend what it says, then `tow cancel -e {environment}`"
            ),
        ),
        Phase::Undoing => (
            format!("until it has ended: it goes back{at}"),
            format!("watch it with `tow status -e {environment}`"),
        ),
        Phase::Forward if run.is_past_pivot() => (
            format!("until it has ended: it is past its point of no return{at}"),
            format!("watch it with `tow status -e {environment}`"),
        ),
        Phase::Forward => (
            format!("until it has ended: it goes on{at}"),
            format!(
                "watch it with `tow status -e {environment}`, or undo it with `tow cancel -e {environment}`"
            ),
        ),
    };
    Diagnostic::error("deploy::locked", text)
        .note(format!("since {} and {until}", utc(run.since.wall_ms)))
        .note("nothing was touched")
        .help(help)
}

fn planned_for(environment: &str, holder: &Holder) -> Diagnostic {
    let Holder { actor, does, .. } = holder;
    Diagnostic::error(
        "deploy::locked",
        format!("{environment} is held by {actor}, who {does}"),
    )
    .note(format!(
        "since {} and until that is done, or this agent (process {}) ends",
        utc(holder.since_ms),
        std::process::id()
    ))
    .note("nothing was touched")
    .help("try again in a moment")
}
