//! Who looked at which secret, and when: rows chained by SHA-256, with a signed head.
//!
//! The head is written first and holds the row that is being added, so a crash in between loses nothing and looks
//! like nothing else. Editing, deleting, reordering or adding a row breaks the chain; cutting rows off, or beginning
//! anew, leaves a head that does not fit, or none. A head and rows that were both set back are found by whoever
//! remembers a later head.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::rotation::Given;
use super::{Error, Identity, identity};
use crate::id::Digest;
use crate::state::write_whole;

/// One access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Number, from 1.
    pub seq: u64,
    /// Unix time, milliseconds.
    pub at_ms: i64,
    /// Who.
    pub actor: String,
    /// What was done: `set`, `get`, `give`, ...
    pub action: String,
    /// In which environment.
    pub environment: String,
    /// Which secrets, each with its version where it has one.
    pub keys: Vec<String>,
    /// Hash of the row before; empty for the first.
    pub before: String,
}

/// The versions that each instance was given last, by its id and the names of the secrets.
#[must_use]
pub fn given(rows: &[String]) -> BTreeMap<String, Given> {
    let events = rows
        .iter()
        .filter_map(|row| serde_json::from_str::<Event>(row).ok());
    let mut given = BTreeMap::new();
    for event in events.filter(|event| event.action == "give") {
        let Some(instance) = event.actor.strip_prefix("instance ") else {
            continue;
        };
        let keys = event.keys.iter().filter_map(|key| key.split_once(' '));
        let keys = keys.filter_map(|(key, version)| Some((key.to_owned(), version.parse().ok()?)));
        given.insert(instance.to_owned(), keys.collect());
    }
    given
}

/// The end of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Rows.
    pub count: u64,
    /// Hash of the last.
    pub hash: String,
    /// The last row itself.
    pub last: String,
    /// Signature of count and hash.
    pub signature: String,
    /// The key that checks it.
    pub key: String,
}

/// A chain in a file.
pub struct Audit {
    path: PathBuf,
    /// What the chain is called in what is signed.
    name: String,
}

impl Audit {
    /// The chain in the file `path`, which need not be there.
    #[must_use]
    pub fn new(path: PathBuf, name: &str) -> Audit {
        Audit {
            path,
            name: name.to_owned(),
        }
    }

    fn head_path(&self) -> PathBuf {
        self.path.with_extension("head")
    }

    fn statement(&self, count: u64, hash: &str) -> String {
        format!("towpath audit 1\n{}\n{count}\n{hash}\n", self.name)
    }

    /// Adds a row; `seq` and `before` are filled in.
    ///
    /// # Errors
    /// When the chain is broken already, or cannot be written.
    pub fn add(&self, event: Event, identity: &Identity) -> Result<(), Error> {
        let io = |error| Error::Io(self.path.clone(), error);
        let mut file = self.locked().map_err(io)?;
        let head = self.head()?;
        let rows = self.repair(&mut file, head.as_ref())?;
        let before = head
            .as_ref()
            .map_or(String::new(), |head| head.hash.clone());
        let event = Event {
            seq: rows + 1,
            before,
            ..event
        };
        let line = serde_json::to_string(&event).map_err(|error| Error::Form(error.to_string()))?;
        let hash = Digest::of(line.as_bytes()).to_string();
        let head = Head {
            count: event.seq,
            signature: identity.sign(&self.statement(event.seq, &hash)),
            key: identity.contact().key.unwrap_or_default(),
            hash,
            last: line.clone(),
        };
        let text = serde_json::to_vec(&head).map_err(|error| Error::Form(error.to_string()))?;
        write_whole(&self.head_path(), &text).map_err(io)?;
        writeln!(file, "{line}")
            .and_then(|()| file.sync_all())
            .map_err(io)
    }

