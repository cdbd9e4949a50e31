//! The file of an application's secrets as one person works on it: who that is, what was seen last, and what was done.

use std::path::PathBuf;

use towpath::agent::api::Trouble;
use towpath::clock::Clock;
use towpath::secret::file::AGENT;
use towpath::secret::{Audit, Claim, Contact, Error, Event, File, Identity, Pin, Value};

use super::super::deploy::actor;
use super::{failed, file, trouble};
use crate::out;
use crate::place::Place;

/// The file, one environment of it, and the identity that works on it.
pub struct Store {
    place: Place,
    pub file: File,
    /// What was read from the disk, or written there, last; `None` where there was no file.
    before: Option<File>,
    pub identity: Identity,
}

/// Where a person's own files are.
pub fn home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".config");
    std::env::var_os("XDG_CONFIG_HOME")
        .map_or_else(home, PathBuf::from)
        .join("towpath")
}

/// The identity that commands here use, made when there is none.
pub fn own_identity() -> Result<Identity, Trouble> {
    let path = match std::env::var_os("TOWPATH_IDENTITY") {
        // One that is named is not made: a typing mistake must not lead to a new one.
        Some(path) => {
            let path = PathBuf::from(path);
            return match path.exists() {
                true => Identity::read(&path).map_err(|error| failed(&error)),
                false => Err(no_identity(&path)),
            };
        }
        None => home().join("identity"),
    };
    let is_new = !path.exists();
    let identity = Identity::open(&path).map_err(|error| failed(&error))?;
    if is_new {
        out::note(format!(
            "  made {}: keep it to yourself, and keep a copy",
            path.display()
        ));
    }
    Ok(identity)
}

fn no_identity(path: &std::path::Path) -> Trouble {
    let text = format!(
        "TOWPATH_IDENTITY names `{}`, and there is no such file",
        path.display()
    );
    let own = home().join("identity");
    let help = format!(
        "name the age identity that secrets are encrypted to; without the variable `{}` is taken, and made when it is not there",
        own.display()
    );
    trouble(1, "secret::no-identity", text, &help)
}

impl Store {
    pub fn open(place: &Place) -> Result<Store, Trouble> {
        let before = file(&place.app)?;
        Ok(Store {
            place: place.clone(),
            file: or_new(before.as_ref(), place),
            before,
            identity: own_identity()?,
        })
    }

    /// The same, with a file that is already read.
    pub fn with(place: &Place, file: File) -> Result<Store, Trouble> {
        Ok(Store {
            place: place.clone(),
            before: Some(file.clone()),
            file,
            identity: own_identity()?,
        })
    }

    /// Begins anew with what is there now: somebody may have changed it while something was waited for. What was
    /// changed here and not saved is gone.
    pub fn begin_again(&mut self) -> Result<(), Trouble> {
        self.before = file(&self.place.app)?;
        self.file = or_new(self.before.as_ref(), &self.place);
        self.begin()
    }

    fn environment(&self) -> &str {
        &self.place.environment
    }

    fn seen(&self, end: &str) -> PathBuf {
        seen(&self.place.app.name, self.environment(), end)
    }

    /// Whether the file is as it was signed, and no older than what was seen here.
    pub fn check(&self) -> Result<Option<Pin>, Trouble> {
        checked(&self.file, &self.place.app.name, self.environment())
    }

    /// Takes what is there now for what follows what was seen here, and by the agent, which saw the generation `agent`:
    /// after a merge, or where it was set back on purpose. Who reads it now and did not has to be among `named`.
    pub fn accept(&mut self, agent: u64, named: &[String]) -> Result<(), Trouble> {
        let environment = self.environment().to_owned();
        let seen = Pin::read(&self.seen("pin")).map_err(|error| failed(&error))?;
        let contact = self.identity.contact();
        let mut new = seen
            .as_ref()
            .map_or_else(Vec::new, |seen| seen.newcomers(&self.file, &environment));
        new.retain(|name| !named.contains(name));
        if let Some(first) = new.first() {
            let text = format!(
                "{} would read {environment}, and did not when you looked last",
                new.join(", ")
            );
            let help = format!(
                "where that is right, say so: `tow secrets sign -e {environment} --reader {first}`; who wrote it says `git log -p {}`",
                towpath::secret::FILE
            );
            return Err(trouble(4, "secret::newcomer", text, &help));
        }
        if self.file.readers(&environment).next().is_none() {
            self.admit_own(&contact)?;
        }
        let seen = seen.map_or(0, |seen| seen.generation);
        self.file.follow(&environment, seen.max(agent));
        Ok(())
    }

