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

#[path = "model/engine.rs"]
mod engine;

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};
use towpath::clock::Mark;
use towpath::id::{Digest, RunId};
use towpath::release::next::{Note, Own};
use towpath::release::{Environment, OpenRun, Operation, Phase, Plan, Side, Step, Version};
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
    /// The run under way, of two that came before.
    third: Operation,
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

/// Brings version `run` in the place of the one before, with the one before that warm: a deployment retires that, and
/// keeps what served; a restart has that go, and leaves what is warm.
fn bring(operation: Operation, run: u64) -> Plan {
    let goes = match operation {
        Operation::Restart => Side::Old,
        _ => Side::Warm,
    };
    Plan {
        run: RunId(run),
        operation,
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
            Step::Retire { side: goes },
        ],
        sabotage: None,
        changes: Vec::new(),
    }
}

impl State {
    /// Two versions were deployed; the third run has begun.
    fn begun(budget: Budget, third: Operation) -> State {
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
            let plan = bring(Operation::Deploy, run);
            state.row("run", Kind::Intent, json!(plan), run).unwrap();
            for step in &plan.steps {
                let name = step.to_string();
                state.row(&name, Kind::Intent, Value::Null, run).unwrap();
                state.row(&name, Kind::Ok, Value::Null, run).unwrap();
            }
            state.row("run", Kind::Ok, Value::Null, run).unwrap();
        }
        state
            .row("run", Kind::Intent, json!(bring(third, 3)), 3)
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

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::begun(self.budget, self.third)]
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

/// After the third run one version serves with its workers, one is warm, and nothing else is left.
fn is_whole(model: &Protocol, state: &State) -> bool {
    let things = &state.rest.things;
    let (ended, warm) = (&state.now.ended, &state.now.warm);
    match (ended.len(), ended.get(2)) {
        (3, Some(ended)) if state.open().is_none() && !ended.done => {
            things.traffic == 2 && things.workers == [0, 0, 2, 0] && things.webs[3] == 0
        }
        (3, Some(_)) if state.open().is_none() => {
            let warm = warm.as_ref().map(|warm| warm.version.run.0);
            let (kept, webs) = match model.third {
                Operation::Restart => (1, [0, 2, 0, 2]),
                _ => (2, [0, 0, 2, 2]),
            };
            let workers = [0, 0, 0, 2];
            (things.traffic, things.workers, things.webs) == (3, workers, webs)
                && warm == Some(kept)
        }
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
    let budgets = [("each", EACH), ("crashes", CRASHES), ("failures", FAILURES)];
    let thirds = [Operation::Deploy, Operation::Restart];
    for (third, (name, budget)) in thirds
        .into_iter()
        .flat_map(|third| budgets.map(|budget| (third, budget)))
    {
        let began = Instant::now();
        let model = Protocol {
            bug: None,
            budget,
            third,
        };
        let checker = model.checker().threads(2).spawn_bfs().join();
        println!(
            "model, {third:?}, {name} {budget:?}: {} states, {} of them different, depth {}, {:.1} s",
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
        third: Operation::Deploy,
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
            third: Operation::Deploy,
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
