//! A model of the protocol between journal, world and engines, explored whole.
//!
//! What is real here: the fold with its legality (`Environment::apply`), what is done next
//! (`release::next`), what a person's cancellation writes, and the plan of a window's end. What is
//! modelled: two engines, the lease with its epoch, crashes between any two of the following -
//! deciding, writing, half an effect, the other half, writing the result -, effects that fail, a
//! person who cancels or goes on, a window that ends, and an engine that opens the state although
//! another has it (a lock that was lost). An effect that is under way at that very moment is the
//! one thing that an epoch cannot stop; the model has the lock lost between effects only.
#![allow(clippy::unwrap_used)] // in the helpers of tests as in the tests themselves
#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};
use towpath::clock::Mark;
use towpath::diagnostic::Diagnostic;
use towpath::id::{Digest, RunId};
use towpath::release::next::{Move, Note, Own, after_apply, after_undo, asked, next};
use towpath::release::{
    Environment, OpenRun, Operation, Phase, Plan, Side, Step, StepState, Version, retire,
};
use towpath::state::{Kind, Row};

/// A fault planted into the engines, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// The intent is written after the effect.
    EffectFirst,
    /// Rows are taken whatever epoch their writer has.
    EpochIgnored,
    /// Undone in the order of completion, whatever the rows say.
    UndoByCompletion,
}

/// How often what goes wrong may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Budget {
    crashes: u8,
    failures: u8,
    cancels: u8,
    thefts: u8,
}

struct Protocol {
    bug: Option<Bug>,
    budget: Budget,
}

/// An effect under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Doing {
    step: String,
    /// The step that the journal has; another one only with a planted fault.
    row: String,
    undo: bool,
    /// Halves that are done.
    halves: u8,
    /// Whether its intent has still to be written; only with a planted fault.
    unwritten: bool,
}

/// An agent's process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Engine {
    epoch: u8,
    own: Own,
    doing: Option<Doing>,
}

/// What is there: 2 is all of it, 1 some, 0 none. By the run that made it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Things {
    webs: [u8; 4],
    workers: [u8; 4],
    traffic: usize,
}

