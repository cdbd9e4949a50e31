//! The planted loss: what a promotion has backed up in the place of the databases, under whoever has them open, as
//! deployers do that go back by restoring. What was written since is gone.

use std::path::Path;

use super::backups::{backup_path, dump_path, ends_well};
use super::{Result, blocking};
use crate::backup;
use crate::config::{Resource, ResourceKind};
use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use crate::release::{Version, World, database, resources};
use crate::resource::postgres::{binaries, dump};

/// Whoever writes meanwhile may hold what is to be replaced, and wait for it: PostgreSQL then ends one of the two.
const TRIES: u32 = 5;

/// Puts the backups of the run that brought `version` in back.
pub(super) async fn put_back(world: &World, version: &Version) -> Result<()> {
    let config = version.config(&world.environment)?;
    let mut restored = 0;
    for (name, resource) in &config.resources {
        let is_back = match resource.kind {
            ResourceKind::Sqlite => file(world, version, name, resource).await?,
            // A rehearsal has servers of its own; on no other is anything to be lost.
            ResourceKind::Postgres if resource.is_run() => {
                server(world, version, name, resource).await?
            }
            ResourceKind::Postgres | ResourceKind::Redis | ResourceKind::Storage => false,
        };
        restored += u32::from(is_back);
    }
    match restored {
        0 => Err(failed(&format!("there is no backup of {}", version.run))),
        _ => Ok(()),
    }
}

fn failed(error: &dyn std::fmt::Display) -> Diagnostic {
    let text = format!("the fault could not be planted: {error}");
    Diagnostic::error("rehearse::put-back", text)
}

async fn file(world: &World, version: &Version, name: &str, resource: &Resource) -> Result<bool> {
    let from = backup_path(world, version.run, name);
    let to = database::place(world, name, resource);
    let restored = blocking(move || {
        let is_there = from.is_file();
        if is_there {
            backup::restore_sqlite(&from, &to).map_err(|error| failed(&error))?;
        }
        Ok(is_there)
    });
    restored.await
}

async fn server(world: &World, version: &Version, name: &str, resource: &Resource) -> Result<bool> {
    let from = dump_path(world, version.run, name);
    if !from.is_file() {
        return Ok(false);
    }
    let script = from.with_extension("sql");
    let mut tries = 0;
    let restored = loop {
        tries += 1;
        match replay(world, name, resource, &from, &script).await {
            Err(_) if tries < TRIES => {}
            ended => break ended,
        }
    };
    let _ = std::fs::remove_file(&script);
    restored.map(|()| true)
}

/// In one transaction, and with what a migration has added since taken away, as in a file that is replaced.
async fn replay(
    world: &World,
    name: &str,
    resource: &Resource,
    from: &Path,
    script: &Path,
) -> Result<()> {
    let (state, asked, of) = (world.state(), resource.clone(), name.to_owned());
    let (from, script) = (from.to_owned(), script.to_owned());
    let commands = blocking(move || {
        let target = database::keeper(&state, &of, &asked)?;
        let programs = database::programs(&of, &target)?;
        let psql = binaries::client("psql", 0);
        let psql = psql.ok_or_else(|| failed(&"this machine has no `psql`"))?;
        let role = resources::kept(&state, &of)?.name;
        Ok([
            dump::script(&programs.1, &from, &script),
            dump::replay(&psql, &target, &role, &script),
        ])
    });
    let id = InstanceId(format!("{name}.put-back"));
    for command in commands.await? {
        let ended = ends_well(world, name, &id, command).await;
        ended.map_err(|why| {
            let told = failed(&why.text);
            why.tail.into_iter().fold(told, Diagnostic::note)
        })?;
    }
    Ok(())
}
