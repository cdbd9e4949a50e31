//! A tree that changes hands: from root, who unpacks it, to the user who builds in it, and back.
//!
//! Whoever builds may leave anything behind: links to other people's files, hard links, set-uid
//! bits, pipes, folders in folders without end. So root never follows a path into the tree before
//! it is its own again: each folder is opened from the one above it, no link is followed, and a
//! folder is taken before it is read, after which nobody else can put something else in its place.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;
use towpath_shim::protocol::User;

use super::{BUILT, Error};

/// Folders in folders that a build may leave: each level is an open file while a tree is walked.
const DEEPEST: usize = 200;
/// As deep as a tree is emptied at once.
const AT_ONCE: usize = 32;
/// What a file is copied to before it takes the place of one that has other names too.
const COPY: &str = ".towpath-copy";

type Result<T> = std::result::Result<T, Error>;

/// Gives a tree that was unpacked just now to `user`, who builds in it; nobody else gets in. One
/// that was given already stays as it is.
///
/// # Errors
/// From the file system; nobody but root gets in then.
pub fn give(root: &Path, user: User) -> Result<()> {
    let io = |error: Errno| Error::Io(root.to_owned(), error.into());
    let top = open_folder(CWD, root).map_err(io)?;
    if rustix::fs::fstat(&top).map_err(io)?.st_uid == user.uid {
        return Ok(());
    }
    rustix::fs::fchmod(&top, Mode::RWXU).map_err(io)?;
    give_below(top.as_fd(), user).map_err(io)?;
    rustix::fs::fchown(&top, Some(uid(user)), Some(gid(user))).map_err(io)
}

fn give_below(folder: BorrowedFd<'_>, user: User) -> std::result::Result<(), Errno> {
    for (name, found) in entries(folder)? {
        if kind(&found) == FileType::Directory {
            give_below(open_folder(folder, &name)?.as_fd(), user)?;
        }
        let (uid, gid) = (Some(uid(user)), Some(gid(user)));
        rustix::fs::chownat(folder, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// Takes a tree back that `user` has built in: all of it is the agent's own then, and `user` may
/// read what it could read, and change nothing. A file that has names elsewhere too becomes one
/// of its own. Pipes, sockets and what a finished build is known by are removed. It may be done again.
///
/// # Errors
/// [`Error::Hostile`] for what belongs to somebody else, or lies too deep; from the file system.
/// Nobody but root gets in then.
pub fn take(root: &Path, user: User) -> Result<()> {
    let taking = Taking { root, user };
    let top = open_folder(CWD, root).map_err(|error| taking.io(error))?;
    let own = |error| taking.io(error);
    rustix::fs::fchown(&top, Some(agent()), Some(gid(user))).map_err(own)?;
    rustix::fs::fchmod(&top, Mode::RWXU).map_err(own)?;
    remove_at(top.as_fd(), BUILT).map_err(own)?;
    remove_at(top.as_fd(), &format!("{BUILT}.new")).map_err(own)?;
    taking.below(top.as_fd(), 1)?;
    forget_lists(top.as_fd());
    rustix::fs::fchmod(&top, Mode::from_raw_mode(0o755)).map_err(own)
}

struct Taking<'a> {
    root: &'a Path,
    user: User,
}

impl Taking<'_> {
    fn io(&self, error: Errno) -> Error {
        Error::Io(self.root.to_owned(), error.into())
    }

    fn below(&self, folder: BorrowedFd<'_>, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            let why = format!("the build left more than {DEEPEST} folders in one another");
            return Err(Error::Hostile(why));
        }
        for (name, found) in entries(folder).map_err(|error| self.io(error))? {
            match kind(&found) {
                FileType::Directory => self.folder(folder, &name, depth)?,
                FileType::RegularFile => self.file(folder, &name)?,
                FileType::Symlink => {
                    let (uid, gid) = (Some(agent()), Some(gid(self.user)));
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    rustix::fs::chownat(folder, &name, uid, gid, flags)
                        .map_err(|error| self.io(error))?;
                }
                // Nobody can carry it anywhere, and whoever opened it would wait.
                _ => rustix::fs::unlinkat(folder, &name, AtFlags::empty())
                    .map_err(|error| self.io(error))?,
            }
        }
        Ok(())
    }

    fn folder(&self, above: BorrowedFd<'_>, name: &CString, depth: usize) -> Result<()> {
        let folder = open_folder(above, name).map_err(|error| self.io(error))?;
        let found = rustix::fs::fstat(&folder).map_err(|error| self.io(error))?;
        self.admit(&found, name)?;
        self.own(folder.as_fd(), &found)?;
        self.below(folder.as_fd(), depth + 1)
    }

    fn file(&self, folder: BorrowedFd<'_>, name: &CString) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, name, flags, Mode::empty())
            .map_err(|error| self.io(error))?;
        let found = rustix::fs::fstat(&file).map_err(|error| self.io(error))?;
        self.admit(&found, name)?;
        match found.st_nlink {
            1 => self.own(file.as_fd(), &found),
            _ => self.copy(folder, name, file, &found),
        }
    }

    /// What is neither the user's nor the agent's was not made by this build. And the agent's own
    /// file under a second name is one that the user could only name: it lies elsewhere.
    fn admit(&self, found: &Stat, name: &CString) -> Result<()> {
        let is_file = kind(found) == FileType::RegularFile;
        let is_agents = found.st_uid == agent().as_raw() && !(is_file && found.st_nlink > 1);
        if found.st_uid == self.user.uid || is_agents {
            return Ok(());
        }
        let name = name.to_string_lossy();
        let why = format!("`{name}` in the tree of the build belongs to somebody else");
        Err(Error::Hostile(why))
    }

    fn own(&self, thing: BorrowedFd<'_>, found: &Stat) -> Result<()> {
        forget_lists(thing);
        rustix::fs::fchown(thing, Some(agent()), Some(gid(self.user)))
            .and_then(|()| rustix::fs::fchmod(thing, readable(found)))
            .map_err(|error| self.io(error))
    }

    /// Under its other name the user could go on writing into it, or had it linked from elsewhere.
    fn copy(
        &self,
        folder: BorrowedFd<'_>,
        name: &CString,
        file: OwnedFd,
        found: &Stat,
    ) -> Result<()> {
        remove_at(folder, COPY).map_err(|error| self.io(error))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let copy = rustix::fs::openat(folder, COPY, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| self.io(error))?;
        let mut copy = File::from(copy);
        std::io::copy(&mut File::from(file), &mut copy)
            .map_err(|error| Error::Io(self.root.to_owned(), error))?;
        self.own(copy.as_fd(), found)?;
        // Tools compare times, of a source and of what was made of it.
        let time = |tv_sec, nanos| Timespec {
            tv_sec,
            tv_nsec: nanos,
        };
        let times = Timestamps {
            last_access: time(found.st_atime, found.st_atime_nsec.cast_signed()),
            last_modification: time(found.st_mtime, found.st_mtime_nsec.cast_signed()),
        };
        rustix::fs::futimens(&copy, &times)
            .and_then(|()| rustix::fs::renameat(folder, COPY, folder, name))
            .map_err(|error| self.io(error))
    }
}

