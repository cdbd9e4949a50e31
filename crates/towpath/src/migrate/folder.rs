//! The folder of migrations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Engine, Error, Header, header, rules};
use crate::diagnostic::Report;
use crate::id::Digest;

/// SQL of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The file, below the folder.
    pub file: String,
    /// What is in it.
    pub text: String,
    /// What it says about itself.
    pub header: Header,
}

/// One versioned schema step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number.
    pub version: u64,
    /// Its name, for people.
    pub name: String,
    /// What applies it.
    pub up: Script,
    /// What takes it back, when there is anything.
    pub down: Option<Script>,
}

impl Migration {
    /// What is remembered of `up`.
    #[must_use]
    pub fn checksum(&self) -> String {
        Digest::of(self.up.text.as_bytes()).to_string()
    }
}

/// Finds what stands against these migrations in their own text, before anything is touched.
///
/// # Errors
/// [`Error::Invalid`] with every place.
pub fn check<'a>(
    engine: Engine,
    migrations: impl IntoIterator<Item = &'a Migration>,
) -> Result<(), Error> {
    let mut reports = Vec::new();
    for migration in migrations {
        let scripts = [(&migration.up, false)];
        let down = migration.down.iter().map(|script| (script, true));
        for (script, is_down) in scripts.into_iter().chain(down) {
            let wrong = rules::script(engine, &script.header, is_down, &script.text);
            if !wrong.is_empty() {
                reports.push(Report::new(&script.file, &script.text, wrong));
            }
        }
    }
    match reports.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(reports)),
    }
}

/// A file by its name.
struct Found {
    version: u64,
    name: String,
    is_up: bool,
    /// Below the folder.
    file: String,
    path: PathBuf,
}

/// Reads a folder, with the sub-folder of that engine; an absent folder has no migrations. In the order of their numbers.
///
/// # Errors
/// [`Error::Name`], [`Error::Duplicate`], [`Error::Invalid`] for a header, or when a file cannot be read.
pub fn load(dir: &Path, engine: Engine) -> Result<Vec<Migration>, Error> {
    let mut found = list(dir, "")?;
    let own = list(&dir.join(engine.folder()), engine.folder())?;
    let other = list(&dir.join(engine.other().folder()), engine.other().folder())?;
    same_names(&own, &other)?;
    same_names(&found, &other)?;
    found.extend(own);
    let mut migrations: BTreeMap<u64, Vec<Found>> = BTreeMap::new();
    for file in found {
        migrations.entry(file.version).or_default().push(file);
    }
    migrations
        .into_iter()
        .map(|(version, files)| whole(version, files))
        .collect()
}

/// A number stands for the same step everywhere, and either for all engines or for each by itself.
fn same_names(some: &[Found], others: &[Found]) -> Result<(), Error> {
    for one in some {
        let is_shared = !one.file.contains('/');
        let differs =
            |other: &&Found| other.version == one.version && (is_shared || other.name != one.name);
        if let Some(other) = others.iter().find(differs) {
            return Err(Error::Duplicate(
                one.version,
                one.file.clone(),
                other.file.clone(),
            ));
        }
    }
    Ok(())
}

fn list(dir: &Path, below: &str) -> Result<Vec<Found>, Error> {
    let io = |error| Error::Io(dir.to_owned(), error);
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(io)?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if !file.ends_with(".sql") {
            continue;
        }
        let shown = match below {
            "" => file.to_string(),
            below => format!("{below}/{file}"),
        };
        let (version, name, is_up) = parse(&file).ok_or_else(|| Error::Name(shown.clone()))?;
        found.push(Found {
            version,
            name: name.to_owned(),
            is_up,
            file: shown,
            path: path.clone(),
        });
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(found)
}

fn whole(version: u64, files: Vec<Found>) -> Result<Migration, Error> {
    let (mut up, mut down): (Option<Found>, Option<Found>) = (None, None);
    for file in files {
        let known = up.as_ref().or(down.as_ref());
        let folder = |found: &Found| found.file.contains('/');
        let is_other =
            known.is_some_and(|known| known.name != file.name || folder(known) != folder(&file));
        let place = if file.is_up { &mut up } else { &mut down };
        if is_other || place.is_some() {
            let first = up.or(down).map(|found| found.file).unwrap_or_default();
            return Err(Error::Duplicate(version, first, file.file));
        }
        *place = Some(file);
    }
    let Some(up) = up else {
        let file = down.map(|found| found.file).unwrap_or_default();
        return Err(Error::Name(format!("{file} without its .up.sql")));
    };
    Ok(Migration {
        version,
        name: up.name.clone(),
        up: script(&up)?,
        down: down.as_ref().map(script).transpose()?,
    })
}

fn script(found: &Found) -> Result<Script, Error> {
    let text = std::fs::read_to_string(&found.path)
        .map_err(|error| Error::Io(found.path.clone(), error))?;
    match header::read(&text) {
        Ok(header) => Ok(Script {
            file: found.file.clone(),
            text,
            header,
        }),
        Err(wrong) => Err(Error::Invalid(vec![Report::new(&found.file, &text, wrong)])),
    }
}

fn parse(file: &str) -> Option<(u64, &str, bool)> {
    let (stem, is_up) = match file.strip_suffix(".up.sql") {
        Some(stem) => (stem, true),
        None => (file.strip_suffix(".down.sql")?, false),
    };
    let (number, name) = stem.split_once('_')?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let version: u64 = number.parse().ok().filter(|_| digits)?;
    // What both engines can keep.
    i64::try_from(version).ok()?;
    (!name.is_empty()).then_some((version, name, is_up))
}
