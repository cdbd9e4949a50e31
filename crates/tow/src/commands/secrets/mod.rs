//! Secrets: set, looked at and rotated in `tow.secrets.toml`, and sent to the agent that hands them over.

mod audit;
mod people;
mod store;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};

use towpath::agent::api::{SecretsStatus, TakeSecrets, Trouble, What};
use towpath::agent::{Client, ClientError};
use towpath::config;
use towpath::diagnostic::Diagnostic;
use towpath::manifest::Manifest;
use towpath::secret::{self, File, Value};

use super::Ending;
use super::setup::password;
use crate::cli::Cli;
use crate::cli::commands::{Secrets, SecretsCommand, Set};
use crate::place::{App, Place};
use crate::{connect, out, render, times};
use store::Store;

/// `tow secrets`.
pub async fn secrets(cli: &Cli, arguments: &Secrets) -> Ending {
    match &arguments.command {
        SecretsCommand::Set(set_) => set(cli, set_, Source::Given).await,
        SecretsCommand::Rotate(set_) => {
            let source = if set_.stdin {
                Source::Given
            } else {
                Source::Random
            };
            set(cli, set_, source).await
        }
        SecretsCommand::Get { name, environment } => get(cli, name, environment),
        SecretsCommand::Remove { name, environment } => remove(cli, name, environment),
        SecretsCommand::List { environment, json } => list(cli, environment, *json),
        SecretsCommand::Sign { environment } => sign(cli, environment),
        SecretsCommand::Key => people::key(),
        SecretsCommand::People(arguments) => people::people(cli, arguments).await,
        SecretsCommand::Audit {
            environment,
            verify,
            json,
        } => audit::audit(cli, environment, *verify, *json).await,
    }
}

/// Whether JSON is asked for.
pub fn wants_json(arguments: &Secrets) -> bool {
    match &arguments.command {
        SecretsCommand::List { json, .. } | SecretsCommand::Audit { json, .. } => *json,
        _ => false,
    }
}

fn trouble(exit: u8, code: &'static str, text: impl Into<String>, help: &str) -> Trouble {
    Trouble {
        exit,
        diagnostic: Diagnostic::error(code, text).help(help.to_owned()),
    }
}

/// What is wrong with the file, or with who reads it.
fn failed(error: &secret::Error) -> Trouble {
    let (exit, code, help) = match error {
        secret::Error::Io(..) => (1, "secret::failed", "mend it, and try again"),
        secret::Error::Missing(_) => (
            3,
            "secret::missing",
            "`tow secrets list` shows what there is",
        ),
        secret::Error::Tampered(_) => (
            4,
            "secret::tampered",
            "look at who changed it: `git log -p tow.secrets.toml`; after a merge, `tow secrets sign`",
        ),
        secret::Error::Closed(_) => (
            4,
            "secret::closed",
            "have a reader run `tow secrets people add`, with what `tow secrets key` prints here",
        ),
        _ => (4, "secret::refused", "nothing was changed"),
    };
    trouble(exit, code, error.to_string(), help)
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A prompt, or standard input.
    Given,
    /// The machine's random numbers.
    Random,
}

async fn set(cli: &Cli, arguments: &Set, source: Source) -> Ending {
    if !arguments.value.is_empty() {
        return Err(as_argument(&arguments.name));
    }
    let (name, environment) = (&arguments.name, &arguments.environment);
    if !towpath::manifest::form::is_variable(name) {
        let text = format!("`{name}` cannot name a secret");
        let help = "its name is that of an environment variable: letters, digits and `_`";
        return Err(trouble(2, "secret::name", text, help));
    }
    let place = App::find(cli)?.place(environment)?;
    out::note(render::place(&place));
    let mut store = Store::open(&place)?;
    store.begin()?;
    let value = match source {
        Source::Given => read_value(name, &place)?,
        Source::Random => random()?,
    };
    if source == Source::Random && store.file.row(environment, name).is_none() {
        return Err(failed(&secret::Error::Missing(vec![name.clone()])));
    }
    not_weak(&place, name, &value)?;
    let agent = enrol(&place, &mut store).await?;
    let version = store.set(name, &value)?;
    store.save(
        if source == Source::Given {
            "set"
        } else {
            "rotate"
        },
        &[format!("{name} {version}")],
    )?;
    out::say(format!(
        "{name} of {environment} is version {version}, for {}",
        store.readers().join(", ")
    ));
    if !agent {
        out::note(format!(
            "  the agent of {environment} is no reader yet: run `tow secrets people add agent -e {environment}`"
        ));
    }
    out::note(format!(
        "  commit {}; running instances get it with their next start",
        secret::FILE
    ));
    Ok(0)
}

