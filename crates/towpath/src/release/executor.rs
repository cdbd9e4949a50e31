//! Driving a run: forward, or back; from its beginning, or from where a crash cut it off. What is
//! done next is decided in `next`; here it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::failpoint::{Point, reach};
use super::fold::RUN;
use super::next::{self, FOREIGN, Move, Note, Own, TRIES, after_apply, after_undo, next};
use super::trouble::{failure, stuck};
use super::world::OVERTAKEN;
use super::{OpenRun, Phase, Presence, Step, StepState, World};
use crate::diagnostic::Diagnostic;
use crate::state::{Entry, Kind};

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It did what it was for.
    Done,
    /// It failed, and everything it did is undone.
    Undone(Diagnostic),
    /// It could neither be finished nor undone.
    Stuck(Diagnostic),
}

/// How somebody asks a run to go back.
#[derive(Clone, Default)]
pub struct Cancel {
    asked: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

impl Cancel {
    /// Asks.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.wake.notify_waiters();
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    async fn asked(&self) {
        let wake = self.wake.notified();
        if !self.is_asked() {
            wake.await;
        }
    }
}

/// Drives the open run to its end, from wherever it stands.
///
/// # Errors
/// When the journal itself cannot be written: the run stays open, and is resumed later.
pub async fn resume(world: &World, cancel: &Cancel) -> Result<Outcome, Diagnostic> {
    let mut own: Own = None;
    let mut overtaken = 0;
    loop {
        let run = open(world)?;
        let moved = match next(&run, &own) {
            Move::Rest => return Ok(Outcome::Stuck(failure(run.failure.as_ref()))),
            Move::Write(note) if note.step == RUN => end(world, &run, note),
            Move::Write(note) => intend(world, &run, note).await.map(|intent| {
                own = Some(intent);
                None
            }),
            Move::Apply(step) => apply(world, &run, &step, cancel).await.map(|()| None),
            Move::Undo(step) => undo(world, &run, &step).await.map(|()| None),
        };
        match moved {
            Ok(Some(outcome)) => return Ok(outcome),
            Ok(None) => overtaken = 0,
            // Somebody has cancelled since it was decided: decide anew.
            Err(error) if error.code == OVERTAKEN && overtaken < TRIES => overtaken += 1,
            Err(error) => return Err(error),
        }
    }
}

fn open(world: &World) -> Result<OpenRun, Diagnostic> {
    let open = world.environment()?.open;
    open.ok_or_else(|| Diagnostic::error("state::no-run", "there is no run to go on with"))
}

/// A row of the run itself; some of them end it.
fn end(world: &World, run: &OpenRun, note: Note) -> Result<Option<Outcome>, Diagnostic> {
    let kind = note.kind;
    let data = match kind {
        Kind::Stuck => next::data(&stuck(&world.environment, run, failure(Some(&note.data)))),
        _ => note.data,
    };
    let told = failure(Some(&data));
    write(world, run, Note { data, ..note })?;
    Ok(match kind {
        Kind::Ok => Some(Outcome::Done),
        Kind::Undone => Some(Outcome::Undone(told)),
        Kind::Stuck => Some(Outcome::Stuck(told)),
        _ => None,
    })
}

/// The intent, with what there is already where an engine before this one was cut off.
async fn intend(world: &World, run: &OpenRun, note: Note) -> Result<i64, Diagnostic> {
    let was = run.steps.get(&note.step);
    let step = run
        .plan
        .steps
        .iter()
        .find(|step| step.to_string() == note.step);
    let data = match (was, step) {
        (Some(StepState::Intent), Some(step)) if run.phase == Phase::Forward => {
            json!({ "probe": step.probe(world, run).await })
        }
        _ => note.data,
    };
    let foreign = data["probe"] == json!(Presence::Foreign);
    let name = note.step.clone();
    let own = write(world, run, Note { data, ..note })?;
    if foreign && let Some(step) = step {
        let result = Err(found_foreign(&name));
        let run = open(world)?;
        write(world, &run, after_apply(&run, step, &result))?;
    }
    Ok(own)
}

/// The effect of a step whose intent is written, and its result.
async fn apply(
    world: &World,
    run: &OpenRun,
    step: &Step,
    cancel: &Cancel,
) -> Result<(), Diagnostic> {
    let name = step.to_string();
    let can_go_back = !run.is_past_pivot();
    reach("apply", &name, Point::Before);
    let result = match step.can_be_cut_off(world, run) && can_go_back {
        true => tokio::select! {
            result = step.apply(world, run) => result,
            () = cancel.asked() => Err(next::cancellation()),
        },
        false => step.apply(world, run).await,
    };
    reach("apply", &name, Point::After);
    // What was decided about it before it acted holds: only a cancellation may have come since.
    let note = after_apply(run, step, &result);
    let waits = note.kind == Kind::Waiting;
    write(world, run, note)?;
    reach("apply", &name, Point::Written);
    if waits {
        sleep(next::pause(run.tries + 1)).await;
    }
    Ok(())
}

async fn undo(world: &World, run: &OpenRun, step: &Step) -> Result<(), Diagnostic> {
    let name = step.to_string();
    reach("undo", &name, Point::Before);
    let result = step.undo(world, run).await;
    reach("undo", &name, Point::After);
    write(world, run, after_undo(run, step, &result))?;
    reach("undo", &name, Point::Written);
    Ok(())
}

/// Gives the row's number.
fn write(world: &World, run: &OpenRun, note: Note) -> Result<i64, Diagnostic> {
    let Note {
        step,
        attempt,
        kind,
        data,
    } = note;
    let entry = Entry {
        run: run.plan.run,
        step,
        attempt,
        kind,
        actor: run.plan.actor.clone(),
        data,
    };
    world.append(&entry).map(|row| row.seq)
}

fn found_foreign(step: &str) -> Diagnostic {
    Diagnostic::error(
        FOREIGN,
        format!("what step `{step}` was to change was changed by somebody else"),
    )
    .note("going on, either way, overwrites that")
}
