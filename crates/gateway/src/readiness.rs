//! What a gateway is asked about itself, at paths of its own: whether it lives, which depends on nothing else, and how
//! what stands behind it is. That somebody else finds out, and says it for a while; what was not said again in time
//! is followed by what he wanted said then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use crate::api::{Readiness, Word};
use crate::front::Front;
use crate::metrics::Label;
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

    fn word(&self, at: Instant) -> (StatusCode, Bytes) {
        match at < self.until {
            true => self.now.clone(),
            false => self.afterwards.clone(),
        }
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