/// It would stand in the shell's history, and in what every user of the machine can list.
fn as_argument(name: &str) -> Trouble {
    let mut refused = trouble(
        2,
        "secret::argument",
        "a value is never taken as an argument",
        "run the command without it: it asks, or reads standard input",
    );
    refused.diagnostic = refused
        .diagnostic
        .note(
            "arguments stand in the shell's history and in what every user of the machine can list",
        )
        .note(format!(
            "what was typed is to be seen as known: choose another value for `{name}`"
        ));
    refused
}

fn read_value(name: &str, place: &Place) -> Result<Value, Trouble> {
    let bytes = if std::io::stdin().is_terminal() {
        let prompt = format!("{name} of {}: ", place.environment);
        password::ask(&prompt).unwrap_or_default().into_bytes()
    } else {
        let mut bytes = Vec::new();
        let most = secret::LONGEST as u64 + 2;
        let read = std::io::stdin().take(most).read_to_end(&mut bytes);
        read.map_err(|error| super::inner::failed(&error))?;
        // What `echo` and editors add.
        if bytes.ends_with(b"\n") {
            bytes.pop();
        }
        bytes
    };
    Value::new(bytes).map_err(|error| {
        trouble(
            2,
            "secret::value",
            error.to_string(),
            "give it on standard input, or at the prompt",
        )
    })
}

/// 32 bytes, hexadecimal: right in every file and every URL.
fn random() -> Result<Value, Trouble> {
    let mut bytes = [0u8; 32];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    got.map_err(|error| super::inner::failed(&error))?;
    Value::new(towpath::id::hex(&bytes).into_bytes()).map_err(|error| failed(&error))
}

/// What everybody knows is no secret where it counts.
fn not_weak(place: &Place, name: &str, value: &Value) -> Result<(), Trouble> {
    let (manifest, _) = Manifest::read("tow.toml", &place.app.text);
    let promote = manifest
        .as_ref()
        .and_then(|manifest| manifest.get("promote"));
    let last = promote.and_then(|promote| promote.items().last()?.as_text());
    let counts = [Some("production"), last].contains(&Some(place.environment.as_str()));
    match config::weak(value.reveal()).filter(|_| counts) {
        Some(why) => {
            let text = format!(
                "the value for `{name}` {why}, and {} is production",
                place.environment
            );
            let help = "`tow secrets rotate` makes a good one";
            Err(trouble(4, "secret::weak", text, help))
        }
        None => Ok(()),
    }
}

/// Has the agent of an environment on this machine read it; whether some agent does.
async fn enrol(place: &Place, store: &mut Store) -> Result<bool, Trouble> {
    if store.has_agent() {
        return Ok(true);
    }
    if place.server.is_some() {
        return Ok(false);
    }
    store.admit_agent(&agent_contact(place).await?)?;
    Ok(true)
}

async fn agent_contact(place: &Place) -> Result<secret::Contact, Trouble> {
    let client = connect::agent(place).await?;
    let status: SecretsStatus = client
        .get("/v1/secrets")
        .await
        .map_err(ClientError::into_trouble)?;
    secret::Contact::parse(&status.contact)
        .ok_or_else(|| super::inner::failed(&"what the agent says of itself is not understood"))
}

fn get(cli: &Cli, name: &str, environment: &str) -> Ending {
    let place = App::find(cli)?.place(environment)?;
    out::note(render::place(&place));
    let store = Store::open(&place)?;
    store.check()?;
    let value = store.get(name)?;
    // Written down before it is shown.
    store.record("get", &[name.to_owned()])?;
    out::say(value.reveal());
    Ok(0)
}

