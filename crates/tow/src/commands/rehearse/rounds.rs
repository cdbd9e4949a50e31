//! The same round, over and over: what each way back cost, and all of them together.

use super::report::{Round, WAY_BACK};
use crate::render;

/// A line a round, and the sums.
pub fn render(rounds: &[&Round]) -> String {
    let header = [
        "ROUND",
        "WAY BACK",
        "FAILED",
        "OF REQUESTS",
        "LOST",
        "DOUBLED",
        "OF WRITES",
        "RATE",
    ];
    let row = |(number, round): (usize, &&Round)| {
        let (requests, writes) = (&round.load.requests, &round.writes);
        vec![
            (number + 1).to_string(),
            format!("{} ms", round.rollback_ms),
            requests.failed.to_string(),
            requests.total.to_string(),
            writes.lost.to_string(),
            writes.doubled.to_string(),
            writes.acknowledged.to_string(),
            format!("{:.0}/s", requests.rate),
        ]
    };
    let rows: Vec<_> = rounds.iter().enumerate().map(row).collect();
    format!("{}\n{}", render::table(&header, &rows), sums(rounds))
}

fn sums(rounds: &[&Round]) -> String {
    let sum = |of: fn(&Round) -> u64| rounds.iter().map(|round| of(round)).sum::<u64>();
    let late = rounds
        .iter()
        .filter(|round| round.rollback_ms >= WAY_BACK)
        .count();
    let mut times: Vec<u64> = rounds.iter().map(|round| round.rollback_ms).collect();
    times.sort_unstable();
    let seconds: f64 = rounds
        .iter()
        .map(|round| round.load.elapsed.as_secs_f64())
        .sum();
    let requests = sum(|round| round.load.requests.total);
    format!(
        "{} ways back in a row: {} of {requests} requests failed, {} lost and {} doubled of {} writes, at {:.0} \
         requests/s; {late} of {} took {WAY_BACK} ms or more: {} ms at most, {} ms in the middle",
        rounds.len(),
        sum(|round| round.load.requests.failed),
        sum(|round| round.writes.lost),
        sum(|round| round.writes.doubled),
        sum(|round| round.writes.acknowledged),
        requests as f64 / seconds.max(0.001),
        rounds.len(),
        times.last().copied().unwrap_or_default(),
        times
            .get(times.len().saturating_sub(1) / 2)
            .copied()
            .unwrap_or_default(),
    )
}
