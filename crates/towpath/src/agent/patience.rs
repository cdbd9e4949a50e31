//! How long, and how often, a link that broke is tried again.

use std::time::Duration;

/// The first pause; each is twice the one before.
const FIRST: Duration = Duration::from_millis(250);

/// The longest.
const LONGEST: Duration = Duration::from_secs(8);

/// Pauses that grow, and together last so long and no longer.
#[derive(Debug)]
pub(super) struct Patience {
    pause: Duration,
    left: Duration,
}

impl Patience {
    pub(super) fn new(all: Duration) -> Patience {
        Patience {
            pause: FIRST,
            left: all,
        }
    }

    /// The pause before the next attempt; none when patience is over.
    pub(super) fn next(&mut self) -> Option<Duration> {
        let pause = self.pause.min(self.left);
        self.left -= pause;
        self.pause = (self.pause * 2).min(LONGEST);
        (!pause.is_zero()).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut patience = Patience::new(Duration::from_secs(20));
        let pauses: Vec<u128> =
            std::iter::from_fn(|| patience.next().map(|pause| pause.as_millis())).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 4250]);
    }
}
