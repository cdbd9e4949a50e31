//! Reading logs back.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The last `lines` lines of a log, without the partial first one; empty when there is no log.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    const WINDOW: u64 = 64 * 1024;
    let Ok(mut file) = std::fs::File::open(path) else {
        return Vec::new();
    };
    let length = file.metadata().map_or(0, |found| found.len());
    let start = length.saturating_sub(WINDOW);
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(start)).is_err()
        || file.take(WINDOW).read_to_end(&mut bytes).is_err()
    {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut found: Vec<&str> = text.lines().collect();
    if start > 0 && !found.is_empty() {
        found.remove(0);
    }
    let skip = found.len().saturating_sub(lines);
    found[skip..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}

/// A logged line without its time and channel, when a process wrote it (and not its shim).
#[must_use]
pub(super) fn said(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(' ')?;
    let (channel, text) = rest.split_once(' ').unwrap_or((rest, ""));
    matches!(channel, "out" | "err").then_some(text)
}
