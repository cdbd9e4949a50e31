//! A copy of a folder that somebody else writes into meanwhile: a tar archive, each file in it as it was at one moment.
//!
//! Each folder is opened from the one above it, and no link is followed: whose folder it is may have put one anywhere.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use super::{Error, Taken};

/// Folders in folders: each is an open file meanwhile.
const DEEPEST: usize = 100;

/// Packs what is in `from` into an archive at `to`, whole or not at all. Files, folders and links go in, with owner, mode
/// and time; pipes and sockets do not. What vanishes meanwhile is left out.
///
/// # Errors
/// From the file system, or when it goes too deep; `to` does not exist then.
pub fn folder(from: &OwnedFd, to: &Path) -> Result<Taken, Error> {
    let beside = to.with_extension("new");
    let packed = pack(from, &beside).map_err(Error::from).and_then(|()| {
        std::fs::rename(&beside, to)?;
        crate::state::sync_dir(to.parent().unwrap_or(Path::new(".")))?;
        Ok(Taken {
            bytes: std::fs::metadata(to)?.len(),
        })
    });
    if packed.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    packed
}

fn pack(from: &OwnedFd, beside: &Path) -> std::io::Result<()> {
    let file = std::io::BufWriter::with_capacity(1 << 20, File::create(beside)?);
    let mut archive = Builder::new(file);
    below(&mut archive, from.as_fd(), Path::new(""), 0)?;
    let file = archive.into_inner()?.into_inner()?;
    file.sync_all()
}

fn below(
    archive: &mut Builder<impl Write>,
    folder: BorrowedFd<'_>,
    path: &Path,
    depth: usize,
) -> std::io::Result<()> {
    if depth > DEEPEST {
        let text = format!("more than {DEEPEST} folders in one another");
        return Err(std::io::Error::other(text));
    }
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort();
    for name in names {
        let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        match entry(archive, folder, &name, &path, depth) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

fn entry(
    archive: &mut Builder<impl Write>,
    folder: BorrowedFd<'_>,
    name: &CStr,
    path: &Path,
    depth: usize,
) -> std::io::Result<()> {
    let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => {
            let opened = open(folder, name, OFlags::DIRECTORY)?;
            let mut header = header(&found, EntryType::Directory, 0);
            archive.append_data(&mut header, path, std::io::empty())?;
            below(archive, opened.as_fd(), path, depth + 1)
        }
        FileType::RegularFile => file(archive, open(folder, name, OFlags::NONBLOCK)?, path),
        FileType::Symlink => {
            let to = rustix::fs::readlinkat(folder, name, Vec::new())?;
            let to = PathBuf::from(std::ffi::OsStr::from_bytes(to.to_bytes()));
            archive.append_link(&mut header(&found, EntryType::Symlink, 0), path, to)
        }
        _ => Ok(()),
    }
}

/// Exactly as long as it was when it was opened: one that is cut short meanwhile ends in zeros, and what is added is
/// left out.
fn file(archive: &mut Builder<impl Write>, file: OwnedFd, path: &Path) -> std::io::Result<()> {
    let found = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    append(archive, File::from(file), &found, path)
}

fn append(
    archive: &mut Builder<impl Write>,
    file: File,
    found: &Stat,
    path: &Path,
) -> std::io::Result<()> {
    let size = u64::try_from(found.st_size).unwrap_or_default();
    let bytes = file.chain(std::io::repeat(0)).take(size);
    archive.append_data(&mut header(found, EntryType::Regular, size), path, bytes)
}

fn open(folder: BorrowedFd<'_>, name: &CStr, more: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

fn header(found: &Stat, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(found.st_mode & 0o7777);
    header.set_uid(found.st_uid.into());
    header.set_gid(found.st_gid.into());
    header.set_mtime(u64::try_from(found.st_mtime).unwrap_or_default());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn unpacked(path: &Path) -> BTreeMap<String, (u8, Vec<u8>)> {
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (name, (entry.header().entry_type().as_byte(), bytes))
        });
        entries.collect()
    }

    #[test]
    fn what_is_in_it_and_nothing_that_a_link_leads_to() {
        let dir = std::env::temp_dir().join(format!("tow-backup-{}", std::process::id()));
        let from = dir.join("files");
        std::fs::create_dir_all(from.join("keys/empty")).unwrap();
        std::fs::create_dir_all(dir.join("elsewhere")).unwrap();
        std::fs::write(dir.join("elsewhere/secret"), "another's").unwrap();
        std::fs::write(from.join("keys/encryption.key"), "the key").unwrap();
        std::fs::write(from.join("x".repeat(200)), "a long name").unwrap();
        std::os::unix::fs::symlink(dir.join("elsewhere"), from.join("linked")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        let opened = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        let to = dir.join("d1-files.tar");
        folder(&opened(&from), &to).unwrap();
        let found = unpacked(&to);
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        let long = "x".repeat(200);
        let expected = ["keys", "keys/empty", "keys/encryption.key", "linked", &long];
        assert_eq!(
            names
                .iter()
                .map(|name| name.trim_end_matches('/'))
                .collect::<Vec<_>>(),
            expected
        );
        assert_eq!(found["keys/encryption.key"].1, b"the key");
        assert_eq!(found["linked"], (b'2', Vec::new()));
        assert!(!to.with_extension("new").exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_that_shrinks_meanwhile_does_no_harm_to_the_archive() {
        let mut archive = Builder::new(Vec::new());
        let path = std::env::temp_dir().join(format!("tow-shrinks-{}", std::process::id()));
        std::fs::write(&path, "12345678").unwrap();
        let opened = File::open(&path).unwrap();
        let found = rustix::fs::fstat(&opened).unwrap();
        std::fs::write(&path, "1234").unwrap();
        append(&mut archive, opened, &found, Path::new("a")).unwrap();
        let bytes = archive.into_inner().unwrap();
        assert_eq!(bytes.len() % 512, 0);
        assert_eq!(&bytes[512..520], b"1234\0\0\0\0");
        std::fs::remove_file(&path).unwrap();
    }
}
