//! The line that comes first.

use std::cmp::Ordering;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::PROTOCOL;
use crate::diagnostic::Diagnostic;

/// What the line begins with.
const MARK: &str = "towpath-dial ";

/// Longest line that is read.
const LONGEST: usize = 16 << 10;

/// What a machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// `gnu`, `musl`.
    pub libc: String,
}

impl Platform {
    /// This machine's.
    #[must_use]
    pub fn here() -> Platform {
        // Debian may have a musl beside its own; a musl system has no loader of the other.
        let loaders = [
            "/lib64/ld-linux-x86-64.so.2",
            "/lib/ld-linux-aarch64.so.1",
            "/lib64/ld-linux-aarch64.so.1",
        ];
        let libc = match loaders.iter().any(|loader| Path::new(loader).exists()) {
            true => "gnu",
            false => "musl",
        };
        Platform {
            os: std::env::consts::OS.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            libc: libc.to_owned(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.os, self.architecture, self.libc)
    }
}

/// Who speaks on the far side. What a later version adds is passed over here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preface {
    /// What the agent speaks; where there is none, what the program does.
    pub protocol: u32,
    /// The agent's build; where there is none, the program's.
    pub version: String,
    /// The machine.
    pub platform: Platform,
    /// The application of the agent.
    pub app: String,
    /// Its environment.
    pub environment: String,
    /// The program there.
    pub tow: PathBuf,
    /// The state directory, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// Why nothing follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Refused>,
}

/// Why the far side does not connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Exit code of the command.
    pub exit: u8,
    /// What failed, what is true now, what to do next.
    pub diagnostic: Diagnostic,
}

/// What came was no preface.
#[derive(Debug)]
pub enum Malformed {
    /// The stream ended before there was a line.
    Ended(String),
    /// Something else came first.
    Other(String),
    /// From the system.
    Io(std::io::Error),
}

/// How far apart the two sides are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skew {
    /// They speak the same.
    None,
    /// One apart, which works; greater when the far side is the newer one.
    Near(Ordering),
    /// More than that, which does not.
    Far(Ordering),
}

impl Preface {
    /// Whether it is `tow agent dial` that has answered, whatever was asked to run.
    #[must_use]
    pub fn begins(said: &str) -> bool {
        said.starts_with(MARK)
    }

    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{MARK}{text}\n")
    }

    /// How far it is from this build.
    #[must_use]
    pub fn skew(&self) -> Skew {
        let order = self.protocol.cmp(&PROTOCOL);
        match self.protocol.abs_diff(PROTOCOL) {
            0 => Skew::None,
            1 => Skew::Near(order),
            _ => Skew::Far(order),
        }
    }

    /// Reads the line, and not a byte of what comes behind it.
    ///
    /// # Errors
    /// [`Malformed`], with the beginning of what came instead.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Preface, Malformed> {
        let mut line = Vec::new();
        loop {
            match stream.read_u8().await {
                Ok(b'\n') => break,
                Ok(byte) => line.push(byte),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Err(Malformed::Ended(beginning(&line)));
                }
                Err(error) => return Err(Malformed::Io(error)),
            }
            // What cannot become a preface is not waited for.
            let so_far = line.len().min(MARK.len());
            if line[..so_far] != MARK.as_bytes()[..so_far] && line.len() >= MARK.len()
                || line.len() > LONGEST
            {
                return Err(Malformed::Other(beginning(&line)));
            }
        }
        let text = line.strip_prefix(MARK.as_bytes());
        let preface = text.and_then(|text| serde_json::from_slice(text).ok());
        preface.ok_or_else(|| Malformed::Other(beginning(&line)))
    }
}

/// What can be shown of it.
fn beginning(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preface(protocol: u32) -> Preface {
        Preface {
            protocol,
            version: "1.2.0".to_owned(),
            platform: Platform::here(),
            app: "notes".to_owned(),
            environment: "staging".to_owned(),
            tow: "/usr/local/bin/tow".into(),
            state: None,
            trouble: None,
        }
    }

    fn read(bytes: &[u8]) -> Result<(Preface, usize), Malformed> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let mut rest = bytes;
        let preface = runtime.unwrap().block_on(Preface::read(&mut rest))?;
        Ok((preface, rest.len()))
    }

    #[test]
    fn what_is_written_is_read_and_nothing_behind_it() {
        let line = preface(PROTOCOL).line();
        let (read, left) = read(format!("{line}HTTP/1.1").as_bytes()).unwrap();
        assert_eq!((read, left), (preface(PROTOCOL), 8));
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        let line = preface(PROTOCOL).line().replacen('{', "{\"more\":[1],", 1);
        assert!(read(line.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_no_preface_is_refused() {
        let endless = [b"towpath-dial ".as_slice(), &vec![b'x'; LONGEST * 2]].concat();
        let cases: [&[u8]; 5] = [
            b"Welcome to Debian\ntowpath-dial {}\n",
            b"Welcome, without a line's end, and longer than the mark",
            b"towpath-dial {}\n",
            b"towpath-dial \xff\xfe\n",
            &endless,
        ];
        for case in cases {
            assert!(matches!(read(case), Err(Malformed::Other(_))));
        }
        for case in [b"".as_slice(), b"towpath-dial {\"protocol\":1"] {
            assert!(matches!(read(case), Err(Malformed::Ended(_))));
        }
    }

    #[test]
    fn one_apart_works_and_two_do_not() {
        let skews = [PROTOCOL, PROTOCOL + 1, PROTOCOL + 2].map(|protocol| preface(protocol).skew());
        let greater = Ordering::Greater;
        assert_eq!(skews, [Skew::None, Skew::Near(greater), Skew::Far(greater)]);
    }
}
