//! The load of a rehearsal: sends the traffic an application declares while deployments happen, and proves afterwards that nothing
//! was lost.
//!
//! Requests are due on a schedule of their own, whatever the server does. `connections` workers take them in turn; when all of them
//! wait, the next requests start late, and their latency, counted from the time they were due, says so. Order, shares and fresh
//! connections follow from the declaration alone; only the identifiers of writes differ between two runs.
//!
//! A request counts as failed unless a whole answer with an expected status came. Nothing is tried again, but for what any strict
//! client does when the server has closed a kept connection: a request of which no byte was written, or a GET without a byte of
//! answer, goes once over a new connection, and is counted apart (`resent`). A write that may have been sent is never repeated. It
//! is acknowledged when its whole answer came with an expected status.

mod client;
mod connection;
mod histogram;
mod mix;
mod proof;
mod record;
mod report;
mod running;
mod sent;
mod shape;
mod sign_in;

use std::fmt;

pub use proof::{read_back, zeros};
pub use report::{
    ConnectionKind, Failure, FailureKind, KindReport, Latency, Progress, ReadBack, Report,
    Requests, Resent, Slot, Zero,
};
pub use running::Load;
pub use sign_in::{Token, sign_in};

/// Bytes of a body that are quoted.
const EXCERPT: usize = 200;

/// Why a load cannot start or a proof cannot be made.
#[derive(Debug)]
pub enum Error {
    /// Rate, connections or weights are 0, or a write is to be read back and none is declared.
    NothingDeclared,
    /// The host name cannot be sent as a header.
    Host(String),
    /// The token cannot be sent as a header.
    Token,
    /// The request that is declared is none: which one, and why.
    Request(String, String),
    /// No whole answer to the sign-in.
    SignInUnanswered(String),
    /// The sign-in was answered with another status than 2xx.
    SignInRefused {
        /// The status.
        status: u16,
        /// The first 200 bytes of the body.
        body: String,
    },
    /// Nothing, or no text, at the JSON pointer to the token.
    NoToken(String),
    /// A number that the application counts could not be read.
    Zero {
        /// What is counted.
        name: String,
        /// Why.
        detail: String,
    },
    /// The system gives no random bytes.
    Random(std::io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingDeclared => formatter.write_str("the declared traffic is empty"),
            Self::Host(host) => write!(formatter, "`{host}` is not a host name"),
            Self::Token => {
                formatter.write_str("the token from the sign-in cannot be sent as a header")
            }
            Self::Request(request, detail) => {
                write!(formatter, "`{request}` cannot be sent: {detail}")
            }
            Self::SignInUnanswered(detail) => {
                write!(formatter, "sign-in was not answered: {detail}")
            }
            Self::SignInRefused { status, body } => {
                write!(formatter, "sign-in was answered with {status}: {body}")
            }
            Self::NoToken(pointer) => {
                write!(formatter, "sign-in answered without a token at `{pointer}`")
            }
            Self::Zero { name, detail } => write!(formatter, "`{name}` cannot be read: {detail}"),
            Self::Random(error) => write!(formatter, "no random bytes: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Random(error) => Some(error),
            _ => None,
        }
    }
}

/// The beginning of a body, to be quoted.
fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(EXCERPT)]).into_owned()
}
