//! Which request comes next: exact shares in a fixed order, so that two runs send the same traffic.

/// Shares of fresh connections are counted in millionths, which keeps them exact.
const MILLION: u64 = 1_000_000;

/// The endless sequence of requests.
#[derive(Debug)]
pub(super) struct Mix {
    shares: Vec<Share>,
    weights: i64,
    fresh: u64,
    next: u64,
}

#[derive(Debug)]
struct Share {
    weight: i64,
    credit: i64,
    taken: u64,
}

/// One request of the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    /// Its place in the sequence, from 0.
    pub(super) index: u64,
    /// Which of the weights it is.
    pub(super) kind: usize,
    /// Its place among those of its kind, from 1.
    pub(super) nth: u64,
    /// Whether it opens a connection of its own.
    pub(super) fresh: bool,
}

impl Mix {
    /// A sequence by these weights; `None` when they add up to nothing.
    pub(super) fn new(weights: impl Iterator<Item = u32>, fresh: f64) -> Option<Self> {
        let shares: Vec<Share> = weights.map(Share::new).collect();
        let weights = shares.iter().map(|share| share.weight).sum();
        (weights > 0).then_some(Self {
            shares,
            weights,
            fresh: (fresh.clamp(0.0, 1.0) * MILLION as f64).round() as u64,
            next: 0,
        })
    }

    /// The next request: every kind earns its weight, the richest is taken and pays for all.
    pub(super) fn take(&mut self) -> Ticket {
        let mut kind = 0;
        for index in 0..self.shares.len() {
            self.shares[index].credit += self.shares[index].weight;
            if self.shares[index].credit > self.shares[kind].credit {
                kind = index;
            }
        }
        let share = &mut self.shares[kind];
        share.credit -= self.weights;
        share.taken += 1;
        let ticket = Ticket {
            index: self.next,
            kind,
            nth: share.taken,
            fresh: is_fresh(share.taken, self.fresh),
        };
        self.next += 1;
        ticket
    }
}

impl Share {
    fn new(weight: u32) -> Self {
        Self {
            weight: i64::from(weight),
            credit: 0,
            taken: 0,
        }
    }
}

/// Counted within each kind: over all kinds the share could fall in step with the weights, and only one kind be fresh.
fn is_fresh(nth: u64, millionths: u64) -> bool {
    let due = |n: u64| u128::from(n) * u128::from(millionths) / u128::from(MILLION);
    due(nth) > due(nth - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(weights: &[u32], fresh: f64, count: usize) -> Vec<Ticket> {
        let mut mix = Mix::new(weights.iter().copied(), fresh).unwrap();
        (0..count).map(|_| mix.take()).collect()
    }

    #[test]
    fn shares_are_exact_in_every_period_and_evenly_spread() {
        let taken = tickets(&[5, 1, 0, 4], 0.25, 1000);
        for period in taken.chunks(10) {
            for (kind, weight) in [5, 1, 0, 4].into_iter().enumerate() {
                let found = period.iter().filter(|ticket| ticket.kind == kind).count();
                assert_eq!(found, weight, "kind {kind}");
            }
        }
        let heads = taken
            .windows(3)
            .filter(|three| three.iter().all(|ticket| ticket.kind == 0));
        assert_eq!(
            heads.count(),
            0,
            "a kind with half the weight comes in runs"
        );
    }

    #[test]
    fn each_kind_has_its_share_of_fresh_connections() {
        let taken = tickets(&[1, 1], 0.5, 400);
        for kind in [0, 1] {
            let fresh = taken
                .iter()
                .filter(|ticket| ticket.kind == kind && ticket.fresh)
                .count();
            assert_eq!(fresh, 100, "kind {kind} of 200");
        }
        assert!(tickets(&[1], 0.0, 50).iter().all(|ticket| !ticket.fresh));
        assert!(tickets(&[1], 1.0, 50).iter().all(|ticket| ticket.fresh));
    }

    #[test]
    fn two_runs_are_the_same_and_numbers_go_up_by_one() {
        assert_eq!(tickets(&[3, 2, 7], 0.1, 500), tickets(&[3, 2, 7], 0.1, 500));
        let writes = tickets(&[3, 2], 0.1, 500)
            .into_iter()
            .filter(|ticket| ticket.kind == 1);
        for (position, ticket) in writes.enumerate() {
            assert_eq!(ticket.nth, position as u64 + 1);
        }
    }

    #[test]
    fn nothing_declared_is_no_sequence() {
        assert!(Mix::new([0, 0].into_iter(), 0.0).is_none());
    }
}
