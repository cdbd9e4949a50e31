//! Making the data of a PostgreSQL server, whole or not at all.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use towpath_shim::protocol::{Policy, Restart, Stop, User};

use super::server::io;
use super::{Result, owner};
use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use crate::release::World;
use crate::release::trouble::ending;
use crate::resource::kept::{Engine, Kept};
use crate::resource::postgres::binaries::{self, Binaries};
use crate::resource::postgres::cluster;
use crate::resource::{Command, kept as store};
use crate::supervise::{Process, tail};

/// The programs of the version that is wanted, or what to install.
pub(super) fn binaries(name: &str, major: Option<u32>) -> Result<Binaries> {
    if let Some(found) = binaries::find(major) {
        return Ok(found);
    }
    let (wanted, package) = match major {
        Some(major) => (format!("PostgreSQL {major}"), format!("postgresql-{major}")),
        None => ("PostgreSQL".to_owned(), "postgresql".to_owned()),
    };
    let others: Vec<String> = binaries::installed()
        .iter()
        .map(|binaries| binaries.version.clone())
        .collect();
    let text = format!("`{name}` is {wanted}, and this machine does not have its server");
    let diagnostic = Diagnostic::error("resource::missing", text);
    let diagnostic = match others.is_empty() {
        true => diagnostic,
        false => diagnostic.note(format!("it has {}", others.join(", "))),
    };
    Err(diagnostic.note("nothing was touched").help(format!(
        "install it: `apt-get install {package}`, or give `url` for one that is elsewhere"
    )))
}

/// Data without what is kept of it is a server that nobody has the password of.
pub(super) fn none_there(name: &str, kept: &Kept) -> Result<()> {
    if kept.engine == Engine::Postgres && cluster::version_of_data(&kept.home).is_some() {
        let text = format!(
            "there is data of `{name}` in `{}`, and its passwords are gone",
            kept.home.display()
        );
        return Err(Diagnostic::error("resource::unreadable", text)
            .note("it was not touched")
            .help(
                "put `resources` of the state directory back from a backup, or move the data away",
            ));
    }
    Ok(())
}

/// A folder for `user` alone; one that is there stays.
pub(super) fn make_home(home: &Path, user: Option<User>) -> std::io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(home) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match user {
        Some(user) => std::os::unix::fs::lchown(home, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

/// Makes the data of a server that has none: beside, then given to its user, then renamed.
pub(super) async fn make(world: &World, name: &str, kept: &Kept) -> Result<()> {
    if cluster::version_of_data(&kept.home).is_some() {
        return Ok(());
    }
    let failed = |error: std::io::Error| io(name, &error);
    let beside = kept.home.with_extension("making");
    let id = InstanceId(format!("{name}.making"));
    // What a crash has left of an earlier attempt.
    let ended = world.supervisor.stop(&id, None).await;
    ended.map_err(|error| io(name, &error))?;
    remove(&beside).map_err(failed)?;
    let user = kept.uid.and_then(|_| owner::named());
    owner::make_way(&kept.home).map_err(failed)?;
    make_home(&beside, user).map_err(failed)?;
    let made = initialise(world, name, kept, (&id, &beside, user)).await;
    let ended = world.supervisor.stop(&id, None).await;
    if let Err(trouble) = made {
        remove(&beside).map_err(failed)?;
        return Err(trouble);
    }
    ended.map_err(|error| io(name, &error))?;
    if let Some(uid) = kept.uid {
        owner::give(&beside, User { uid, gid: uid }).map_err(failed)?;
    }
    // An empty folder may be there from before.
    std::fs::rename(&beside, &kept.home).map_err(failed)?;
    let parent = kept.home.parent().unwrap_or(&kept.home);
    crate::state::sync_dir(parent).map_err(failed)
}

async fn initialise(
    world: &World,
    name: &str,
    kept: &Kept,
    (id, beside, user): (&InstanceId, &Path, Option<User>),
) -> Result<()> {
    let failed = |error: std::io::Error| io(name, &error);
    let binaries = binaries(name, Some(kept.version))?;
    let password = beside.join("password");
    store::write_private(&password, kept.admin.reveal().as_bytes(), 0o600).map_err(failed)?;
    if let Some(user) = user {
        std::os::unix::fs::lchown(&password, Some(user.uid), Some(user.gid)).map_err(failed)?;
    }
    let process = once(name, id, cluster::make(&binaries, beside, &password), user);
    let ended = world.supervisor.run_once(&process).await;
    let ended = ended.map_err(|error| io(name, &error))?;
    let exit = ended.last_exit.as_ref();
    if exit.and_then(|exit| exit.code) == Some(0) {
        return std::fs::remove_file(&password).map_err(failed);
    }
    let log = world.supervisor.places().log(name, id);
    let lines = tail(&log, 10);
    Err(Diagnostic::error(
        "resource::not-made",
        format!(
            "the data of `{name}` could not be made: `initdb` {}",
            ending(exit)
        ),
    )
    .note(format!("its last lines:\n{}", lines.join("\n")))
    .note("nothing of it is left")
    .help("see that there is room on the disk, and that the agent's user has a name"))
}

/// A process that runs to its end.
pub(in crate::release) fn once(
    name: &str,
    id: &InstanceId,
    command: Command,
    user: Option<User>,
) -> Process {
    let Command { argv, env, cwd } = command;
    let env: BTreeMap<String, String> = env;
    let cwd: PathBuf = cwd;
    Process {
        id: id.clone(),
        service: name.to_owned(),
        argv,
        env,
        cwd,
        user,
        listen: Vec::new(),
        port: None,
        restart: Restart {
            policy: Policy::Never,
            backoff_ms: 0,
            backoff_max_ms: 0,
            limit: 1,
            within_ms: 0,
        },
        stop: Stop {
            signal: 15,
            grace_ms: 5_000,
        },
        log: (1 << 20, 1),
        ready: None,
        alive: None,
        secrets: Vec::new(),
        container: None,
    }
}

fn remove(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
