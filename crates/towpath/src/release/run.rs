//! A run that has not ended: where its steps stand, which way it goes, and which rows may follow.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Plan, Step, Version};
use crate::clock::Mark;
use crate::state::{Kind, Row};

/// Where one step of a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum StepState {
    /// It was about to act when the last row was written.
    Intent,
    /// It has acted; what it gave.
    Ok(Value),
    /// It could not, and the run goes back.
    Failed(Value),
    /// It could not, and is tried again: there is no way back any more.
    Waiting(Value),
    /// It was about to be undone; what it gave.
    UndoIntent(Value),
    /// It is undone.
    Undone,
    /// It could neither be finished nor undone.
    Stuck(Stuck),
}

/// What a stuck step leaves for whoever goes on with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stuck {
    /// Why it is stuck.
    pub failure: Value,
    /// What it was about to undo; `None` where it was about to act.
    pub undoing: Option<Value>,
}

impl StepState {
    /// The state after a row of `kind`; `None` when such a row must not follow.
    fn next(now: Option<StepState>, kind: Kind, data: Value, past: bool) -> Option<StepState> {
        use StepState as S;
        let stuck = |failure, undoing| S::Stuck(Stuck { failure, undoing });
        match (now, kind) {
            (None | Some(S::Intent | S::Waiting(_)), Kind::Intent) => Some(S::Intent),
            (Some(S::Intent), Kind::Ok) => Some(S::Ok(data)),
            (Some(S::Intent), Kind::Failed) if !past => Some(S::Failed(data)),
            (Some(S::Intent), Kind::Waiting) if past => Some(S::Waiting(data)),
            (Some(S::Intent), Kind::Stuck) => Some(stuck(data, None)),
            (Some(S::UndoIntent(gave)), Kind::Stuck) => Some(stuck(data, Some(gave))),
            (Some(S::Intent | S::Failed(_)), Kind::UndoIntent) => Some(S::UndoIntent(Value::Null)),
            (Some(S::Ok(gave) | S::UndoIntent(gave)), Kind::UndoIntent) => {
                Some(S::UndoIntent(gave))
            }
            (Some(S::UndoIntent(_)), Kind::Undone) => Some(S::Undone),
            _ => None,
        }
    }

    /// The state once a person has said to go on.
    fn freed(self, forward: bool) -> StepState {
        match self {
            StepState::Stuck(Stuck {
                undoing: Some(gave),
                ..
            }) => StepState::UndoIntent(gave),
            StepState::Stuck(Stuck { failure, .. }) if forward => StepState::Waiting(failure),
            StepState::Stuck(Stuck { failure, .. }) => StepState::Failed(failure),
            other => other,
        }
    }

    /// What it gave, once it was ok.
    #[must_use]
    pub fn gave(&self) -> Option<&Value> {
        match self {
            StepState::Ok(value) | StepState::UndoIntent(value) => Some(value),
            StepState::Stuck(stuck) => stuck.undoing.as_ref(),
            _ => None,
        }
    }
}

/// Which way an open run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// The number of the row by which a step was last about to act or to be undone.
    pub intended: Option<i64>,
    /// How often in a row the step that it is at has failed past the point of no return.
    pub tries: u32,
    /// Which way it goes.
    pub phase: Phase,
    /// The step at which it passed the point of no return.
    pub pivot: Option<String>,
    /// Why it goes back, or is stuck.
    pub failure: Option<Value>,
    /// Whether somebody asked for it to go back.
    pub is_cancelled: bool,
    /// When it began.
    pub since: Mark,
    /// The gateway's label before it began.
    pub label_before: String,
    /// Resources that were provided before it began.
    pub provided_before: BTreeSet<String>,
}

impl OpenRun {
    /// One that has just begun.
    pub(super) fn new(plan: Plan, since: Mark, label_before: String) -> OpenRun {
        OpenRun {
            plan,
            steps: BTreeMap::new(),
            intents: Vec::new(),
            attempts: BTreeMap::new(),
            intended: None,
            tries: 0,
            phase: Phase::Forward,
            pivot: None,
            failure: None,
            is_cancelled: false,
            since,
            label_before,
            provided_before: BTreeSet::new(),
        }
    }

    /// Whether it brings up a server of ours for the resource.
    #[must_use]
    pub fn provides(&self, resource: &str) -> bool {
        let is_it =
            |step: &Step| matches!(step, Step::Provide { resource: one, .. } if one == resource);
        self.plan.steps.iter().any(is_it)
    }

    /// Whether there is no way back any more.
    #[must_use]
    pub fn is_past_pivot(&self) -> bool {
        self.pivot.is_some()
    }

    /// The new version, with the release that the run has made of it, and its images.
    #[must_use]
    pub fn new_version(&self) -> Option<Version> {
        let mut version = self.plan.new.clone()?;
        if let Some(StepState::Ok(gave)) = self.steps.get("pack") {
            version.release = serde_json::from_value(gave["release"].clone()).ok();
        }
        for step in &self.plan.steps {
            if let Step::Image { service } = step
                && let Some(StepState::Ok(gave)) = self.steps.get(&step.to_string())
                && let Some(id) = gave["id"].as_str()
            {
                version.images.insert(service.clone(), id.to_owned());
            }
        }
        Some(version)
    }

