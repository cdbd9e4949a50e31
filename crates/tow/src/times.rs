//! Times as people read them.

/// `3 s`, `4 min`, `2 h`, `5 d`.
pub fn span(ms: u64) -> String {
    match ms / 1000 {
        0 => format!("{ms} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Unix time, milliseconds.
pub fn now_ms() -> i64 {
    towpath::clock::Clock::system().wall_ms()
}

/// How long it has been so: `4 min`.
pub fn age(wall_ms: i64) -> String {
    span(u64::try_from(now_ms() - wall_ms).unwrap_or(0))
}

/// How long ago that was: `4 min ago`.
pub fn ago(wall_ms: i64) -> String {
    format!("{} ago", age(wall_ms))
}

/// Bytes in the unit that suits them.
pub fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{} MB", count / 1_000_000),
    }
}
