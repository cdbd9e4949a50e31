//! Unpacking an archive that somebody else made.

use std::cell::Cell;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use tar::{Archive, Entry, EntryType};

use super::Error;

/// More than this is no source and no artifact: it would fill the disk of what serves beside it.
const MOST_BYTES: u64 = 32 << 30;
const MOST_ENTRIES: u64 = 1_000_000;
/// What may be read to get to the next entry: its header, its long names.
const BETWEEN: u64 = 1 << 20;

/// Unpacks a tar archive into `folder`, which it makes. Times are those of the unpacking, so that
/// build tools see files newer than a cache's.
///
/// # Errors
/// [`Error::Hostile`] for a path or link that leaves the folder, a device, far too much, or what is
/// no whole archive; what was unpacked until then stays and is the caller's to remove.
pub fn unpack(archive: impl Read, folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|error| Error::Io(folder.to_owned(), error))?;
    let left = Rc::new(Cell::new(BETWEEN));
    let mut archive = Archive::new(Rationed {
        inner: archive,
        left: left.clone(),
    });
    archive.set_preserve_mtime(false);
    archive.set_preserve_permissions(true);
    // Files belong to whoever unpacks: root's must not be what everybody may run as root, or change.
    archive.set_mask(0o7022);
    archive.set_overwrite(true);
    let (mut links, mut bytes) = (Vec::new(), 0u64);
    for (entry, count) in archive
        .entries()
        .map_err(|error| told(folder, error))?
        .zip(1..)
    {
        let mut entry = entry.map_err(|error| told(folder, error))?;
        bytes = bytes.saturating_add(entry.size());
        if bytes > MOST_BYTES || count > MOST_ENTRIES {
            return Err(Error::Hostile(format!(
                "more than {} GiB, or than {MOST_ENTRIES} files",
                MOST_BYTES >> 30
            )));
        }
        left.set(entry.size().saturating_add(BETWEEN));
        if matches!(
            entry.header().entry_type(),
            EntryType::XGlobalHeader | EntryType::XHeader
        ) {
            continue;
        }
        admit(&entry)?;
        if entry.header().entry_type() == EntryType::Symlink {
            links.push(name(&entry));
        }
        if !entry
            .unpack_in(folder)
            .map_err(|error| told(folder, error))?
        {
            return Err(Error::Hostile(format!(
                "`{}` leaves the tree",
                name(&entry).display()
            )));
        }
        left.set(BETWEEN);
    }
    stay_inside(folder, &links)
}

/// A reader that gives no more than was allowed: a long name is read whole, and may be no bomb.
struct Rationed<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Rationed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left.get()).unwrap_or(usize::MAX);
        if most == 0 && !buffer.is_empty() {
            let why = "a header without end";
            return Err(std::io::Error::new(ErrorKind::InvalidData, why));
        }
        let room = buffer.len().min(most);
        let read = self.inner.read(&mut buffer[..room])?;
        self.left.set(self.left.get() - read as u64);
        Ok(read)
    }
}

/// Whether it is the archive's fault, or this machine's.
fn told(folder: &Path, error: std::io::Error) -> Error {
    use ErrorKind as K;
    match error.kind() {
        K::InvalidData
        | K::InvalidInput
        | K::UnexpectedEof
        | K::AlreadyExists
        | K::NotADirectory
        | K::IsADirectory
        | K::InvalidFilename
        | K::Other => Error::Hostile(error.to_string()),
        _ => Error::Io(folder.to_owned(), error),
    }
}

/// Links that each stay inside may lead out together: where they really lead is what counts.
fn stay_inside(folder: &Path, links: &[PathBuf]) -> Result<(), Error> {
    let top = folder
        .canonicalize()
        .map_err(|error| Error::Io(folder.to_owned(), error))?;
    let leaves = |link: &&PathBuf| {
        folder
            .join(link)
            .canonicalize()
            .is_ok_and(|end| !end.starts_with(&top))
    };
    match links.iter().find(leaves) {
        Some(link) => Err(Error::Hostile(format!(
            "`{}` leads out of the tree",
            link.display()
        ))),
        None => Ok(()),
    }
}

fn name<R: Read>(entry: &Entry<'_, R>) -> PathBuf {
    entry
        .path()
        .map(std::borrow::Cow::into_owned)
        .unwrap_or_default()
}

fn admit<R: Read>(entry: &Entry<'_, R>) -> Result<(), Error> {
    let path = name(entry);
    let hostile = |why: &str| Err(Error::Hostile(format!("`{}` {why}", path.display())));
    if depth_after(0, &path).is_none() {
        return hostile("leaves the tree");
    }
    if path == Path::new(super::BUILT) || path == Path::new(".").join(super::BUILT) {
        return hostile("is what a finished build is known by");
    }
    match entry.header().entry_type() {
        EntryType::Regular
        | EntryType::Directory
        | EntryType::GNUSparse
        | EntryType::Continuous => Ok(()),
        EntryType::Symlink => {
            let target = entry
                .link_name()
                .ok()
                .flatten()
                .unwrap_or_default()
                .into_owned();
            let below = path
                .components()
                .filter(|part| matches!(part, Component::Normal(_)))
                .count();
            match depth_after(below.saturating_sub(1), &target) {
                Some(_) => Ok(()),
                None => hostile(&format!(
                    "links to `{}`, which leaves the tree",
                    target.display()
                )),
            }
        }
        EntryType::Link => hostile("is a hard link"),
        _ => hostile("is not a file, a folder or a link"),
    }
}

