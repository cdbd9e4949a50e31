//! One instance as the gateway sees it: whether it gets requests, and how many it has.
//!
//! A target outlives a switch as long as its id and address stay, so a table that changes something else does not
//! forget what is known of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::api;
use crate::random;

/// How long a target whose connect failed is passed over, when no steady check says otherwise.
const SUSPECT: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) id: String,
    pub(crate) addr: SocketAddr,
    in_flight: AtomicU32,
    healthy: AtomicBool,
    /// Milliseconds after `made` until which the target is passed over; 0 when it is not.
    suspect_until: AtomicU64,
    made: Instant,
    last_error: Mutex<Option<(String, Instant)>>,
}

impl Target {
    pub(crate) fn new(target: &api::Target) -> Self {
        Self {
            id: target.id.clone(),
            addr: target.addr,
            in_flight: AtomicU32::new(0),
            healthy: AtomicBool::new(true),
            suspect_until: AtomicU64::new(0),
            made: Instant::now(),
            last_error: Mutex::new(None),
        }
    }

    /// Whether requests should go to it.
    pub(crate) fn usable(&self) -> bool {
        if !self.healthy.load(Relaxed) {
            return false;
        }
        let until = self.suspect_until.load(Relaxed);
        until == 0 || self.age_ms() >= until
    }

    /// A connect failed: pass it over for a while.
    pub(crate) fn suspect(&self, error: &str) {
        self.suspect_until
            .store(self.age_ms() + SUSPECT.as_millis() as u64, Relaxed);
        self.note(error);
    }

    /// A connect or a check succeeded.
    pub(crate) fn cleared(&self) {
        if self.suspect_until.load(Relaxed) != 0 {
            self.suspect_until.store(0, Relaxed);
        }
    }

    /// What the steady checks came to.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Relaxed);
    }

    /// Keep the words of a failed check.
    pub(crate) fn note(&self, error: &str) {
        *self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some((error.to_owned(), Instant::now()));
    }

    /// As the control API shows it.
    pub(crate) fn state(&self) -> api::TargetState {
        let healthy = self.usable();
        let last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let words = last
            .as_ref()
            .map(|(text, at)| format!("{text}, {:.1} s ago", at.elapsed().as_secs_f64()));
        api::TargetState {
            healthy,
            last_error: words.filter(|_| !healthy),
        }
    }

    fn age_ms(&self) -> u64 {
        // One more than the age, so that 0 can mean "never".
        self.made.elapsed().as_millis() as u64 + 1
    }
}

/// One request's share of a target's load, given back when dropped.
pub(crate) struct Load(Arc<Target>);

impl Load {
    pub(crate) fn on(target: &Arc<Target>) -> Self {
        target.in_flight.fetch_add(1, Relaxed);
        Self(Arc::clone(target))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// The less loaded of two random usable targets that are not to be avoided; any that is not to be avoided when none
/// is usable (a check may be wrong, and a try costs nothing); none when all are to be avoided.
pub(crate) fn pick<'a>(
    targets: &'a [Arc<Target>],
    avoid: &[SocketAddr],
) -> Option<&'a Arc<Target>> {
    let open = |target: &&Arc<Target>| !avoid.contains(&target.addr);
    two_choices(targets, |target| target.usable() && open(&target))
        .or_else(|| two_choices(targets, |target| open(&target)))
}

fn two_choices(
    targets: &[Arc<Target>],
    fit: impl Fn(&Arc<Target>) -> bool,
) -> Option<&Arc<Target>> {
    let count = targets.iter().filter(|target| fit(target)).count();
    let nth = |n| targets.iter().filter(|target| fit(target)).nth(n);
    let first = nth(random::index(count))?;
    let second = nth(random::index(count)).unwrap_or(first);
    let load = |target: &Arc<Target>| target.in_flight.load(Relaxed);
    Some(if load(second) < load(first) {
        second
    } else {
        first
    })
}
