//! Answers that are given again without asking an instance.
//!
//! Only routes that are declared have any, and only what a cache for many may keep (RFC 9111, 3) is kept: whoever shows
//! who they are (see `asker`) neither gets nor makes one. The name of the pool is kept with
//! it, and no two releases have the same: what an old one has said is never said for a new one. What is kept of a URL
//! goes when something is done to it (RFC 9111, 4.4), whichever release did it and has said it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};

use super::asker::{self, KEYED};
use crate::api;

/// Most answers to one URL, for clients that ask it differently.
const VARIANTS: usize = 16;
/// URLs that are told apart when something is done to one, as far as answers on their way go.
const CHANGES: usize = 1024;
/// What an answer takes beside its bytes.
const OVERHEAD: usize = 512;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Answers of all routes; what they take together is bounded.
pub(crate) struct Cache {
    pub(crate) most: u64,
    shelf: Mutex<Shelf>,
    /// What the answers take that are on their way, bytes.
    coming: AtomicU64,
    hasher: RandomState,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({} bytes)", self.most)
    }
}

struct Shelf {
    answers: HashMap<Arc<str>, Slot>,
    /// How often something was done to URLs, by a hash of them: an answer that was on its way meanwhile is from before.
    changes: Box<[u64; CHANGES]>,
    /// Keys by their last use.
    used: BTreeMap<u64, Arc<str>>,
    uses: u64,
    bytes: u64,
}

impl Default for Shelf {
    fn default() -> Self {
        Self {
            answers: HashMap::new(),
            changes: Box::new([0; CHANGES]),
            used: BTreeMap::new(),
            uses: 0,
            bytes: 0,
        }
    }
}

/// The answers to one URL.
struct Slot {
    used: u64,
    kept: Vec<Kept>,
}

/// One answer.
struct Kept {
    /// The pool that has said it.
    pool: Arc<str>,
    /// What the request has to say, in the headers that the answer depends on.
    asked: Vec<(HeaderName, Option<HeaderValue>)>,
    headers: HeaderMap,
    body: Bytes,
    /// When it was made, as far as its age goes.
    made: Instant,
    until: Instant,
    bytes: u64,
}

/// What there is for a request.
pub(crate) enum Look {
    /// It is none that could have an answer here.
    Never,
    /// An answer.
    Hit(HeaderMap, Bytes),
    /// None yet.
    Miss(Box<Wanted>),
}

/// An answer that would be kept.
pub(crate) struct Wanted {
    cache: Arc<Cache>,
    rule: api::Cache,
    pool: Arc<str>,
    key: Arc<str>,
    /// Changes before it was asked for.
    changes: u64,
    request: HeaderMap,
}

/// An answer on its way to a client and into the cache.
pub(crate) struct Filling {
    wanted: Box<Wanted>,
    kept: Option<Kept>,
    pieces: Vec<Bytes>,
    size: u64,
}

impl Cache {
    pub(crate) fn new(most: u64) -> Self {
        Self {
            most,
            shelf: Mutex::default(),
            coming: AtomicU64::new(0),
            hasher: RandomState::new(),
        }
    }