/// How deep `path` leads when one starts `depth` folders down; `None` when it leaves the top.
fn depth_after(depth: usize, path: &Path) -> Option<usize> {
    path.components().try_fold(depth, |depth, part| match part {
        Component::Normal(_) => Some(depth + 1),
        Component::CurDir => Some(depth),
        Component::ParentDir => depth.checked_sub(1),
        Component::RootDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(kind: EntryType, path: &str, link: &str) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    #[test]
    fn what_leaves_the_tree_is_refused() {
        let cases = [
            (EntryType::Regular, "../x", ""),
            (EntryType::Regular, "/etc/x", ""),
            (EntryType::Regular, "a/../../x", ""),
            (EntryType::Symlink, "x", "/etc/passwd"),
            (EntryType::Symlink, "a/x", "../../etc"),
            (EntryType::Link, "x", "a"),
            (EntryType::Char, "x", ""),
            (EntryType::Fifo, "x", ""),
        ];
        for (kind, path, link) in cases {
            let folder =
                std::env::temp_dir().join(format!("towpath-unpack-{}", std::process::id()));
            let result = unpack(&archive(kind, path, link)[..], &folder);
            let _ = std::fs::remove_dir_all(&folder);
            assert!(
                matches!(result, Err(Error::Hostile(_))),
                "{kind:?} {path} {link}: {result:?}"
            );
        }
        let folder = std::env::temp_dir().join(format!("towpath-unpack-ok-{}", std::process::id()));
        let result = unpack(&archive(EntryType::Symlink, "a/x", "../b")[..], &folder);
        let _ = std::fs::remove_dir_all(&folder);
        assert!(result.is_ok(), "{result:?}");
    }

    #[test]
    fn links_that_lead_out_together_and_the_mark_of_a_build_are_refused() {
        let link = |path: &str, to: &str| archive(EntryType::Symlink, path, to)[..512].to_vec();
        let chain = [
            archive(EntryType::Directory, "d/e", "")[..512].to_vec(),
            link("d/e/s", "../.."),
            link("out", "d/e/s/.."),
        ];
        let marked = [archive(EntryType::Regular, ".towpath-built", "")[..512].to_vec()];
        for entries in [&chain[..], &marked[..]] {
            let mut bytes = entries.concat();
            bytes.resize(bytes.len() + 1024, 0);
            let folder =
                std::env::temp_dir().join(format!("towpath-unpack-chain-{}", std::process::id()));
            let result = unpack(&bytes[..], &folder);
            let _ = std::fs::remove_dir_all(&folder);
            assert!(matches!(result, Err(Error::Hostile(_))), "{result:?}");
        }
    }

    fn unpacked(bytes: &[u8], name: &str) -> (PathBuf, Result<(), Error>) {
        let folder =
            std::env::temp_dir().join(format!("towpath-unpack-{name}-{}", std::process::id()));
        let result = unpack(bytes, &folder);
        (folder, result)
    }

    #[test]
    fn bombs_and_broken_archives_are_refused_before_they_are_written() {
        let sized = |kind: EntryType, size: u64| {
            let mut header = tar::Header::new_gnu();
            header.set_path("x").unwrap();
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_mode(0o644);
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        let mut name_without_end = sized(EntryType::GNULongName, 1 << 30);
        name_without_end.resize(4 << 20, b'a');
        let bombs = [
            ("large", sized(EntryType::Regular, MOST_BYTES + 1)),
            ("long-name", name_without_end),
            ("cut-off", sized(EntryType::Regular, 4096)),
            ("no-archive", vec![b'x'; 4096]),
        ];
        for (name, bytes) in bombs {
            let (folder, result) = unpacked(&bytes, name);
            let _ = std::fs::remove_dir_all(&folder);
            assert!(
                matches!(result, Err(Error::Hostile(_))),
                "{name}: {result:?}"
            );
        }
    }

    #[test]
    fn nobody_becomes_root_by_a_file_of_an_archive_or_changes_it() {
        use std::os::unix::fs::PermissionsExt;
        let mut header = tar::Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_size(0);
        header.set_mode(0o6777);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(bytes.len() + 1024, 0);
        let (folder, result) = unpacked(&bytes, "mode");
        let mode = std::fs::metadata(folder.join("x")).map(|found| found.permissions().mode());
        let _ = std::fs::remove_dir_all(&folder);
        result.unwrap();
        assert_eq!(mode.unwrap() & 0o7777, 0o755);
    }
}
