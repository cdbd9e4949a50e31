//! What a service may print of its secrets: as they are, and as usual encodings make them.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::Value;
use crate::id::hex;

/// Shorter ones would take words out of a log that have nothing to do with them.
const SHORTEST: usize = 6;

/// What stands in its place.
pub const INSTEAD: &str = "[secret]";

/// Every text that gives a secret away, the longest first.
#[must_use]
pub fn needles(values: &[Value]) -> Vec<String> {
    let mut needles = Vec::new();
    for value in values {
        let text = value.reveal();
        // A log has lines: those of a key in PEM come one by one.
        let lines = text.lines().map(str::trim);
        for part in lines.chain([text]).filter(|part| part.len() >= SHORTEST) {
            needles.push(part.to_owned());
            needles.push(url_encoded(part, true));
            needles.push(url_encoded(part, false));
            needles.push(hex(part.as_bytes()));
            needles.extend(base64(part.as_bytes()));
            let quoted = serde_json::Value::from(part).to_string();
            needles.push(quoted.trim_matches('"').to_owned());
        }
    }
    needles.retain(|needle| !needle.contains('\n') && needle.len() >= SHORTEST);
    needles.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    needles.dedup();
    needles
}

/// `text` without any of them.
#[must_use]
pub fn redact(text: &str, needles: &[String]) -> String {
    let redacted = |text: String, needle: &String| text.replace(needle.as_str(), INSTEAD);
    needles.iter().fold(text.to_owned(), redacted)
}

/// What is the same wherever the secret stands in what is encoded: at each of the three places in a group, without
/// the letters that its neighbours have a part in.
fn base64(bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for (before, skipped) in [(0, 0), (1, 2), (2, 3)] {
            let mut padded = vec![0; before];
            padded.extend_from_slice(bytes);
            let encoded = engine.encode(&padded);
            let whole = padded.len() / 3 * 4;
            let part = encoded.get(skipped..whole.max(skipped)).unwrap_or_default();
            all.push(part.to_owned());
        }
        all.push(engine.encode(bytes));
    }
    all.retain(|text| text.len() >= SHORTEST);
    all
}

fn url_encoded(text: &str, upper: bool) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(byte.into());
            }
            _ if upper => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push_str(&format!("%{byte:02x}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_it_is_found() {
        let secret = "Ca+n/ary\"42?x";
        let value = Value::new(secret.into()).expect("a value");
        let needles = needles(&[value]);
        let standard = |text: &str| STANDARD_NO_PAD.encode(text);
        for said in [
            format!("the key is {secret}."),
            format!("Basic {}", standard(&format!("a:{secret}"))),
            format!("Basic {}", standard(&format!("ab:{secret}:more"))),
            format!("Basic {}", URL_SAFE_NO_PAD.encode(format!("abc:{secret}"))),
            format!("?key={}", url_encoded(secret, true)),
            format!("?key={}", url_encoded(secret, false)),
            serde_json::json!({ "key": secret }).to_string(),
            hex(secret.as_bytes()),
        ] {
            assert!(redact(&said, &needles).contains(INSTEAD), "{said}");
        }
        let innocent = "the canary sings at 42 degrees";
        assert_eq!(redact(innocent, &needles), innocent);
    }
}
