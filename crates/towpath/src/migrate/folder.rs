//! The folder of migrations.

use std::collections::BTreeMap;
use std::path::Path;

use super::Error;
use crate::id::Digest;

/// One versioned schema step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number.
    pub version: u64,
    /// Its name, for people.
    pub name: String,
    /// SQL that applies it.
    pub up: String,
    /// SQL that takes it back, when there is any.
    pub down: Option<String>,
}

impl Migration {
    /// What is remembered of `up`.
    #[must_use]
    pub fn checksum(&self) -> String {
        Digest::of(self.up.as_bytes()).to_string()
    }
}

#[derive(Default)]
struct Pair {
    name: String,
    up: Option<String>,
    down: Option<String>,
}

/// Reads a folder; an absent folder has no migrations. In the order of their numbers.
///
/// # Errors
/// [`Error::Name`], [`Error::Duplicate`], or when a file cannot be read.
pub fn load(dir: &Path) -> Result<Vec<Migration>, Error> {
    let mut pairs: BTreeMap<u64, Pair> = BTreeMap::new();
    let io = |error| Error::Io(dir.to_owned(), error);
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io)?,
    };
    for entry in entries {
        let path = entry.map_err(io)?.path();
        let file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !file.ends_with(".sql") {
            continue;
        }
        let (version, name, is_up) = parse(&file).ok_or_else(|| Error::Name(file.clone()))?;
        let text =
            std::fs::read_to_string(&path).map_err(|error| Error::Io(path.clone(), error))?;
        insert(
            pairs.entry(version).or_default(),
            version,
            name,
            is_up,
            text,
        )?;
    }
    pairs
        .into_iter()
        .map(|(version, pair)| whole(version, pair))
        .collect()
}

fn insert(
    pair: &mut Pair,
    version: u64,
    name: &str,
    is_up: bool,
    text: String,
) -> Result<(), Error> {
    if pair.name.is_empty() {
        name.clone_into(&mut pair.name);
    }
    let place = if is_up { &mut pair.up } else { &mut pair.down };
    if pair.name != name || place.replace(text).is_some() {
        return Err(Error::Duplicate(version));
    }
    Ok(())
}

fn whole(version: u64, pair: Pair) -> Result<Migration, Error> {
    let Pair { name, up, down } = pair;
    match up {
        Some(up) => Ok(Migration {
            version,
            name,
            up,
            down,
        }),
        None => Err(Error::Name(format!(
            "{version:04}_{name}.down.sql without its .up.sql"
        ))),
    }
}

fn parse(file: &str) -> Option<(u64, &str, bool)> {
    let (stem, is_up) = match file.strip_suffix(".up.sql") {
        Some(stem) => (stem, true),
        None => (file.strip_suffix(".down.sql")?, false),
    };
    let (number, name) = stem.split_once('_')?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Some((number.parse().ok()?, name, is_up)))?
}
