//! What an engine does, a step at a time, and what its effects leave.

use serde_json::{Value, json};
use towpath::diagnostic::Diagnostic;
use towpath::release::next::{Move, Note, after_apply, after_undo, asked, next};
use towpath::release::{OpenRun, Side, Step, StepState, Version, retire};
use towpath::state::Kind;

use super::{Bug, Doing, Engine, Protocol, State};

impl Protocol {
    /// Whether the journal takes a row of this engine; one that is superseded ends.
    fn append(&self, state: &mut State, engine: usize, note: &Note) -> bool {
        let stale = state.engine(engine).epoch != state.rest.epoch;
        if stale && self.bug != Some(Bug::EpochIgnored) {
            state.rest.engines[engine] = None;
            return false;
        }
        let run = state.now.last_run;
        state.note(note, run).is_ok()
    }

    pub(super) fn go(&self, state: &mut State, engine: usize) -> Option<()> {
        let doing = state.engine(engine).doing.clone();
        match doing {
            None => self.decide(state, engine),
            Some(doing) if doing.halves < 2 => {
                half(state, engine);
                Some(())
            }
            Some(doing) if doing.unwritten => {
                let attempt = state
                    .open()?
                    .attempts
                    .get(&doing.step)
                    .copied()
                    .unwrap_or(0);
                let kind = Kind::Intent;
                let note = row(&doing.step, attempt + 1, kind);
                let taken = self.append(state, engine, &note);
                let doing = taken.then_some(Doing {
                    unwritten: false,
                    ..doing
                });
                state.rest.engines[engine].as_mut()?.doing = doing;
                Some(())
            }
            Some(doing) => self.result(state, engine, &doing, true),
        }
    }

    fn decide(&self, state: &mut State, engine: usize) -> Option<()> {
        let own = state.engine(engine).own;
        let (step, undo) = match next(state.open()?, &own) {
            Move::Rest => return None,
            Move::Write(note) => return self.write(state, engine, note),
            Move::Apply(step) => (step, false),
            Move::Undo(step) => (step, true),
        };
        let name = step.to_string();
        let acts = match (self.bug, undo) {
            (Some(Bug::UndoByCompletion), true) => mirrored(state.open()?, &name)?,
            _ => name.clone(),
        };
        begin(state, engine, &acts, undo, false);
        state.engine(engine).doing.as_mut()?.row = name;
        Some(())
    }

    fn write(&self, state: &mut State, engine: usize, note: Note) -> Option<()> {
        if self.bug == Some(Bug::EffectFirst) && note.kind == Kind::Intent {
            begin(state, engine, &note.step, false, true);
            return Some(());
        }
        let before = state.now.open.as_ref().map(|run| run.plan.run);
        let intends = matches!(note.kind, Kind::Intent | Kind::UndoIntent);
        let taken = self.append(state, engine, &note);
        // Refused by the fold itself: it would decide the same for ever.
        if !taken && state.rest.engines[engine].is_some() {
            return None;
        }
        if taken && intends {
            let seq = state.seq;
            state.engine(engine).own = Some(seq);
        }
        if state.now.open.as_ref().map(|run| run.plan.run) != before {
            let rest = &mut state.rest;
            (rest.undoing, rest.pivoted, rest.last_undone) = (false, false, None);
        }
        Some(())
    }

    pub(super) fn result(
        &self,
        state: &mut State,
        engine: usize,
        doing: &Doing,
        good: bool,
    ) -> Option<()> {
        let run = state.open()?;
        let step = step_of(run, &doing.row)?;
        let failed = || Diagnostic::error("model::failed", "it failed");
        let note = match (doing.undo, good) {
            (false, true) => after_apply(run, step, &Ok(Value::Null)),
            (false, false) => after_apply(run, step, &Err(failed())),
            (true, true) => after_undo(run, step, &Ok(())),
            (true, false) => after_undo(run, step, &Err(failed())),
        };
        state.engine(engine).doing = None;
        self.append(state, engine, &note);
        Some(())
    }

    pub(super) fn start(state: &mut State, engine: usize) -> Option<()> {
        let other = state.rest.engines[1 - engine].as_ref();
        if let Some(other) = other {
            let open = state.now.open.as_ref();
            let between = open.is_some_and(|run| acts(run, other));
            if state.rest.left.thefts == 0 || other.doing.is_some() || between {
                return None;
            }
            state.rest.left.thefts -= 1;
        }
        state.rest.epoch += 1;
        state.rest.engines[engine] = Some(Engine {
            epoch: state.rest.epoch,
            own: None,
            doing: None,
        });
        Some(())
    }