    fn locked(&self) -> std::io::Result<std::fs::File> {
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .append(true)
            .read(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// Rows that are signed; the last is put back where a crash left it in the head alone. Only the end of the file
    /// is looked at: it grows for years.
    fn repair(&self, file: &mut std::fs::File, head: Option<&Head>) -> Result<u64, Error> {
        let io = |error| Error::Io(self.path.clone(), error);
        let (length, end) = tail(file).map_err(io)?;
        let Some(head) = head else {
            return match length {
                0 => Ok(0),
                _ => Err(Error::Chain("the chain has rows and no head".to_owned())),
            };
        };
        // What a crash has torn off stands in the head, whole.
        let whole = end.rfind('\n').map_or(0, |at| at + 1);
        let torn = end.len() - whole;
        let last = end[..whole].trim_end_matches('\n').rsplit('\n').next();
        let last = last.unwrap_or_default();
        if last == head.last && torn == 0 {
            return Ok(head.count);
        }
        let before: Event = serde_json::from_str(&head.last)
            .map_err(|_| Error::Chain("the head of the chain is not readable".to_owned()))?;
        let hash = match last {
            "" => String::new(),
            last => Digest::of(last.as_bytes()).to_string(),
        };
        if hash != before.before {
            return Err(Error::Chain(
                "the end of the chain is not the one that is signed".to_owned(),
            ));
        }
        file.set_len(length - torn as u64).map_err(io)?;
        writeln!(file, "{}", head.last).map_err(io)?;
        Ok(head.count)
    }

    fn text(&self) -> Result<String, Error> {
        match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(|error| Error::Io(self.path.clone(), error)),
        }
    }

    /// The head; `None` where there is no chain.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn head(&self) -> Result<Option<Head>, Error> {
        let path = self.head_path();
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|_| Error::Chain("the head of the chain is not readable".to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::Io(path, error)),
        }
    }

    /// Every row as it is there, and the head.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(&self) -> Result<(Vec<String>, Option<Head>), Error> {
        let head = self.head()?;
        let text = self.text()?;
        let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
        if let Some(head) = &head {
            // One that is being written, or that a crash has left in the head.
            let torn = !text.is_empty() && !text.ends_with('\n');
            if torn && rows.len() as u64 == head.count {
                rows.pop();
            }
            if rows.len() as u64 + 1 == head.count {
                rows.push(head.last.clone());
            }
        }
        Ok((rows, head))
    }

    /// The rows, if all of them are as they were written, by the key `key`, and follow what somebody remembers.
    ///
    /// # Errors
    /// [`Error::Chain`], with the first thing that is wrong.
    pub fn verify(
        &self,
        rows: &[String],
        head: Option<&Head>,
        key: &str,
        seen: Option<&Head>,
    ) -> Result<Vec<Event>, Error> {
        let broken = |why: String| Err(Error::Chain(why));
        let mut events: Vec<Event> = Vec::new();
        let mut hashes: Vec<String> = Vec::new();
        for (row, number) in rows.iter().zip(1..) {
            let Ok(event) = serde_json::from_str::<Event>(row) else {
                return broken(format!("row {number} is not readable"));
            };
            let before = hashes.last().cloned().unwrap_or_default();
            if event.seq != number || event.before != before {
                return broken(format!("row {number} does not follow the row before it"));
            }
            hashes.push(Digest::of(row.as_bytes()).to_string());
            events.push(event);
        }
        let count = rows.len() as u64;
        let Some(head) = head else {
            return match (count, seen) {
                (0, None) => Ok(events),
                (0, Some(seen)) => {
                    broken(format!("it was begun anew: {} rows are gone", seen.count))
                }
                _ => broken("the rows have no signed head".to_owned()),
            };
        };
        if head.key != key
            || !identity::verify(
                &self.statement(head.count, &head.hash),
                &head.signature,
                key,
            )
        {
            return broken("the signature of its head is not right".to_owned());
        }
        if head.count != count {
            return broken(format!(
                "{} rows are signed, and {count} are there",
                head.count
            ));
        }
        if hashes.last() != Some(&head.hash) {
            return broken(format!("row {count} is not the one that is signed"));
        }
        if let Some(seen) = seen {
            let index = usize::try_from(seen.count)
                .unwrap_or(usize::MAX)
                .saturating_sub(1);
            if hashes.get(index) != Some(&seen.hash) {
                return broken(format!(
                    "row {} is not the one that was seen here before: it was set back or begun anew",
                    seen.count
                ));
            }
        }
        Ok(events)
    }
}

/// More than two rows have, bytes.
const TAIL: u64 = 1 << 20;

/// The length of a file, and its end.
fn tail(file: &mut std::fs::File) -> std::io::Result<(u64, String)> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok((length, String::from_utf8_lossy(&end).into_owned()))
}

/// The chain of an agent, in its state directory.
#[must_use]
pub fn of_agent(state: &Path, app: &str, environment: &str) -> Audit {
    Audit::new(state.join("secrets.audit"), &format!("{app}/{environment}"))
}