/// Rights that lists give beside the mode: they would outlive the change of hands.
fn forget_lists(thing: BorrowedFd<'_>) {
    for list in ["system.posix_acl_access", "system.posix_acl_default"] {
        // Most have none, and some file systems know none.
        let _ = rustix::fs::fremovexattr(thing, list);
    }
}

/// What the user could read and run as the owner, it can as the group; writing is the agent's alone.
fn readable(found: &Stat) -> Mode {
    let owner = found.st_mode & 0o700;
    Mode::from_raw_mode(owner | 0o600 | ((owner >> 3) & 0o050) | (found.st_mode & 0o005))
}

/// Removes a file, or a tree with everything in it, whoever has made it and however deep it is. What is
/// not there is no error. Links are removed, and not followed.
///
/// # Errors
/// From the file system; some of it is left then.
pub fn remove(path: &Path) -> std::io::Result<()> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let above = match open_folder(CWD, above) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    Ok(remove_at(above.as_fd(), name)?)
}

fn remove_at(
    above: BorrowedFd<'_>,
    name: impl rustix::path::Arg + Copy,
) -> std::result::Result<(), Errno> {
    let found = match rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        found => found?,
    };
    if kind(&found) != FileType::Directory {
        return gone(rustix::fs::unlinkat(above, name, AtFlags::empty()));
    }
    let top = match open_to_empty(above, name) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let mut moved = 0;
    while !entries(top.as_fd())?.is_empty() {
        empty(top.as_fd(), top.as_fd(), 0, &mut moved)?;
    }
    gone(rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR))
}

/// What another removes at the same time is gone as well.
fn gone(removed: std::result::Result<(), Errno>) -> std::result::Result<(), Errno> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

