//! What an environment is: a pure function of its journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{OpenRun, Operation, Plan, Side, Step, Version};
use crate::clock::Mark;
use crate::id::{ReleaseId, RunId};
use crate::state::{Kind, Row};

/// The step name of a run's own rows.
pub(super) const RUN: &str = "run";

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
    /// Resources whose servers are to run.
    pub provided: BTreeSet<String>,
    /// Releases that served, oldest first, without those that were rolled back.
    pub history: Vec<ReleaseId>,
    /// Runs that have ended, oldest first.
    pub ended: Vec<Ended>,
    /// The number of the last run.
    pub last_run: u64,
    /// Runs by the token that they were asked for with.
    pub tokens: BTreeMap<String, RunId>,
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
        if row.kind == Kind::Intent {
            return self.begin(row);
        }
        let not_open = || format!("{} of {}, which is not open", row.kind, row.run);
        let run = self.open.as_mut().filter(|run| run.plan.run == row.run);
        run.ok_or_else(not_open)?.apply_run(row)?;
        if matches!(row.kind, Kind::Ok | Kind::Undone)
            && let Some(run) = self.open.take()
        {
            match row.kind {
                Kind::Ok => self.finish(run, row),
                _ => self.ended.push(ended(&run, row, false)),
            }
        }
        Ok(())
    }

    fn begin(&mut self, row: &Row) -> Result<(), String> {
        if let Some(open) = &self.open {
            return Err(format!(
                "{} begins while {} is open",
                row.run, open.plan.run
            ));
        }
        let plan: Plan =
            serde_json::from_value(row.data.clone()).map_err(|error| error.to_string())?;
        if plan.run != row.run || row.run.0 <= self.last_run {
            return Err(format!("{} does not follow d{}", row.run, self.last_run));
        }
        self.last_run = row.run.0;
        if let Some(token) = row.data["token"].as_str() {
            self.tokens.insert(token.to_owned(), row.run);
        }
        self.open = Some(OpenRun {
            provided_before: self.provided.clone(),
            ..OpenRun::new(plan, row.at.clone(), self.label.clone())
        });
        Ok(())
    }

    fn apply_step(&mut self, row: &Row) -> Result<(), String> {
        let run = self.open.as_mut().filter(|run| run.plan.run == row.run);
        let run = run.ok_or_else(|| format!("{} is not open", row.run))?;
        let step = run.apply_step(row)?;
        self.note_gateway(&step, row.kind, row.run);
        self.note_resources(&step, row.kind);
        Ok(())
    }

    /// What is provided stays so, whatever becomes of the run, unless it is undone or stopped.
    fn note_resources(&mut self, step: &Step, kind: Kind) {
        let before = self.open.as_ref().map(|run| &run.provided_before);
        match (step, kind) {
            (Step::Provide { resource, .. }, Kind::Ok) => {
                self.provided.insert(resource.clone());
            }
            (Step::Provide { resource, .. }, Kind::Undone)
                if before.is_none_or(|before| !before.contains(resource)) =>
            {
                self.provided.remove(resource);
            }
            (Step::StopResources, Kind::Ok) => self.provided.clear(),
            _ => {}
        }
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
            // What runs goes on.
            Operation::Migrate => {}
            Operation::Rollback => {
                self.history.pop();
                let release = new.as_ref().and_then(|version| version.release);
                if self.history.last().copied() != release {
                    self.history.extend(release);
                }
                (self.live, self.warm, self.live_since) = (new, None, Some(row.at.clone()));
            }
            Operation::Deploy | Operation::Promote | Operation::Up | Operation::Restart => {
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
    use serde_json::{Value, json};

    use super::*;
    use crate::id::Digest;
    use crate::release::Phase;

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
            changes: Vec::new(),
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

    fn with_pivot() -> Vec<Row> {
        let mut rows = begun();
        let mut plan: Plan = serde_json::from_value(rows[0].data.clone()).unwrap();
        plan.steps.push(Step::Retire { side: Side::Warm });
        rows[0].data = serde_json::to_value(plan).unwrap();
        rows.push(row(3, "switch", Kind::Ok, Value::Null));
        rows
    }

    #[test]
    fn past_the_pivot_nothing_is_undone_and_a_step_is_tried_again() {
        let cancel = |seq| row(seq, RUN, Kind::Signal, json!({ "ask": "cancel" }));
        let pivot = row(4, RUN, Kind::Pivot, json!({ "step": "retire:warm" }));
        let mut rows = with_pivot();
        rows.push(cancel(4));
        assert!(fold(&rows).is_ok(), "it can be cancelled before");
        rows.push(Row {
            seq: 5,
            ..pivot.clone()
        });
        assert_eq!(fold(&rows).unwrap_err().seq, 5, "a cancelled run passes");
        let mut rows = with_pivot();
        rows.push(pivot);
        for refused in [cancel(5), row(5, RUN, Kind::Failed, Value::Null)] {
            let illegal = fold(&[rows.clone(), vec![refused]].concat()).unwrap_err();
            assert_eq!(illegal.seq, 5, "it goes back past the pivot");
        }
        rows.push(row(5, "retire:warm", Kind::Intent, Value::Null));
        let failed = row(6, "retire:warm", Kind::Failed, Value::Null);
        let illegal = fold(&[rows.clone(), vec![failed]].concat()).unwrap_err();
        assert_eq!(illegal.seq, 6, "a step fails past the pivot");
        rows.push(row(6, "retire:warm", Kind::Waiting, Value::Null));
        rows.push(row(7, "retire:warm", Kind::Intent, Value::Null));
        rows.push(row(8, "retire:warm", Kind::Stuck, json!("why")));
        rows.push(row(9, RUN, Kind::Stuck, json!("why")));
        assert_eq!(fold(&rows).unwrap().open.unwrap().phase, Phase::Stuck);
        rows.push(row(10, RUN, Kind::Signal, json!({ "ask": "again" })));
        let open = fold(&rows).unwrap().open.unwrap();
        assert_eq!((open.phase, open.tries), (Phase::Forward, 0));
    }

    #[test]
    fn a_journal_of_before_there_was_a_row_for_the_pivot_still_folds() {
        let mut rows = with_pivot();
        rows.push(row(4, "retire:warm", Kind::Intent, Value::Null));
        let open = fold(&rows).unwrap().open.unwrap();
        assert_eq!(open.pivot.as_deref(), Some("retire:warm"));
    }

    #[test]
    fn steps_act_in_order_and_are_undone_in_the_reverse_order() {
        let mut rows = with_pivot();
        rows.truncate(2);
        rows.push(row(3, "retire:warm", Kind::Intent, Value::Null));
        assert_eq!(fold(&rows).unwrap_err().seq, 3, "a step overtakes another");
    }

    #[test]
    fn what_a_stuck_step_gave_is_there_for_its_next_undo() {
        let mut rows = begun();
        let gave = json!({ "epoch": 7 });
        for (step, kind, data) in [
            ("switch", Kind::Ok, gave.clone()),
            (RUN, Kind::Failed, Value::Null),
            ("switch", Kind::UndoIntent, Value::Null),
            ("switch", Kind::Stuck, json!("why")),
            (RUN, Kind::Stuck, json!("why")),
            (RUN, Kind::Failed, json!("why")),
            ("switch", Kind::UndoIntent, Value::Null),
        ] {
            let seq = i64::try_from(rows.len()).unwrap() + 1;
            rows.push(row(seq, step, kind, data));
        }
        let open = fold(&rows).unwrap().open.unwrap();
        assert_eq!(
            open.steps["switch"],
            crate::release::StepState::UndoIntent(gave)
        );
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
