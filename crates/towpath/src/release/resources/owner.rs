//! Whom a server runs as, and where its data lies.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use towpath_shim::protocol::User;

use crate::id::Digest;
use crate::release::World;
use crate::resource::kept;

/// The range that systemd sets aside for users without a name.
const FIRST: u32 = 61_184;
const COUNT: u32 = 4_336;

/// Where data lies that must be reached by a user who cannot pass through the state directory.
const BESIDE: &str = "/var/lib/towpath-local";

/// Whom the servers of an environment run as: its services' user; for a source tree under a root agent a user of their
/// own, because PostgreSQL does not run as root.
pub(super) fn user(world: &World) -> Option<User> {
    if world.user.is_some() || !rustix::process::geteuid().is_root() {
        return world.user;
    }
    let kept = kept::all(&world.state());
    let before = kept.iter().find_map(|(_, kept)| kept.uid);
    let uid = before.unwrap_or_else(|| choose(&world.state()));
    Some(User { uid, gid: uid })
}

/// Nobody who runs anything now, nor any environment of this machine.
fn choose(state: &Path) -> u32 {
    let owners = |dirs: Vec<PathBuf>| {
        let found = dirs
            .into_iter()
            .filter_map(|dir| std::fs::metadata(dir).ok());
        found.map(|found| found.uid()).collect::<BTreeSet<u32>>()
    };
    let environments = folders(Path::new("/var/lib/towpath"))
        .into_iter()
        .flat_map(|app| folders(&app))
        .map(|state| state.join("data"));
    let beside = folders(Path::new(BESIDE));
    let homes = beside.iter().flat_map(|dir| folders(dir));
    let mut taken = owners(environments.chain(homes).collect());
    taken.extend(owners(folders(Path::new("/proc"))));
    let digest = Digest::of(state.as_os_str().as_encoded_bytes()).0;
    let start = u32::from_be_bytes([0, digest[3], digest[4], digest[5]]) % COUNT;
    let free = (0..COUNT)
        .map(|step| FIRST + (start + step) % COUNT)
        .find(|uid| !taken.contains(uid));
    free.unwrap_or(FIRST + start)
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The folder for the data of resource `name`: in the state directory where `user` can pass through it.
pub(super) fn home(state: &Path, name: &str, user: Option<User>) -> PathBuf {
    let is_closed =
        |dir: &Path| std::fs::metadata(dir).is_ok_and(|found| found.mode() & 0o001 == 0);
    let base = match user {
        Some(_) if state.ancestors().any(is_closed) => {
            let digest = Digest::of(state.as_os_str().as_encoded_bytes()).short();
            Path::new(BESIDE).join(digest)
        }
        _ => kept::folder(state),
    };
    base.join(name)
}

/// Makes the folders above a home; others may pass through, and look at nothing.
pub(super) fn make_way(home: &Path) -> std::io::Result<()> {
    let parent = home.parent().unwrap_or(home);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(parent)?;
    // Whatever mask the agent was started under.
    std::fs::set_permissions(parent, std::os::unix::fs::PermissionsExt::from_mode(0o711))
}

/// Somebody with a name whom initdb can run as, for it asks who it is: Debian's own user for PostgreSQL, or nobody.
pub(super) fn named() -> Option<User> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let of = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(str::parse);
        let uid = fields.next()?.ok()?;
        (uid != 0).then_some(User { uid, gid: uid })
    };
    of("postgres").or_else(|| of("nobody"))
}

/// Gives a tree away, whose owner until now may be at work in it: no link is followed, neither at the end of a path nor
/// in the middle of one.
pub(super) fn give(dir: &Path, user: User) -> std::io::Result<()> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = open(dir, flags, Mode::empty())?;
    give_folder(&folder, user)
}

fn give_folder(folder: &rustix::fd::OwnedFd, user: User) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, chownat, fchown, openat, statat};
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(user.uid),
        rustix::fs::Gid::from_raw(user.gid),
    );
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let found = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                give_folder(&openat(folder, name, flags, Mode::empty())?, user)?;
            }
            // A second name of somebody else's file would give that away.
            _ if found.st_nlink > 1 => {
                return Err(std::io::Error::other("a file in it has a second name"));
            }
            _ => chownat(
                folder,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )?,
        }
    }
    fchown(folder, Some(uid), Some(gid))?;
    Ok(())
}
