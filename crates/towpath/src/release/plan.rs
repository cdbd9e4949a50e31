//! What a run is going to do, as data.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Class, Side, Step, Version};
use crate::id::RunId;

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Bring a release in.
    Deploy,
    /// Bring in the release that runs in the environment before.
    Promote,
    /// Go back to a version that served before.
    Rollback,
    /// Run the source tree.
    Up,
    /// Stop everything; data stays.
    Down,
    /// Stop the version whose window is over.
    Retire,
    /// Start what serves anew, in its own place.
    Restart,
    /// Apply migrations, take them back or count them, and nothing else.
    Migrate,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Deploy => "deploy",
            Operation::Promote => "promote",
            Operation::Rollback => "rollback",
            Operation::Up => "up",
            Operation::Down => "down",
            Operation::Retire => "retire",
            Operation::Restart => "restart",
            Operation::Migrate => "migrate",
        })
    }
}

/// A fault planted on purpose, to see that a rehearsal finds it. Only an agent that was started
/// for a rehearsal accepts one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sabotage {
    /// The old version is killed before the switch.
    EarlyKill,
    /// The old version is killed right after the switch, its requests with it.
    SkipDrain,
    /// The old workers go on beside the new.
    DoubleWorker,
    /// Going back puts the backup back that was made before the version that goes: as deployers do
    /// that go back by restoring.
    PutBack,
}

/// What a run is going to do: decided before anything is touched, never changed afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The run.
    pub run: RunId,
    /// What it is for.
    pub operation: Operation,
    /// Who asked for it.
    pub actor: String,
    /// The version it brings in.
    pub new: Option<Version>,
    /// The version that serves when it begins.
    pub old: Option<Version>,
    /// The version that is warm when it begins.
    pub warm: Option<Version>,
    /// How long `old` stays warm afterwards, milliseconds; 0 when it is retired at once.
    pub window_ms: u64,
    /// Longest wait for requests of the version that goes, milliseconds.
    pub drain_ms: u64,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// A planted fault.
    #[serde(default)]
    pub sabotage: Option<Sabotage>,
    /// What changes in the schemas, and what was seen of it on scratch copies, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

impl Plan {
    /// The version on that side.
    #[must_use]
    pub fn side(&self, side: Side) -> Option<&Version> {
        match side {
            Side::New => self.new.as_ref(),
            Side::Old => self.old.as_ref(),
            Side::Warm => self.warm.as_ref(),
        }
    }

    /// The first step with no way back, where there is one.
    #[must_use]
    pub fn pivot(&self) -> Option<&Step> {
        self.steps.iter().find(|step| !step.has_way_back())
    }

    /// What going back over a step means in its place: behind the pivot all are only finished.
    #[must_use]
    pub fn class(&self, step: &Step) -> Class {
        let at = |wanted: &Step| self.steps.iter().position(|found| found == wanted);
        let pivot = self.pivot().and_then(at);
        match (pivot, at(step)) {
            (Some(pivot), Some(at)) if at == pivot => Class::Pivot,
            (Some(pivot), Some(at)) if at > pivot && step.class() != Class::ReadOnly => {
                Class::ForwardOnly
            }
            _ => step.class(),
        }
    }

    /// Plants the fault: the steps are put in the order, or left out, as in a deployer that has it.
    #[must_use]
    pub fn sabotaged(mut self, sabotage: Option<Sabotage>) -> Plan {
        self.sabotage = sabotage;
        match sabotage {
            Some(Sabotage::EarlyKill) if self.old.is_some() => {
                let switch = self.steps.iter().position(|step| *step == Step::Switch);
                self.steps
                    .insert(switch.unwrap_or(0), Step::Retire { side: Side::Old });
                self.window_ms = 0;
            }
            Some(Sabotage::SkipDrain) if self.old.is_some() => {
                self.steps.retain(|step| *step != Step::Drain);
                if !self.steps.contains(&Step::Retire { side: Side::Old }) {
                    self.steps.push(Step::Retire { side: Side::Old });
                }
                self.window_ms = 0;
            }
            Some(Sabotage::DoubleWorker) => self.steps.retain(|step| *step != Step::StopWorkers),
            _ => {}
        }
        self
    }
}