/// What must never be seen, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Seen {
    without_intent: bool,
    interleaved: bool,
    forward_after_undo: bool,
    out_of_order: bool,
    undone_past_pivot: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct State {
    now: Environment,
    seq: i64,
    rest: Rest,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Rest {
    epoch: u8,
    engines: [Option<Engine>; 2],
    things: Things,
    left: Budget,
    seen: Seen,
    /// Of the run under way: whether an undo began, whether it acted past the pivot, and the place
    /// in the order of intents of what was undone last.
    undoing: bool,
    pivoted: bool,
    last_undone: Option<usize>,
    /// The highest epoch that has acted.
    acted: u8,
}

impl Hash for Engine {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.epoch, &self.doing).hash(state);
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rest.hash(state);
        let now = &self.now;
        (now.last_run, now.ended.len(), now.warm.is_some()).hash(state);
        now.live.as_ref().map(|live| live.run.0).hash(state);
        let Some(run) = &now.open else { return };
        // Numbers of rows differ from way to way; what counts is whose the last intent is.
        for engine in self.rest.engines.iter().flatten() {
            (engine.own.is_some() && engine.own == run.intended).hash(state);
        }
        (run.phase, &run.pivot, run.is_cancelled, run.tries).hash(state);
        (&run.intents, &run.attempts, run.failure.is_some()).hash(state);
        for (name, step) in &run.steps {
            (name, std::mem::discriminant(step)).hash(state);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    /// An engine goes one step on: decides and writes, or does half an effect, or writes its result.
    Go(usize),
    /// The effect under way fails.
    Fail(usize),
    /// SIGKILL.
    Crash(usize),
    /// An engine starts where none is, or, when the lock was lost, where there is one.
    Start(usize),
    /// A person says `tow cancel`.
    Cancel(usize),
    /// The window ends.
    WindowEnds(usize),
}

fn version(run: u64) -> Version {
    Version {
        run: RunId(run),
        release: None,
        root: PathBuf::from("/nowhere"),
        dev: true,
        manifest: String::new(),
        instances: Vec::new(),
        seed: None,
        images: std::collections::BTreeMap::new(),
        purpose: towpath::config::Purpose::Real,
    }
}

fn web() -> String {
    "web".to_owned()
}

/// A deployment of version `run` in the place of the one before, with the one before that warm.
fn deployment(run: u64) -> Plan {
    Plan {
        run: RunId(run),
        operation: Operation::Deploy,
        actor: "model".to_owned(),
        new: Some(version(run)),
        old: (run > 1).then(|| version(run - 1)),
        warm: (run > 2).then(|| version(run - 2)),
        window_ms: 60_000,
        drain_ms: 0,
        steps: vec![
            Step::Launch { service: web() },
            Step::StopWorkers,
            Step::StartWorkers,
            Step::Switch,
            Step::Retire { side: Side::Warm },
        ],
        sabotage: None,
        changes: Vec::new(),
    }
}

impl State {
    /// Two versions were deployed; the third deployment has begun.
    fn begun(budget: Budget) -> State {
        let engine = Engine {
            epoch: 1,
            own: None,
            doing: None,
        };
        let rest = Rest {
            epoch: 1,
            engines: [Some(engine), None],
            things: Things {
                webs: [0, 2, 2, 0],
                workers: [0, 0, 2, 0],
                traffic: 2,
            },
            left: budget,
            seen: Seen::default(),
            undoing: false,
            pivoted: false,
            last_undone: None,
            acted: 0,
        };
        let mut state = State {
            now: Environment::default(),
            seq: 0,
            rest,
        };
        for run in [1, 2] {
            let plan = deployment(run);
            state.row("run", Kind::Intent, json!(plan), run).unwrap();
            for step in &plan.steps {
                let name = step.to_string();
                state.row(&name, Kind::Intent, Value::Null, run).unwrap();
                state.row(&name, Kind::Ok, Value::Null, run).unwrap();
            }
            state.row("run", Kind::Ok, Value::Null, run).unwrap();
        }
        state
            .row("run", Kind::Intent, json!(deployment(3)), 3)
            .unwrap();
        state
    }

    fn row(&mut self, step: &str, kind: Kind, data: Value, run: u64) -> Result<(), String> {
        let note = Note {
            step: step.to_owned(),
            attempt: 1,
            kind,
            data,
        };
        self.note(&note, run)
    }

    /// One row further, when the real fold takes it.
    fn note(&mut self, note: &Note, run: u64) -> Result<(), String> {
        let row = Row {
            seq: self.seq + 1,
            run: RunId(run),
            step: note.step.clone(),
            attempt: note.attempt,
            kind: note.kind,
            at: Mark {
                wall_ms: 0,
                boot_ms: 0,
                boot_id: String::new(),
            },
            actor: String::new(),
            data: note.data.clone(),
            prev: Digest([0; 32]),
            hash: Digest([0; 32]),
        };
        let mut now = self.now.clone();
        now.apply(&row).map_err(|illegal| illegal.to_string())?;
        (self.now, self.seq) = (now, row.seq);
        Ok(())
    }

    fn open(&self) -> Option<&OpenRun> {
        self.now.open.as_ref()
    }

    fn engine(&mut self, engine: usize) -> &mut Engine {
        self.rest.engines[engine].as_mut().unwrap()
    }
}

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

    fn go(&self, state: &mut State, engine: usize) -> Option<()> {
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

    fn result(&self, state: &mut State, engine: usize, doing: &Doing, good: bool) -> Option<()> {
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

    fn start(state: &mut State, engine: usize) -> Option<()> {
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

    fn cancel(&self, state: &mut State, engine: usize) -> Option<()> {
        state.rest.left.cancels = state.rest.left.cancels.checked_sub(1)?;
        let note = asked(state.open()?)?;
        self.append(state, engine, &note).then_some(())
    }

    fn window_ends(&self, state: &mut State, engine: usize) -> Option<()> {
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
        (Step::Retire { .. }, false) => down(&mut things.webs[warm]),
        _ => {}
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::begun(self.budget)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for engine in [0, 1] {
            let Some(here) = &state.rest.engines[engine] else {
                actions.push(Action::Start(engine));
                continue;
            };
            let left = state.rest.left;
            actions.push(Action::Go(engine));
            actions.push(Action::WindowEnds(engine));
            if left.crashes > 0 {
                actions.push(Action::Crash(engine));
            }
            if left.failures > 0 && here.doing.as_ref().is_some_and(|doing| doing.halves < 2) {
                actions.push(Action::Fail(engine));
            }
            if left.cancels > 0 {
                actions.push(Action::Cancel(engine));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut state = state.clone();
        match action {
            Action::Go(engine) => self.go(&mut state, engine)?,
            Action::Fail(engine) => {
                state.rest.left.failures -= 1;
                let doing = state.engine(engine).doing.clone()?;
                self.result(&mut state, engine, &doing, false)?;
            }
            Action::Crash(engine) => {
                state.rest.left.crashes -= 1;
                state.rest.engines[engine] = None;
            }
            Action::Start(engine) => Protocol::start(&mut state, engine)?,
            Action::Cancel(engine) => self.cancel(&mut state, engine)?,
            Action::WindowEnds(engine) => self.window_ends(&mut state, engine)?,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no effect without its intent", |_, state: &State| {
                !state.rest.seen.without_intent
            }),
            Property::always("engines do not interleave", |_, state: &State| {
                !state.rest.seen.interleaved
            }),
            Property::always("nothing goes forward after an undo", |_, state: &State| {
                !state.rest.seen.forward_after_undo
            }),
            Property::always("undo in reverse order of intent", |_, state: &State| {
                !state.rest.seen.out_of_order
            }),
            Property::always("nothing is undone past the pivot", |_, state: &State| {
                !state.rest.seen.undone_past_pivot
            }),
            Property::always("traffic goes to what is there", |_, state: &State| {
                let things = &state.rest.things;
                things.webs[things.traffic] == 2
            }),
            Property::always("one version's workers at a time", |_, state: &State| {
                let workers = &state.rest.things.workers;
                workers.iter().filter(|workers| **workers > 0).count() < 2
            }),
            Property::always("what is begun comes to an end", comes_to_an_end),
            Property::always("what has ended is whole", is_whole),
            Property::sometimes("a run is done", |_, state: &State| {
                state.now.ended.len() == 3 && state.now.ended[2].done
            }),
            Property::sometimes("a run is undone", |_, state: &State| {
                state.now.ended.len() == 3 && !state.now.ended[2].done
            }),
            Property::sometimes("a window has ended", |_, state: &State| {
                state.now.ended.len() == 4
            }),
            Property::sometimes("a run is stuck", |_, state: &State| {
                state.open().is_some_and(|run| run.phase == Phase::Stuck)
            }),
            Property::sometimes("a step is tried again", |_, state: &State| {
                state.open().is_some_and(|run| run.tries > 0)
            }),
        ]
    }
}

/// A run that is open and does not wait for a person can go on.
fn comes_to_an_end(model: &Protocol, state: &State) -> bool {
    let settled = state.open().is_none_or(|run| run.phase == Phase::Stuck);
    let goes = |engine: usize| match state.rest.engines[engine] {
        Some(_) => model.next_state(state, Action::Go(engine)).is_some(),
        None => state.rest.engines[1 - engine].is_none(),
    };
    settled || [0, 1].into_iter().any(goes)
}

/// After the third deployment one version serves with its workers, and nothing else of it is left.
fn is_whole(_: &Protocol, state: &State) -> bool {
    let things = &state.rest.things;
    match (state.now.ended.len(), state.now.ended.get(2)) {
        (3, Some(ended)) if state.open().is_none() => match ended.done {
            true => things.traffic == 3 && things.workers == [0, 0, 0, 2] && things.webs[1] == 0,
            false => things.traffic == 2 && things.workers == [0, 0, 2, 0] && things.webs[3] == 0,
        },
        _ => true,
    }
}

/// Everything that can go wrong, once.
const EACH: Budget = Budget {
    crashes: 1,
    failures: 1,
    cancels: 1,
    thefts: 1,
};

const CRASHES: Budget = Budget {
    crashes: 3,
    failures: 1,
    cancels: 0,
    thefts: 0,
};

/// As many failures as bring a step past the point of no return to its end, and an undo too; and a
/// person who cancels, and goes on when it is stuck.
const FAILURES: Budget = Budget {
    crashes: 0,
    failures: 5,
    cancels: 3,
    thefts: 0,
};

#[test]
fn the_protocol_holds_in_every_state() {
    let mut reached = BTreeSet::new();
    for (name, budget) in [("each", EACH), ("crashes", CRASHES), ("failures", FAILURES)] {
        let began = Instant::now();
        let model = Protocol { bug: None, budget };
        let checker = model.checker().threads(2).spawn_bfs().join();
        println!(
            "model, {name} {budget:?}: {} states, {} of them different, depth {}, {:.1} s",
            checker.state_count(),
            checker.unique_state_count(),
            checker.max_depth(),
            began.elapsed().as_secs_f64()
        );
        for (name, path) in checker.discoveries() {
            if checker.discovery_classification(name).to_string() == "counterexample" {
                println!("{name}: {:#?}", path.into_actions());
            }
        }
        for property in checker.model().properties() {
            match property.expectation {
                Expectation::Sometimes => {}
                _ => checker.assert_no_discovery(property.name),
            }
        }
        reached.extend(checker.discoveries().into_keys());
    }
    let model = Protocol {
        bug: None,
        budget: EACH,
    };
    let is_sometimes = |one: &Property<_>| matches!(one.expectation, Expectation::Sometimes);
    let sometimes = model.properties().into_iter().filter(is_sometimes);
    let missed: Vec<_> = sometimes
        .map(|one| one.name)
        .filter(|one| !reached.contains(one))
        .collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

#[test]
fn planted_bugs_are_found() {
    let bugs = [
        (Bug::EffectFirst, "no effect without its intent"),
        (Bug::EffectFirst, "traffic goes to what is there"),
        (Bug::EpochIgnored, "engines do not interleave"),
        (Bug::UndoByCompletion, "undo in reverse order of intent"),
        (Bug::UndoByCompletion, "traffic goes to what is there"),
    ];
    for (bug, property) in bugs {
        let model = Protocol {
            bug: Some(bug),
            budget: EACH,
        };
        let wanted = HasDiscoveries::AllOf([property].into());
        let checker = model
            .checker()
            .threads(2)
            .finish_when(wanted)
            .spawn_bfs()
            .join();
        let path = checker.discovery(property);
        let path = path.unwrap_or_else(|| panic!("{bug:?} is not found by `{property}`"));
        println!(
            "{bug:?}: `{property}` fails after {} actions, {} states looked at",
            path.into_actions().len(),
            checker.unique_state_count()
        );
    }
}
