//! What an environment is: a pure function of its journal.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Operation, Plan, Side, Step, Version};
use crate::clock::Mark;
use crate::id::{ReleaseId, RunId};
use crate::state::{Kind, Row};

/// The step name of a run's own rows.
pub(super) const RUN: &str = "run";

/// Where one step of a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum StepState {
    /// It was about to act when the last row was written.
    Intent,
    /// It has acted; what it gave.
    Ok(Value),
    /// It could not.
    Failed(Value),
    /// It was about to be undone.
    UndoIntent(Value),
    /// It is undone.
    Undone,
    /// It could neither be finished nor undone.
    Stuck(Value),
}

impl StepState {
    /// The state after a row of `kind`; `None` when such a row must not follow.
    fn next(now: Option<StepState>, kind: Kind, data: Value) -> Option<StepState> {
        use StepState as S;
        match (now, kind) {
            (None | Some(S::Intent | S::Stuck(_)), Kind::Intent) => Some(S::Intent),
            (Some(S::Intent), Kind::Ok) => Some(S::Ok(data)),
            (Some(S::Intent), Kind::Failed) => Some(S::Failed(data)),
            (Some(S::Intent | S::UndoIntent(_)), Kind::Stuck) => Some(S::Stuck(data)),
            (Some(S::Intent | S::Failed(_)), Kind::UndoIntent) => Some(S::UndoIntent(Value::Null)),
            (Some(S::Ok(gave)), Kind::UndoIntent) => Some(S::UndoIntent(gave)),
            (Some(S::UndoIntent(gave)), Kind::UndoIntent) => Some(S::UndoIntent(gave)),
            (Some(S::Stuck(_)), Kind::UndoIntent) => Some(S::UndoIntent(Value::Null)),
            (Some(S::UndoIntent(_)), Kind::Undone) => Some(S::Undone),
            _ => None,
        }
    }

    /// What it gave, once it was ok.
    #[must_use]
    pub fn gave(&self) -> Option<&Value> {
        match self {
            StepState::Ok(value) | StepState::UndoIntent(value) => Some(value),
            _ => None,
        }
    }
}

/// Which way an open run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Through its steps.
    Forward,
    /// Back.
    Undoing,
    /// Nowhere: a person is needed.
    Stuck,
}

/// A run that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenRun {
    /// What it does.
    pub plan: Plan,
    /// Where its steps stand, by name.
    pub steps: BTreeMap<String, StepState>,
    /// Names of its steps in the order of their first intents.
    pub intents: Vec<String>,
    /// Attempts of each step.
    pub attempts: BTreeMap<String, u32>,
    /// Which way it goes.
    pub phase: Phase,
    /// Why it goes back.
    pub failure: Option<Value>,
    /// Whether somebody asked for it to go back.
    pub is_cancelled: bool,
    /// When it began.
    pub since: Mark,
    /// The gateway's label before it began.
    pub label_before: String,
}

impl OpenRun {
    /// Whether requests go to the new version, as far as the journal knows.
    #[must_use]
    pub fn has_switched(&self) -> bool {
        matches!(self.steps.get("switch"), Some(StepState::Ok(_)))
    }

    /// The new version, with the release that the run has made of it.
    #[must_use]
    pub fn new_version(&self) -> Option<Version> {
        let mut version = self.plan.new.clone()?;
        if let Some(StepState::Ok(gave)) = self.steps.get("pack") {
            version.release = serde_json::from_value(gave["release"].clone()).ok();
        }
        Some(version)
    }
}

/// A version kept for the way back.
#[derive(Debug, Clone, PartialEq)]
pub struct Warm {
    /// The version.
    pub version: Version,
    /// When its window began.
    pub since: Mark,
    /// How long the window is, milliseconds.
    pub window_ms: u64,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// The run.
    pub run: RunId,
    /// What it was for.
    pub operation: Operation,
    /// Who asked for it.
    pub actor: String,
    /// The release it was about.
    pub release: Option<ReleaseId>,
    /// Whether it did what it was for, or was undone.
    pub done: bool,
    /// When it began, Unix milliseconds.
    pub began_ms: i64,
    /// When it ended, Unix milliseconds.
    pub ended_ms: i64,
}

/// An environment, as its journal tells it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Environment {
    /// The version that serves.
    pub live: Option<Version>,
    /// When it began to serve.
    pub live_since: Option<Mark>,
    /// The version kept for the way back.
    pub warm: Option<Warm>,
    /// The run under way.
    pub open: Option<OpenRun>,
    /// The address of the gateway, while there is one.
    pub gateway: Option<String>,
    /// Its address for https, where it has one.
    pub gateway_tls: Option<String>,
    /// The label of the gateway's table.
    pub label: String,
    /// Releases that served, oldest first, without those that were rolled back.
    pub history: Vec<ReleaseId>,
    /// Runs that have ended, oldest first.
    pub ended: Vec<Ended>,
    /// The number of the last run.
    pub last_run: u64,
}

