//! How many requests a client may make.
//!
//! Clients are remembered in buckets of a few each, chosen by a hash that nobody outside can know, so what a limiter
//! takes is bounded whoever comes. In a full bucket the client is forgotten that has used least: a flood of addresses
//! pushes out others of the flood, and not whoever is over the limit.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::api::Limit;

/// Clients remembered at most: as many as there are buckets, times this.
const WAYS: usize = 8;
const BUCKETS: usize = 8192;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// What clients have used of one limit. It outlives a switch whose table has the same limit.
pub(crate) struct Limiter {
    pub(crate) limit: Limit,
    hasher: RandomState,
    begun: Instant,
    buckets: Box<[Mutex<Vec<Client>>]>,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.limit.fmt(f)
    }
}

#[derive(Debug, Clone, Copy)]
struct Client {
    key: u128,
    used: Used,
}

/// What a client has used. Times are nanoseconds since the limiter began.
#[derive(Debug, Clone, Copy)]
struct Used {
    /// When its window began; or, of a smooth limit, when all of it will be free again.
    at: u64,
    /// Requests in the window.
    count: u32,
}

/// How a client stands after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    limit: u32,
    remaining: u32,
    /// Until all of it is free again.
    reset: Duration,
    /// The request is one too many: time until the next one is not.
    pub(crate) wait: Option<Duration>,
}

impl Standing {
    /// Of two limits that both hold for a request: the one that lets less through.
    pub(crate) fn tighter(self, other: Self) -> Self {
        let left = |one: &Self| (one.wait.is_none(), one.remaining);
        match left(&other) < left(&self) {
            true => other,
            false => self,
        }
    }
}

