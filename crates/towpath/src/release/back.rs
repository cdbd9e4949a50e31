//! Whether a release can serve again on the schemas as they are.

use std::collections::BTreeSet;

use super::effect::migrations;
use super::planner::Result;
use super::prepare::Prepared;
use super::schema::{engine_of, folder_of, has_database, invalid, is_down};
use super::world::state_trouble;
use super::{Environment, Operation, Plan, Refusal, Step, World};
use crate::config::{Config, Resource};
use crate::diagnostic::Diagnostic;
use crate::id::{ReleaseId, RunId};
use crate::migrate::{self, State};

/// A version that does not know a contraction or a rewrite cannot serve behind it.
pub(super) fn can_go_back(
    world: &World,
    now: &Environment,
    config: &Config,
    name: &str,
    prepared: &Prepared,
) -> Result<()> {
    let resource = &config.resources[name];
    if let Some(run) = rewritten(world, now, name, prepared.release)? {
        return Err(behind(name, run));
    }
    let Some(folder) = resource.migrations() else {
        return Ok(());
    };
    let engine = engine_of(resource);
    // What served last knows its schema.
    if is_down(world, name, resource) && prepared.release != now.history.last().copied() {
        return Err(unseen(world, now, name));
    }
    if !has_database(world, name, resource) {
        return Ok(());
    }
    let root = &prepared.root;
    let refuse = |error: migrate::Error| invalid(name, &error);
    let known: BTreeSet<u64> = migrate::load(&folder_of(world, root, folder)?, engine)
        .map_err(refuse)?
        .iter()
        .map(|file| file.version)
        .collect();
    let mut db = migrations::open(world, config, name).map_err(Refusal::Failed)?;
    let have = migrate::applied(&mut db).map_err(refuse)?;
    let beyond = have.iter().find(|(version, found)| {
        !known.contains(version) && !found.kind.is_borne() && found.state != State::Baseline
    });
    match beyond {
        None => Ok(()),
        Some((version, found)) => {
            let text = format!(
                "`{name}` has migration {version:04}_{}, a {}: an earlier release does not work with it",
                found.name, found.kind
            );
            Err(Refusal::Refused(
                Diagnostic::error("rollback::schema", text)
                    .note("nothing was touched")
                    .help("mend what is wrong with a new release, or restore the backup of the run that applied it"),
            ))
        }
    }
}

/// The run whose foreign migrator has rewritten the schema since `release` served; what has served since knows it.
fn rewritten(
    world: &World,
    now: &Environment,
    name: &str,
    release: Option<ReleaseId>,
) -> Result<Option<RunId>> {
    for ended in now.ended.iter().rev().filter(|ended| ended.done) {
        if ended.release.is_some() && ended.release == release {
            return Ok(None);
        }
        let brings = matches!(ended.operation, Operation::Deploy | Operation::Promote);
        if brings && is_rewrite(world, ended.run, name)? {
            return Ok(Some(ended.run));
        }
    }
    Ok(None)
}

/// Also where nothing served, and so no requests waited.
fn is_rewrite(world: &World, run: RunId, name: &str) -> Result<bool> {
    let row = world.store.first_of(run).map_err(state_trouble);
    let row = row.map_err(Refusal::Failed)?;
    let Some(plan) = row.and_then(|row| serde_json::from_value::<Plan>(row.data).ok()) else {
        return Ok(false);
    };
    let is_held =
        |step: &Step| matches!(step, Step::Migrator { resource, held: true } if resource == name);
    let new = plan.new.as_ref();
    let config = new.and_then(|new| new.config(&world.environment).ok());
    let declared = config
        .as_ref()
        .and_then(|config| config.resources.get(name));
    let foreign = declared.and_then(Resource::foreign);
    Ok(plan.steps.iter().any(is_held) || foreign.is_some_and(|foreign| foreign.rewrite))
}

fn behind(name: &str, run: RunId) -> Refusal {
    let text = format!(
        "the migrator of `{name}` has rewritten its schema in {run}: an earlier release does not work with it"
    );
    Refusal::Refused(
        Diagnostic::error("rollback::schema", text)
            .note("`rewrite = true` said so")
            .note("nothing was touched")
            .help(format!(
                "mend what is wrong with a new release, or restore the backup of {run}"
            )),
    )
}

/// A server of ours that is down has a schema, and nobody sees it.
fn unseen(world: &World, now: &Environment, name: &str) -> Refusal {
    let environment = &world.environment;
    let text = format!(
        "`{name}` is down, so whether an earlier release works with its schema cannot be seen"
    );
    let help = match now.history.last() {
        Some(last) => format!(
            "bring back what served last, and go back from there: `tow rollback {last} -e {environment}`"
        ),
        None => format!("bring a release in first: `tow deploy -e {environment}`"),
    };
    let diagnostic = Diagnostic::error("rollback::schema", text);
    Refusal::Refused(diagnostic.note("nothing was touched").help(help))
}
