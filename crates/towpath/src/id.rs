//! Identifiers, each a type of its own, printed as people say them: `r42`, `d7`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = Unreadable;
            fn try_from(text: String) -> Result<Self, Unreadable> {
                text.parse()
            }
        }

        impl FromStr for $name {
            type Err = Unreadable;
            fn from_str(text: &str) -> Result<Self, Unreadable> {
                text.strip_prefix($letter)
                    .and_then(|digits| digits.parse().ok())
                    .map($name)
                    .ok_or_else(|| Unreadable { text: text.to_owned(), example: concat!($letter, "7") })
            }
        }
    };
}

numbered!(
    /// A release of one environment: `r7`.
    ReleaseId,
    "r"
);
numbered!(
    /// A deployment, or any other run of the journal: `d7`.
    RunId,
    "d"
);

/// Text that is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    text: String,
    example: &'static str,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not of the form `{}`", self.text, self.example)
    }
}

impl std::error::Error for Unreadable {}

/// One running copy of a service: `web-d7-1`. Decided when the run is planned, so that launching
/// it twice finds the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub String);

impl InstanceId {
    /// The `number`th copy (from 1) of `service` that `run` starts.
    #[must_use]
    pub fn new(service: &str, run: RunId, number: u32) -> InstanceId {
        InstanceId(format!("{service}-{run}-{number}"))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256 digest, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        use sha2::Digest as _;
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// The first twelve digits: enough for a folder's name, and for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = Unreadable;
    fn try_from(text: String) -> Result<Self, Unreadable> {
        text.parse()
    }
}

impl FromStr for Digest {
    type Err = Unreadable;
    fn from_str(text: &str) -> Result<Digest, Unreadable> {
        unhex(text)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Digest)
            .ok_or_else(|| Unreadable {
                text: text.to_owned(),
                example: "64 hexadecimal digits",
            })
    }
}

/// Bytes of an even number of lower-case hexadecimal digits.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|value| value as u8);
    let bytes = text.as_bytes();
    (bytes.len().is_multiple_of(2))
        .then(|| {
            bytes
                .chunks(2)
                .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
                .collect()
        })
        .flatten()
}

/// What nobody else has, for telling one asking from another; none where the system has no
/// randomness to give.
#[must_use]
pub fn token() -> Option<String> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok()?;
    Some(hex(&bytes))
}

/// Lower-case hexadecimal digits of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