impl Limiter {
    pub(crate) fn new(limit: Limit) -> Self {
        Self {
            limit,
            hasher: RandomState::new(),
            begun: Instant::now(),
            buckets: (0..BUCKETS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Count a request of a client.
    pub(crate) fn take(&self, client: IpAddr) -> Standing {
        self.take_at(key_of(client), nanos(self.begun.elapsed()))
    }

    fn take_at(&self, key: u128, now: u64) -> Standing {
        let bucket = self.hasher.hash_one(key) as usize % BUCKETS;
        let mut bucket = self.buckets[bucket]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let place = match bucket.iter().position(|client| client.key == key) {
            Some(place) => place,
            None => self.room(&mut bucket, key, now),
        };
        let (used, standing) = after(self.limit, bucket[place].used, now);
        bucket[place].used = used;
        standing
    }

    /// The place of a client that is not there yet.
    fn room(&self, bucket: &mut Vec<Client>, key: u128, now: u64) -> usize {
        let client = Client {
            key,
            used: Used { at: now, count: 0 },
        };
        if bucket.len() < WAYS {
            bucket.push(client);
            return bucket.len() - 1;
        }
        let weight = |at: &usize| weight(self.limit, bucket[*at].used, now);
        let least = (0..WAYS).min_by_key(weight).unwrap_or_default();
        bucket[least] = client;
        least
    }
}

/// What a client has used after one more request.
fn after(limit: Limit, used: Used, now: u64) -> (Used, Standing) {
    match limit {
        Limit::Window { requests, ms } => in_window(requests, ms_to_ns(ms), used, now),
        Limit::Smooth {
            requests,
            ms,
            burst,
        } => evenly(
            (ms_to_ns(ms) / u64::from(requests)).max(1),
            burst,
            used,
            now,
        ),
    }
}

fn in_window(requests: u32, length: u64, used: Used, now: u64) -> (Used, Standing) {
    let used = match now.saturating_sub(used.at) >= length {
        true => Used { at: now, count: 0 },
        false => used,
    };
    let reset = Duration::from_nanos((used.at + length).saturating_sub(now));
    let over = used.count >= requests;
    let count = used.count + u32::from(!over);
    let standing = Standing {
        limit: requests,
        remaining: requests - count,
        reset,
        wait: over.then_some(reset),
    };
    (Used { count, ..used }, standing)
}

/// The generic cell rate algorithm: `at` is when a client that asks evenly would have used what it has.
fn evenly(every: u64, burst: u32, used: Used, now: u64) -> (Used, Standing) {
    let whole = every.saturating_mul(u64::from(burst));
    let next = used.at.max(now).saturating_add(every);
    let over = (next - now).saturating_sub(whole);
    let at = if over == 0 { next } else { used.at.max(now) };
    let standing = Standing {
        limit: burst,
        remaining: u32::try_from(whole.saturating_sub(at - now) / every).unwrap_or(burst),
        reset: Duration::from_nanos(at - now),
        wait: (over > 0).then(|| Duration::from_nanos(over)),
    };
    (Used { at, count: 0 }, standing)
}

/// How much is lost when it is forgotten what a client has used.
fn weight(limit: Limit, used: Used, now: u64) -> u64 {
    match limit {
        Limit::Window { ms, .. } if now.saturating_sub(used.at) >= ms_to_ns(ms) => 0,
        Limit::Window { .. } => u64::from(used.count),
        Limit::Smooth { .. } => used.at.saturating_sub(now),
    }
}

/// Whoever has an IPv6 address has 64 bits of them.
fn key_of(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

impl Standing {
    /// Say it in the head of the answer; what an instance says of limits of its own is kept.
    pub(crate) fn dress(&self, headers: &mut HeaderMap) {
        let fields = [
            (LIMIT, u64::from(self.limit)),
            (REMAINING, u64::from(self.remaining)),
            (RESET, seconds(self.reset)),
        ];
        for (name, number) in fields {
            headers
                .entry(name)
                .or_insert_with(|| HeaderValue::from(number));
        }
    }
}

/// Whole seconds, and never too few.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn ms_to_ns(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

/// What is wrong with a limit.
pub(crate) fn fault(limit: Limit) -> Option<&'static str> {
    let (requests, ms, burst) = match limit {
        Limit::Window { requests, ms } => (requests, ms, 1),
        Limit::Smooth {
            requests,
            ms,
            burst,
        } => (requests, ms, burst),
    };
    // A year of nanoseconds leaves room for sums.
    let longest = 366 * 86_400_000;
    (requests == 0 || burst == 0 || ms == 0 || ms > longest)
        .then_some("its numbers are at least 1, and its time at most a year")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const THOUSAND: Limit = Limit::Window {
        requests: 1000,
        ms: 900_000,
    };

    fn refused(limiter: &Limiter, key: u128, now: u64) -> bool {
        limiter.take_at(key, now).wait.is_some()
    }

    #[test]
    fn a_window_lets_so_many_through_and_begins_anew_when_it_is_over() {
        let limiter = Limiter::new(THOUSAND);
        let begins = 5 * SECOND;
        for n in 0..1000 {
            let standing = limiter.take_at(1, begins + n);
            assert_eq!((standing.wait, standing.remaining), (None, 999 - n as u32));
        }
        let standing = limiter.take_at(1, begins + SECOND);
        assert_eq!(standing.wait, Some(Duration::from_secs(899)));
        assert!(!refused(&limiter, 2, begins + SECOND), "another client");
        assert!(refused(&limiter, 1, begins + 900 * SECOND - 1));
        assert!(!refused(&limiter, 1, begins + 900 * SECOND));
    }

    #[test]
    fn a_smooth_limit_has_a_burst_and_then_one_every_so_often() {
        let limiter = Limiter::new(Limit::Smooth {
            requests: 10,
            ms: 1000,
            burst: 3,
        });
        let passed = (0..5).filter(|_| !refused(&limiter, 1, SECOND)).count();
        assert_eq!(passed, 3);
        let standing = limiter.take_at(1, SECOND);
        assert_eq!(standing.wait, Some(Duration::from_millis(100)));
        assert!(refused(&limiter, 1, SECOND + SECOND / 10 - 1));
        assert!(!refused(&limiter, 1, SECOND + SECOND / 10));
        assert!(refused(&limiter, 1, SECOND + SECOND / 10));
        // A second of silence frees the burst, and no more than that.
        let later = (0..9).filter(|_| !refused(&limiter, 1, 3 * SECOND)).count();
        assert_eq!(later, 3);
    }

    #[test]
    fn over_a_long_time_a_smooth_limit_lets_its_rate_through() {
        let limiter = Limiter::new(Limit::Smooth {
            requests: 7,
            ms: 1000,
            burst: 2,
        });
        let passed = (0..100_000)
            .filter(|n| !refused(&limiter, 1, n * SECOND / 1000))
            .count();
        assert!((700..=702).contains(&passed), "{passed}");
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory_and_frees_nobody_who_is_over_the_limit() {
        let limiter = Limiter::new(Limit::Window {
            requests: 5,
            ms: 900_000,
        });
        let over = (1..=20_u128).map(|key| key << 100);
        for key in over.clone() {
            while !refused(&limiter, key, SECOND) {}
        }
        for key in 0..1_000_000 {
            limiter.take_at(key, SECOND);
        }
        let clients: usize = limiter
            .buckets
            .iter()
            .map(|bucket| bucket.lock().unwrap().capacity())
            .sum();
        assert!(clients <= WAYS * BUCKETS, "{clients} clients are kept");
        for key in over {
            assert!(refused(&limiter, key, SECOND), "{key:x} is free again");
        }
    }

    #[test]
    fn a_client_is_an_address_or_half_of_one() {
        let key = |text: &str| key_of(text.parse().unwrap());
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        let ms = 366 * 86_400_000;
        let limits = [
            Limit::Window {
                requests: u32::MAX,
                ms,
            },
            Limit::Smooth {
                requests: 1,
                ms,
                burst: u32::MAX,
            },
        ];
        for limit in limits {
            assert_eq!(fault(limit), None);
            let limiter = Limiter::new(limit);
            for _ in 0..10_000 {
                assert!(!refused(&limiter, 1, u64::MAX / 4));
            }
        }
    }
}
