//! Time, passed in: nothing else in the product asks the machine what time it is.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Where time comes from.
#[derive(Debug, Clone)]
pub struct Clock {
    boot_id: String,
    /// Added to the wall time: how tests set the clock back.
    shift_ms: i64,
}

impl Clock {
    /// The machine's clocks.
    #[must_use]
    pub fn system() -> Clock {
        let boot_id =
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Clock {
            boot_id: boot_id.trim().to_owned(),
            shift_ms: 0,
        }
    }

    /// The same clock with its wall time moved, as when somebody sets the machine's.
    #[must_use]
    pub fn shifted(&self, by_ms: i64) -> Clock {
        Clock {
            shift_ms: self.shift_ms + by_ms,
            ..self.clone()
        }
    }

    /// Unix time, milliseconds. May jump; never used for a duration.
    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        let now = clock_gettime(ClockId::Realtime);
        now.tv_sec * 1000 + now.tv_nsec / 1_000_000 + self.shift_ms
    }

    /// Time since this boot, suspension included, milliseconds.
    #[must_use]
    pub fn boot_ms(&self) -> i64 {
        let now = clock_gettime(ClockId::Boottime);
        now.tv_sec * 1000 + now.tv_nsec / 1_000_000
    }

    /// Which boot [`Clock::boot_ms`] counts from.
    #[must_use]
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Time since `mark`, milliseconds: by the boot clock on the same boot, else by wall time, and never less than 0.
    #[must_use]
    pub fn since(&self, mark: &Mark) -> u64 {
        let passed = if mark.boot_id == self.boot_id {
            self.boot_ms() - mark.boot_ms
        } else {
            self.wall_ms() - mark.wall_ms
        };
        passed.max(0).unsigned_abs()
    }

    /// Now, on both clocks.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            wall_ms: self.wall_ms(),
            boot_ms: self.boot_ms(),
            boot_id: self.boot_id.clone(),
        }
    }

    /// What is left of `span` that began at `mark`: by the boot clock on the same boot, else by
    /// wall time, and never more than the whole span.
    #[must_use]
    pub fn left(&self, mark: &Mark, span: Duration) -> Duration {
        span.saturating_sub(Duration::from_millis(self.since(mark)))
    }
}

/// Unix milliseconds as people and logs write them: `2026-11-20T13:39:00.123Z`.
#[must_use]
pub fn utc(wall_ms: i64) -> String {
    towpath_shim::stamp(wall_ms.max(0).unsigned_abs())
}

/// A moment on both clocks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// Unix time, milliseconds.
    pub wall_ms: i64,
    /// Boot clock, milliseconds.
    pub boot_ms: i64,
    /// Which boot.
    pub boot_id: String,
}
