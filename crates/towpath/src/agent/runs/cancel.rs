//! Cancelling the run under way.

use std::sync::Arc;

use super::{Runs, note};
use crate::agent::answer::{Failure, failed, refused};
use crate::agent::api::Begun;
use crate::diagnostic::Diagnostic;
use crate::release::next::asked;
use crate::release::{self, OpenRun, Phase, Version, World};

/// Asks the run under way to go back; goes on with a stuck one.
pub(in crate::agent) fn cancel(
    world: &Arc<World>,
    runs: &Arc<Runs>,
    actor: &str,
) -> Result<Begun, Failure> {
    let now = world.environment().map_err(failed)?;
    let run = now
        .open
        .ok_or_else(|| refused(nothing_to_cancel(&world.environment)))?;
    let asked = asked(&run).ok_or_else(|| refused(too_late(&world.environment, &run)))?;
    let noted = note(world, run.plan.run, actor, asked.kind, asked.data);
    let after = noted.map_err(|diagnostic| match diagnostic.code.as_ref() {
        release::OVERTAKEN => refused(diagnostic),
        _ => failed(diagnostic),
    })?;
    if run.phase == Phase::Stuck {
        runs.go_on(world);
    } else {
        runs.cancel();
    }
    let steps = run.intents.iter().rev().cloned().collect();
    let name = |version: Option<&Version>| version.map(Version::name);
    let (to, from) = (name(run.plan.old.as_ref()), name(run.plan.new.as_ref()));
    Ok(Begun {
        run: run.plan.run,
        steps,
        to,
        from,
        price: None,
        already: None,
        explained: None,
        after,
        changes: Vec::new(),
    })
}

fn nothing_to_cancel(environment: &str) -> Diagnostic {
    let text = format!("no run is under way in {environment}");
    Diagnostic::error("cancel::nothing", text)
        .note("nothing was touched")
        .help(format!(
            "to go back to the version before: `tow rollback -e {environment}`"
        ))
}

fn too_late(environment: &str, run: &OpenRun) -> Diagnostic {
    let id = run.plan.run;
    let pivot = run.pivot.as_deref().unwrap_or_default();
    let text = format!("{id} has passed its point of no return, `{pivot}`");
    Diagnostic::error("cancel::too-late", text)
        .note("it is finished now, and was not stopped; a step that fails is tried again")
        .help(format!(
            "when it has ended, `tow status -e {environment}` says what there is to go back to"
        ))
}
