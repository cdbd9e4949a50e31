//! What an agent keeps of its environment's secrets: the encrypted rows, its own identity, and what it has seen.

use std::path::{Path, PathBuf};

use towpath_shim::protocol::Handed;

use super::audit::{self, Event};
use super::{Error, File, Identity, Pin, Value, redact};
use crate::clock::Clock;
use crate::state::write_whole;

/// The folder of an agent, as far as secrets go.
pub struct Keeper {
    state: PathBuf,
}

impl Keeper {
    /// The keeper of the state directory `state`.
    #[must_use]
    pub fn new(state: &Path) -> Keeper {
        Keeper {
            state: state.to_owned(),
        }
    }

    /// The agent's own identity, made when it is not there.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn identity(&self) -> Result<Identity, Error> {
        Identity::open(&self.state.join("secret.key"))
    }

    /// The environment's part of the file that came last.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn file(&self) -> Result<Option<File>, Error> {
        File::read(&self.state)
    }

    /// Takes the environment's part of a file in the place of the one before.
    ///
    /// # Errors
    /// When it is another environment's, not as it was signed, or older than what was here.
    pub fn take(&self, file: &File, app: &str, environment: &str) -> Result<(), Error> {
        let is_ours = file.environments.keys().all(|name| name == environment);
        if file.project != app || !is_ours {
            let why = format!("these secrets are not those of {app} in {environment}");
            return Err(Error::Tampered(why));
        }
        let path = self.state.join("secrets.pin");
        let next = Pin::next(Pin::read(&path)?.as_ref(), file, environment)?;
        let text = file.text()?;
        let target = self.state.join(super::FILE);
        // Remembered first: what is cut off here is said again, and is the same generation.
        next.write(&path)?;
        write_whole(&target, text.as_bytes()).map_err(|error| Error::Io(target, error))
    }

    /// Names of `keys` that are missing, and of those that the agent cannot read.
    ///
    /// # Errors
    /// When what is kept cannot be read, or is not as it was signed.
    pub fn lacks(&self, environment: &str, keys: &[String]) -> Result<Lack, Error> {
        let file = self.file()?;
        let mut lack = Lack::default();
        let identity = self.identity()?;
        if let Some(file) = &file {
            file.verify(environment)?;
        }
        for key in keys {
            let opened = file
                .as_ref()
                .map(|file| file.open(environment, key, &identity));
            match opened {
                None | Some(Err(Error::Missing(_))) => lack.missing.push(key.clone()),
                Some(Err(Error::Closed(_))) => lack.closed.push(key.clone()),
                Some(Err(other)) => return Err(other),
                Some(Ok(_)) => {}
            }
        }
        Ok(lack)
    }

    fn values(&self, keys: &[String]) -> Result<(File, String, Vec<Value>), Error> {
        let file = self.file()?.ok_or_else(|| Error::Missing(keys.to_vec()))?;
        let environment = file.environments.keys().next().cloned().unwrap_or_default();
        file.verify(&environment)?;
        let identity = self.identity()?;
        let values = keys
            .iter()
            .map(|key| file.open(&environment, key, &identity));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        Ok((file, environment, values))
    }

    /// What the instance `whom` is given; it is written into the audit first.
    ///
    /// # Errors
    /// When one is missing or cannot be read, or the audit cannot be written.
    pub fn hand_over(&self, whom: &str, keys: &[String]) -> Result<Handed, Error> {
        if keys.is_empty() {
            return Ok(Handed::default());
        }
        let (file, environment, _) = self.values(keys)?;
        let versions = keys.iter().map(|key| {
            let version = file.row(&environment, key).map_or(0, |row| row.version);
            format!("{key} {version}")
        });
        let event = Event {
            seq: 0,
            at_ms: Clock::system().wall_ms(),
            actor: format!("instance {whom}"),
            action: "give".to_owned(),
            environment: environment.clone(),
            keys: versions.collect(),
            before: String::new(),
        };
        let chain = audit::of_agent(&self.state, &file.project, &environment);
        chain.add(event, &self.identity()?)?;
        self.peek(keys)
    }

    /// The same for a probe in the environment of an instance that has them: no access of its own.
    ///
    /// # Errors
    /// When one is missing or cannot be read.
    pub fn peek(&self, keys: &[String]) -> Result<Handed, Error> {
        if keys.is_empty() {
            return Ok(Handed::default());
        }
        let (_, _, values) = self.values(keys)?;
        let env = keys.iter().zip(&values);
        Ok(Handed {
            env: env
                .map(|(key, value)| (key.clone(), value.reveal().to_owned()))
                .collect(),
            conceal: redact::needles(&values),
        })
    }

    /// `text` without what gives the secrets `keys` away; all of it is left out where that cannot be known.
    #[must_use]
    pub fn clean(&self, text: String, keys: &[String]) -> String {
        if keys.is_empty() {
            return text;
        }
        match self.values(keys) {
            Ok((_, _, values)) => redact::redact(&text, &redact::needles(&values)),
            Err(_) => "what it said is not shown: it might hold a secret".to_owned(),
        }
    }
}

/// What stands in the way of a start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lack {
    /// Nobody has set them.
    pub missing: Vec<String>,
    /// They are encrypted to others only.
    pub closed: Vec<String>,
}
