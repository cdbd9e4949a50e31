//! `tow.secrets.toml`: people, and for each environment its rows and the signed list of them.
//!
//! A row is one line, so two branches that set two secrets merge. Where they have set the same one, or both have
//! signed, git says so in the lines of the list, and `tow secrets sign` signs what was merged.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::seal::{self, Label};
use super::{Contact, Error, Identity, Rotation, Value, identity};
use crate::id::Digest;
use crate::manifest::form::{is_name, is_variable};
use crate::state::write_whole;

const HEAD: &str = "# Written by `tow secrets`; commit it. Each value is encrypted on its own.\n";

/// What the name of an environment's agent ends with.
pub const AGENT: &str = "-agent";

/// Largest file, bytes.
const LARGEST: usize = 8 << 20;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Name of the application.
    pub project: String,
    /// Who reads, by name.
    #[serde(default)]
    pub people: BTreeMap<String, Person>,
    /// What each environment has.
    #[serde(default)]
    pub environments: BTreeMap<String, Secrets>,
}

/// A reader: a person, a key of a CI, or an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// `age1...`
    pub recipient: String,
    /// The key that checks its signatures; one without it only reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The environments that it reads.
    pub environments: Vec<String>,
}

/// The secrets of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// The signed list.
    pub signed: Signed,
    /// The values, by name.
    #[serde(default)]
    pub rows: BTreeMap<String, Row>,
}

/// What was there when somebody wrote last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// Grows with every write.
    pub generation: u64,
    /// Who wrote.
    pub by: String,
    /// Name, version and digest of every row.
    pub rows: Vec<String>,
    /// The signature of all that, and of who reads.
    pub signature: String,
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// From 1.
    pub version: u32,
    /// Unix time, seconds.
    pub set: i64,
    /// What age has made of it, base64.
    pub value: String,
    /// The value before, while it is being rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
}

impl Row {
    /// Whole days since it was set; `now_ms` is Unix time.
    #[must_use]
    pub fn days(&self, now_ms: i64) -> i64 {
        (now_ms / 1000 - self.set).max(0) / 86_400
    }

    fn line(&self, key: &str) -> String {
        let mut text = format!("{} {}", self.set, self.value);
        if let Some(rotation) = &self.rotation {
            text += &format!(" {}", rotation.text());
        }
        format!("{key} {} {}", self.version, Digest::of(text.as_bytes()))
    }

    fn text(&self) -> String {
        let Row {
            version,
            set,
            value,
            rotation,
        } = self;
        let rotation = rotation.as_ref();
        let rotation = rotation.map_or(String::new(), |one| format!(", rotation = {}", one.text()));
        format!("{{ version = {version}, set = {set}, value = {value:?}{rotation} }}")
    }
}

