//! A plan in plain words: what each step means for the way back, and where there is none any more.

use serde::{Deserialize, Serialize};

use super::{Class, Operation, Plan, Step, Version};

/// A plan, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Its steps, in order.
    pub steps: Vec<ExplainedStep>,
    /// The number, from 1, of the first step with no way back.
    pub pivot: Option<usize>,
    /// What that means, one sentence a line.
    pub no_return: Vec<String>,
}

/// A step, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedStep {
    /// Its name.
    pub step: String,
    /// `read-only`, `reversible`, `loses`, `pivot` or `forward-only`.
    pub class: String,
    /// What is lost when it is undone; only of `loses`.
    pub loses: Option<String>,
    /// What its undo does; `none` where there is none.
    pub undo: String,
}

impl Plan {
    /// Explains it.
    #[must_use]
    pub fn explain(&self) -> Explained {
        let pivot = self.pivot();
        let at = pivot.and_then(|pivot| self.steps.iter().position(|step| step == pivot));
        Explained {
            steps: self
                .steps
                .iter()
                .map(|step| self.explain_step(step))
                .collect(),
            pivot: at.map(|at| at + 1),
            no_return: match (at, pivot) {
                (Some(at), Some(step)) => with_pivot(at + 1, step),
                _ => self.without_pivot(),
            },
        }
    }

    fn explain_step(&self, step: &Step) -> ExplainedStep {
        let class = self.class(step);
        let has_undo = !matches!(class, Class::Pivot | Class::ForwardOnly);
        ExplainedStep {
            step: step.to_string(),
            class: class.to_string(),
            loses: match class {
                Class::Loses(what) => Some(what.to_owned()),
                _ => None,
            },
            undo: match has_undo {
                true => step.way_back(),
                false => "none",
            }
            .to_owned(),
        }
    }

    fn without_pivot(&self) -> Vec<String> {
        let mut lines = vec![
            "there is no point of no return: a step that fails, and `tow cancel`, undo everything"
                .to_owned(),
        ];
        let warm = self.old.as_ref().filter(|_| self.window_ms > 0);
        let is_turn = matches!(
            self.operation,
            Operation::Deploy | Operation::Promote | Operation::Up
        );
        if let (Some(old), true) = (warm.map(Version::name), is_turn) {
            lines.push(format!(
                "when it is done {old} stays warm, and `tow rollback` goes back to it"
            ));
        }
        lines
    }
}

fn with_pivot(number: usize, step: &Step) -> Vec<String> {
    let before = match number {
        1 => format!("step 1, {step}, is the point of no return"),
        _ => format!(
            "until step {number}, {step}, everything is undone by itself when a step fails, or by `tow cancel`"
        ),
    };
    let after = "from it on the run is only finished: a step that fails is tried again, and then a person is asked";
    vec![before, after.to_owned()]
}
