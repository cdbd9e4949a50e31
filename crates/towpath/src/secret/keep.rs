//! What an agent keeps of its environment's secrets: the encrypted rows, its own identity, and what it has seen.

use std::path::{Path, PathBuf};

use towpath_shim::protocol::Handed;

use super::audit::{self, Event};
use super::rotation::{self, Given};
use super::{Error, File, Identity, Pin, Value, redact};
use crate::clock::Clock;
use crate::state::write_whole;

/// The folder of an agent, as far as secrets go.
pub struct Keeper {
    state: PathBuf,
    /// Looked at in the place of what is kept.
    offered: Option<File>,
}

impl Keeper {
    /// The keeper of the state directory `state`.
    #[must_use]
    pub fn new(state: &Path) -> Keeper {
        Keeper {
            state: state.to_owned(),
            offered: None,
        }
    }

    /// The same, as if it had taken `offered`, where there is one.
    #[must_use]
    pub fn as_if(self, offered: Option<&File>) -> Keeper {
        Keeper {
            offered: offered.cloned(),
            ..self
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
        match &self.offered {
            Some(file) => Ok(Some(file.clone())),
            None => File::read(&self.state),
        }
    }

    /// Takes the environment's part of a file in the place of the one before. `in_use` is what the version that serves
    /// was given: of that the old values stay, for it to start again with. Nobody knows yet that the new ones are any good.
    ///
    /// # Errors
    /// When it is another environment's, not as it was signed, or older than what was here.
    pub fn take(
        &self,
        file: &File,
        app: &str,
        environment: &str,
        in_use: &Given,
    ) -> Result<(), Error> {
        let next = self.weigh(file, app, environment)?;
        let replaced = self.replaced(file, environment, in_use)?;
        let (path, before) = (self.pin(), self.before());
        let text = file.text()?;
        let target = self.state.join(super::FILE);
        if !replaced.environments.is_empty() {
            let written = write_whole(&before, replaced.text()?.as_bytes());
            written.map_err(|error| Error::Io(before.clone(), error))?;
        }
        // Remembered first: what is cut off here is said again, and is the same generation.
        next.write(&path)?;
        write_whole(&target, text.as_bytes()).map_err(|error| Error::Io(target, error))?;
        match replaced.environments.is_empty() {
            true => remove(&before),
            false => Ok(()),
        }
    }

    /// What is here of `in_use`, and is not in `file` any more.
    fn replaced(&self, file: &File, environment: &str, in_use: &Given) -> Result<File, Error> {
        let here = [File::read(&self.state)?, File::at(&self.before())?];
        let here = here.iter().flatten();
        let mut replaced = File::new(&file.project);
        for (key, version) in in_use {
            let of_use = |file: &File| {
                let row = file.row(environment, key);
                row.filter(|row| row.version == *version).cloned()
            };
            if of_use(file).is_some() {
                continue;
            }
            let mut same = here.clone().filter(|one| one.project == file.project);
            if let Some(row) = same.find_map(of_use) {
                let secrets = replaced.environments.entry(environment.to_owned());
                secrets.or_default().rows.insert(key.clone(), row);
            }
        }
        Ok(replaced)
    }

    /// Where values stay that were replaced, as long as what serves has them.
    fn before(&self) -> PathBuf {
        self.state.join("secrets.before.toml")
    }

    fn pin(&self) -> PathBuf {
        self.state.join("secrets.pin")
    }

    /// Whether [`Keeper::take`] would take a file, and what would be remembered of it then. Nothing is.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn weigh(&self, file: &File, app: &str, environment: &str) -> Result<Pin, Error> {
        if file.project != app {
            return Err(file.not_of(app));
        }
        if file.environments.keys().any(|name| name != environment) {
            let why = format!("these secrets are not those of {app} in {environment}");
            return Err(Error::Tampered(why));
        }
        Pin::next(Pin::read(&self.pin())?.as_ref(), file, environment)
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

    /// The secrets `keys` as whoever starts now is given them; to whoever `had` some of what is being rotated, as that one
    /// had them.
    fn opened(&self, keys: &[String], had: Option<&Given>) -> Result<Opened, Error> {
        let file = self.file()?.ok_or_else(|| Error::Missing(keys.to_vec()))?;
        let environment = file.environments.keys().next().cloned().unwrap_or_default();
        file.verify(&environment)?;
        let identity = self.identity()?;
        let before = File::at(&self.before())?;
        let mut opened = Opened {
            project: file.project.clone(),
            environment,
            given: Vec::new(),
            others: Vec::new(),
        };
        for key in keys {
            let value = file.open(&opened.environment, key, &identity)?;
            let row = file.row(&opened.environment, key);
            let version = row.map_or(0, |row| row.version);
            opened.given.push((key.clone(), version, value));
            let before = before.as_ref().map(|before| {
                let version = before.row(&opened.environment, key)?.version;
                Some((version, before.open(&opened.environment, key, &identity)))
            });
            if let Some((kept, old)) = before.flatten() {
                let has_kept = had.is_some_and(|had| had.get(key) == Some(&kept));
                let is_rotated = row.is_some_and(|row| row.rotation.is_some());
                match opened.given.last_mut() {
                    Some(last) if has_kept && !is_rotated => {
                        let (_, _, new) = std::mem::replace(last, (key.clone(), kept, old?));
                        opened.others.push(new);
                    }
                    _ => opened.others.extend(old.ok()),
                }
            }
            let old = file.open_previous(&opened.environment, key, &identity)?;
            if let (Some(old), Some(rotation)) = (old, row.and_then(|row| row.rotation.as_ref())) {
                let name = rotation::previous(key);
                let had = had.filter(|had| had.contains_key(key));
                let is_given = had.map_or(rotation.is_given(), |had| had.contains_key(&name));
                let is_given = is_given && !keys.contains(&name);
                // A version that is neither is that of a value which was turned back to under another number.
                let has_old = had.is_some_and(|had| {
                    had[key] != version && (had[key] == rotation.version || !rotation.back)
                });
                if has_old {
                    let new = opened.given.pop().map(|(_, _, value)| value);
                    opened.given.push((key.clone(), rotation.version, old));
                    match is_given {
                        true => opened.given.extend(new.map(|value| (name, version, value))),
                        false => opened.others.extend(new),
                    }
                } else if is_given {
                    opened.given.push((name, rotation.version, old));
                } else {
                    opened.others.push(old);
                }
            }
        }
        Ok(opened)
    }

    /// What the instance `whom` was given last, where anything that it could have is being rotated, or was replaced.
    fn had(&self, whom: &str, keys: &[String]) -> Result<Option<Given>, Error> {
        let Some(file) = self.file()? else {
            return Ok(None);
        };
        let environment = file.environments.keys().next();
        let environment = environment.map_or("", String::as_str);
        let mut rows = keys.iter().filter_map(|key| file.row(environment, key));
        if rows.all(|row| row.rotation.is_none()) && !self.before().exists() {
            return Ok(None);
        }
        let (rows, _) = audit::of_agent(&self.state, &file.project, environment).read()?;
        Ok(audit::given(&rows).remove(whom))
    }

    /// What the instance `whom` is given; it is written into the audit first. One that starts again is given what it had,
    /// as far as that is there: the new value of a rotation may be what nothing can start with.
    ///
    /// # Errors
    /// When one is missing or cannot be read, or the audit cannot be written.
    pub fn hand_over(&self, whom: &str, keys: &[String]) -> Result<Handed, Error> {
        if keys.is_empty() {
            return Ok(Handed::default());
        }
        let had = self.had(whom, keys)?;
        let opened = self.opened(keys, had.as_ref())?;
        self.write_down(whom, &opened)?;
        Ok(opened.handed())
    }

    /// Writes down that the agent reads `keys` as they are now, for `whom`.
    ///
    /// # Errors
    /// As [`Keeper::hand_over`].
    pub fn note(&self, whom: &str, keys: &[String]) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        self.write_down(whom, &self.opened(keys, None)?)
    }

