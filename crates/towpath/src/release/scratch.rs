//! Copies of an environment's databases, for trying out what must not be tried on themselves.
//!
//! Those of SQLite lie below `rehearsal` in the state directory, as the databases themselves lie below the state
//! directory; those of PostgreSQL beside the databases, on the same server. There is one set of copies at a time, a run's;
//! whoever makes one removes what another has left.

mod postgres;

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use towpath_shim::protocol::User;

use super::{World, database, resources};
use crate::backup;
use crate::config::{Resource, ResourceKind};
use crate::diagnostic::Diagnostic;
use crate::resource::Connection;
use crate::resource::url::Attributes;

/// Where copies of databases are, by resource: as services are told of the databases.
pub(super) type Copies = BTreeMap<String, Attributes>;

pub(super) use postgres::{Empty, is_not_worth_it, stands_against};

type Result<T> = std::result::Result<T, Diagnostic>;

/// What stands to the copies as the state directory to the databases.
fn root(state: &Path) -> PathBuf {
    state.join("rehearsal")
}

/// The folder of copies that are files.
pub(super) fn data(state: &Path) -> PathBuf {
    root(state).join("data")
}

fn no_copy(name: &str, error: &dyn std::fmt::Display) -> Diagnostic {
    let text = format!("no copy of `{name}` could be made: {error}");
    Diagnostic::error("rehearse::no-copy", text)
        .note("nothing was touched")
        .help("see that there is room on the disk, and that nothing holds the database locked")
}

/// Copies the database of the resource `name`; says where the copy is.
pub(super) async fn copy(world: &World, name: &str, resource: &Resource) -> Result<Attributes> {
    match resource.kind {
        ResourceKind::Sqlite => {
            let (state, of) = (world.state(), name.to_owned());
            let asked = resource.clone();
            let copied = tokio::task::spawn_blocking(move || {
                copy_file(&state, &of, &asked).map_err(|error| no_copy(&of, &error))
            });
            copied.await.unwrap_or_else(|_| Err(panicked(name)))?;
            Ok(resources::of_file(&root(&world.state()), name, resource))
        }
        ResourceKind::Storage => {
            let (state, user, of) = (world.state(), world.user, name.to_owned());
            let copied = tokio::task::spawn_blocking(move || {
                copy_folder(&state, &of, user).map_err(|error| no_copy(&of, &error))
            });
            copied.await.unwrap_or_else(|_| Err(panicked(name)))?;
            Ok(resources::of_file(&root(&world.state()), name, resource))
        }
        ResourceKind::Postgres => postgres::copy(world, name, resource).await,
        ResourceKind::Redis => Err(no_copy(name, &"a cache is not copied")),
    }
}

fn panicked(name: &str) -> Diagnostic {
    no_copy(name, &"it panicked; this is a bug in Towpath")
}

/// Passed through by whom the services run as, who have the folder of the copies for themselves.
fn make_data(state: &Path) -> std::io::Result<PathBuf> {
    let folder = data(state);
    for (path, mode) in [(root(state), 0o711), (folder.clone(), 0o700)] {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(mode).create(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(folder)
}

/// By whom the services run as: what they have put there leads the copy nowhere that they could not go themselves.
fn copy_folder(state: &Path, name: &str, user: Option<User>) -> std::io::Result<()> {
    let folder = make_data(state)?;
    let from = resources::folder::path(state, name);
    let mut command = Command::new("cp");
    command
        .args(["-a", "--reflink=auto", "--"])
        .args([&from, &folder]);
    if let Some(user) = user {
        lchown(&folder, Some(user.uid), Some(user.gid))?;
        let path = std::env::var_os("PATH");
        // Groups that root is in are left with that. And whoever runs a program sees its variables.
        command.uid(user.uid).gid(user.gid).current_dir("/");
        command.env_clear().envs(path.map(|path| ("PATH", path)));
    }
    if !from.exists() {
        return Ok(());
    }
    let done = command.stdin(Stdio::null()).output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(std::io::Error::other(
            String::from_utf8_lossy(&done.stderr).trim().to_owned(),
        )),
    }
}

fn copy_file(
    state: &Path,
    name: &str,
    resource: &Resource,
) -> std::result::Result<(), backup::Error> {
    let from = database::place_in(state, name, resource);
    let to = database::place_in(&root(state), name, resource);
    let (file, data) = (to.path(), make_data(state)?);
    std::fs::create_dir_all(file.parent().unwrap_or(&data))?;
    if from.path().exists() {
        backup::sqlite(&from.open()?, &file)?;
    }
    Ok(())
}

/// Gives the copies to whom the services run as. Not before all databases are: whose folder it is may put anything into it.
pub(super) fn give(world: &World) -> Result<()> {
    let Some(user) = world.user else {
        return Ok(());
    };
    give_tree(&data(&world.state()), user).map_err(|error| {
        let text = format!("the copies could not be given to the services: {error}");
        Diagnostic::error("rehearse::no-copy", text).note("nothing was touched")
    })
}

fn give_tree(path: &Path, user: User) -> std::io::Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if found.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give_tree(&entry?.path(), user)?;
        }
    }
    lchown(path, Some(user.uid), Some(user.gid))
}

/// Opens the copy of a database. Blocking.
pub(super) fn open(world: &World, name: &str, resource: &Resource) -> Result<Connection> {
    match resource.kind {
        ResourceKind::Sqlite => {
            let copy = database::place_in(&root(&world.state()), name, resource);
            copy.open()
                .map(Connection::Sqlite)
                .map_err(|error| no_copy(name, &error))
        }
        ResourceKind::Postgres => postgres::open(world, name, resource),
        ResourceKind::Redis | ResourceKind::Storage => Err(no_copy(name, &"it is no database")),
    }
}

/// Puts a backup of PostgreSQL in the place of the database.
pub(super) async fn put_back(
    world: &World,
    name: &str,
    resource: &Resource,
    dump: &Path,
) -> Result<()> {
    postgres::put_back(world, name, resource, dump).await
}

/// Removes all copies of these, whoever has made them; as often as one likes.
pub(super) async fn remove(world: &World, all: &BTreeMap<String, Resource>) -> Result<()> {
    let servers = all
        .iter()
        .filter(|(_, one)| one.kind == ResourceKind::Postgres);
    let servers: Vec<_> = servers
        .map(|(name, one)| (name.clone(), one.clone()))
        .collect();
    postgres::remove(world, &servers).await?;
    let root = root(&world.state());
    let gone = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(&root));
    match gone.await {
        Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            let text = format!("copies that were tried on could not be removed: {error}");
            Err(Diagnostic::error("rehearse::stays", text)
                .note("the databases themselves are as they were")
                .help(format!("remove `{}`", self::root(&world.state()).display())))
        }
        _ => Ok(()),
    }
}