    /// Before something is changed: who begins an environment reads it.
    pub fn begin(&mut self) -> Result<(), Trouble> {
        self.check()?;
        let environment = self.environment().to_owned();
        let contact = self.identity.contact();
        let is_new = self.file.readers(&environment).next().is_none();
        let mut readers = self.file.readers(&environment);
        if readers.any(|(_, one)| one.recipient == contact.recipient) {
            return Ok(());
        }
        drop(readers);
        if !is_new {
            let text = format!("you are no reader of {environment}");
            let help =
                format!("have one run `tow secrets people add NAME {contact} -e {environment}`");
            return Err(trouble(4, "secret::no-reader", text, &help));
        }
        self.admit_own(&contact)
    }

    fn admit_own(&mut self, contact: &Contact) -> Result<(), Trouble> {
        let name = match self.file.name_of(contact) {
            Some(name) => name.to_owned(),
            None => own_name(),
        };
        let admitted = self.file.admit(&name, contact, &self.place.environment);
        admitted.map_err(|error| failed(&error))
    }

    pub fn set(&mut self, name: &str, value: &Value) -> Result<u32, Trouble> {
        let now = Clock::system().wall_ms() / 1000;
        let set = self
            .file
            .set(&self.place.environment, name, value, now, &self.identity);
        set.map_err(|error| failed(&error))
    }

    /// Refuses to touch a secret whose rotation is under way.
    pub fn is_still(&self, name: &str) -> Result<(), Trouble> {
        let environment = self.environment();
        let row = self.file.row(environment, name);
        if row.is_none_or(|row| row.rotation.is_none()) {
            return Ok(());
        }
        let text = format!("{name} of {environment} is being rotated");
        let help = "bring that to its end first: `tow secrets rotate`, or back with --undo";
        Err(trouble(4, "secret::rotating", text, help))
    }

    /// Puts a new value beside the one that is there.
    pub fn rotate(&mut self, name: &str, value: &Value, overlaps: bool) -> Result<u32, Trouble> {
        let now = Clock::system().wall_ms() / 1000;
        let environment = &self.place.environment;
        let rotated = self
            .file
            .rotate(environment, name, value, overlaps, now, &self.identity);
        rotated.map_err(|error| failed(&error))
    }

    /// Turns a rotation round.
    pub fn turn_round(&mut self, name: &str, is_used: bool) -> Result<u32, Trouble> {
        let turned = self
            .file
            .turn_round(&self.place.environment, name, is_used, &self.identity);
        turned.map_err(|error| failed(&error))
    }

    pub fn get(&self, name: &str) -> Result<Value, Trouble> {
        let opened = self.file.open(self.environment(), name, &self.identity);
        opened.map_err(|error| failed(&error))
    }

    pub fn remove(&mut self, name: &str) -> Result<(), Trouble> {
        let secrets = self.file.environments.get_mut(&self.place.environment);
        match secrets.and_then(|secrets| secrets.rows.remove(name)) {
            Some(_) => Ok(()),
            None => {
                let error = Error::Missing(vec![name.to_owned()]);
                Err(failed(&error))
            }
        }
    }

    pub fn readers(&self) -> Vec<String> {
        let readers = self.file.readers(self.environment());
        readers.map(|(name, _)| name.clone()).collect()
    }

    fn agent_name(&self) -> String {
        format!("{}{AGENT}", self.environment())
    }

    pub fn has_agent(&self) -> bool {
        self.readers().contains(&self.agent_name())
    }

    /// An agent reads, and signs nothing. One that was made anew takes the place of the one before.
    pub fn admit_agent(&mut self, contact: &Contact) -> Result<(), Trouble> {
        let name = self.agent_name();
        self.file.people.remove(&name);
        let contact = Contact {
            key: None,
            ..contact.clone()
        };
        self.admit(&name, &contact)
    }

