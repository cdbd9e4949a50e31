//! Whether and when an ended child is started again.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::protocol::{Exit, Policy, Restart};

/// What follows an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// A new start at this moment.
    Start(Instant),
    /// Nothing: the policy asks for none.
    Rest,
    /// Nothing: there were too many starts.
    GiveUp,
}

/// The starts that count.
#[derive(Debug, Default)]
pub(crate) struct History {
    starts: VecDeque<Instant>,
    pause: Option<Duration>,
}

impl History {
    /// A child is started, or failed to.
    pub(crate) fn started(&mut self, now: Instant) {
        self.starts.push_back(now);
    }

    /// Decides what follows the ending of the child that was started last.
    pub(crate) fn ended(&mut self, rule: &Restart, exit: &Exit, now: Instant) -> Next {
        let wanted = match rule.policy {
            Policy::Never => false,
            Policy::OnFailure => exit.code != Some(0),
            Policy::Always => true,
        };
        if !wanted {
            return Next::Rest;
        }
        let within = Duration::from_millis(rule.within_ms);
        if self
            .starts
            .back()
            .is_some_and(|&start| now.duration_since(start) >= within)
        {
            self.pause = None;
        }
        let longest = Duration::from_millis(rule.backoff_max_ms);
        let pause = self
            .pause
            .unwrap_or(Duration::from_millis(rule.backoff_ms))
            .min(longest);
        self.pause = Some(pause.saturating_mul(2));
        let due = now + pause;
        self.starts
            .retain(|&start| due.duration_since(start) < within);
        if self.starts.len() >= rule.limit as usize {
            return Next::GiveUp;
        }
        Next::Start(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(policy: Policy) -> Restart {
        Restart {
            policy,
            backoff_ms: 100,
            backoff_max_ms: 300,
            limit: 4,
            within_ms: 10_000,
        }
    }

    fn exit(code: i32) -> Exit {
        Exit {
            code: Some(code),
            signal: None,
            start_error: None,
            left: 0,
            at_ms: 0,
        }
    }

    #[test]
    fn the_pause_doubles_up_to_its_longest_and_the_limit_ends_it() {
        let mut history = History::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        loop {
            history.started(now);
            match history.ended(&rule(Policy::Always), &exit(0), now) {
                Next::Start(due) => {
                    pauses.push(due.duration_since(now).as_millis());
                    now = due;
                }
                end => {
                    assert_eq!(end, Next::GiveUp);
                    break;
                }
            }
        }
        assert_eq!(pauses, [100, 200, 300]);
    }

    #[test]
    fn a_long_life_resets_pause_and_count() {
        let mut history = History::default();
        let mut now = Instant::now();
        for _ in 0..20 {
            history.started(now);
            now += Duration::from_secs(10);
            let due = now + Duration::from_millis(100);
            let next = history.ended(&rule(Policy::OnFailure), &exit(1), now);
            assert_eq!(next, Next::Start(due));
            now = due;
        }
    }

    #[test]
    fn the_policy_decides() {
        let now = Instant::now();
        let next = |policy, code| History::default().ended(&rule(policy), &exit(code), now);
        assert_eq!(next(Policy::Never, 1), Next::Rest);
        assert_eq!(next(Policy::OnFailure, 0), Next::Rest);
        assert!(matches!(next(Policy::OnFailure, 1), Next::Start(_)));
        assert!(matches!(next(Policy::Always, 0), Next::Start(_)));
    }
}
