//! How much of the disk may be taken by what comes in.
//!
//! Databases, logs and the journal are on the same disk: so some of it stays free whoever sends, and
//! what a key has sent, and no release needs, has a limit of its own.

use std::path::Path;

/// A twentieth of the disk stays free, and no more than that, bytes.
const MOST_RESERVE: u64 = 2 << 30;
/// What a file counts for at least: very many small ones take room too.
const LEAST: u64 = 64 << 10;

/// How much may come of a blob.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// All bytes of it, as the sender says.
    pub size: Option<u64>,
    /// What is left to the sender, for this and all that is still coming in, bytes; `None`: all there is.
    pub share: Option<u64>,
}

/// A file's part of a share.
#[must_use]
pub fn weight(bytes: u64) -> u64 {
    bytes.max(LEAST)
}

/// What may still be written to the disk of `dir` by what comes in, bytes.
///
/// # Errors
/// From the file system.
pub fn room(dir: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    Ok(free.saturating_sub(reserve(all)))
}

fn reserve(all: u64) -> u64 {
    (all / 20).min(MOST_RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_stays_free_and_no_more_than_is_sensible() {
        assert_eq!(reserve(20 << 20), 1 << 20);
        assert_eq!(reserve(20 << 40), MOST_RESERVE);
        assert_eq!((weight(0), weight(1 << 20)), (LEAST, 1 << 20));
    }
}
