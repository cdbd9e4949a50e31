//! The name of one request, in every log that it leaves a line in.

use std::cell::Cell;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::random;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest one that is taken from a client.
const LONGEST: usize = 128;

thread_local! {
    /// This thread's own half, and the number of the last request.
    static LAST: (u64, Cell<u64>) = (random::number(), Cell::new(0));
}

/// The id that a request has, or gets.
pub(crate) fn give(headers: &mut HeaderMap) -> HeaderValue {
    let mut said = headers.get_all(REQUEST_ID).iter();
    match (said.next(), said.next()) {
        (Some(one), None) if is_fit(one.as_bytes()) => one.clone(),
        _ => {
            let made = make();
            headers.insert(REQUEST_ID, made.clone());
            made
        }
    }
}

/// Nothing that could end a line or a field of a log, or be taken for markup.
fn is_fit(id: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:=+/@".contains(byte);
    (1..=LONGEST).contains(&id.len()) && id.iter().all(fits)
}

fn make() -> HeaderValue {
    let text = LAST.with(|(own, last)| {
        last.set(last.get() + 1);
        format!("{own:016x}{:016x}", last.get())
    });
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fit_is_kept_and_all_else_made_anew() {
        for good in [
            "a",
            "2f1c6f0e-7a53-4ad3-b7a7-6d4d2f0e9d11",
            "Root=1-67891233-abcdef012345678912345678",
        ] {
            assert!(is_fit(good.as_bytes()), "{good}");
        }
        let long = "x".repeat(LONGEST + 1);
        for bad in ["", "a b", "a\"b", "<b>", "a,b", "a;b", "\u{e9}", &long] {
            assert!(!is_fit(bad.as_bytes()), "{bad}");
        }
        assert_ne!(make(), make());
    }
}