    /// The step that it is at: about to act or to be undone, waiting, or stuck.
    #[must_use]
    pub fn at(&self) -> Option<(&str, &StepState)> {
        use StepState::{Intent, Stuck, UndoIntent, Waiting};
        let is_at =
            |state: &StepState| matches!(state, Intent | Waiting(_) | UndoIntent(_) | Stuck(_));
        let mut found = self.steps.iter().filter(|(_, state)| is_at(state));
        found.next().map(|(name, state)| (name.as_str(), state))
    }

    /// A row of the run itself, but its first.
    ///
    /// # Errors
    /// When it must not follow; nothing is changed then.
    pub(super) fn apply_run(&mut self, row: &Row) -> Result<(), String> {
        let illegal = || format!("{} of {}", row.kind, row.run);
        if !self.may_follow(row) {
            return Err(illegal());
        }
        match row.kind {
            Kind::Failed => {
                self.free(false);
                (self.phase, self.failure) = (Phase::Undoing, Some(row.data.clone()));
            }
            Kind::Stuck => (self.phase, self.failure) = (Phase::Stuck, Some(row.data.clone())),
            Kind::Pivot => self.pivot = row.data["step"].as_str().map(str::to_owned),
            Kind::Signal if row.data["ask"] == "again" => {
                self.free(true);
                (self.phase, self.failure) = (Phase::Forward, None);
            }
            Kind::Signal => self.is_cancelled = true,
            _ => {}
        }
        Ok(())
    }

    fn may_follow(&self, row: &Row) -> bool {
        let forward = self.phase == Phase::Forward;
        let is = |name: &String, wanted: fn(&StepState) -> bool| {
            self.steps.get(name).is_some_and(wanted)
        };
        match row.kind {
            Kind::Ok => forward && self.stands_before(None),
            // One that goes back already is not told so twice, and one past the pivot never.
            Kind::Failed => self.phase != Phase::Undoing && !self.is_past_pivot(),
            Kind::Undone => {
                let mut intents = self.intents.iter();
                self.phase == Phase::Undoing
                    && intents.all(|name| is(name, |state| *state == StepState::Undone))
            }
            Kind::Stuck => {
                let mut states = self.steps.values();
                self.phase != Phase::Stuck
                    && states.any(|state| matches!(state, StepState::Stuck(_)))
            }
            Kind::Pivot => {
                let pivot = self.plan.pivot();
                let named = pivot.is_some_and(|step| row.data["step"] == step.to_string());
                let free = !self.is_cancelled && !self.is_past_pivot();
                forward && free && named && self.stands_before(pivot)
            }
            Kind::Signal => match row.data["ask"].as_str() {
                Some("again") => self.phase == Phase::Stuck && self.is_past_pivot(),
                Some("cancel") => self.phase != Phase::Stuck && !self.is_past_pivot(),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether all steps before `step` have acted; all of them, where none is named.
    fn stands_before(&self, step: Option<&Step>) -> bool {
        let before = self
            .plan
            .steps
            .iter()
            .take_while(|found| Some(*found) != step);
        let acted =
            |step: &Step| matches!(self.steps.get(&step.to_string()), Some(StepState::Ok(_)));
        before.into_iter().all(acted)
    }

    fn free(&mut self, forward: bool) {
        self.tries = 0;
        let steps = std::mem::take(&mut self.steps).into_iter();
        self.steps = steps
            .map(|(name, state)| (name, state.freed(forward)))
            .collect();
    }

    /// A row of one of its steps, which is given back.
    ///
    /// # Errors
    /// When it must not follow; nothing is changed then.
    pub(super) fn apply_step(&mut self, row: &Row) -> Result<Step, String> {
        let name = &row.step;
        let step = self
            .plan
            .steps
            .iter()
            .find(|step| step.to_string() == *name);
        let step = step
            .cloned()
            .ok_or_else(|| format!("{} has no step `{name}`", row.run))?;
        if !self.is_turn_of(&step, row.kind) {
            return Err(format!("it is not the turn of {} of `{name}`", row.kind));
        }
        // Older builds wrote no row for it.
        let pivots = row.kind == Kind::Intent && !step.has_way_back() && !self.is_past_pivot();
        let past = pivots || self.is_past_pivot();
        let now = self.steps.get(name).cloned();
        let next = StepState::next(now, row.kind, row.data.clone(), past);
        let next = next.ok_or_else(|| format!("`{name}` cannot become {}", row.kind))?;
        if pivots {
            self.pivot = Some(name.clone());
        }
        if !self.intents.contains(name) {
            self.intents.push(name.clone());
        }
        match row.kind {
            Kind::Intent | Kind::UndoIntent => self.intended = Some(row.seq),
            Kind::Waiting => self.tries += 1,
            Kind::Ok => self.tries = 0,
            _ => {}
        }
        self.attempts.insert(name.clone(), row.attempt);
        self.steps.insert(name.clone(), next);
        Ok(step)
    }

    /// Steps act in the order of the plan, and are undone in the reverse order of their intents.
    fn is_turn_of(&self, step: &Step, kind: Kind) -> bool {
        match kind {
            Kind::Intent => self.phase == Phase::Forward && self.stands_before(Some(step)),
            Kind::UndoIntent => {
                let name = step.to_string();
                let mut later = self
                    .intents
                    .iter()
                    .rev()
                    .take_while(|found| **found != name);
                self.phase == Phase::Undoing
                    && later.all(|name| self.steps.get(name) == Some(&StepState::Undone))
            }
            _ => self.phase != Phase::Stuck,
        }
    }
}
