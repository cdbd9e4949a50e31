//! What is counted while a load runs, in memory that does not grow with the number of reads.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection::Fault;
use super::histogram::Histogram;
use super::report::{
    ConnectionKind, Failure, FailureKind, KindReport, Latency, Progress, Requests, Resent, Slot,
};

/// Failures kept whole; further ones are only counted.
const FAILURES: usize = 100;
/// Slots of the timeline in a second.
const SLOTS: u64 = 10;
const SLOT_MILLIS: u128 = 1000 / SLOTS as u128;

/// The counts of a load.
#[derive(Debug)]
pub(super) struct Record {
    total: u64,
    failed: u64,
    under_way: BTreeMap<u64, UnderWay>,
    /// Numbers of the acknowledged writes.
    pub(super) acknowledged: Vec<u64>,
    kept: u64,
    fresh: u64,
    resent: Resent,
    failures: Vec<Failure>,
    failed_by: BTreeMap<FailureKind, u64>,
    kinds: Vec<Kind>,
    timeline: Vec<Slot>,
}

#[derive(Debug)]
struct Kind {
    request: String,
    total: u64,
    failed: u64,
    latency: Histogram,
    service: Histogram,
}

/// A request that was begun. Times are since the start of the load.
#[derive(Debug, Clone)]
pub(super) struct UnderWay {
    pub(super) kind: usize,
    pub(super) connection: ConnectionKind,
    pub(super) due: Duration,
    pub(super) sent: Duration,
}

impl Record {
    pub(super) fn new(requests: impl Iterator<Item = String>) -> Self {
        Self {
            total: 0,
            failed: 0,
            under_way: BTreeMap::new(),
            acknowledged: Vec::new(),
            kept: 0,
            fresh: 0,
            resent: Resent::default(),
            failures: Vec::new(),
            failed_by: BTreeMap::new(),
            kinds: requests.map(Kind::new).collect(),
            timeline: Vec::new(),
        }
    }

    pub(super) fn begin(&mut self, index: u64, request: UnderWay) {
        self.under_way.insert(index, request);
    }

    /// Requests begun so far.
    pub(super) fn begun(&self) -> u64 {
        self.total + self.under_way.len() as u64
    }

    /// Counts a request that was begun, once.
    pub(super) fn end(&mut self, index: u64, at: Duration, fault: Option<Fault>) {
        if let Some(request) = self.under_way.remove(&index) {
            self.count(&request, at, u64::from(fault.is_some()));
            if let Some(fault) = fault {
                self.blame(&request, at, fault);
            }
        }
    }

    /// Whatever never ended has failed.
    pub(super) fn fail_unfinished(&mut self, at: Duration) {
        while let Some(index) = self.under_way.keys().next().copied() {
            let fault = Fault::new(FailureKind::TimeOut, "not finished when the load ended");
            self.end(index, at, Some(fault));
        }
    }

    fn count(&mut self, request: &UnderWay, at: Duration, failed: u64) {
        let latency = at.saturating_sub(request.due);
        self.total += 1;
        self.failed += failed;
        match request.connection {
            ConnectionKind::Kept => self.kept += 1,
            ConnectionKind::Fresh => self.fresh += 1,
        }
        let kind = &mut self.kinds[request.kind];
        kind.total += 1;
        kind.failed += failed;
        kind.latency.add(latency);
        kind.service.add(at.saturating_sub(request.sent));
        let slot = self.slot(at);
        slot.total += 1;
        slot.failed += failed;
        slot.slowest = slot.slowest.max(latency);
    }

    pub(super) fn add_resent(&mut self, resent: Resent) {
        self.resent.unsent += resent.unsent;
        self.resent.repeated += resent.repeated;
    }

    fn blame(&mut self, request: &UnderWay, at: Duration, fault: Fault) {
        *self.failed_by.entry(fault.kind).or_default() += 1;
        if self.failures.len() < FAILURES {
            self.failures.push(Failure {
                at,
                request: self.kinds[request.kind].request.clone(),
                kind: fault.kind,
                detail: fault.detail,
                connection: request.connection,
            });
        }
    }

    fn slot(&mut self, at: Duration) -> &mut Slot {
        let index = slot_index(at);
        if self.timeline.len() <= index {
            self.timeline.resize(index + 1, Slot::default());
        }
        &mut self.timeline[index]
    }

    pub(super) fn progress(&self, elapsed: Duration) -> Progress {
        Progress {
            total: self.total,
            failed: self.failed,
            acknowledged: self.acknowledged.len() as u64,
            elapsed,
            rate: rate(self.total, elapsed),
            rate_now: self.rate_now(elapsed),
        }
    }

