//! The request before the load whose answer lets the others in.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::Value;

use super::client::{Ask, Client, Target};
use super::{Error, excerpt};
use crate::config::{SignIn, Traffic};

/// Bytes of the answer that are read as JSON.
const ANSWER: usize = 1 << 20;

/// What requests are let in with. Never shown, not even by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

impl Token {
    /// The header that carries it.
    pub(super) fn authorization(&self) -> Result<HeaderValue, Error> {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {}", self.0)).map_err(|_| Error::Token)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Signs in as declared; `None` when nothing is declared.
///
/// # Errors
/// No connection, a status that is not 2xx (with the first 200 bytes of the body), or an answer without the token.
pub async fn sign_in(
    addr: SocketAddr,
    host: Option<&str>,
    traffic: &Traffic,
) -> Result<Option<Token>, Error> {
    match &traffic.sign_in {
        Some(declared) => send(Target::new(addr, host, None)?, declared)
            .await
            .map(Some),
        None => Ok(None),
    }
}

async fn send(target: Target, declared: &SignIn) -> Result<Token, Error> {
    let ask = Ask {
        method: Method::POST,
        path: &declared.post,
        body: Bytes::from(declared.body.clone()),
        fresh: true,
        slow: false,
    };
    let answered = Client::new(Arc::new(target)).send(&ask, ANSWER).await;
    let answer = answered.map_err(|fault| Error::SignInUnanswered(fault.detail))?;
    if !answer.status.is_success() {
        return Err(Error::SignInRefused {
            status: answer.status.as_u16(),
            body: excerpt(&answer.body),
        });
    }
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match json.pointer(&declared.token).and_then(Value::as_str) {
        Some(token) => Ok(Token(token.to_owned())),
        None => Err(Error::NoToken(declared.token.clone())),
    }
}