fn remove(cli: &Cli, name: &str, environment: &str) -> Ending {
    let place = App::find(cli)?.place(environment)?;
    out::note(render::place(&place));
    let mut store = Store::open(&place)?;
    store.begin()?;
    store.remove(name)?;
    store.save("remove", &[name.to_owned()])?;
    out::say(format!(
        "{name} of {environment} is gone; commit {}",
        secret::FILE
    ));
    Ok(0)
}

fn sign(cli: &Cli, environment: &str) -> Ending {
    let place = App::find(cli)?.place(environment)?;
    out::note(render::place(&place));
    let mut store = Store::open(&place)?;
    if let Err(error) = store.file.verify(environment) {
        out::note(format!("  {error}"));
    }
    store.save("sign", &[])?;
    out::say(format!(
        "the secrets of {environment} are signed as they are now"
    ));
    Ok(0)
}

/// A secret, as a list shows it.
#[derive(serde::Serialize)]
struct Listed {
    name: String,
    version: Option<u32>,
    set_ms: Option<i64>,
    services: Vec<String>,
}

fn list(cli: &Cli, environment: &str, json: bool) -> Ending {
    let place = App::find(cli)?.place(environment)?;
    let file = File::read(&place.app.root).map_err(|error| failed(&error))?;
    if let Some(file) = &file {
        file.verify(environment).map_err(|error| failed(&error))?;
    }
    let mut all: BTreeMap<String, Listed> = BTreeMap::new();
    let listed = |name: &str| Listed {
        name: name.to_owned(),
        version: None,
        set_ms: None,
        services: Vec::new(),
    };
    let rows = file.and_then(|mut file| file.environments.remove(environment));
    for (name, row) in rows.unwrap_or_default().rows {
        let one = all.entry(name.clone()).or_insert_with(|| listed(&name));
        (one.version, one.set_ms) = (Some(row.version), Some(row.set * 1000));
    }
    let (manifest, _) = Manifest::read("tow.toml", &place.app.text);
    let config = manifest.and_then(|manifest| config::resolve(&manifest, environment).ok());
    for (service, one) in config.map(|config| config.services).unwrap_or_default() {
        for name in one.secrets {
            let one = all.entry(name.clone()).or_insert_with(|| listed(&name));
            one.services.push(service.clone());
        }
    }
    let all: Vec<Listed> = all.into_values().collect();
    if json {
        out::json(&all);
        return Ok(0);
    }
    out::note(render::place(&place));
    let row = |one: &Listed| {
        vec![
            one.name.clone(),
            one.version
                .map_or("missing".to_owned(), |version| version.to_string()),
            one.set_ms.map_or("-".to_owned(), times::ago),
            one.services.join(", "),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    out::say(render::table(
        &["SECRET", "VERSION", "SET", "SERVICES"],
        &rows,
    ));
    if let Some(first) = all.iter().find(|one| one.version.is_none()) {
        let name = &first.name;
        out::note(format!(
            "missing in {environment}: {name}; run `tow secrets set {name} -e {environment}`"
        ));
    }
    Ok(0)
}

/// Sends what the environment's agent is to hand over, before it is asked for a run that starts something.
pub async fn send(place: &Place, client: &Client, what: &What) -> Result<(), Trouble> {
    let starts = matches!(
        what,
        What::Up { .. } | What::Deploy { .. } | What::Promote { .. } | What::Rollback { .. }
    );
    if !starts {
        return Ok(());
    }
    let file = File::read(&place.app.root).map_err(|error| failed(&error))?;
    let Some(part) = file.and_then(|file| file.part(&place.environment)) else {
        return Ok(());
    };
    warn(&part, &place.environment);
    let text = part.text().map_err(|error| failed(&error))?;
    client
        .post_again::<()>("/v1/secrets", &TakeSecrets { text })
        .await
        .map_err(ClientError::into_trouble)
}

/// Says which secrets are due.
fn warn(file: &File, environment: &str) {
    let now = times::now_ms();
    let rows = file.environments.values().flat_map(|one| &one.rows);
    for (name, row) in rows.filter(|(_, row)| row.days(now) >= secret::DUE_DAYS) {
        out::note(format!(
            "warning: {name} of {environment} is {} days old, and no promotion goes with one of {}: `tow secrets rotate {name} -e {environment}`",
            row.days(now),
            secret::OVERDUE_DAYS
        ));
    }
}