/// A row that must not stand where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Illegal {
    /// Its number.
    pub seq: i64,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "journal row {} is illegal: {}", self.seq, self.why)
    }
}

impl std::error::Error for Illegal {}

/// Folds rows into an environment.
///
/// # Errors
/// At the first row that must not follow those before it.
pub fn fold(rows: &[Row]) -> Result<Environment, Illegal> {
    let mut environment = Environment::default();
    for row in rows {
        environment.apply(row)?;
    }
    Ok(environment)
}

impl Environment {
    /// One row further.
    ///
    /// # Errors
    /// When it must not follow.
    pub fn apply(&mut self, row: &Row) -> Result<(), Illegal> {
        let outcome = if row.step == RUN {
            self.apply_run(row)
        } else {
            self.apply_step(row)
        };
        outcome.map_err(|why| Illegal { seq: row.seq, why })
    }

    fn apply_run(&mut self, row: &Row) -> Result<(), String> {
        match (row.kind, self.open.take()) {
            (Kind::Intent, None) => {
                let plan: Plan =
                    serde_json::from_value(row.data.clone()).map_err(|error| error.to_string())?;
                if plan.run != row.run || row.run.0 <= self.last_run {
                    return Err(format!("{} does not follow d{}", row.run, self.last_run));
                }
                self.last_run = row.run.0;
                self.open = Some(self.begin(plan, row));
                Ok(())
            }
            (Kind::Ok, Some(run)) if run.plan.run == row.run => {
                self.finish(run, row);
                Ok(())
            }
            (Kind::Undone, Some(run)) if run.plan.run == row.run => {
                self.ended.push(ended(&run, row, false));
                Ok(())
            }
            // One that goes back already is not told so twice.
            (Kind::Failed, Some(mut run))
                if run.plan.run == row.run && run.phase != Phase::Undoing =>
            {
                (run.phase, run.failure) = (Phase::Undoing, Some(row.data.clone()));
                self.open = Some(run);
                Ok(())
            }
            (Kind::Stuck, Some(mut run)) if run.plan.run == row.run => {
                (run.phase, run.failure) = (Phase::Stuck, Some(row.data.clone()));
                self.open = Some(run);
                Ok(())
            }
            (Kind::Signal, Some(mut run))
                if run.phase == Phase::Stuck && row.data["ask"] == "again" =>
            {
                run.phase = Phase::Forward;
                self.open = Some(run);
                Ok(())
            }
            (Kind::Signal, Some(mut run))
                if run.plan.run == row.run && row.data["ask"] == "cancel" =>
            {
                run.is_cancelled = true;
                self.open = Some(run);
                Ok(())
            }
            // Other signals and timers do not move the run.
            (
                Kind::Signal | Kind::TimerSet | Kind::TimerFired | Kind::Waiting | Kind::Pivot,
                open,
            ) => {
                self.open = open;
                Ok(())
            }
            (kind, open) => {
                self.open = open;
                Err(format!("{kind} of {}", row.run))
            }
        }
    }

    fn begin(&self, plan: Plan, row: &Row) -> OpenRun {
        OpenRun {
            plan,
            steps: BTreeMap::new(),
            intents: Vec::new(),
            attempts: BTreeMap::new(),
            phase: Phase::Forward,
            failure: None,
            is_cancelled: false,
            since: row.at.clone(),
            label_before: self.label.clone(),
        }
    }

    fn apply_step(&mut self, row: &Row) -> Result<(), String> {
        let run = self.open.as_mut().filter(|run| run.plan.run == row.run);
        let run = run.ok_or_else(|| format!("{} is not open", row.run))?;
        let step = run
            .plan
            .steps
            .iter()
            .find(|step| step.to_string() == row.step)
            .cloned();
        let step = step.ok_or_else(|| format!("{} has no step `{}`", row.run, row.step))?;
        let now = run.steps.remove(&row.step);
        let next = StepState::next(now, row.kind, row.data.clone());
        let next = next.ok_or_else(|| format!("`{}` cannot become {}", row.step, row.kind))?;
        if !run.intents.contains(&row.step) {
            run.intents.push(row.step.clone());
        }
        run.attempts.insert(row.step.clone(), row.attempt);
        run.steps.insert(row.step.clone(), next);
        let id = row.run;
        self.note_gateway(&step, row.kind, id);
        Ok(())
    }

