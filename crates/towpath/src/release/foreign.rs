//! Foreign migrators: what a run does about them, and what a person is told of it.
//!
//! What such a program does is not ours to read. So it is tried on copies of the databases first (`rehearse`), and the
//! version that serves is started on what it leaves there: where that works the migrator may be at work beside it, and
//! where it does not the release is refused, or comes in while requests wait. There is no way back in the schema: it
//! stays, and so do rows.

use super::hold::{Hold, Needs};
use super::planner::Result;
use super::{Environment, Operation, Refusal, Step, World, scratch};
use crate::config::{Foreign, Migrator, Resource, ResourceKind};
use crate::diagnostic::Diagnostic;
use crate::id::{InstanceId, RunId};

/// The code of what is refused because the version that serves does not work with the new schema.
pub const OLD_FAILS: &str = "rehearse::old-fails";

/// The process of a foreign migrator on the database itself.
pub(crate) fn migrator_id(resource: &str, run: RunId) -> InstanceId {
    InstanceId(format!("migrator-{resource}-{run}"))
}

/// As [`super::release_id`] or [`migrator_id`]; an instance's id ends with a number.
pub(crate) fn is_release_command(id: &InstanceId) -> bool {
    let last = id.0.rsplit('-').next().unwrap_or_default();
    let is_once = ["release-", "migrator-"]
        .iter()
        .any(|word| id.0.starts_with(word));
    is_once && last.starts_with('d')
}

/// `npx prisma migrate deploy`, or the application.
pub(super) fn by(foreign: &Foreign) -> String {
    match &foreign.by {
        Migrator::Run { command, .. } => format!("`{command}`"),
        Migrator::OnStart => "the application".to_owned(),
    }
}

/// Adds what bringing a version in does about the resource `name`.
pub(super) fn plan(
    world: &World,
    now: &Environment,
    (name, resource, foreign): (&str, &Resource, &Foreign),
    operation: Operation,
    needs: &mut Needs,
) -> Result<()> {
    let serves = now.live.is_some() && operation != Operation::Up;
    let held = serves && foreign.rewrite;
    if held {
        can_be_put_back(name, resource)?;
        needs.hold = Hold::UntilSwitch;
        needs.rewritten.insert(name.to_owned());
    }
    if serves && foreign.rehearse {
        can_be_copied(world, name, resource)?;
        needs.rehearsed.push(name.to_owned());
    }
    // Where nothing serves its undo puts the backup back.
    let is_put_back = held || (now.live.is_none() && resource.is_backed_up());
    if foreign.by != Migrator::OnStart || is_put_back {
        needs.steps.push(Step::Migrator {
            resource: name.to_owned(),
            held,
        });
    }
    if serves {
        needs.changes.extend(told(name, foreign));
    }
    Ok(())
}

/// Nothing is said to have been tried that was not.
fn can_be_copied(world: &World, name: &str, resource: &Resource) -> Result<()> {
    if resource.kind != ResourceKind::Postgres {
        return Ok(());
    }
    let why = tokio::task::block_in_place(|| scratch::stands_against(world, name, resource));
    let Some(why) = why.map_err(Refusal::Failed)? else {
        return Ok(());
    };
    let text = format!("the migrator of `{name}` cannot be tried on a copy: {why}");
    Err(Refusal::Refused(
        Diagnostic::error("rehearse::impossible", text)
            .note("without that nobody knows whether the version that serves works with what it leaves")
            .note("nothing was touched")
            .help(format!(
                "give it one that may: `direct_url`; or take the risk: `rehearse = false` beside the migrator of `{name}`"
            )),
    ))
}

/// What a rewrite leaves is taken back by putting the backup in its place.
fn can_be_put_back(name: &str, resource: &Resource) -> Result<()> {
    let why = match resource.kind {
        _ if !resource.is_backed_up() => "it is backed up by somebody else",
        ResourceKind::Sqlite => return Ok(()),
        ResourceKind::Postgres if resource.is_run() => return Ok(()),
        ResourceKind::Postgres | ResourceKind::Redis | ResourceKind::Storage => {
            "it is not on a server of ours"
        }
    };
    let text = format!("`{name}` could not be put back if the new version failed: {why}");
    Err(Refusal::Refused(
        Diagnostic::error("migrate::one-way", text)
            .note("`rewrite = true` says that the version before does not work with what the migrator leaves")
            .note("nothing was touched")
            .help("split the change, so that the version before bears each part, or take the environment down for it"),
    ))
}

/// What a person is told beforehand.
fn told(name: &str, foreign: &Foreign) -> Vec<String> {
    let when = match (&foreign.by, foreign.rewrite) {
        (Migrator::Run { .. }, false) => "before the switch",
        (Migrator::OnStart, false) => "when it starts, before the switch",
        (Migrator::Run { .. }, true) => "while requests wait",
        (Migrator::OnStart, true) => "when it starts, while requests wait",
    };
    let tried = match foreign.rehearse {
        true => "it is tried on a copy first",
        false => "it is not tried on a copy first (`rehearse = false`)",
    };
    let back = match foreign.rewrite {
        false => {
            "going back: the schema stays as it was left, and rows stay; nothing is taken back"
        }
        true => "there is no going back once it serves",
    };
    vec![
        format!("{name}: {} migrates it {when}; {tried}", by(foreign)),
        format!("{name}: {back}"),
    ]
}

/// What going back finds.
pub(super) fn stays(foreign: &Foreign) -> String {
    match &foreign.by {
        Migrator::Run { command, .. } => format!("the schema stays as `{command}` left it"),
        Migrator::OnStart => "the schema stays as the application left it".to_owned(),
    }
}