/// It comes with a repository, and may be anything: a pipe that nobody writes to, or without an end.
fn text_of(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut options = std::fs::File::options();
    let file = options.read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut text = String::new();
    file.take(LARGEST as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

impl File {
    /// An empty one.
    #[must_use]
    pub fn new(project: &str) -> File {
        File {
            project: project.to_owned(),
            people: BTreeMap::new(),
            environments: BTreeMap::new(),
        }
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// A text that is not as it is written here.
    pub fn parse(text: &str) -> Result<File, Error> {
        if text.len() > LARGEST {
            return Err(Error::Form(format!("{} is larger than 8 MiB", super::FILE)));
        }
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                text.get(..span.start)
                    .unwrap_or_default()
                    .matches('\n')
                    .count()
                    + 1
            });
            Error::Form(format!("{}:{line}: {}", super::FILE, error.message()))
        })?;
        let names = file.people.keys().chain(file.environments.keys());
        let keys = file.environments.values().flat_map(|one| one.rows.keys());
        let is_name = |name: &str| is_name(name) || name.strip_suffix(AGENT).is_some_and(is_name);
        let wrong = names
            .filter(|name| !is_name(name))
            .chain(keys.filter(|key| !is_variable(key)));
        match wrong.into_iter().next() {
            Some(name) => Err(Error::Form(format!("{}: `{name}` is no name", super::FILE))),
            None => Ok(file),
        }
    }

    /// Reads the file in the folder `root`; `None` where there is none.
    ///
    /// # Errors
    /// As [`File::parse`], and when it cannot be read.
    pub fn read(root: &Path) -> Result<Option<File>, Error> {
        File::at(&root.join(super::FILE))
    }

    pub(super) fn at(path: &Path) -> Result<Option<File>, Error> {
        match text_of(path) {
            Ok(text) => File::parse(&text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::Io(path.to_owned(), error)),
        }
    }

    /// The same, where it has to be that of the application `project`.
    ///
    /// # Errors
    /// As [`File::read`], and [`Error::Project`].
    pub fn of(root: &Path, project: &str) -> Result<Option<File>, Error> {
        let file = File::read(root)?;
        match file.as_ref().filter(|file| file.project != project) {
            Some(other) => Err(other.not_of(project)),
            None => Ok(file),
        }
    }

    pub(super) fn not_of(&self, project: &str) -> Error {
        Error::Project {
            has: self.project.clone(),
            wants: project.to_owned(),
        }
    }

    /// Writes it into the folder `root`, whole.
    ///
    /// # Errors
    /// When it cannot be written; the one before is there then.
    pub fn write(&self, root: &Path) -> Result<(), Error> {
        let path = root.join(super::FILE);
        write_whole(&path, self.text()?.as_bytes()).map_err(|error| Error::Io(path, error))
    }

    /// Its text; the same for the same content.
    ///
    /// # Errors
    /// None that can be brought about.
    pub fn text(&self) -> Result<String, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Form(error.to_string());
        let mut text = HEAD.to_owned();
        text += &format!("project = {:?}\n", self.project);
        for (name, person) in &self.people {
            let body = toml::to_string(person).map_err(|error| failed(&error))?;
            text += &format!("\n[people.{name}]\n{body}");
        }
        for (name, secrets) in &self.environments {
            let Signed {
                generation,
                by,
                rows,
                signature,
            } = &secrets.signed;
            text += &format!("\n[environments.{name}.signed]\ngeneration = {generation}\n");
            text += &format!("by = {by:?}\nrows = [\n");
            rows.iter()
                .for_each(|row| text += &format!("    {row:?},\n"));
            text += &format!("]\nsignature = {signature:?}\n\n[environments.{name}.rows]\n");
            for (key, row) in &secrets.rows {
                text += &format!("{key} = {}\n", row.text());
            }
        }
        Ok(text)
    }

    /// What an agent has to do with: one environment and its readers.
    #[must_use]
    pub fn part(&self, environment: &str) -> Option<File> {
        let secrets = self.environments.get(environment)?;
        Some(File {
            project: self.project.clone(),
            people: self
                .readers(environment)
                .map(|(n, p)| (n.clone(), p.clone()))
                .collect(),
            environments: [(environment.to_owned(), secrets.clone())].into(),
        })
    }

    /// Who reads an environment.
    pub fn readers<'a>(
        &'a self,
        environment: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Person)> {
        let people = self.people.iter();
        people.filter(move |(_, one)| one.environments.iter().any(|name| name == environment))
    }

    /// Has somebody read an environment, under a name of their own; to be sealed again and signed.
    ///
    /// # Errors
    /// A name that is taken by somebody else.
    pub fn admit(&mut self, name: &str, contact: &Contact, environment: &str) -> Result<(), Error> {
        let person = self
            .people
            .entry(name.to_owned())
            .or_insert_with(|| Person {
                recipient: contact.recipient.clone(),
                key: contact.key.clone(),
                environments: Vec::new(),
            });
        if person.recipient != contact.recipient {
            return Err(Error::Form(format!("`{name}` is somebody else already")));
        }
        if !person.environments.iter().any(|known| known == environment) {
            person.environments.push(environment.to_owned());
            person.environments.sort();
        }
        Ok(())
    }

    /// The name that an identity has here.
    #[must_use]
    pub fn name_of(&self, contact: &Contact) -> Option<&str> {
        let mut people = self.people.iter();
        let found = people.find(|(_, one)| one.recipient == contact.recipient);
        found.map(|(name, _)| name.as_str())
    }

    /// The row of a secret.
    #[must_use]
    pub fn row(&self, environment: &str, key: &str) -> Option<&Row> {
        self.environments.get(environment)?.rows.get(key)
    }

    /// What is signed.
    fn statement(&self, environment: &str, signed: &Signed) -> String {
        let mut text = format!(
            "towpath secrets 1\n{}\n{environment}\n{}\n{}\n",
            self.project, signed.generation, signed.by
        );
        for (name, one) in self.readers(environment) {
            let key = one.key.as_deref().unwrap_or("-");
            text += &format!("reader {name} {} {key}\n", one.recipient);
        }
        signed
            .rows
            .iter()
            .for_each(|row| text += &format!("row {row}\n"));
        text
    }

    /// Has the next signature be of a later generation than `seen`.
    pub fn follow(&mut self, environment: &str, seen: u64) {
        let secrets = self.environments.entry(environment.to_owned()).or_default();
        secrets.signed.generation = secrets.signed.generation.max(seen);
    }

    /// Signs what an environment has now, as one generation more.
    ///
    /// # Errors
    /// When the identity is not among its readers.
    pub fn sign(&mut self, environment: &str, identity: &Identity) -> Result<(), Error> {
        let contact = identity.contact();
        let is_reader = |(_, one): &(&String, &Person)| {
            one.recipient == contact.recipient && one.key == contact.key
        };
        let by = self
            .readers(environment)
            .find(is_reader)
            .map(|(name, _)| name.clone());
        let by = by.ok_or_else(|| {
            Error::Form(format!(
                "this identity is no reader of {environment} that may sign"
            ))
        })?;
        let secrets = self.environments.entry(environment.to_owned()).or_default();
        let rows = secrets
            .rows
            .iter()
            .map(|(key, row)| row.line(key))
            .collect();
        let mut signed = Signed {
            generation: secrets.signed.generation + 1,
            by,
            rows,
            signature: String::new(),
        };
        signed.signature = identity.sign(&self.statement(environment, &signed));
        if let Some(secrets) = self.environments.get_mut(environment) {
            secrets.signed = signed;
        }
        Ok(())
    }

    /// Whether an environment's rows are those that a reader has signed.
    ///
    /// # Errors
    /// [`Error::Tampered`], with every row that is not as it was signed.
    pub fn verify(&self, environment: &str) -> Result<(), Error> {
        let Some(secrets) = self.environments.get(environment) else {
            return Ok(());
        };
        let signed = &secrets.signed;
        let mut wrong = Vec::new();
        let readers: BTreeMap<_, _> = self.readers(environment).collect();
        let key = readers.get(&signed.by).and_then(|one| one.key.as_deref());
        let statement = self.statement(environment, signed);
        if !key.is_some_and(|key| identity::verify(&statement, &signed.signature, key)) {
            wrong.push(
                "the list of who reads them, and of rows, is not the one that was signed"
                    .to_owned(),
            );
        }
        wrong.extend(differences(secrets));
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Error::Tampered(format!(
                "the secrets of {environment} are not as `{}` signed them: {}",
                signed.by,
                wrong.join("; ")
            ))),
        }
    }

    /// Encrypts a value to the readers of an environment and puts it in the place of the one before; to be signed.
    ///
    /// # Errors
    /// When the identity could not read it again, or a recipient is none.
    pub fn set(
        &mut self,
        environment: &str,
        key: &str,
        value: &Value,
        now: i64,
        identity: &Identity,
    ) -> Result<u32, Error> {
        let version = self.row(environment, key).map_or(0, |row| row.version) + 1;
        let row = self.sealed(environment, key, version, value, now, identity)?;
        let secrets = self.environments.entry(environment.to_owned()).or_default();
        secrets.rows.insert(key.to_owned(), row);
        Ok(version)
    }

    fn sealed(
        &self,
        environment: &str,
        key: &str,
        version: u32,
        value: &Value,
        set: i64,
        identity: &Identity,
    ) -> Result<Row, Error> {
        let label = Label {
            project: &self.project,
            environment,
            key,
            version,
        };
        let recipients = self
            .readers(environment)
            .map(|(_, one)| one.recipient.as_str());
        let sealed = seal::seal(label, value, &recipients.collect::<Vec<_>>())?;
        // What nobody here can read would be noticed when it is needed.
        if seal::open(label, &sealed, identity)? != *value {
            return Err(Error::Closed(key.to_owned()));
        }
        Ok(Row {
            version,
            set,
            value: sealed,
            rotation: None,
        })
    }

    /// Decrypts a secret.
    ///
    /// # Errors
    /// When it is not there, not for this identity, or not what it is said to be.
    pub fn open(&self, environment: &str, key: &str, identity: &Identity) -> Result<Value, Error> {
        let row = self.row(environment, key);
        let row = row.ok_or_else(|| Error::Missing(vec![key.to_owned()]))?;
        self.open_as(environment, key, row.version, &row.value, identity)
    }

    pub(super) fn open_as(
        &self,
        environment: &str,
        key: &str,
        version: u32,
        sealed: &str,
        identity: &Identity,
    ) -> Result<Value, Error> {
        let label = Label {
            project: &self.project,
            environment,
            key,
            version,
        };
        seal::open(label, sealed, identity)
    }

    /// Encrypts every value of an environment anew, to those who read it now; to be signed.
    ///
    /// # Errors
    /// When one cannot be opened; nothing is changed then.
    pub fn seal_again(&mut self, environment: &str, identity: &Identity) -> Result<(), Error> {
        let rows = self.sealed_for(self, environment, identity)?;
        if let Some(secrets) = self.environments.get_mut(environment) {
            secrets.rows = rows;
        }
        Ok(())
    }

    /// Every value of an environment, opened here and encrypted as one of `other`.
    fn sealed_for(
        &self,
        other: &File,
        environment: &str,
        identity: &Identity,
    ) -> Result<BTreeMap<String, Row>, Error> {
        let mut rows = BTreeMap::new();
        let Some(secrets) = self.environments.get(environment) else {
            return Ok(rows);
        };
        for (key, row) in &secrets.rows {
            let value = self.open(environment, key, identity)?;
            let mut again =
                other.sealed(environment, key, row.version, &value, row.set, identity)?;
            if let (Some(old), Some(value)) = (
                &row.rotation,
                self.open_previous(environment, key, identity)?,
            ) {
                let sealed =
                    other.sealed(environment, key, old.version, &value, old.set, identity)?;
                again.rotation = Some(Rotation {
                    value: sealed.value,
                    ..old.clone()
                });
            }
            rows.insert(key.clone(), again);
        }
        Ok(rows)
    }

    /// The same secrets as those of the application `project`, encrypted anew and signed: each says inside whose it is.
    ///
    /// # Errors
    /// When one of them cannot be opened with `identity`, or it may not sign an environment.
    pub fn renamed(&self, project: &str, identity: &Identity) -> Result<File, Error> {
        let mut renamed = File {
            project: project.to_owned(),
            ..self.clone()
        };
        for environment in self.environments.keys() {
            let rows = self.sealed_for(&renamed, environment, identity)?;
            if let Some(secrets) = renamed.environments.get_mut(environment) {
                secrets.rows = rows;
            }
            renamed.sign(environment, identity)?;
        }
        Ok(renamed)
    }
}

/// Rows that are not as the list says.
fn differences(secrets: &Secrets) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut listed = BTreeMap::new();
    for line in &secrets.signed.rows {
        let key = line.split(' ').next().unwrap_or_default();
        listed.insert(key, line);
    }
    for (key, line) in &listed {
        let version = line.split(' ').nth(1).unwrap_or_default();
        match secrets.rows.get(*key) {
            None => wrong.push(format!("`{key}` was deleted")),
            Some(row) if row.line(key) != **line => wrong.push(format!(
                "`{key}` is version {}, and not the version {version} that was signed",
                row.version
            )),
            Some(_) => {}
        }
    }
    let added = secrets
        .rows
        .keys()
        .filter(|key| !listed.contains_key(key.as_str()));
    wrong.extend(added.map(|key| format!("`{key}` was added")));
    wrong
}
