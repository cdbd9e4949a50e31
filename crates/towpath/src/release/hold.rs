//! How long requests wait for what a run does to the schemas, and what of it they do not wait for.

use std::collections::BTreeSet;

use super::planner::Result;
use super::schema::Brought;
use super::tried::Trial;
use super::{Refusal, Step};
use crate::diagnostic::Diagnostic;
use crate::migrate::{Engine, Kind};

/// How long an application waits for a database that is locked, as most do, milliseconds: what takes longer is applied
/// while requests wait.
const BUSY_MS: u64 = 5_000;

/// Longest wait of requests, milliseconds.
const LONGEST_HOLD_MS: u64 = 30_000;

/// What a run does to the schemas.
pub(super) struct Needs {
    /// Resources whose foreign migrators are tried first.
    pub rehearsed: Vec<String>,
    /// Resources that the version before cannot work with afterwards: they are backed up while requests wait.
    pub rewritten: BTreeSet<String>,
    /// Backups, and the migrations behind them.
    pub steps: Vec<Step>,
    /// While requests wait, or not.
    pub hold: Hold,
    /// What was seen on scratch copies.
    pub changes: Vec<String>,
}

/// How long requests wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    /// They do not.
    Never,
    /// While an expansion is applied that takes long.
    WhileApplied,
    /// From before a rewrite until the version that knows it serves.
    UntilSwitch,
}

impl Needs {
    /// In their places around the steps of the turn; `commands` are run on the new schema.
    pub(super) fn around(self, commands: Vec<Step>, turn: Vec<Step>) -> Vec<Step> {
        let mut steps = Vec::new();
        let rewrites = self.hold == Hold::UntilSwitch;
        let rehearse = (!self.rehearsed.is_empty()).then_some(Step::Rehearse {
            resources: self.rehearsed,
        });
        let rewritten = self.rewritten;
        let is_early = |step: &Step| match step {
            Step::BackUp { resource } => !rewritten.contains(resource),
            _ => false,
        };
        let (early, rest): (Vec<Step>, Vec<Step>) = self.steps.into_iter().partition(is_early);
        let (backups, rest): (Vec<Step>, Vec<Step>) = rest
            .into_iter()
            .partition(|step| matches!(step, Step::BackUp { .. }));
        // The rehearsal's undo asks a person, should it have to, while the backups are still there. Requests wait for none
        // of it.
        steps.extend(early.into_iter().chain(rehearse));
        if self.hold != Hold::Never {
            steps.push(Step::Hold);
        }
        if rewrites {
            // Nothing may write meanwhile, and nothing is in flight that could be waited for.
            steps.push(Step::StopWorkers);
        }
        steps.extend(backups.into_iter().chain(rest));
        if self.hold == Hold::WhileApplied {
            steps.push(Step::Resume { settles: false });
        }
        steps.extend(commands);
        for step in turn {
            let is_switch = step == Step::Switch;
            if !rewrites || !matches!(step, Step::StopWorkers | Step::Drain) {
                steps.push(step);
            }
            if rewrites && is_switch {
                steps.push(Step::Resume { settles: true });
            }
        }
        steps
    }
}

/// For what a version brings to one database.
pub(super) fn hold(brought: &Brought, versions: &[u64], tried: &Trial) -> Hold {
    // A migration of PostgreSQL does not lock all there is, and what it locks it waits for with a time-out.
    let locks_all = brought.engine == Engine::Sqlite;
    let tried = tried.as_ref().ok().filter(|_| locks_all);
    let longest_ms = tried.map_or(0, |tried| tried.longest_ms);
    let rewrites = versions
        .iter()
        .any(|version| brought.kind(*version) == Kind::Rewrite);
    match rewrites {
        true => Hold::UntilSwitch,
        false if longest_ms > BUSY_MS => Hold::WhileApplied,
        false => Hold::Never,
    }
}

/// What is applied while requests wait is applied one after the other, to all databases.
pub(super) fn is_bearable(hold: Hold, waits_ms: u64) -> Result<()> {
    if hold == Hold::Never || waits_ms <= LONGEST_HOLD_MS {
        return Ok(());
    }
    let text = format!("the migrations took {waits_ms} ms on scratch copies");
    Err(Refusal::Refused(
        Diagnostic::error("migrate::too-long", text)
            .note(format!(
                "requests are kept waiting for {LONGEST_HOLD_MS} ms at most"
            ))
            .note("nothing was touched")
            .help(
                "split it into releases whose migrations each take less, or take the environment down for it",
            ),
    ))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::migrate::{Header, Migration, Script, Tried};

    /// One migration of that kind, on SQLite.
    pub(in crate::release) fn brought(kind: Kind) -> Brought {
        let up = Script {
            file: "0001_a.up.sql".to_owned(),
            text: String::new(),
            header: Header {
                kind,
                ..Header::default()
            },
        };
        let migration = Migration {
            version: 1,
            name: "a".to_owned(),
            up,
            down: None,
        };
        Brought {
            engine: Engine::Sqlite,
            all: vec![migration],
            pending: vec![1],
        }
    }

    #[test]
    fn what_takes_long_is_applied_while_requests_wait_and_what_takes_too_long_is_not() {
        let asked = |kind, longest_ms| {
            let tried = Tried {
                versions: vec![1],
                difference: Vec::new(),
                one_way: None,
                longest_ms,
                total_ms: longest_ms,
            };
            hold(&brought(kind), &[1], &Ok(tried))
        };
        let is = |kind, longest_ms, wanted| {
            assert_eq!(asked(kind, longest_ms), wanted, "{longest_ms}");
        };
        is(Kind::Expand, BUSY_MS, Hold::Never);
        is(Kind::Expand, BUSY_MS + 1, Hold::WhileApplied);
        is(Kind::Rewrite, 0, Hold::UntilSwitch);
        assert!(is_bearable(Hold::Never, u64::MAX).is_ok());
        for held in [Hold::WhileApplied, Hold::UntilSwitch] {
            assert!(is_bearable(held, LONGEST_HOLD_MS).is_ok());
            let refused = is_bearable(held, LONGEST_HOLD_MS + 1);
            assert!(
                matches!(refused, Err(Refusal::Refused(why)) if why.code == "migrate::too-long")
            );
        }
    }

    #[test]
    fn requests_wait_for_no_backup_but_of_what_is_rewritten() {
        let back_up = |resource: &str| Step::BackUp {
            resource: resource.to_owned(),
        };
        let migrate = Step::Migrate {
            resource: "db".to_owned(),
            versions: vec![1],
        };
        let rehearse = Step::Rehearse {
            resources: vec!["other".to_owned()],
        };
        let planned = |hold, rewritten: &[&str]| {
            let needs = Needs {
                rehearsed: vec!["other".to_owned()],
                rewritten: rewritten.iter().map(|name| (*name).to_owned()).collect(),
                steps: vec![back_up("db"), migrate.clone(), back_up("files")],
                hold,
                changes: Vec::new(),
            };
            needs.around(Vec::new(), Vec::new())
        };
        let (hold, stop) = (Step::Hold, Step::StopWorkers);
        assert_eq!(
            planned(Hold::UntilSwitch, &["db"]),
            [
                back_up("files"),
                rehearse.clone(),
                hold.clone(),
                stop,
                back_up("db"),
                migrate.clone()
            ]
        );
        let resume = Step::Resume { settles: false };
        assert_eq!(
            planned(Hold::WhileApplied, &[]),
            [
                back_up("db"),
                back_up("files"),
                rehearse,
                hold,
                migrate,
                resume
            ]
        );
    }
}
