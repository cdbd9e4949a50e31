//! Driving a run: forward, or back; from its beginning, or from where a crash cut it off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::failpoint::{Point, reach};
use super::fold::RUN;
use super::{Class, OpenRun, Phase, Plan, Presence, Step, StepState, World};
use crate::diagnostic::Diagnostic;
use crate::state::{Entry, Kind};

/// What a step's probe found in its place is not ours.
const FOREIGN: &str = "deploy::foreign";

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
    let open = open(world)?;
    if open.is_cancelled {
        cancel.ask();
    }
    if open.phase == Phase::Forward {
        match forward(world, open, cancel).await? {
            Ok(()) => return Ok(Outcome::Done),
            Err(stuck @ Outcome::Stuck(_)) => return Ok(stuck),
            Err(_) => {}
        }
    }
    backward(world).await
}

fn open(world: &World) -> Result<OpenRun, Diagnostic> {
    let open = world.environment()?.open;
    open.ok_or_else(|| Diagnostic::error("state::no-run", "there is no run to go on with"))
}

async fn forward(
    world: &World,
    mut run: OpenRun,
    cancel: &Cancel,
) -> Result<Result<(), Outcome>, Diagnostic> {
    for step in run.plan.steps.clone() {
        let name = step.to_string();
        let outcome = match run.steps.get(&name) {
            Some(StepState::Ok(_)) => continue,
            // A crash came between the step's row and the run's.
            Some(StepState::Failed(failure)) => Err(read(failure.clone())),
            _ => one(world, &run, &step, cancel).await?,
        };
        match outcome {
            Ok(gave) => {
                run.steps.insert(name, StepState::Ok(gave));
            }
            Err(failure) if needs_a_person(&step, &failure) => {
                return stuck(world, &run, failure).map(Err);
            }
            Err(failure) => {
                write(world, &run.plan, RUN, 1, Kind::Failed, data(&failure))?;
                return Ok(Err(Outcome::Undone(failure)));
            }
        }
    }
    write(world, &run.plan, RUN, 1, Kind::Ok, Value::Null)?;
    Ok(Ok(()))
}

/// One step: intent, effect, result. The inner error is the step's own.
async fn one(
    world: &World,
    run: &OpenRun,
    step: &Step,
    cancel: &Cancel,
) -> Result<Result<Value, Diagnostic>, Diagnostic> {
    let name = step.to_string();
    let attempt = run.attempts.get(&name).map_or(1, |attempt| attempt + 1);
    let presence = match run.steps.get(&name) {
        Some(StepState::Intent) => step.probe(world, run).await,
        _ => Presence::Absent,
    };
    write(
        world,
        &run.plan,
        &name,
        attempt,
        Kind::Intent,
        json!({ "probe": presence }),
    )?;
    reach("apply", &name, Point::Before);
    let result = match presence {
        Presence::Foreign => Err(foreign(&name)),
        _ if cancel.is_asked() && step.class() != Class::ForwardOnly => Err(cancelled()),
        _ if step.can_be_cut_off() => tokio::select! {
            result = step.apply(world, run) => result,
            () = cancel.asked() => Err(cancelled()),
        },
        _ => step.apply(world, run).await,
    };
    reach("apply", &name, Point::After);
    match &result {
        Ok(gave) => write(world, &run.plan, &name, attempt, Kind::Ok, gave.clone())?,
        Err(failure) if needs_a_person(step, failure) => {
            write(world, &run.plan, &name, attempt, Kind::Stuck, data(failure))?;
        }
        Err(failure) => write(
            world,
            &run.plan,
            &name,
            attempt,
            Kind::Failed,
            data(failure),
        )?,
    }
    reach("apply", &name, Point::Written);
    Ok(result)
}

/// Undoes in the reverse order of intent.
async fn backward(world: &World) -> Result<Outcome, Diagnostic> {
    let run = open(world)?;
    let failure = read(run.failure.clone().unwrap_or_default());
    for name in run.intents.iter().rev() {
        let step = run.plan.steps.iter().find(|step| step.to_string() == *name);
        let (Some(step), Some(state)) = (step, run.steps.get(name)) else {
            continue;
        };
        if matches!(state, StepState::Undone) || step.class() == Class::ForwardOnly {
            continue;
        }
        let attempt = run.attempts.get(name).copied().unwrap_or(1);
        write(
            world,
            &run.plan,
            name,
            attempt,
            Kind::UndoIntent,
            Value::Null,
        )?;
        reach("undo", name, Point::Before);
        let undone = step.undo(world, &run).await;
        reach("undo", name, Point::After);
        if let Err(trouble) = undone {
            write(world, &run.plan, name, attempt, Kind::Stuck, data(&trouble))?;
            return stuck(world, &run, trouble);
        }
        write(world, &run.plan, name, attempt, Kind::Undone, Value::Null)?;
        reach("undo", name, Point::Written);
    }
    write(world, &run.plan, RUN, 1, Kind::Undone, data(&failure))?;
    Ok(Outcome::Undone(failure))
}

fn stuck(world: &World, run: &OpenRun, trouble: Diagnostic) -> Result<Outcome, Diagnostic> {
    write(world, &run.plan, RUN, 1, Kind::Stuck, data(&trouble))?;
    Ok(Outcome::Stuck(trouble))
}

fn write(
    world: &World,
    plan: &Plan,
    step: &str,
    attempt: u32,
    kind: Kind,
    data: Value,
) -> Result<(), Diagnostic> {
    let actor = plan.actor.clone();
    let entry = Entry {
        run: plan.run,
        step: step.to_owned(),
        attempt,
        kind,
        actor,
        data,
    };
    world.append(&entry).map(drop)
}

fn data(diagnostic: &Diagnostic) -> Value {
    serde_json::to_value(diagnostic).unwrap_or(Value::Null)
}

fn read(failure: Value) -> Diagnostic {
    serde_json::from_value(failure)
        .unwrap_or_else(|_| Diagnostic::error("deploy::failed", "the run failed"))
}

fn cancelled() -> Diagnostic {
    Diagnostic::error("deploy::cancelled", "it was cancelled")
}

/// There is no way back over the step, or going back would overwrite what somebody else did.
fn needs_a_person(step: &Step, failure: &Diagnostic) -> bool {
    step.class() == Class::ForwardOnly || failure.code == FOREIGN
}

fn foreign(step: &str) -> Diagnostic {
    Diagnostic::error(
        FOREIGN,
        format!("what step `{step}` was to change was changed by somebody else"),
    )
    .help("see `tow status`; `tow cancel` undoes what this run did, and overwrites that")
}