    /// Look for an answer to a request as an instance of `pool` would be asked it.
    pub(crate) fn look(
        self: &Arc<Self>,
        rule: api::Cache,
        pool: &str,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Look {
        if *method != Method::GET || !asker::is_anybody(headers) {
            return Look::Never;
        }
        let key = key(uri, headers);
        let mut shelf = self.shelf();
        if let Some((headers, body)) = shelf.find(&key, pool, headers, Instant::now()) {
            return Look::Hit(headers, body);
        }
        Look::Miss(Box::new(Wanted {
            cache: Arc::clone(self),
            rule,
            pool: pool.into(),
            changes: shelf.changes[self.place(&key)],
            key: key.into(),
            request: headers.clone(),
        }))
    }

    /// An instance has answered this to a request of any method: what is kept of its URL goes if the request may have
    /// changed it.
    pub(crate) fn heard(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        status: StatusCode,
    ) {
        if method.is_safe() || !(status.is_success() || status.is_redirection()) {
            return;
        }
        let key = key(uri, headers);
        let mut shelf = self.shelf();
        shelf.changes[self.place(&key)] += 1;
        shelf.take(&key);
    }

    /// Where the changes of a URL are counted.
    fn place(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize % CHANGES
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn find(
        &mut self,
        key: &str,
        pool: &str,
        asked: &HeaderMap,
        now: Instant,
    ) -> Option<(HeaderMap, Bytes)> {
        self.uses += 1;
        let slot = self.answers.get_mut(key)?;
        let fits = |kept: &&Kept| kept.until > now && *kept.pool == *pool && kept.is_for(asked);
        let kept = slot.kept.iter().find(fits)?;
        let found = (kept.answer(now), kept.body.clone());
        let name = self.used.remove(&slot.used);
        slot.used = self.uses;
        self.used.extend(name.map(|name| (self.uses, name)));
        Some(found)
    }

    fn put(&mut self, key: &Arc<str>, kept: Kept, most: u64, now: Instant) {
        let mut variants = self.take(key);
        let is_it = |one: &Kept| one.pool == kept.pool && one.asked == kept.asked;
        let same = |one: &Kept| is_it(one) || one.until <= now;
        variants.retain(|one| !same(one));
        if variants.len() >= VARIANTS {
            variants.remove(0);
        }
        variants.push(kept);
        let bytes: u64 = variants.iter().map(|one| one.bytes).sum();
        if bytes > most {
            return;
        }
        while self.bytes + bytes > most {
            let Some(oldest) = self.used.values().next().cloned() else {
                break;
            };
            self.take(&oldest);
        }
        self.uses += 1;
        self.bytes += bytes;
        self.used.insert(self.uses, Arc::clone(key));
        let slot = Slot {
            used: self.uses,
            kept: variants,
        };
        self.answers.insert(Arc::clone(key), slot);
    }

    fn take(&mut self, key: &str) -> Vec<Kept> {
        let Some(slot) = self.answers.remove(key) else {
            return Vec::new();
        };
        self.used.remove(&slot.used);
        self.bytes -= slot.kept.iter().map(|one| one.bytes).sum::<u64>();
        slot.kept
    }
}

impl Kept {
    fn is_for(&self, request: &HeaderMap) -> bool {
        self.asked
            .iter()
            .all(|(name, value)| said(request, name) == *value)
    }

    fn answer(&self, now: Instant) -> HeaderMap {
        let mut headers = self.headers.clone();
        let age = now.saturating_duration_since(self.made).as_secs();
        headers.insert(header::AGE, HeaderValue::from(age));
        headers.insert(CACHE_STATUS, HeaderValue::from_static("gateway; hit"));
        headers
    }
}

impl Wanted {
    /// The head of the answer is there: none when it is not to be kept.
    pub(crate) fn begin(
        self: Box<Self>,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) -> Option<Box<Filling>> {
        let now = Instant::now();
        let age = Duration::from_secs(number(headers.get(header::AGE)).unwrap_or(0));
        let life = life(status, headers, Duration::from_millis(self.rule.ttl_ms));
        let life = life.and_then(|life| life.checked_sub(age));
        let asked = depends(headers, &self.request);
        let announced = number(headers.get(header::CONTENT_LENGTH)).unwrap_or(0);
        headers.insert(CACHE_STATUS, HeaderValue::from_static("gateway; fwd=miss"));
        let life = life.filter(|life| !life.is_zero() && announced <= self.rule.max_bytes)?;
        let mut kept = headers.clone();
        // Of that one message.
        for name in [header::CONTENT_LENGTH, header::AGE, CACHE_STATUS] {
            kept.remove(name);
        }
        let kept = Kept {
            pool: Arc::clone(&self.pool),
            asked: asked?,
            headers: kept,
            body: Bytes::new(),
            made: now.checked_sub(age).unwrap_or(now),
            until: now + life,
            bytes: 0,
        };
        Some(Box::new(Filling {
            wanted: self,
            kept: Some(kept),
            pieces: Vec::new(),
            size: 0,
        }))
    }
}

impl Filling {
    /// A piece of the answer has gone by; false when it has become too long, or too much is on its way: clients that
    /// read slowly must not fill the memory.
    pub(crate) fn piece(&mut self, piece: &Bytes) -> bool {
        let Wanted { cache, rule, .. } = &*self.wanted;
        let length = piece.len() as u64;
        self.size += length;
        self.pieces.push(piece.clone());
        let coming = cache.coming.fetch_add(length, Relaxed) + length;
        self.size <= rule.max_bytes && coming <= cache.most
    }

    /// All of it has gone by.
    pub(crate) fn end(mut self) {
        let Some(mut kept) = self.kept.take() else {
            return;
        };
        let wanted = &self.wanted;
        // In one piece of its own: those that went by may each keep a much larger buffer alive.
        kept.body = self.pieces.concat().into();
        let head = kept
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len());
        let asked = kept.asked.iter();
        let asked = asked.map(|(_, value)| value.as_ref().map_or(0, HeaderValue::len));
        let beside =
            head.chain(asked).sum::<usize>() + 2 * wanted.key.len() + wanted.pool.len() + OVERHEAD;
        kept.bytes = self.size + beside as u64;
        let cache = &wanted.cache;
        let mut shelf = cache.shelf();
        if shelf.changes[cache.place(&wanted.key)] == wanted.changes {
            shelf.put(&wanted.key, kept, cache.most, Instant::now());
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.wanted.cache.coming.fetch_sub(self.size, Relaxed);
    }
}

/// How it would be asked for: how, of whom, and what.
fn key(uri: &Uri, headers: &HeaderMap) -> String {
    let mut key = String::new();
    for name in KEYED {
        // No header holds a line's end, nor does one that is escaped.
        key.push('\n');
        for value in headers.get_all(name) {
            let value = value.as_bytes().escape_ascii().to_string();
            key.push_str(&value.to_ascii_lowercase());
            key.push('\r');
        }
    }
    key.push('\n');
    key.push_str(uri.path_and_query().map_or("/", |path| path.as_str()));
    key
}

/// How long an answer may be given again; none when it may not.
fn life(status: StatusCode, headers: &HeaderMap, ttl: Duration) -> Option<Duration> {
    if status != StatusCode::OK || headers.contains_key(header::SET_COOKIE) {
        return None;
    }
    let mut said = None;
    for value in headers.get_all(header::CACHE_CONTROL) {
        // What cannot be read may forbid it.
        for word in value.to_str().ok()?.split(',') {
            let word = word.trim().to_ascii_lowercase();
            let (name, value) = word.split_once('=').unwrap_or((&word, ""));
            match name {
                "private" | "no-store" | "no-cache" => return None,
                "s-maxage" => said = Some((true, seconds(value)?)),
                "max-age" if !matches!(said, Some((true, _))) => {
                    said = Some((false, seconds(value)?));
                }
                _ => {}
            }
        }
    }
    // A date is no word of ours: whoever gives one alone means to say how long, and we would not know.
    let dated = headers.contains_key(header::EXPIRES) || headers.contains_key(header::PRAGMA);
    match said {
        Some((_, said)) => Some(said.min(ttl)),
        None => (!dated).then_some(ttl),
    }
}

fn seconds(text: &str) -> Option<Duration> {
    text.trim_matches('"').parse().ok().map(Duration::from_secs)
}

fn number(value: Option<&HeaderValue>) -> Option<u64> {
    value?.to_str().ok()?.trim().parse().ok()
}

/// What the request said in the headers that its answer depends on; none when it depends on everything.
fn depends(
    answer: &HeaderMap,
    request: &HeaderMap,
) -> Option<Vec<(HeaderName, Option<HeaderValue>)>> {
    let mut asked = Vec::new();
    for value in answer.get_all(header::VARY) {
        for name in value.as_bytes().split(|byte| *byte == b',') {
            let name = name.trim_ascii();
            if name.is_empty() {
                continue;
            }
            // `*` is no header's name, but it is a token.
            let name = HeaderName::from_bytes(name).ok().filter(|_| name != b"*")?;
            let value = said(request, &name);
            asked.push((name, value));
        }
    }
    asked.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    Some(asked)
}

/// All that a request says under a name.
fn said(request: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = request.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_none() {
        return Some(first.clone());
    }
    let all: Vec<&[u8]> = request
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    HeaderValue::from_bytes(&all.join(&b", "[..])).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        map
    }

    #[test]
    fn only_what_is_for_everybody_is_kept() {
        let minute = Some(Duration::from_secs(60));
        type Said = &'static [(&'static str, &'static str)];
        let cases: [(Said, Option<Duration>); 14] = [
            (&[], Some(HOUR)),
            (&[("cache-control", "public")], Some(HOUR)),
            (&[("cache-control", "max-age=60")], minute),
            (&[("cache-control", "max-age=7200")], Some(HOUR)),
            (&[("cache-control", "s-maxage=60, max-age=5")], minute),
            (
                &[
                    ("cache-control", "max-age=5"),
                    ("cache-control", "s-maxage=60"),
                ],
                minute,
            ),
            (&[("cache-control", "max-age=0")], Some(Duration::ZERO)),
            (&[("cache-control", "max-age=60, private")], None),
            (&[("cache-control", "No-Store")], None),
            (&[("cache-control", "no-cache=\"x\"")], None),
            (&[("cache-control", "max-age=soon")], None),
            (&[("set-cookie", "a=b")], None),
            (&[("expires", "0")], None),
            (&[("pragma", "no-cache")], None),
        ];
        for (headers, wanted) in cases {
            assert_eq!(
                life(StatusCode::OK, &map(headers), HOUR),
                wanted,
                "{headers:?}"
            );
        }
        for status in [201, 204, 206, 301, 304, 404, 500] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(life(status, &HeaderMap::new(), HOUR), None);
        }
    }

