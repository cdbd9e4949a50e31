//! The log: lines with time and channel, rotated by size.
//!
//! Writing may fail at any time (a full disk); then lines are dropped and counted, every further
//! batch tries again, and the first that succeeds is preceded by a line that says what is missing.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use crate::handed::Conceal;
use crate::protocol::{self, LogLoss};

/// Longer lines are split.
const LONGEST_LINE: usize = 16 << 10;
/// What is written at once, at most one line more.
const BATCH: usize = 256 << 10;
/// What is taken from a pipe at once, so that a flood leaves time for everything else.
const CHUNK: usize = 64 << 10;

/// A log and what is not yet written of it.
pub(crate) struct Log {
    spec: protocol::Log,
    conceal: Conceal,
    file: Option<File>,
    size: u64,
    stamp: String,
    batch: Vec<u8>,
    batch_lines: u64,
    lost: LogLoss,
    /// The part of `lost` that the log itself speaks of.
    told: LogLoss,
}

impl Log {
    pub(crate) fn new(spec: protocol::Log, conceal: Conceal) -> Self {
        let (lost, told) = (LogLoss::default(), LogLoss::default());
        let (stamp, batch) = (String::new(), Vec::new());
        Self {
            spec,
            conceal,
            file: None,
            size: 0,
            stamp,
            batch,
            batch_lines: 0,
            lost,
            told,
        }
    }

    pub(crate) fn lost(&self) -> LogLoss {
        self.lost
    }

    /// Writes a line of the shim's own.
    pub(crate) fn remark(&mut self, text: &str) {
        self.stamp = stamp(now_ms());
        self.line("tow", text.as_bytes());
        self.flush();
    }

    fn line(&mut self, channel: &str, text: &[u8]) {
        let start = self.batch.len();
        self.batch.extend_from_slice(self.stamp.as_bytes());
        self.batch
            .extend_from_slice(format!(" {channel} ").as_bytes());
        push_escaped(&mut self.batch, text);
        self.batch.push(b'\n');
        if self.size + self.batch.len() as u64 > self.spec.max_bytes && start > 0 {
            // What still fits goes into this file; the line starts the next.
            let line = self.batch.split_off(start);
            self.flush();
            self.batch = line;
        }
        self.batch_lines += 1;
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// Writes what is collected, or counts it as lost.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        if self.tell().and_then(|()| self.put(&batch)).is_err() {
            self.lost.lines += self.batch_lines;
            self.lost.bytes += batch.len() as u64;
        }
        self.batch = batch;
        self.batch.clear();
        self.batch_lines = 0;
    }

    /// Says in the log what is missing from it.
    fn tell(&mut self) -> io::Result<()> {
        if self.lost == self.told {
            return Ok(());
        }
        let lines = self.lost.lines - self.told.lines;
        let bytes = self.lost.bytes - self.told.bytes;
        let stamp = &self.stamp;
        let text = format!("{stamp} tow {lines} lines ({bytes} bytes) could not be written\n");
        self.put(text.as_bytes())?;
        self.told = self.lost;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open()?;
        if self.size > 0 && self.size + bytes.len() as u64 > self.spec.max_bytes {
            // If that fails the lines are dropped: the size is a promise.
            self.rotate()?;
            self.open()?;
        }
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        if let Err(error) = file.write_all(bytes) {
            // No torn line stays. Opened anew next time: the disk may be another one then.
            let _ = file.set_len(self.size);
            return Err(error);
        }
        self.size += bytes.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o600);
            let file = options.open(&self.spec.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.spec.keep).rev() {
            rename_if_there(self.rotated(number), self.rotated(number + 1))?;
        }
        match self.spec.keep {
            0 => fs::remove_file(&self.spec.path)?,
            _ => fs::rename(&self.spec.path, self.rotated(1))?,
        }
        self.file = None;
        Ok(())
    }

    fn rotated(&self, number: u32) -> PathBuf {
        let mut path = self.spec.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

/// The reading end of a child's output.
pub(crate) struct Source {
    pub(crate) fd: OwnedFd,
    channel: &'static str,
    partial: Vec<u8>,
}

impl Source {
    pub(crate) fn new(fd: OwnedFd, channel: &'static str) -> Self {
        Self {
            fd,
            channel,
            partial: Vec::new(),
        }
    }

    /// Takes one chunk to the log. `None`: nothing was there now; `Some(false)`: there will never be.
    pub(crate) fn read(&mut self, log: &mut Log) -> Option<bool> {
        let mut chunk = [0; CHUNK];
        let size = match rustix::io::read(&self.fd, &mut chunk) {
            Ok(size) => size,
            Err(Errno::AGAIN | Errno::INTR) => return None,
            Err(_) => 0,
        };
        log.stamp = stamp(now_ms());
        match size {
            0 => self.end(log),
            _ => self.split(&chunk[..size], log),
        }
        log.flush();
        Some(size > 0)
    }

    /// Writes what came after the last line break.
    pub(crate) fn end(&mut self, log: &mut Log) {
        if !self.partial.is_empty() {
            self.line(log);
            log.flush();
        }
    }

    fn line(&mut self, log: &mut Log) {
        log.conceal.conceal(&mut self.partial);
        log.line(self.channel, &self.partial);
        self.partial.clear();
    }

    fn split(&mut self, chunk: &[u8], log: &mut Log) {
        for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.append(text, log);
            if ended {
                self.line(log);
            }
        }
    }

    /// What may be the beginning of a secret stays for the next line.
    fn append(&mut self, text: &[u8], log: &mut Log) {
        self.partial.extend_from_slice(text);
        let longest = LONGEST_LINE + log.conceal.hold();
        if self.partial.len() <= longest {
            return;
        }
        log.conceal.conceal(&mut self.partial);
        let mut start = 0;
        while self.partial.len() - start > longest {
            log.line(self.channel, &self.partial[start..start + LONGEST_LINE]);
            start += LONGEST_LINE;
        }
        self.partial.drain(..start);
    }
}

fn rename_if_there(from: PathBuf, to: PathBuf) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn push_escaped(batch: &mut Vec<u8>, text: &[u8]) {
    if !text.contains(&0) {
        return batch.extend_from_slice(text);
    }
    for &byte in text {
        match byte {
            0 => batch.extend_from_slice(b"\\0"),
            _ => batch.push(byte),
        }
    }
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn stamp(unix_ms: u64) -> String {
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The date so many days after 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::stamp;

    #[test]
    fn stamps_are_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_825_600_000, "2000-02-29T12:00:00.000Z"),
            (1_795_181_940_123, "2026-11-20T13:39:00.123Z"),
            (4_107_542_400_001, "2100-03-01T00:00:00.001Z"),
        ] {
            assert_eq!(stamp(ms), text);
        }
    }
}