/// What lies deeper than [`AT_ONCE`] is moved up to `top`, where its turn comes.
fn empty(
    top: BorrowedFd<'_>,
    folder: BorrowedFd<'_>,
    depth: usize,
    moved: &mut u64,
) -> std::result::Result<(), Errno> {
    for (name, found) in entries(folder)? {
        if kind(&found) != FileType::Directory {
            gone(rustix::fs::unlinkat(folder, &name, AtFlags::empty()))?;
        } else if depth == AT_ONCE {
            gone(move_up(top, folder, &name, moved))?;
        } else {
            let below = match open_to_empty(folder, &name) {
                Err(Errno::NOENT) => continue,
                opened => opened?,
            };
            empty(top, below.as_fd(), depth + 1, moved)?;
            gone(rustix::fs::unlinkat(folder, &name, AtFlags::REMOVEDIR))?;
        }
    }
    Ok(())
}

fn move_up(
    top: BorrowedFd<'_>,
    folder: BorrowedFd<'_>,
    name: &CString,
    moved: &mut u64,
) -> std::result::Result<(), Errno> {
    loop {
        *moved += 1;
        match rustix::fs::renameat(folder, name, top, format!(".deep-{moved}")) {
            // The name is taken by something of the tree itself.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            done => return done,
        }
    }
}

/// Opens a folder that is emptied next; whose it was puts nothing more into it.
fn open_to_empty(
    above: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
) -> std::result::Result<OwnedFd, Errno> {
    let folder = open_folder(above, name)?;
    if agent().is_root() {
        rustix::fs::fchown(&folder, Some(agent()), None)?;
    }
    rustix::fs::fchmod(&folder, Mode::RWXU)?;
    Ok(folder)
}

/// Reads a file of a tree that somebody else may have filled. Links are followed as long as they
/// stay inside.
///
/// # Errors
/// When there is no such file inside of the tree, or it has more than `most` bytes.
pub fn read(root: &Path, path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let top = open_folder(CWD, root)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match rustix::fs::openat2(&top, path, flags, Mode::empty(), inside) {
        // A kernel from before 2020, or a container that knows none later.
        Err(Errno::NOSYS | Errno::PERM) => open_without_links(top, path, flags),
        opened => opened,
    };
    let file = file.map_err(|error| match error {
        Errno::XDEV | Errno::LOOP => std::io::Error::other("it leads out of the tree"),
        other => other.into(),
    })?;
    let found = rustix::fs::fstat(&file)?;
    if kind(&found) != FileType::RegularFile {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::from(file).take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(std::io::Error::other(format!("more than {most} bytes"))),
        false => Ok(bytes),
    }
}

fn open_without_links(
    top: OwnedFd,
    path: &Path,
    flags: OFlags,
) -> std::result::Result<OwnedFd, Errno> {
    let parts: Vec<_> = path
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect();
    let Some((Component::Normal(last), above)) = parts.split_last() else {
        return Err(Errno::ISDIR);
    };
    let folder = above.iter().try_fold(top, |folder, part| match part {
        Component::Normal(name) => open_folder(folder.as_fd(), *name),
        _ => Err(Errno::XDEV),
    })?;
    rustix::fs::openat(folder, *last, flags | OFlags::NOFOLLOW, Mode::empty())
}

/// Where `path` of the tree `root` really is, for a tree that nobody changes any more.
///
/// # Errors
/// [`Error::Hostile`] when that is outside; when it is not there.
pub fn inside(root: &Path, path: &Path) -> Result<PathBuf> {
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|error| Error::Io(path.to_owned(), error))
    };
    let found = real(&root.join(path))?;
    match found.starts_with(real(root)?) {
        true => Ok(found),
        false => Err(Error::Hostile(format!(
            "`{}` leads out of the tree",
            path.display()
        ))),
    }
}

/// The folder of migrations `folder` of the tree `root`, with everything in it inside of the tree:
/// the agent reads it with its own rights, and tells what it could not understand.
///
/// # Errors
/// [`Error::Hostile`] when it, or a file in it, is elsewhere.
pub fn migrations_in(root: &Path, folder: &Path) -> Result<PathBuf> {
    let found = inside(root, folder)?;
    for entry in std::fs::read_dir(&found).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            inside(root, &folder.join(entry.file_name()))?;
        }
    }
    Ok(found)
}

fn open_folder(
    above: impl AsFd,
    name: impl rustix::path::Arg,
) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(above, name, flags, Mode::empty())
}

fn entries(folder: BorrowedFd<'_>) -> std::result::Result<Vec<(CString, Stat)>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() == b"." || name.as_bytes() == b".." {
            continue;
        }
        match rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            stat => found.push((name, stat?)),
        }
    }
    Ok(found)
}

fn kind(found: &Stat) -> FileType {
    FileType::from_raw_mode(found.st_mode)
}

fn agent() -> Uid {
    rustix::process::geteuid()
}

fn uid(user: User) -> Uid {
    Uid::from_raw(user.uid)
}

fn gid(user: User) -> Gid {
    Gid::from_raw(user.gid)
}