    fn begin(cache: &Arc<Cache>, uri: &str) -> Box<Filling> {
        match look(cache, uri) {
            Look::Miss(wanted) => wanted.begin(StatusCode::OK, &mut HeaderMap::new()).unwrap(),
            _ => panic!("{uri}"),
        }
    }

    fn look(cache: &Arc<Cache>, uri: &str) -> Look {
        let rule = api::Cache {
            ttl_ms: 60_000,
            max_bytes: 1 << 20,
        };
        let uri: Uri = uri.parse().unwrap();
        cache.look(rule, "web@1", &Method::GET, &uri, &HeaderMap::new())
    }

    fn keep(cache: &Arc<Cache>, uri: &str, body: usize) {
        if let Look::Hit(..) = look(cache, uri) {
            return;
        }
        let mut filling = begin(cache, uri);
        if filling.piece(&Bytes::from(vec![0; body])) {
            filling.end();
        }
    }

    #[test]
    fn answers_that_are_read_slowly_are_bounded_too() {
        let cache = Arc::new(Cache::new(100_000));
        let piece = Bytes::from(vec![0; 30_000]);
        let mut slow = Vec::new();
        let mut begun = 0;
        for n in 0..10 {
            let mut filling = begin(&cache, &format!("/{n}"));
            if filling.piece(&piece) {
                begun += 1;
                slow.push(filling);
            }
        }
        assert_eq!(begun, 3);
        assert_eq!(cache.coming.load(Relaxed), 90_000);
        drop(slow);
        assert_eq!(cache.coming.load(Relaxed), 0);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_not_asked_for_goes_first() {
        let cache = Arc::new(Cache::new(100_000));
        keep(&cache, "/wanted", 1000);
        for n in 0..10_000 {
            keep(&cache, &format!("/{n}"), 1000);
            keep(&cache, "/wanted", 1000);
        }
        keep(&cache, "/large", 200_000);
        let shelf = cache.shelf();
        let bytes: u64 = shelf
            .answers
            .values()
            .flat_map(|slot| &slot.kept)
            .map(|one| one.bytes)
            .sum();
        assert_eq!(shelf.bytes, bytes);
        assert!(
            bytes <= 100_000 && shelf.answers.len() > 30,
            "{bytes} bytes"
        );
        assert_eq!(shelf.used.len(), shelf.answers.len());
        let has = |path: &str| shelf.answers.keys().any(|key| key.ends_with(path));
        assert!(has("/wanted") && has("/9999") && !has("/1") && !has("/large"));
    }
}