    /// Has somebody read all that is there.
    pub fn admit(&mut self, name: &str, contact: &Contact) -> Result<(), Trouble> {
        let admitted = self.file.admit(name, contact, &self.place.environment);
        admitted.map_err(|error| failed(&error))?;
        self.seal_again()
    }

    /// Has somebody read nothing that is written from now on.
    pub fn expel(&mut self, name: &str) -> Result<(), Trouble> {
        let environment = self.environment().to_owned();
        let Some(person) = self.file.people.get_mut(name) else {
            let text = format!("nobody is called `{name}`");
            return Err(trouble(
                3,
                "secret::nobody",
                text,
                "`tow secrets people` lists them",
            ));
        };
        person.environments.retain(|known| *known != environment);
        if person.environments.is_empty() {
            self.file.people.remove(name);
        }
        self.seal_again()
    }

    fn seal_again(&mut self) -> Result<(), Trouble> {
        let environment = &self.place.environment;
        let sealed = self.file.seal_again(environment, &self.identity);
        sealed.map_err(|error| failed(&error))
    }

    /// Signs, writes and remembers what is there now; refused where somebody else has changed the file meanwhile.
    pub fn save(&mut self, action: &str, keys: &[String]) -> Result<(), Trouble> {
        let claim = Claim::of(&self.place.app.root, self.before.as_ref());
        let claim = claim.map_err(|error| failed(&error))?;
        let signed = self.file.sign(&self.place.environment, &self.identity);
        signed.map_err(|error| failed(&error))?;
        self.record(action, keys)?;
        claim.write(&self.file).map_err(|error| failed(&error))?;
        self.before = Some(self.file.clone());
        self.remember()
    }

    /// Remembers what is there now as what was seen last.
    pub fn remember(&self) -> Result<(), Trouble> {
        let pin =
            Pin::next(None, &self.file, self.environment()).map_err(|error| failed(&error))?;
        pin.write(&self.seen("pin")).map_err(|error| failed(&error))
    }

    /// The chain of what was done on this machine by this person.
    pub fn chain(&self) -> Audit {
        let name = format!("people/{}/{}", self.place.app.name, self.environment());
        Audit::new(self.seen("audit"), &name)
    }

    /// Writes down that something was done.
    pub fn record(&self, action: &str, keys: &[String]) -> Result<(), Trouble> {
        let path = self.seen("audit");
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| super::super::inner::failed(&error))?;
        }
        let event = Event {
            seq: 0,
            at_ms: Clock::system().wall_ms(),
            actor: actor(),
            action: action.to_owned(),
            environment: self.environment().to_owned(),
            keys: keys.to_vec(),
            before: String::new(),
        };
        self.chain()
            .add(event, &self.identity)
            .map_err(|error| failed(&error))
    }

    /// The end of a chain that was seen here last.
    pub fn seen_head(&self, whose: &str) -> PathBuf {
        self.seen(&format!("{whose}-head"))
    }
}

fn seen(app: &str, environment: &str, end: &str) -> PathBuf {
    let folder = home().join("seen").join(app);
    folder.join(format!("{environment}.{end}"))
}

/// Whether the secrets of an environment are as they were signed, and no older than what was seen on this machine; what
/// is seen now.
pub fn checked(file: &File, app: &str, environment: &str) -> Result<Option<Pin>, Trouble> {
    let before = Pin::read(&seen(app, environment, "pin")).map_err(|error| failed(&error))?;
    let is_there = file.environments.contains_key(environment);
    if before.is_none() && !is_there {
        let Some((name, _)) = file.readers(environment).next() else {
            return Ok(None);
        };
        let why =
            format!("`{name}` is to read the secrets of {environment}, and nobody signed that");
        return Err(failed(&Error::Tampered(why)));
    }
    let pin = Pin::next(before.as_ref(), file, environment);
    pin.map(Some).map_err(|error| failed(&error))
}

fn or_new(file: Option<&File>, place: &Place) -> File {
    file.cloned().unwrap_or_else(|| File::new(&place.app.name))
}

/// What whoever works here is called, as far as it can be a name.
fn own_name() -> String {
    let name: String = actor()
        .to_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .take(31)
        .collect();
    match towpath::manifest::form::is_name(&name) {
        true => name,
        false => "me".to_owned(),
    }
}