    /// Over the last ten slots that have ended; before the first has ended, over all.
    fn rate_now(&self, elapsed: Duration) -> f64 {
        let end = slot_index(elapsed);
        let begin = end.saturating_sub(SLOTS as usize);
        if end == begin {
            return rate(self.total, elapsed);
        }
        let ended = self.timeline.iter().take(end).skip(begin);
        let finished: u64 = ended.map(|slot| slot.total).sum();
        (finished * SLOTS) as f64 / (end - begin) as f64
    }

    pub(super) fn requests(self, elapsed: Duration, declared_rate: u32, overdue: u64) -> Requests {
        Requests {
            total: self.total,
            failed: self.failed,
            rate: rate(self.total, elapsed),
            declared_rate,
            overdue,
            kept: self.kept,
            fresh: self.fresh,
            resent: self.resent,
            failures: self.failures,
            failed_by: self.failed_by,
            kinds: self.kinds.into_iter().map(Kind::report).collect(),
            timeline: self.timeline,
        }
    }
}

impl Kind {
    fn new(request: String) -> Self {
        Self {
            request,
            total: 0,
            failed: 0,
            latency: Histogram::new(),
            service: Histogram::new(),
        }
    }

    fn report(self) -> KindReport {
        KindReport {
            request: self.request,
            total: self.total,
            failed: self.failed,
            latency: latency(&self.latency),
            service: latency(&self.service),
        }
    }
}

fn latency(histogram: &Histogram) -> Latency {
    Latency {
        p50: histogram.quantile(0.5),
        p90: histogram.quantile(0.9),
        p99: histogram.quantile(0.99),
        max: histogram.longest(),
    }
}

fn slot_index(at: Duration) -> usize {
    (at.as_millis() / SLOT_MILLIS) as usize
}

fn rate(total: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        return 0.0;
    }
    total as f64 / elapsed.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(record: &mut Record, at: u64, fault: Option<Fault>) {
        let request = UnderWay {
            kind: 0,
            connection: ConnectionKind::Kept,
            due: Duration::from_millis(at - 3),
            sent: Duration::from_millis(at - 1),
        };
        record.begin(at, request);
        record.end(at, Duration::from_millis(at), fault);
    }

    fn record(ends: impl Iterator<Item = u64>) -> Record {
        let mut record = Record::new(std::iter::once("GET /".to_owned()));
        ends.for_each(|at| end(&mut record, at, None));
        record
    }

    #[test]
    fn the_rate_now_is_that_of_the_last_second() {
        let slow_then_fast = (10..1000).step_by(100).chain((1000..2000).step_by(10));
        let progress = record(slow_then_fast).progress(Duration::from_millis(2050));
        assert_eq!(progress.total, 110);
        assert!((progress.rate_now - 100.0).abs() < 0.01, "{progress:?}");
        let stalled = record((10..1000).step_by(10)).progress(Duration::from_millis(5050));
        assert_eq!(stalled.rate_now, 0.0);
    }

    #[test]
    fn latency_counts_from_the_due_time_and_service_from_the_sending() {
        let requests = record((10..1000).step_by(10)).requests(Duration::from_secs(1), 100, 0);
        assert_eq!(requests.kinds[0].latency.max, Duration::from_millis(3));
        assert_eq!(requests.kinds[0].service.max, Duration::from_millis(1));
        assert_eq!(requests.timeline.len(), 10);
        assert_eq!(requests.timeline[1].total, 10);
        assert_eq!(requests.timeline[1].slowest, Duration::from_millis(3));
    }

    #[test]
    fn only_the_first_failures_are_kept_and_all_are_counted() {
        let mut record = record(std::iter::empty());
        for at in 10..260 {
            end(
                &mut record,
                at,
                Some(Fault::new(FailureKind::Reset, "gone")),
            );
        }
        let requests = record.requests(Duration::from_secs(1), 100, 0);
        assert_eq!((requests.total, requests.failed), (250, 250));
        assert_eq!(requests.failures.len(), FAILURES);
        assert_eq!(requests.failed_by[&FailureKind::Reset], 250);
    }

    #[test]
    fn what_never_ended_has_failed() {
        let mut record = record((10..20).chain(30..40));
        let request = UnderWay {
            kind: 0,
            connection: ConnectionKind::Fresh,
            due: Duration::ZERO,
            sent: Duration::ZERO,
        };
        record.begin(7, request);
        assert_eq!(record.begun(), 21);
        record.fail_unfinished(Duration::from_secs(2));
        let requests = record.requests(Duration::from_secs(2), 100, 0);
        assert_eq!(
            (requests.total, requests.failed, requests.fresh),
            (21, 1, 1)
        );
        assert_eq!(requests.failed_by[&FailureKind::TimeOut], 1);
    }
}
