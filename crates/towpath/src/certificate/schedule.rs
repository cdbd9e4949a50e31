//! When a certificate is asked for, and how long not to ask after a failure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use towpath_gateway::api::CertificateState;

use crate::state::write_whole;

/// Pause after the first failure; doubled after each further one. Issuers allow few failures an hour.
const FIRST_PAUSE: Duration = Duration::from_secs(120);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// What became of the last attempts for one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Failed in a row.
    pub failures: u32,
    /// Why the last one failed.
    pub error: String,
    /// When the next one is, Unix milliseconds.
    pub next_ms: i64,
    /// The run whose version was live, and the issuer: with another of either, it is tried at once.
    pub cause: String,
}

impl Attempts {
    /// One more has failed.
    #[must_use]
    pub fn after(&self, cause: &str, error: String, now_ms: i64) -> Attempts {
        let failures = match self.cause == cause {
            true => self.failures.saturating_add(1),
            false => 1,
        };
        let pause = i64::try_from(pause(failures).as_millis()).unwrap_or(i64::MAX);
        Attempts {
            failures,
            error,
            next_ms: now_ms.saturating_add(pause),
            cause: cause.to_owned(),
        }
    }

    /// Whether it is too early for the next one.
    #[must_use]
    pub fn waits(&self, cause: &str, now_ms: i64) -> bool {
        // A clock that was set back must not make it wait for longer than it would have.
        let far = i64::try_from(LONGEST_PAUSE.as_millis()).unwrap_or(i64::MAX);
        self.failures > 0
            && self.cause == cause
            && now_ms < self.next_ms
            && self.next_ms.saturating_sub(now_ms) <= far
    }
}

fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

/// Whether a host needs a certificate: it has none, its file cannot be used, or a third of its life is left.
#[must_use]
pub fn is_due(state: Option<&CertificateState>, now_ms: i64) -> bool {
    let Some(state) = state else { return true };
    match (state.not_before, state.not_after) {
        (Some(from), Some(to)) if state.served && state.usable => {
            now_ms / 1000 >= renewal(from, to)
        }
        _ => true,
    }
}

/// When a certificate is renewed: a third of its life is left. In the unit that its times are in.
#[must_use]
pub fn renewal(from: i64, to: i64) -> i64 {
    to - (to - from) / 3
}

/// The file that remembers the attempts for a host.
fn file(dir: &Path, host: &str) -> PathBuf {
    dir.join(format!("{host}.json"))
}

/// What is remembered of a host; nothing when nothing failed, or what was written cannot be read.
#[must_use]
pub fn recall(dir: &Path, host: &str) -> Attempts {
    let text = std::fs::read(file(dir, host)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Remember it; without failures, forget it.
///
/// # Errors
/// From the file system.
pub fn remember(dir: &Path, host: &str, attempts: &Attempts) -> std::io::Result<()> {
    let path = file(dir, host);
    if attempts.failures > 0 {
        return write_whole(&path, &serde_json::to_vec(attempts)?);
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn state(served: bool, usable: bool) -> CertificateState {
        CertificateState {
            served,
            usable,
            not_before: Some(1_000),
            not_after: Some(4_000),
            problem: None,
        }
    }

    #[test]
    fn it_is_due_when_a_third_is_left_or_the_file_is_no_good() {
        assert!(!is_due(Some(&state(true, true)), 2_999_999));
        assert!(is_due(Some(&state(true, true)), 3_000_000));
        assert!(is_due(Some(&state(true, true)), 9_000_000));
        assert!(is_due(Some(&state(true, false)), 1_500_000));
        assert!(is_due(Some(&state(false, false)), 1_500_000));
        assert!(is_due(None, 0));
    }

    #[test]
    fn pauses_grow_and_another_cause_begins_anew() {
        let mut attempts = Attempts::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            attempts = attempts.after("d1", "no".to_owned(), 0);
            pauses.push(attempts.next_ms / MINUTE);
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360, 360]);
        assert!(attempts.waits("d1", 359 * MINUTE) && !attempts.waits("d1", 360 * MINUTE));
        assert!(!attempts.waits("d2", 0));
        assert_eq!(attempts.after("d2", "no".to_owned(), 0).next_ms, 2 * MINUTE);
        // The clock was set back by a day.
        assert!(!attempts.waits("d1", -24 * 60 * MINUTE));
    }
}
