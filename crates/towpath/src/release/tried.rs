//! Migrations tried out on a copy of the database, before a run is planned with them.

use std::collections::BTreeMap;

use tokio::runtime::Handle;

use super::effect::backups::backup_path;
use super::effect::migrations::{self, Scratch};
use super::planner::Result;
use super::schema::{Brought, has_database, invalid};
use super::{Refusal, World, database, scratch};
use crate::backup;
use crate::config::Resource;
use crate::diagnostic::Diagnostic;
use crate::id::RunId;
use crate::migrate::{self, Engine, Tried};
use crate::resource::Connection;

/// What a copy has shown, or why there is none.
pub(super) type Trial = std::result::Result<Tried, String>;

/// On a copy of the database as it is now.
pub(super) fn try_out(
    world: &World,
    (name, resource): (&str, &Resource),
    brought: &Brought,
    versions: &[u64],
    run: RunId,
) -> Result<Trial> {
    match brought.engine {
        Engine::Sqlite => try_on_file(world, (name, resource), brought, versions, run).map(Ok),
        Engine::Postgres => try_on_server(world, (name, resource), brought, versions),
    }
}

/// In a database of its own beside the one that is there. No run is under way whose copies these could be.
fn try_on_server(
    world: &World,
    (name, resource): (&str, &Resource),
    brought: &Brought,
    versions: &[u64],
) -> Result<Trial> {
    if !has_database(world, name, resource) {
        return Ok(Err("its server does not run yet".to_owned()));
    }
    let why = scratch::is_not_worth_it(world, name, resource).map_err(Refusal::Failed)?;
    if let Some(why) = why {
        return Ok(Err(why));
    }
    let runtime = Handle::current();
    let tried = runtime
        .block_on(scratch::copy(world, name, resource))
        .and_then(|_| scratch::open(world, name, resource))
        .map_err(Refusal::Failed)
        .and_then(|mut copy| {
            let options = migrations::options(world);
            let tried = migrate::try_out(&mut copy, &brought.all, Some(versions), &options);
            tried.map_err(|error| refused(name, error))
        });
    let all = BTreeMap::from([(name.to_owned(), resource.clone())]);
    let removed = runtime.block_on(scratch::remove(world, &all));
    let tried = tried?;
    removed.map_err(Refusal::Failed)?;
    Ok(Ok(tried))
}

/// What has failed half-way has done so on the copy.
fn refused(name: &str, mut error: migrate::Error) -> Refusal {
    if let migrate::Error::Sql(failed) = &mut error {
        failed.left = Some("that was on a copy of the database".to_owned());
    }
    invalid(name, &error)
}

fn try_on_file(
    world: &World,
    (name, resource): (&str, &Resource),
    brought: &Brought,
    versions: &[u64],
    run: RunId,
) -> Result<Tried> {
    let scratch = Scratch(backup_path(world, run, name).with_extension("plan"));
    let no_copy = |error: &dyn std::fmt::Display| {
        let text = format!("no scratch copy of `{name}` could be made: {error}");
        Refusal::Failed(
            Diagnostic::error("migrate::no-copy", text)
                .note("nothing was touched")
                .help("see that there is room on the disk"),
        )
    };
    if let Some(folder) = scratch.0.parent() {
        std::fs::create_dir_all(folder).map_err(|error| no_copy(&error))?;
    }
    let live = database::place(world, name, resource);
    if live.path().exists() {
        let db = live.open().map_err(|error| no_copy(&error))?;
        backup::sqlite(&db, &scratch.0).map_err(|error| no_copy(&error))?;
    }
    let copy = rusqlite::Connection::open(&scratch.0).map_err(|error| no_copy(&error))?;
    let mut copy = Connection::Sqlite(copy);
    let options = migrations::options(world);
    let tried = migrate::try_out(&mut copy, &brought.all, Some(versions), &options);
    tried.map_err(|error| refused(name, error))
}
