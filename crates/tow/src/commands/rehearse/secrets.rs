//! Secrets of a rehearsal: made up, for its own environments. The real ones are for nobody here to read, and have no
//! business in a scratch folder.
//!
//! Where the manifest gives another of its environments the same name in plain text, as a password that the load
//! signs in with, the rehearsal takes that.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use towpath::agent::api::{SecretsStatus, TakeSecrets, Trouble};
use towpath::agent::{Client, ClientError};
use towpath::clock::Clock;
use towpath::config::{self, Config, Part, Template};
use towpath::diagnostic::Diagnostic;
use towpath::manifest::Manifest;
use towpath::secret::file::AGENT;
use towpath::secret::{Contact, Error, File, Identity, Value};

use crate::commands::secrets::random;
use crate::out;
use crate::place::Place;

/// Who writes them.
const WRITER: &str = "rehearsal";

/// The secrets of one rehearsal.
pub struct Secrets {
    dir: PathBuf,
    said: RefCell<BTreeSet<(String, String)>>,
}

fn trouble(error: &Error) -> Trouble {
    let text = format!("the secrets of the rehearsal: {error}");
    Trouble {
        exit: 1,
        diagnostic: Diagnostic::error("rehearse::secrets", text)
            .note("the real ones were not touched"),
    }
}

impl Secrets {
    /// Those that are kept in the folder `scratch`.
    pub fn new(scratch: &Path) -> Secrets {
        Secrets {
            dir: scratch.to_owned(),
            said: RefCell::default(),
        }
    }

    /// Has the agent of an environment have what the manifest `text` asks for there.
    pub async fn hand_over(
        &self,
        place: &Place,
        client: &Client,
        text: &str,
    ) -> Result<(), Trouble> {
        let (manifest, _) = Manifest::read("tow.toml", text);
        let Some(manifest) = manifest else {
            return Ok(());
        };
        // What is wrong with it the deployment says.
        let Ok(config) = config::resolve(&manifest, &place.environment) else {
            return Ok(());
        };
        let asked: BTreeSet<&String> = config
            .services
            .values()
            .flat_map(|one| &one.secrets)
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let status: SecretsStatus = client
            .get("/v1/secrets")
            .await
            .map_err(ClientError::into_trouble)?;
        let plain = plain(&manifest);
        let part = self
            .made(place, &config, &asked, &plain, &status.contact)
            .map_err(|error| trouble(&error))?;
        let text = part.text().map_err(|error| trouble(&error))?;
        client
            .post_again::<()>("/v1/secrets", &TakeSecrets { text })
            .await
            .map_err(ClientError::into_trouble)
    }

    /// The environment's part of the file, with every secret that is asked for.
    fn made(
        &self,
        place: &Place,
        config: &Config,
        asked: &BTreeSet<&String>,
        plain: &BTreeMap<String, String>,
        agent: &str,
    ) -> Result<File, Error> {
        let environment = &place.environment;
        let identity = Identity::open(&self.dir.join("identity"))?;
        let file = File::read(&self.dir)?;
        let mut file = file.unwrap_or_else(|| File::new(&place.app.name));
        file.admit(WRITER, &identity.contact(), environment)?;
        if let Some(agent) = Contact::parse(agent) {
            let agent = Contact { key: None, ..agent };
            file.admit(&format!("{environment}{AGENT}"), &agent, environment)?;
        }
        let now = Clock::system().wall_ms() / 1000;
        for name in asked {
            if file.row(environment, name).is_none() {
                let policy = config.secrets.get(*name).cloned().unwrap_or_default();
                let value = match plain.get(*name) {
                    Some(text) => Value::new(text.clone().into_bytes())?,
                    None => random(policy.generate)
                        .map_err(|trouble| Error::Form(trouble.diagnostic.message.to_string()))?,
                };
                file.set(environment, name, &value, now, &identity)?;
            }
            self.say(environment, name, plain.contains_key(*name));
        }
        file.seal_again(environment, &identity)?;
        file.sign(environment, &identity)?;
        file.write(&self.dir)?;
        let missing = || Error::Missing(asked.iter().map(|name| (*name).clone()).collect());
        file.part(environment).ok_or_else(missing)
    }

    fn say(&self, environment: &str, name: &str, is_plain: bool) {
        let pair = (environment.to_owned(), name.to_owned());
        if !self.said.borrow_mut().insert(pair) {
            return;
        }
        out::note(match is_plain {
            true => format!(
                "  the secret {name} of {environment} is, in this rehearsal, what the manifest has in plain text elsewhere"
            ),
            false => format!("  the secret {name} of {environment} is made up for this rehearsal"),
        });
    }
}

/// What services are given in plain text, in whichever environment.
fn plain(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for environment in manifest.environments() {
        let Ok(config) = config::resolve(manifest, environment) else {
            continue;
        };
        for (name, template) in config.services.values().flat_map(|service| &service.env) {
            if let Some(text) = literal(template) {
                found.entry(name.clone()).or_insert(text);
            }
        }
    }
    found
}

fn literal(template: &Template) -> Option<String> {
    match template.parts.as_slice() {
        [Part::Text(text)] => Some(text.clone()),
        _ => None,
    }
}
