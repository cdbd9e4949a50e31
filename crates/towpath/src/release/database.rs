//! Reaching the databases of an environment, for ourselves: migrations, backups. Blocking.

use std::path::{Path, PathBuf};

use super::World;
use super::resources;
use crate::config::{Config, Resource, ResourceKind};
use crate::diagnostic::Diagnostic;
use crate::resource::postgres::{self, binaries, cluster, said};
use crate::resource::{Connection, kept, sqlite};

type Result<T> = std::result::Result<T, Diagnostic>;

/// Opens the database of the resource `name` as the application does, round a pooler where there is a way. What it is
/// for stands in the session's `application_name`, as `tow/PURPOSE`.
///
/// # Errors
/// When the configuration has no such database, or it cannot be reached; no password is in what is said.
pub fn open(world: &World, config: &Config, name: &str, purpose: &str) -> Result<Connection> {
    let resource = config.resources.get(name).ok_or_else(|| {
        Diagnostic::error(
            "resource::unknown",
            format!("there is no resource `{name}`"),
        )
    })?;
    match resource.kind {
        ResourceKind::Sqlite => {
            let opened = place(world, name, resource).open();
            opened
                .map(Connection::Sqlite)
                .map_err(|error| unreachable(name, &error.to_string()))
        }
        ResourceKind::Postgres => {
            let url = direct(&world.state(), name, resource)?;
            connect(name, &url, purpose).map(Connection::Postgres)
        }
        ResourceKind::Redis => Err(unreachable(name, "it is a cache, and no database")),
        ResourceKind::Storage => Err(unreachable(name, "it is a folder, and no database")),
    }
}

/// Where a SQLite file lies.
pub(super) fn place(world: &World, name: &str, resource: &Resource) -> sqlite::Place {
    place_in(&world.state(), name, resource)
}

/// As it is below the state directory, or below what stands in its place.
pub(super) fn place_in(state: &Path, name: &str, resource: &Resource) -> sqlite::Place {
    sqlite::Place::new(state, name, resource.file.as_deref())
}

/// The URL for ourselves: with a password in it.
fn direct(state: &Path, name: &str, resource: &Resource) -> Result<String> {
    match resource.direct_url.as_ref().or(resource.url.as_ref()) {
        Some(address) => resources::read(state, name, address),
        None => {
            let kept = resources::kept(state, name)?;
            Ok(crate::resource::url::of_kept(&kept)["url"].clone())
        }
    }
}

/// The URL of whoever may read everything: of a server of ours the administrator, for whom row level security hides
/// nothing.
pub(super) fn keeper(state: &Path, name: &str, resource: &Resource) -> Result<String> {
    if !resource.is_run() {
        return direct(state, name, resource);
    }
    let kept: kept::Kept = resources::kept(state, name)?;
    Ok(format!(
        "postgres://{}:{}@127.0.0.1:{}/{}",
        cluster::ADMIN,
        kept.admin.reveal(),
        kept.port,
        kept.name
    ))
}

pub(super) fn connect(name: &str, url: &str, purpose: &str) -> Result<::postgres::Client> {
    let target = postgres::target(url).map_err(|fault| unreachable(name, &fault))?;
    postgres::connect_to(target, purpose).map_err(|error| unreachable(name, &said(&error)))
}

fn unreachable(name: &str, why: &str) -> Diagnostic {
    Diagnostic::error(
        "resource::unreachable",
        format!("the database `{name}` cannot be reached: {why}"),
    )
    .help("see that it runs, and that its URL is right")
}

/// `pg_dump` and `pg_restore` for the server at `url`: of its version, or newer.
pub(super) fn programs(name: &str, url: &str) -> Result<(PathBuf, PathBuf)> {
    let mut client = connect(name, url, "backup")?;
    let asked = client.query_one("SHOW server_version_num", &[]);
    let asked = asked.map_err(|error| unreachable(name, &said(&error)))?;
    let number: String = asked.get(0);
    let major = number.parse::<u32>().unwrap_or_default() / 10_000;
    let program = |program: &str| {
        binaries::client(program, major).ok_or_else(|| {
            let text = format!("`{name}` is PostgreSQL {major}, and this machine has no `{program}` for it");
            Diagnostic::error("resource::missing", text)
                .note("no backup can be taken; nothing was touched")
                .help(format!(
                    "install it: `apt-get install postgresql-client-{major}`, or say who backs it up: `backup = \"provider\"`"
                ))
        })
    };
    Ok((program("pg_dump")?, program("pg_restore")?))
}

/// Whether a database elsewhere can be reached, and backed up as it has to be.
pub(super) fn check(state: &Path, name: &str, resource: &Resource) -> Result<()> {
    let is_elsewhere = resource.kind == ResourceKind::Postgres && !resource.is_run();
    if !is_elsewhere {
        return Ok(());
    }
    let url = direct(state, name, resource)?;
    match resource.is_backed_up() {
        true => programs(name, &url).map(drop),
        false => connect(name, &url, "check").map(drop),
    }
}
