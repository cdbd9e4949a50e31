//! Files that are written whole: beside, synced, renamed.
//!
//! What is written beside is called as the file is, with `.new` behind it, so two files never share it. It is locked by
//! whoever writes, so a second who writes the same file waits; what a killed one has left is taken over by the next.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

/// The right to write a file, until it is written or this is dropped; nothing is left beside it then.
#[derive(Debug)]
pub struct Beside {
    file: File,
    beside: PathBuf,
    path: PathBuf,
    has_name: bool,
}

impl Beside {
    /// Waits for whoever writes `path` now. With `mode` the new file has that from its beginning, whatever the mask.
    ///
    /// # Errors
    /// From the file system.
    pub fn of(path: &Path, mode: Option<u32>) -> std::io::Result<Beside> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let beside = PathBuf::from(name);
        loop {
            let file = opened(&beside, mode)?;
            flock(&file, FlockOperation::LockExclusive)?;
            // Whoever was waited for has renamed or removed what was opened here.
            if !is_at(&file, &beside)? {
                continue;
            }
            let ours = Beside {
                file,
                beside,
                path: path.to_owned(),
                has_name: false,
            };
            if let Some(mode) = mode {
                ours.file.set_permissions(PermissionsExt::from_mode(mode))?;
            }
            ours.file.set_len(0)?;
            return Ok(ours);
        }
    }

    /// Puts `bytes` in the place of what was there.
    ///
    /// # Errors
    /// From the file system; the old content stands then, or it is the new one and may not outlive a power cut.
    pub fn write(mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_all()?;
        std::fs::rename(&self.beside, &self.path)?;
        self.has_name = true;
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => sync_dir(folder),
            _ => sync_dir(Path::new(".")),
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.has_name {
            // One that stays is taken over by who writes next.
            let _ = std::fs::remove_file(&self.beside);
        }
    }
}

/// Nothing of it is cut off before it is locked. A link that somebody has put there leads nowhere.
fn opened(beside: &Path, mode: Option<u32>) -> std::io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    options.mode(mode.unwrap_or(0o666)).custom_flags(flags);
    options.open(beside)
}

fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a file whole: beside, synced, renamed, and its folder synced.
///
/// # Errors
/// From the file system; the old content stands then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    Beside::of(path, None)?.write(bytes)
}

/// Makes renames in a folder durable.
///
/// # Errors
/// From the file system.
pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("tow-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir(&path).unwrap();
            Folder(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(&self.0).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Each writes one letter only: a file of two was torn, and an error means that one has taken what is another's.
    #[test]
    fn files_of_one_stem_and_writers_of_one_file_do_not_meet() {
        let folder = Folder::new("whole");
        let writers: Vec<_> = (0..8u8)
            .map(|number| {
                let name = ["db.json", "db.conf"][usize::from(number % 2)];
                let path = folder.0.join(name);
                std::thread::spawn(move || {
                    for round in 0..20 {
                        let text = vec![b'a' + number; 4096 * (1 + round % 5)];
                        write_whole(&path, &text).unwrap();
                        let read = std::fs::read(&path).unwrap();
                        assert!(read.iter().all(|byte| *byte == read[0]));
                        assert_eq!((read[0] - b'a') % 2, number % 2);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(folder.names(), ["db.conf", "db.json"]);
    }

    #[test]
    fn what_a_killed_one_has_left_is_taken_over() {
        let folder = Folder::new("left");
        let path = folder.0.join("db.json");
        let left = folder.0.join("db.json.new");
        std::fs::write(&left, "much longer than what comes").unwrap();
        std::fs::set_permissions(&left, PermissionsExt::from_mode(0o644)).unwrap();
        Beside::of(&path, Some(0o600))
            .unwrap()
            .write(b"new")
            .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(folder.names(), ["db.json"]);
        // Who gives it up leaves the old one, and nothing else.
        drop(Beside::of(&path, Some(0o600)).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(folder.names(), ["db.json"]);
    }

    #[test]
    fn a_link_beside_it_is_not_followed() {
        let folder = Folder::new("link");
        let other = folder.0.join("other");
        std::fs::write(&other, "theirs").unwrap();
        std::os::unix::fs::symlink(&other, folder.0.join("file.new")).unwrap();
        write_whole(&folder.0.join("file"), b"ours").unwrap_err();
        assert_eq!(std::fs::read(&other).unwrap(), b"theirs");
    }
}