    /// What the gateway's steps leave behind, whatever becomes of their run.
    fn note_gateway(&mut self, step: &Step, kind: Kind, run: RunId) {
        match (step, kind) {
            (Step::Gateway { listen, listen_tls }, Kind::Ok) => {
                self.gateway = Some(listen.clone());
                self.gateway_tls.clone_from(listen_tls);
            }
            (Step::Gateway { .. }, Kind::Undone) | (Step::StopGateway, Kind::Ok) => {
                self.gateway = None;
                self.gateway_tls = None;
                self.label = String::new();
            }
            (Step::Switch | Step::Close, Kind::Ok) => self.label = label(run, false),
            (Step::Switch, Kind::Undone) => self.label = label(run, true),
            _ => {}
        }
    }

    fn finish(&mut self, run: OpenRun, row: &Row) {
        self.ended.push(ended(&run, row, true));
        let new = run.new_version();
        let retires_old = run.plan.steps.contains(&Step::Retire { side: Side::Old });
        match run.plan.operation {
            Operation::Down => {
                (self.live, self.warm, self.live_since) = (None, None, None);
            }
            Operation::Retire => self.warm = None,
            Operation::Rollback => {
                self.history.pop();
                let release = new.as_ref().and_then(|version| version.release);
                if self.history.last().copied() != release {
                    self.history.extend(release);
                }
                (self.live, self.warm, self.live_since) = (new, None, Some(row.at.clone()));
            }
            Operation::Deploy | Operation::Promote | Operation::Up => {
                let release = new.as_ref().and_then(|version| version.release);
                if self.history.last().copied() != release {
                    self.history.extend(release);
                }
                let retires_warm = run.plan.steps.contains(&Step::Retire { side: Side::Warm });
                let old = run.plan.old.clone().filter(|_| !retires_old);
                let kept = self.warm.take().filter(|_| !retires_warm);
                self.warm = old
                    .map(|version| Warm {
                        version,
                        since: row.at.clone(),
                        window_ms: run.plan.window_ms,
                    })
                    .or(kept);
                (self.live, self.live_since) = (new, Some(row.at.clone()));
            }
        }
    }
}

fn ended(run: &OpenRun, row: &Row, done: bool) -> Ended {
    Ended {
        run: run.plan.run,
        operation: run.plan.operation,
        actor: run.plan.actor.clone(),
        release: run.new_version().and_then(|version| version.release),
        done,
        began_ms: run.since.wall_ms,
        ended_ms: row.at.wall_ms,
    }
}

/// How the gateway's table is labelled after a run's switch, or after that was undone.
#[must_use]
pub(super) fn label(run: RunId, undone: bool) -> String {
    if undone {
        format!("{run}/undone")
    } else {
        format!("{run}/switched")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::Digest;

    fn row(seq: i64, step: &str, kind: Kind, data: Value) -> Row {
        Row {
            seq,
            run: RunId(1),
            step: step.to_owned(),
            attempt: 1,
            kind,
            at: Mark {
                wall_ms: seq,
                boot_id: String::new(),
                boot_ms: 0,
            },
            actor: "tester".to_owned(),
            data,
            prev: Digest([0; 32]),
            hash: Digest([0; 32]),
        }
    }

    fn begun() -> Vec<Row> {
        let plan = Plan {
            run: RunId(1),
            operation: Operation::Deploy,
            actor: "tester".to_owned(),
            new: None,
            old: None,
            warm: None,
            window_ms: 0,
            drain_ms: 0,
            steps: vec![Step::Switch],
            sabotage: None,
        };
        let plan = serde_json::to_value(plan).unwrap();
        vec![
            row(1, RUN, Kind::Intent, plan),
            row(2, "switch", Kind::Intent, Value::Null),
        ]
    }

    #[test]
    fn a_cancellation_outlives_the_agent_that_took_it() {
        let mut rows = begun();
        assert!(!fold(&rows).unwrap().open.unwrap().is_cancelled);
        rows.push(row(3, RUN, Kind::Signal, json!({ "ask": "cancel" })));
        let open = fold(&rows).unwrap().open.unwrap();
        assert!(open.is_cancelled);
        assert_eq!(open.phase, Phase::Forward);
    }

    #[test]
    fn a_failed_step_is_not_begun_again() {
        let mut rows = begun();
        rows.push(row(3, "switch", Kind::Failed, Value::Null));
        assert_eq!(fold(&rows).unwrap().open.unwrap().phase, Phase::Forward);
        rows.push(row(4, "switch", Kind::Intent, Value::Null));
        assert_eq!(fold(&rows).unwrap_err().seq, 4);
    }
}
