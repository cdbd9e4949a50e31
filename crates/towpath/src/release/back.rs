//! Whether a release can serve again on the schemas as they are.

use std::collections::BTreeSet;

use super::effect::migrations;
use super::planner::Result;
use super::prepare::Prepared;
use super::schema::{engine_of, folder_of, has_database, invalid, is_down};
use super::{Environment, Refusal, World};
use crate::config::Config;
use crate::diagnostic::Diagnostic;
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
