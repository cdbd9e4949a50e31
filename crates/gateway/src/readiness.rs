//! What a gateway is asked about itself, at paths of its own: whether it lives, which depends on nothing else, and how
//! what stands behind it is. That somebody else finds out, and says it for a while; what was not said again in time
//! is followed by what he wanted said then. That word outlives the process, in a file beside its state, since whoever
//! asks cannot know that another has begun; it does not outlive the machine's boot, which ends what it was about.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::api::{Readiness, Word};
use crate::front::Front;
use crate::metrics::Label;
use crate::store;
use crate::table::Table;

const LIVES: &[u8] = b"{\"status\":\"healthy\"}";
const NOBODY: &[u8] = b"{\"status\":\"unhealthy\",\"error\":\"nobody has said yet how it is\"}";
const NOT_SO: &[u8] = b"{\"error\":\"this path is asked with GET\"}";

/// What was said, and when.
#[derive(Debug)]
pub(crate) struct Heard {
    now: (StatusCode, Bytes),
    afterwards: (StatusCode, Bytes),
    until: Instant,
}

impl Heard {
    pub(crate) fn new(readiness: Readiness) -> Self {
        // Whoever means "for ever" has no say in whether it overflows.
        let lasts = Duration::from_millis(readiness.lasts_ms.min(3_600_000));
        Self {
            now: answer_of(readiness.now),
            afterwards: answer_of(readiness.afterwards),
            until: Instant::now() + lasts,
        }
    }

    /// What was to be said afterwards is all that there is.
    fn afterwards(word: Word) -> Self {
        let word = answer_of(word);
        Self {
            now: word.clone(),
            afterwards: word,
            until: Instant::now(),
        }
    }

    fn word(&self, at: Instant) -> (StatusCode, Bytes) {
        match at < self.until {
            true => self.now.clone(),
            false => self.afterwards.clone(),
        }
    }
}

/// The file that holds what is to be said afterwards, for the next process.
#[derive(Debug)]
pub(crate) struct Last {
    path: PathBuf,
    boot: String,
}

/// Its contents.
#[derive(Serialize, Deserialize)]
struct Kept {
    boot: String,
    afterwards: Word,
}

impl Last {
    /// The one beside a state file.
    pub(crate) fn beside(state: &Path) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            path: store::beside(state, "ready"),
            boot: boot.trim().to_owned(),
        }
    }

    /// What an earlier process was told on this boot. A file that is torn or missing says nothing.
    pub(crate) fn heard(&self) -> Option<Heard> {
        let bytes = fs::read(&self.path).ok()?;
        let kept: Kept = serde_json::from_slice(&bytes).ok()?;
        (kept.boot == self.boot).then(|| Heard::afterwards(kept.afterwards))
    }

    /// Keep it. It need not be durable: what ends the machine ends what it is about. Where it cannot be written an
    /// older word must not stand in its place.
    pub(crate) fn keep(&self, afterwards: &Word) {
        if self.write(afterwards).is_err() {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn write(&self, afterwards: &Word) -> io::Result<()> {
        let kept = Kept {
            boot: self.boot.clone(),
            afterwards: afterwards.clone(),
        };
        let beside = store::beside(&self.path, "new");
        fs::write(&beside, serde_json::to_vec(&kept)?)?;
        fs::rename(&beside, &self.path)
    }
}

fn answer_of(word: Word) -> (StatusCode, Bytes) {
    let status = match word.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Bytes::from(word.json))
}

/// An answer, and what it is counted under.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    pub(crate) label: Arc<Label>,
}

/// The answer to a request at one of the gateway's own paths; none for all others.
pub(crate) fn answer(parts: &Parts, table: &Table, front: &Front) -> Option<Answer> {
    let own = &table.source.front.own;
    let path = parts.uri.path();
    let is = |wanted: &Option<String>| wanted.as_deref() == Some(path);
    let (status, body) = match (is(&own.live), is(&own.ready)) {
        (false, false) => return None,
        _ if parts.method != Method::GET && parts.method != Method::HEAD => {
            (StatusCode::METHOD_NOT_ALLOWED, Bytes::from_static(NOT_SO))
        }
        (true, _) => (StatusCode::OK, Bytes::from_static(LIVES)),
        _ => match &*front.readiness.load() {
            Some(heard) => heard.word(Instant::now()),
            None => (StatusCode::SERVICE_UNAVAILABLE, Bytes::from_static(NOBODY)),
        },
    };
    Some(Answer {
        status,
        body,
        label: Label::own(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_said_again_in_time_is_not_said_any_more() {
        let word = |ready, json: &str| Word {
            ready,
            json: json.to_owned(),
        };
        let heard = Heard::new(Readiness {
            now: word(true, "well"),
            lasts_ms: 1000,
            afterwards: word(false, "silent"),
        });
        let long = Duration::from_secs(2);
        assert_eq!(heard.word(heard.until - long).0, StatusCode::OK);
        assert_eq!(heard.word(heard.until).1, Bytes::from("silent"));
        assert_eq!(
            heard.word(heard.until + long).0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
}