    fn write_down(&self, whom: &str, opened: &Opened) -> Result<(), Error> {
        let given = opened.given.iter();
        let event = Event {
            seq: 0,
            at_ms: Clock::system().wall_ms(),
            actor: format!("instance {whom}"),
            action: "give".to_owned(),
            environment: opened.environment.clone(),
            keys: given
                .map(|(key, version, _)| format!("{key} {version}"))
                .collect(),
            before: String::new(),
        };
        let chain = audit::of_agent(&self.state, &opened.project, &opened.environment);
        chain.add(event, &self.identity()?)?;
        Ok(())
    }

    /// One value, for the agent itself: it writes down that it looked where it does so.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    pub fn value(&self, key: &str) -> Result<Value, Error> {
        let mut opened = self.opened(&[key.to_owned()], None)?.given;
        match opened.is_empty() {
            true => Err(Error::Missing(vec![key.to_owned()])),
            false => Ok(opened.swap_remove(0).2),
        }
    }

    /// The same for a probe in the environment of the instance `whom`, as that one has them: no access of its own.
    ///
    /// # Errors
    /// When one is missing or cannot be read.
    pub fn peek(&self, whom: &str, keys: &[String]) -> Result<Handed, Error> {
        if keys.is_empty() {
            return Ok(Handed::default());
        }
        // Where the audit does not say, as whoever starts now: a service is not ill because of that.
        let had = self.had(whom, keys).unwrap_or_default();
        Ok(self.opened(keys, had.as_ref())?.handed())
    }

    /// `text` without what gives the secrets `keys` away; all of it is left out where that cannot be known.
    #[must_use]
    pub fn clean(&self, text: String, keys: &[String]) -> String {
        if keys.is_empty() {
            return text;
        }
        match self.opened(keys, None) {
            Ok(opened) => redact::redact(&text, &redact::needles(&opened.values())),
            Err(_) => "what it said is not shown: it might hold a secret".to_owned(),
        }
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io(path.to_owned(), error))
        }
        _ => Ok(()),
    }
}

/// Secrets, decrypted.
struct Opened {
    project: String,
    environment: String,
    /// Name, version and value of what a process is given.
    given: Vec<(String, u32, Value)>,
    /// Old values that nobody is given any more, and that somebody may still have.
    others: Vec<Value>,
}

impl Opened {
    fn values(&self) -> Vec<Value> {
        let given = self.given.iter().map(|(_, _, value)| value);
        given.chain(&self.others).cloned().collect()
    }

    fn handed(&self) -> Handed {
        let env = self.given.iter();
        Handed {
            env: env
                .map(|(key, _, value)| (key.clone(), value.reveal().to_owned()))
                .collect(),
            conceal: redact::needles(&self.values()),
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
