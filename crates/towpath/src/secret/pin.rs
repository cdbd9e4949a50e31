//! What was seen of an environment's secrets last, so that a file that was set back whole, or signed by somebody
//! who was no reader, is found.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, File, Person};
use crate::state::write_whole;

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// How often the secrets were changed.
    pub generation: u64,
    signature: String,
    /// Keys that the next generation may be signed with.
    keys: Vec<String>,
    /// To whom values were encrypted; not known of what was remembered before this was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    readers: Option<Vec<String>>,
}

impl Pin {
    /// Reads what is remembered in the file `path`; nothing, where it is not there.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(path: &Path) -> Result<Option<Pin>, Error> {
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| Error::Form(format!("`{}`: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::Io(path.to_owned(), error)),
        }
    }

    /// Whether a file may follow what is remembered, and what is remembered then.
    ///
    /// # Errors
    /// [`Error::Tampered`]: it is not as it was signed, older than what was seen, or signed by a stranger.
    pub fn next(before: Option<&Pin>, file: &File, environment: &str) -> Result<Pin, Error> {
        file.verify(environment)?;
        let empty = super::Signed::default();
        let signed = file
            .environments
            .get(environment)
            .map_or(&empty, |one| &one.signed);
        let tampered = |why: String| {
            Err(Error::Tampered(format!(
                "the secrets of {environment} {why}"
            )))
        };
        let key = file.people.get(&signed.by).and_then(|one| one.key.clone());
        if let Some(before) = before {
            if signed.generation == 0 && before.generation > 0 {
                return tampered(format!(
                    "are gone: generation {} was here already",
                    before.generation
                ));
            }
            if signed.generation < before.generation {
                return tampered(format!(
                    "were set back: this is generation {}, and {} was here already",
                    signed.generation, before.generation
                ));
            }
            if signed.generation == before.generation && signed.signature != before.signature {
                return tampered(format!(
                    "are another generation {} than the one that was here already",
                    signed.generation
                ));
            }
            if !key.is_some_and(|key| before.keys.contains(&key)) {
                return tampered(format!(
                    "were signed by `{}`, who was no reader before",
                    signed.by
                ));
            }
        }
        let keys = file
            .readers(environment)
            .filter_map(|(_, one)| one.key.clone());
        Ok(Pin {
            generation: signed.generation,
            signature: signed.signature.clone(),
            keys: keys.collect(),
            readers: Some(readers(file, environment)),
        })
    }

    /// Names of those who are said to read an environment's secrets, and were no readers before.
    #[must_use]
    pub fn newcomers(&self, file: &File, environment: &str) -> Vec<String> {
        let known = |one: &Person| match &self.readers {
            Some(readers) => readers.contains(&one.recipient),
            None => one.key.as_ref().is_none_or(|key| self.keys.contains(key)),
        };
        let readers = file.readers(environment);
        let new = readers.filter(|(_, one)| !known(one));
        new.map(|(name, _)| name.clone()).collect()
    }

    /// Remembers it in the file `path`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).map_err(|error| Error::Form(error.to_string()))?;
        write_whole(path, &text).map_err(|error| Error::Io(path.to_owned(), error))
    }
}

fn readers(file: &File, environment: &str) -> Vec<String> {
    let readers = file.readers(environment);
    readers.map(|(_, one)| one.recipient.clone()).collect()
}
