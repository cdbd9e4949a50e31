//! What a plain connection is for where there is https: the way there, and what an issuer of certificates asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;

use crate::keyring::Keyring;
use crate::readiness::Heard;
use crate::request::Checked;
use crate::table::Table;

/// Where an issuer asks (RFC 8555, 8.3).
const CHALLENGE: &str = "/.well-known/acme-challenge/";

/// What the front of the process knows, shared by all threads.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) keyring: Keyring,
    /// Answers to issuers, by token.
    pub(crate) challenges: ArcSwap<BTreeMap<String, String>>,
    /// How what stands behind it is, as somebody has said.
    pub(crate) readiness: ArcSwapOption<Heard>,
}

/// What is answered without an instance.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    Challenge(String),
    /// To the same place by https.
    Redirect(HeaderValue),
    Refused(StatusCode, String),
}

impl Front {
    pub(crate) fn new(keyring: Keyring, heard: Option<Heard>) -> Self {
        Self {
            keyring,
            challenges: ArcSwap::default(),
            readiness: ArcSwapOption::from(heard.map(Arc::new)),
        }
    }

    /// What a plain request gets before anything else is looked at; none when it is served as it is.
    pub(crate) fn greet(
        &self,
        parts: &Parts,
        checked: &Checked,
        table: &Table,
    ) -> Option<Greeting> {
        if let Some(token) = parts.uri.path().strip_prefix(CHALLENGE) {
            let known = self.challenges.load().get(token).cloned();
            let here = table.source.front.https.is_some();
            return match known {
                Some(answer) => Some(Greeting::Challenge(answer)),
                None => here.then(|| {
                    Greeting::Refused(StatusCode::NOT_FOUND, "no such challenge".to_owned())
                }),
            };
        }
        let port = table.source.front.https?;
        let host = checked.host_name();
        if self.keyring.find(Some(host)).is_some() {
            return Some(location(host, port, parts));
        }
        // Whoever asks for what is not here hears that instead.
        table.find(host, parts.uri.path())?;
        let words = format!("{host} is served by https, and has no certificate yet");
        Some(Greeting::Refused(StatusCode::SERVICE_UNAVAILABLE, words))
    }
}

fn location(host: &str, port: u16, parts: &Parts) -> Greeting {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let place = match port {
        443 => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    };
    match HeaderValue::from_bytes(place.as_bytes()) {
        Ok(place) => Greeting::Redirect(place),
        Err(_) => Greeting::Refused(StatusCode::BAD_REQUEST, "bad path".to_owned()),
    }
}