    pub(super) fn cancel(&self, state: &mut State, engine: usize) -> Option<()> {
        state.rest.left.cancels = state.rest.left.cancels.checked_sub(1)?;
        let note = asked(state.open()?)?;
        self.append(state, engine, &note).then_some(())
    }

    pub(super) fn window_ends(&self, state: &mut State, engine: usize) -> Option<()> {
        let is_due = state.now.open.is_none() && state.now.warm.is_some();
        let plan = is_due.then(|| retire(&state.now))?;
        let stale = state.engine(engine).epoch != state.rest.epoch;
        // Once is enough.
        if stale || plan.run.0 > 4 {
            return None;
        }
        state.row("run", Kind::Intent, json!(plan), plan.run.0).ok()
    }
}

/// Whether an engine has an intent of its own that no result follows yet.
fn acts(run: &OpenRun, engine: &Engine) -> bool {
    matches!(next(run, &engine.own), Move::Apply(_) | Move::Undo(_))
}

fn row(step: &str, attempt: u32, kind: Kind) -> Note {
    Note {
        step: step.to_owned(),
        attempt,
        kind,
        data: Value::Null,
    }
}

fn step_of<'a>(run: &'a OpenRun, name: &str) -> Option<&'a Step> {
    let mut steps = run.plan.steps.iter();
    steps.find(|step| step.to_string() == name)
}

/// What was completed as long after the first as this one was before the last.
fn mirrored(run: &OpenRun, name: &str) -> Option<String> {
    let place = run.intents.iter().position(|intent| intent == name)?;
    run.intents.iter().rev().nth(place).cloned()
}

/// An effect begins: here is seen what must never be.
fn begin(state: &mut State, engine: usize, step: &str, undo: bool, unwritten: bool) {
    let run = state.now.open.as_ref().unwrap();
    let (written, place) = (
        matches!(
            (run.steps.get(step), undo),
            (Some(StepState::Intent), false) | (Some(StepState::UndoIntent(_)), true)
        ),
        run.intents.iter().position(|name| name == step),
    );
    let rest = &mut state.rest;
    let epoch = rest.engines[engine].as_ref().unwrap().epoch;
    let other = rest.engines[1 - engine].as_ref();
    let both = other.is_some_and(|other| other.doing.is_some());
    rest.seen.without_intent |= !written;
    rest.seen.interleaved |= epoch < rest.acted || both;
    rest.acted = rest.acted.max(epoch);
    match undo {
        true => {
            rest.seen.undone_past_pivot |= rest.pivoted;
            rest.seen.out_of_order |= rest.last_undone.is_some_and(|last| place > Some(last));
            (rest.undoing, rest.last_undone) = (true, place);
        }
        false => {
            rest.seen.forward_after_undo |= rest.undoing;
            rest.pivoted |= step.starts_with("retire");
        }
    }
    state.engine(engine).doing = Some(Doing {
        step: step.to_owned(),
        row: step.to_owned(),
        undo,
        halves: 0,
        unwritten,
    });
}

/// Half of the effect under way.
fn half(state: &mut State, engine: usize) {
    let doing = state.engine(engine).doing.as_mut().unwrap();
    doing.halves += 1;
    let (name, undo, halves) = (doing.step.clone(), doing.undo, doing.halves);
    // With a planted fault somebody else may have ended it meanwhile.
    let Some(run) = state.now.open.as_ref() else {
        return;
    };
    let plan = &run.plan;
    let index = |version: Option<&Version>| version.map_or(0, |version| version.run.0 as usize);
    let (new, old, warm) = (
        index(plan.new.as_ref()),
        index(plan.old.as_ref()),
        index(plan.warm.as_ref()),
    );
    let Some(step) = step_of(run, &name).cloned() else {
        return;
    };
    let things = &mut state.rest.things;
    let up = |thing: &mut u8| *thing = (*thing).max(halves);
    let down = |thing: &mut u8| *thing = (*thing).min(2 - halves);
    match (step, undo) {
        (Step::Launch { .. }, false) => up(&mut things.webs[new]),
        (Step::Launch { .. }, true) => down(&mut things.webs[new]),
        (Step::StopWorkers, false) => down(&mut things.workers[old]),
        (Step::StopWorkers, true) => up(&mut things.workers[old]),
        (Step::StartWorkers, false) => up(&mut things.workers[new]),
        (Step::StartWorkers, true) => down(&mut things.workers[new]),
        (Step::Switch, _) if halves == 2 => things.traffic = if undo { old } else { new },
        (Step::Retire { side: Side::Old }, false) => down(&mut things.webs[old]),
        (Step::Retire { .. }, false) => down(&mut things.webs[warm]),
        _ => {}
    }
}
