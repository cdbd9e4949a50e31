//! Latencies in fixed memory: buckets grow with the value, so the error stays below one part in 32.

use std::time::Duration;

/// Buckets in each power of two.
const STEPS: u64 = 32;
/// Values below this many microseconds have a bucket each.
const LINEAR: u64 = 2 * STEPS;
/// Powers of two above the linear part; the last bucket ends after 19 hours.
const POWERS: u64 = 30;
const BUCKETS: usize = (LINEAR + POWERS * STEPS) as usize;

/// Counts of durations.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            longest: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
        self.longest = self.longest.max(took);
    }

    /// The longest, exactly.
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// The duration that `share` (0 to 1) of all stay within; zero when there are none.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper_edge(index)).min(self.longest);
            }
        }
        self.longest
    }
}

fn bucket(micros: u64) -> usize {
    if micros < LINEAR {
        return micros as usize;
    }
    let shift = u64::from(micros.ilog2() - STEPS.ilog2());
    let index = shift * STEPS + (micros >> shift);
    (index as usize).min(BUCKETS - 1)
}

/// The largest value, in microseconds, that falls into a bucket.
fn upper_edge(index: usize) -> u64 {
    let index = index as u64;
    if index < LINEAR {
        return index;
    }
    let shift = index / STEPS - 1;
    let step = index - shift * STEPS;
    ((step + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_within_its_bucket_and_the_bucket_is_narrow() {
        for micros in (0..20_000).chain([1 << 20, (1 << 30) + 12_345, (1 << 36) - 1]) {
            let index = bucket(micros);
            let upper = upper_edge(index);
            assert!(upper >= micros, "{micros} in a bucket that ends at {upper}");
            assert!(upper - micros <= micros / STEPS, "{micros} to {upper}");
            assert!(index == 0 || upper_edge(index - 1) < micros);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for milliseconds in 1..=1000 {
            histogram.add(Duration::from_millis(milliseconds));
        }
        for (share, exact) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let found = histogram.quantile(share).as_secs_f64() * 1000.0;
            assert!(found >= exact && found <= exact * 1.04, "{share}: {found}");
        }
        assert_eq!(histogram.quantile(1.0), Duration::from_secs(1));
        assert_eq!(histogram.longest(), Duration::from_secs(1));
    }
}
