//! Secrets: values that no manifest, argument, log or backup holds.
//!
//! They stand in `tow.secrets.toml`, which is committed: each value is encrypted on its own with age, to the *readers*
//! of its environment: people, keys of a CI, and the environment's agent, whose identity is made at its first start
//! and never leaves its machine. What is encrypted names its project, environment, key and version ([`seal`]), so a
//! value that is put in another's place is refused. A signed list of the rows ([`file`]) finds one that was deleted,
//! added or set back; the generation in it, which only grows and which agents and people remember ([`pin`]), finds a
//! file that was set back whole.
//!
//! The command sends the environment's part of the file to its agent with every deployment ([`keep`]); the agent
//! decrypts what a service asks for when it starts an instance, hands it to the shim through a pipe, and forgets it.
//! Every access is a row of a chain ([`audit`]). A value is replaced while the one before is still good ([`rotation`]).
pub mod audit;
mod claim;
pub mod file;
pub mod identity;
pub mod keep;
mod pin;
pub mod redact;
pub mod rotation;
mod seal;

use std::fmt;

use age::secrecy::zeroize::Zeroize;

pub use audit::{Audit, Event, Head};
pub use claim::Claim;
pub use file::{File, Person, Row, Signed};
pub use identity::{Contact, Identity};
pub use pin::Pin;
pub use rotation::{Rotation, Stage};

/// Name of the file that secrets stand in, beside the manifest.
pub const FILE: &str = "tow.secrets.toml";

/// Longest value, bytes: it becomes an environment variable.
pub const LONGEST: usize = 64 << 10;

/// Age at which a secret is said to be due, days.
pub const DUE_DAYS: i64 = 75;

/// Age at which a promotion is refused, days; never a roll-back, and never a deployment that mends something.
pub const OVERDUE_DAYS: i64 = 90;

/// Age at which a secret is said to be due when it may have `most`, days: as much before its end as 75 is before 90.
#[must_use]
pub fn due(most: i64) -> i64 {
    most * DUE_DAYS / OVERDUE_DAYS
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    /// A value, if it can be one: text without NUL, neither empty nor too long.
    ///
    /// # Errors
    /// What is wrong with it, without a word of it.
    pub fn new(bytes: Vec<u8>) -> Result<Value, Error> {
        let fault = |why: &str| Err(Error::Value(why.to_owned()));
        if bytes.is_empty() {
            return fault("is empty");
        }
        if bytes.len() > LONGEST {
            return fault("is longer than 64 KiB");
        }
        match String::from_utf8(bytes) {
            Ok(text) if text.contains('\0') => fault("holds a NUL character"),
            Ok(text) => Ok(Value(text)),
            Err(_) => fault("is not UTF-8"),
        }
    }

    /// The value itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a secret")
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Why something with secrets did not go well; it never holds one.
#[derive(Debug)]
pub enum Error {
    /// From the file system.
    Io(std::path::PathBuf, std::io::Error),
    /// The file is not as `tow secrets` writes it.
    Form(String),
    /// They are those of another application.
    Project {
        /// Whose they are.
        has: String,
        /// Whose they were to be.
        wants: String,
    },
    /// The list of rows, its signature or its age is not right.
    Tampered(String),
    /// No identity that is held opens it.
    Closed(String),
    /// It opens, and is something else than it is said to be.
    Swapped(String),
    /// A value that cannot be one.
    Value(String),
    /// There is no such secret.
    Missing(Vec<String>),
    /// The chain of the audit is broken.
    Chain(String),
    /// The file is not the one that was read, or written, last.
    Changed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(path, error) => write!(f, "`{}`: {error}", path.display()),
            Error::Form(why) | Error::Tampered(why) | Error::Chain(why) => f.write_str(why),
            Error::Project { has, wants } => {
                write!(
                    f,
                    "the secrets here are those of `{has}`, and not of `{wants}`"
                )
            }
            Error::Closed(key) => write!(f, "`{key}` cannot be decrypted with the identity here"),
            Error::Swapped(key) => {
                write!(
                    f,
                    "what stands as `{key}` is another secret, or an older one"
                )
            }
            Error::Value(why) => write!(f, "the value {why}"),
            Error::Changed => write!(f, "{FILE} was changed meanwhile; nothing was written"),
            Error::Missing(keys) => write!(f, "missing: {}", keys.join(", ")),
        }
    }
}

impl std::error::Error for Error {}
