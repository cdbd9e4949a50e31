//! Files that are written whole: beside, synced, renamed.
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

/// Room kept for the end of the shim; an end without processes is well below it.
const RESERVED: usize = 4096;

/// `PATH.new`, where a file is written before it gets its name.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Writes a file so that a reader sees all of it or nothing.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(beside(path))?;
    file.write_all(bytes)?;
    publish(&file, path)
}

/// Removes a file that may be missing.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn publish(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(beside(path), path)
}

/// A file whose blocks are taken in advance, so that it can be written on a full disk.
pub(crate) struct Reserved {
    path: PathBuf,
    file: Option<File>,
}

impl Reserved {
    /// Takes the room if there is some; without it [`Reserved::write`] tries all the same.
    pub(crate) fn new(path: PathBuf) -> Self {
        let file = File::create(beside(&path)).ok().and_then(|mut file| {
            file.write_all(&[b' '; RESERVED]).ok()?;
            file.sync_all().ok()?;
            Some(file)
        });
        Self { path, file }
    }

    /// Writes into the reserved room and gives the file its name.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return write_whole(&self.path, bytes);
        };
        file.rewind()?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        publish(file, &self.path)
    }
}
