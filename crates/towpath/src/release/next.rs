//! What an engine does next: a pure function of the journal's fold.
//!
//! The executor carries out what is decided here, and the model of the protocol
//! (`tests/model.rs`) explores it with crashes, failures, cancellations and a second engine.

use std::time::Duration;

use serde_json::{Value, json};

use super::fold::RUN;
use super::{OpenRun, Phase, Step, StepState};
use crate::diagnostic::Diagnostic;
use crate::state::Kind;

/// Attempts of a step past the point of no return, before a person is needed.
pub const TRIES: u32 = 4;

/// The pause after its first attempt; each next one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// What a step's probe found in its place is not ours.
pub const FOREIGN: &str = "deploy::foreign";

/// What a run that somebody has cancelled goes back with.
pub const CANCELLED: &str = "deploy::cancelled";

/// A row that is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// The step, by name; `run` for the run itself.
    pub step: String,
    /// Counted from 1.
    pub attempt: u32,
    /// What happened.
    pub kind: Kind,
    /// Typed by the kind.
    pub data: Value,
}

/// What is done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Move {
    /// A row is written.
    Write(Note),
    /// This step acts: the intent that stands last is of this very engine.
    Apply(Step),
    /// This step is undone, likewise.
    Undo(Step),
    /// Nothing, until a person has said so.
    Rest,
}

/// The number of the intent that an engine has written itself. One that another engine has left is
/// written again first, after a probe; by step and attempt the two could not be told apart.
pub type Own = Option<i64>;

/// Decides.
#[must_use]
pub fn next(run: &OpenRun, own: &Own) -> Move {
    match run.phase {
        Phase::Forward => forward(run, own),
        Phase::Undoing => backward(run, own),
        Phase::Stuck => Move::Rest,
    }
}

fn forward(run: &OpenRun, own: &Own) -> Move {
    let cancelled = run.is_cancelled && !run.is_past_pivot();
    for step in &run.plan.steps {
        let name = step.to_string();
        let attempt = run.attempts.get(&name).copied().unwrap_or(0);
        match run.steps.get(&name) {
            Some(StepState::Ok(_)) => continue,
            Some(StepState::Intent) if !cancelled && is_own(run, own) => {
                return Move::Apply(step.clone());
            }
            // A crash came between the step's row and the run's.
            Some(StepState::Failed(failure)) => return turn(Kind::Failed, failure.clone()),
            Some(StepState::Stuck(stuck)) => return turn(Kind::Stuck, stuck.failure.clone()),
            _ if cancelled => return turn(Kind::Failed, data(&cancellation())),
            _ if run.plan.pivot() == Some(step) && !run.is_past_pivot() => {
                return turn(Kind::Pivot, json!({ "step": name }));
            }
            _ => return write(&name, attempt + 1, Kind::Intent, Value::Null),
        }
    }
    match cancelled {
        true => turn(Kind::Failed, data(&cancellation())),
        false => turn(Kind::Ok, Value::Null),
    }
}

fn is_own(run: &OpenRun, own: &Own) -> bool {
    own.is_some() && *own == run.intended
}

/// In the reverse order of intent, not of completion.
fn backward(run: &OpenRun, own: &Own) -> Move {
    for name in run.intents.iter().rev() {
        let step = run.plan.steps.iter().find(|step| step.to_string() == *name);
        let (Some(step), Some(state)) = (step, run.steps.get(name)) else {
            continue;
        };
        let attempt = run.attempts.get(name).copied().unwrap_or(1);
        return match state {
            StepState::Undone => continue,
            StepState::UndoIntent(_) if is_own(run, own) => Move::Undo(step.clone()),
            StepState::Stuck(stuck) => turn(Kind::Stuck, stuck.failure.clone()),
            _ => write(name, attempt, Kind::UndoIntent, Value::Null),
        };
    }
    turn(Kind::Undone, run.failure.clone().unwrap_or_default())
}

/// The row that follows an attempt to act. Before the point of no return a failure turns the run
/// round; past it the step is tried again, and then a person is needed. What somebody else has put
/// in the place of an effect is not overwritten without one either.
#[must_use]
pub fn after_apply(run: &OpenRun, step: &Step, result: &Result<Value, Diagnostic>) -> Note {
    let name = step.to_string();
    let (kind, data) = match result {
        Ok(gave) => (Kind::Ok, gave.clone()),
        Err(failure) if failure.code == FOREIGN => (Kind::Stuck, data(failure)),
        Err(failure) if !run.is_past_pivot() => (Kind::Failed, data(failure)),
        Err(failure) if run.tries + 1 < TRIES => (Kind::Waiting, data(failure)),
        Err(failure) => (Kind::Stuck, data(failure)),
    };
    note(&name, attempt(run, &name), kind, data)
}

/// The row that follows an attempt to undo.
#[must_use]
pub fn after_undo(run: &OpenRun, step: &Step, result: &Result<(), Diagnostic>) -> Note {
    let name = step.to_string();
    let (kind, data) = match result {
        Ok(()) => (Kind::Undone, Value::Null),
        Err(trouble) => (Kind::Stuck, data(trouble)),
    };
    note(&name, attempt(run, &name), kind, data)
}

/// The row by which a person's `tow cancel` is heard: a run under way goes back; a stuck one goes on
/// to where it still can, back, or forward past the point of no return. `None` when it is too late.
#[must_use]
pub fn asked(run: &OpenRun) -> Option<Note> {
    let (kind, data) = match (run.phase, run.is_past_pivot()) {
        (Phase::Stuck, true) => (Kind::Signal, json!({ "ask": "again" })),
        (Phase::Stuck, false) => (Kind::Failed, run.failure.clone().unwrap_or_default()),
        (_, true) => return None,
        (_, false) => (Kind::Signal, json!({ "ask": "cancel" })),
    };
    Some(note(RUN, 1, kind, data))
}

/// How long to wait after so many failures past the point of no return.
pub(super) fn pause(tries: u32) -> Duration {
    PAUSE * 2_u32.saturating_pow(tries.saturating_sub(1).min(6))
}

fn attempt(run: &OpenRun, name: &str) -> u32 {
    run.attempts.get(name).copied().unwrap_or(1)
}

fn turn(kind: Kind, data: Value) -> Move {
    write(RUN, 1, kind, data)
}

fn write(step: &str, attempt: u32, kind: Kind, data: Value) -> Move {
    Move::Write(note(step, attempt, kind, data))
}

fn note(step: &str, attempt: u32, kind: Kind, data: Value) -> Note {
    Note {
        step: step.to_owned(),
        attempt,
        kind,
        data,
    }
}

pub(super) fn data(diagnostic: &Diagnostic) -> Value {
    serde_json::to_value(diagnostic).unwrap_or(Value::Null)
}

pub(super) fn cancellation() -> Diagnostic {
    Diagnostic::error(CANCELLED, "it was cancelled")
}
