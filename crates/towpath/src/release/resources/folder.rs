//! Folders that resources have in the environment's data folder: made before anything runs that looks for them, and
//! kept ever after. What lies in them is the services' own, and leads the agent nowhere else.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use towpath_shim::protocol::User;

use crate::config::{Config, Resource};
use crate::diagnostic::Diagnostic;

/// The folder of the resource `name`.
#[must_use]
pub(in crate::release) fn path(state: &Path, name: &str) -> PathBuf {
    state.join("data").join(name)
}

/// Makes those of a configuration that are not there, for `user`. Again and again it changes nothing.
pub(in crate::release) fn make_all(
    state: &Path,
    config: &Config,
    user: Option<User>,
) -> Result<(), Diagnostic> {
    let resources = config.resources.iter();
    let mut with_folder = resources.filter(|(_, resource)| resource.has_folder());
    with_folder.try_for_each(|(name, _)| {
        make(state, name, user).map_err(|error| trouble(state, name, &error))
    })
}

fn make(state: &Path, name: &str, user: Option<User>) -> std::io::Result<()> {
    std::fs::create_dir_all(state.join("data"))?;
    let data = open_data(state)?;
    match rustix::fs::mkdirat(&data, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = open_below(&data, name)?;
    // One that a killed agent made, or this one: nobody else can have made a folder that is root's.
    let is_agents = rustix::fs::fstat(&folder)?.st_uid == rustix::process::geteuid().as_raw();
    if let Some(user) = user.filter(|_| is_agents) {
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        rustix::fs::fchown(&folder, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Opens the folder of the resource `name`, not through a link.
///
/// # Errors
/// From the file system, also for what is no folder.
pub(in crate::release) fn open(state: &Path, name: &str) -> std::io::Result<OwnedFd> {
    open_below(&open_data(state)?, name)
}

/// Whether the folder of the resource `name` is there, and takes files of `user`'s. What is written for it has no name,
/// and is gone with its descriptor. Blocking.
pub(in crate::release) fn alive(
    state: &Path,
    name: &str,
    user: Option<User>,
) -> Result<(), String> {
    let path = path(state, name);
    let wrong = |why: &str| format!("{}: {why}", path.display());
    let io = |error: std::io::Error| wrong(&error.to_string());
    let folder = open(state, name).map_err(io)?;
    let found = rustix::fs::fstat(&folder).map_err(|error| io(error.into()))?;
    let is_anybodys = found.st_mode & 0o003 == 0o003;
    let is_theirs =
        user.is_none_or(|user| found.st_uid == user.uid && found.st_mode & 0o300 == 0o300);
    if !is_theirs && !is_anybodys {
        return Err(wrong("services may not write there"));
    }
    match write_nameless(&folder) {
        // The file system knows no such files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOSYS) => rustix::fs::accessat(
            &folder,
            ".",
            Access::WRITE_OK | Access::EXEC_OK,
            AtFlags::empty(),
        )
        .map_err(|error| io(error.into())),
        written => written.map_err(|error| io(error.into())),
    }
}

fn write_nameless(folder: &OwnedFd) -> rustix::io::Result<()> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, ".", flags, Mode::RUSR | Mode::WUSR)?;
    // A full disk has room for a name, and for no block.
    rustix::io::write(&file, &[0; 4096]).map(drop)
}

/// The way there is the agent's own.
fn open_data(state: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(state.join("data"), flags, Mode::empty())?)
}

fn open_below(above: impl AsFd, name: &str) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(above, name, flags, Mode::empty())?)
}

/// Gives the file of a database to `user`, whom the services run as. Links are not followed, and no second name of
/// somebody else's file is given away: what a service puts in the place of its database stays whose it is.
pub(in crate::release) fn give_file(
    state: &Path,
    name: &str,
    resource: &Resource,
    user: User,
) -> std::io::Result<()> {
    let (folder, file) = match &resource.file {
        Some(file) => (open(state, name)?, file.clone()),
        None => (open_data(state)?, format!("{name}.db")),
    };
    let found = rustix::fs::statat(&folder, file.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(std::io::Error::other("it is not a file"));
    }
    if found.st_uid == user.uid {
        return Ok(());
    }
    if found.st_nlink > 1 {
        return Err(std::io::Error::other("it has a second name"));
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(&folder, file.as_str(), Some(uid), Some(gid), flags)?;
    Ok(())
}

fn trouble(state: &Path, name: &str, error: &std::io::Error) -> Diagnostic {
    let path = path(state, name);
    let text = format!(
        "`{}` cannot be the folder of `{name}`: {error}",
        path.display()
    );
    Diagnostic::error("resource::no-folder", text)
        .note("what lies there was not touched")
        .help("see what is in its place; it has to be a folder, and no link to one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_alive_where_files_can_be_made_in_it() {
        let state = std::env::temp_dir().join(format!("tow-alive-{}", std::process::id()));
        std::fs::create_dir_all(state.join("data")).unwrap();
        let missing = alive(&state, "files", None).unwrap_err();
        assert!(missing.contains("No such file"), "{missing}");
        make(&state, "files", None).unwrap();
        assert_eq!(alive(&state, "files", None), Ok(()));
        assert_eq!(std::fs::read_dir(path(&state, "files")).unwrap().count(), 0);
        let other = User {
            uid: 4242,
            gid: 4242,
        };
        let refused = alive(&state, "files", Some(other)).unwrap_err();
        assert!(refused.contains("may not write"), "{refused}");
        std::fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn a_link_is_no_folder_and_nothing_is_made_behind_it() {
        let dir = std::env::temp_dir().join(format!("tow-folder-{}", std::process::id()));
        let (state, elsewhere) = (dir.join("state"), dir.join("elsewhere"));
        std::fs::create_dir_all(state.join("data")).unwrap();
        std::fs::create_dir_all(&elsewhere).unwrap();
        make(&state, "files", None).unwrap();
        make(&state, "files", None).unwrap();
        assert!(path(&state, "files").is_dir());
        std::os::unix::fs::symlink(&elsewhere, path(&state, "linked")).unwrap();
        std::fs::write(path(&state, "plain"), "kept").unwrap();
        for name in ["linked", "plain"] {
            assert!(make(&state, name, None).is_err(), "{name}");
            assert!(open(&state, name).is_err(), "{name}");
        }
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
        assert_eq!(std::fs::read(path(&state, "plain")).unwrap(), b"kept");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
