//! When a job is due.

use std::fmt;
use std::time::Duration;

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions, parse_crontab_with};

use serde::{Serialize, Serializer};

use super::form;

/// 2025-01-01, seconds: what is due within four years of it is due at all.
const SOME_DAY: i64 = 1_735_689_600;

/// When a job is due, as typed: `every 15m`, or the five fields of cron and, if not UTC, the name of a time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    when: When,
}

#[derive(Debug, Clone)]
enum When {
    Every(Duration),
    Cron(Box<Crontab>),
}

impl Schedule {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        let when = match text.strip_prefix("every ") {
            Some(span) => every(span)?,
            None => When::Cron(Box::new(cron(text)?)),
        };
        let text = text.to_owned();
        Ok(Schedule { text, when })
    }

    /// The first time after `after_ms` that it is due, both Unix milliseconds; `None` when it never is.
    ///
    /// Across a change to or from summer time a time of day that does not exist is left out, as cron does.
    #[must_use]
    pub fn next(&self, after_ms: i64) -> Option<i64> {
        match &self.when {
            When::Every(span) => after_ms.checked_add(i64::try_from(span.as_millis()).ok()?),
            When::Cron(crontab) => {
                let after = MakeTimestamp::from_millisecond(after_ms).ok()?;
                let next = crontab.find_next(after).ok()?;
                Some(next.timestamp().as_millisecond())
            }
        }
    }
}

fn every(span: &str) -> Result<When, String> {
    match form::duration(span.trim()) {
        Some(span) if span >= Duration::from_secs(1) => Ok(When::Every(span)),
        Some(_) => Err("is more often than every second".to_owned()),
        None => Err("names no duration after `every`".to_owned()),
    }
}

/// UTC where no zone is named: it is the one that is the same on all machines.
fn cron(text: &str) -> Result<Crontab, String> {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    let is_cron = (5..=6).contains(&text.split_whitespace().count());
    let crontab = parse_crontab_with(text, options).ok().filter(|_| is_cron);
    let crontab = crontab.ok_or_else(|| "is not a schedule".to_owned())?;
    let some_day = MakeTimestamp::from_second(SOME_DAY);
    match some_day.and_then(|day| crontab.find_next(day)) {
        Ok(_) => Ok(crontab),
        Err(_) => Err("is never due".to_owned()),
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Schedule) -> bool {
        self.text == other.text
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-28 23:30:00 UTC, the night in which Berlin's summer time begins.
    const BEFORE: i64 = 1_774_740_600_000;
    const MINUTE: i64 = 60_000;

    #[test]
    fn a_schedule_is_due_after_its_time_and_not_at_it() {
        for (text, minutes) in [
            ("every 15m", 15),
            ("*/5 * * * *", 5),
            ("30 23 * * *", 24 * 60),
            ("0 3 * * * Europe/Berlin", 90),
        ] {
            let schedule = Schedule::parse(text).unwrap();
            assert_eq!(
                schedule.next(BEFORE),
                Some(BEFORE + minutes * MINUTE),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_schedule_says_so() {
        for (text, fault) in [
            ("", "is not a schedule"),
            ("* * * *", "is not a schedule"),
            ("61 * * * *", "is not a schedule"),
            ("* * * * * Mars/Olympus", "is not a schedule"),
            ("0 0 30 2 *", "is never due"),
            ("every", "is not a schedule"),
            ("every 500ms", "is more often than every second"),
            ("every day", "names no duration after `every`"),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err(), fault, "{text}");
        }
    }
}
