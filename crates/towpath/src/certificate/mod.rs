//! Certificates of an environment's hosts, from an issuer that speaks ACME.
//!
//! The issuer is asked for one certificate a host. It asks back over plain HTTP ([RFC 8555], 8.3), and the gateway
//! answers; what is issued goes into the gateway's folder. When to ask, and how long to wait after a failure, is in
//! [`schedule`]; whoever asks remembers it in a file, so an agent that is killed does not ask too often.
//!
//! [RFC 8555]: https://www.rfc-editor.org/rfc/rfc8555

mod account;
mod http;
mod order;
pub mod schedule;

use std::fmt;
use std::path::PathBuf;

pub use order::issue;

/// Why there is no certificate.
#[derive(Debug)]
pub enum Error {
    /// The issuer did not answer as it should.
    Issuer(String),
    /// The issuer's question was not answered to its liking.
    Challenge(String),
    /// The gateway does not answer, so the issuer would ask in vain.
    Gateway(String),
    /// From the file system.
    Io(PathBuf, std::io::Error),
    /// The issuer took too long.
    Late,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Issuer(text) => write!(f, "the issuer: {text}"),
            Error::Challenge(text) => write!(
                f,
                "the issuer could not see that the name leads here: {text}"
            ),
            Error::Gateway(text) => write!(f, "the gateway: {text}"),
            Error::Io(path, error) => write!(f, "`{}`: {error}", path.display()),
            Error::Late => f.write_str("the issuer did not come to an end in time"),
        }
    }
}

impl std::error::Error for Error {}

impl From<instant_acme::Error> for Error {
    fn from(error: instant_acme::Error) -> Error {
        Error::Issuer(words(&error))
    }
}

/// What the issuer said, without its own decoration.
fn words(error: &instant_acme::Error) -> String {
    match error {
        instant_acme::Error::Api(problem) => said(problem),
        error => error.to_string(),
    }
}

fn said(problem: &instant_acme::Problem) -> String {
    let detail = problem.detail.clone().or_else(|| problem.r#type.clone());
    let below = problem.subproblems.iter();
    let below = below.filter_map(|one| one.detail.clone());
    detail
        .into_iter()
        .chain(below)
        .collect::<Vec<_>>()
        .join("; ")
}
