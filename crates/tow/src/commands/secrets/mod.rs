//! Secrets: set, looked at and rotated in `tow.secrets.toml`, and sent to the agent that hands them over.

mod audit;
mod database;
mod list;
mod offer;
mod people;
mod rename;
mod replace;
mod rotate;
mod store;

use std::io::{IsTerminal, Read};

use towpath::agent::api::{SecretsStatus, TakeSecrets, Trouble, What};
use towpath::agent::{Client, ClientError};
use towpath::config::{self, Generate};
use towpath::diagnostic::Diagnostic;
use towpath::manifest::Manifest;
use towpath::release::failpoint::{Point, reach};
use towpath::secret::{self, File, Stage, Value};

use super::Ending;
use super::setup::password;
use crate::cli::Cli;
use crate::cli::commands::{Secrets, SecretsCommand, Set};
use crate::place::{App, Place};
use crate::{connect, out, render, times};
pub use offer::offer;
use store::Store;
pub use store::checked;

/// `tow secrets`.
pub async fn secrets(cli: &Cli, arguments: &Secrets) -> Ending {
    match &arguments.command {
        SecretsCommand::Set(arguments) => set(cli, arguments).await,
        SecretsCommand::Rotate(arguments) => rotate::rotate(cli, arguments).await,
        SecretsCommand::Get { name, environment } => get(cli, name, environment),
        SecretsCommand::Remove { name, environment } => remove(cli, name, environment),
        SecretsCommand::List { environment, json } => list::list(cli, environment, *json).await,
        SecretsCommand::Sign {
            environment,
            readers,
        } => sign(cli, environment, readers).await,
        SecretsCommand::Rename => rename::rename(cli),
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
pub fn failed(error: &secret::Error) -> Trouble {
    let (exit, code, help) = match error {
        secret::Error::Io(..) => (1, "secret::failed", "mend it, and try again"),
        secret::Error::Missing(_) => (
            3,
            "secret::missing",
            "`tow secrets list` shows what there is",
        ),
        secret::Error::Project { .. } => (
            3,
            "secret::project",
            "if `app` has a new name in tow.toml, `tow secrets rename` gives it to them",
        ),
        secret::Error::Changed => (
            4,
            "secret::changed",
            "say the same again: it begins with what is there now",
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

/// The file of an application's secrets, if it has one.
fn file(app: &App) -> Result<Option<File>, Trouble> {
    File::of(&app.root, &app.name).map_err(|error| failed(&error))
}

/// The environment, which is said.
fn place(cli: &Cli, environment: &str) -> Result<Place, Trouble> {
    let place = App::find(cli)?.place(environment)?;
    out::note(render::place(&place));
    Ok(place)
}

/// The same with its secrets, for changing them.
fn begun(cli: &Cli, environment: &str) -> Result<(Place, Store), Trouble> {
    let place = place(cli, environment)?;
    let mut store = Store::open(&place)?;
    store.begin()?;
    Ok((place, store))
}

async fn set(cli: &Cli, arguments: &Set) -> Ending {
    if !arguments.value.is_empty() {
        return Err(as_argument(&arguments.name));
    }
    let (name, environment) = (&arguments.name, &arguments.environment);
    if !towpath::manifest::form::is_variable(name) {
        let text = format!("`{name}` cannot name a secret");
        let help = "its name is that of an environment variable: letters, digits and `_`";
        return Err(trouble(2, "secret::name", text, help));
    }
    let (place, mut store) = begun(cli, environment)?;
    store.is_still(name)?;
    reach("secrets", "ask", Point::Before);
    let value = read_value(name, &place)?;
    not_weak(&place, name, &value)?;
    // Whoever was asked may have taken long.
    store.begin_again()?;
    store.is_still(name)?;
    let agent = enrol(&place, &mut store).await?;
    let version = store.set(name, &value)?;
    reach("secrets", "set", Point::Before);
    store.save("set", &[format!("{name} {version}")])?;
    out::say(format!(
        "{name} of {environment} is version {version}, for {}",
        store.readers().join(", ")
    ));
    hand_in(&place, agent);
    out::note(format!(
        "  commit {}; the next deployment's instances get it",
        secret::FILE
    ));
    Ok(0)
}

/// What is left to do where the agent does not read yet.
fn hand_in(place: &Place, agent: bool) {
    if !agent {
        out::note(format!(
            "  the agent of {0} is no reader yet: run `tow secrets people add agent -e {0}`",
            place.environment
        ));
    }
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

/// A value that nobody guesses, of characters that are right in every file and every URL.
pub fn random(generate: Generate) -> Result<Value, Trouble> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789..";
    let text = match generate {
        Generate::Bytes(count) => towpath::id::hex(&random_bytes(count as usize)?),
        Generate::Length(count) => {
            let mut text = String::new();
            while text.len() < count as usize {
                let letters = random_bytes(count as usize)?.into_iter();
                // Each as likely as any other: the two that are no letters are left out.
                let letters = letters.map(|byte| char::from(LETTERS[usize::from(byte % 64)]));
                text.extend(letters.filter(|letter| *letter != '.'));
            }
            text.truncate(count as usize);
            text
        }
    };
    Value::new(text.into_bytes()).map_err(|error| failed(&error))
}

fn random_bytes(count: usize) -> Result<Vec<u8>, Trouble> {
    let mut bytes = vec![0u8; count];
    let mut filled = 0;
    while filled < count {
        let flags = rustix::rand::GetRandomFlags::empty();
        let got = rustix::rand::getrandom(&mut bytes[filled..], flags);
        filled += got.map_err(|error| super::inner::failed(&error))?;
    }
    Ok(bytes)
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
    let status = look(&connect::agent(place).await?).await?;
    secret::Contact::parse(&status.contact)
        .ok_or_else(|| super::inner::failed(&"what the agent says of itself is not understood"))
}

async fn look(client: &Client) -> Result<SecretsStatus, Trouble> {
    let status = client.get("/v1/secrets").await;
    status.map_err(ClientError::into_trouble)
}

fn get(cli: &Cli, name: &str, environment: &str) -> Ending {
    let store = Store::open(&place(cli, environment)?)?;
    store.check()?;
    let value = store.get(name)?;
    // Written down before it is shown.
    store.record("get", &[name.to_owned()])?;
    out::say(value.reveal());
    Ok(0)
}

fn remove(cli: &Cli, name: &str, environment: &str) -> Ending {
    let (_, mut store) = begun(cli, environment)?;
    store.is_still(name)?;
    store.remove(name)?;
    store.save("remove", &[name.to_owned()])?;
    out::say(format!(
        "{name} of {environment} is gone; commit {}",
        secret::FILE
    ));
    Ok(0)
}

async fn sign(cli: &Cli, environment: &str, readers: &[String]) -> Ending {
    let place = place(cli, environment)?;
    let mut store = Store::open(&place)?;
    if let Err(wrong) = store.check() {
        out::note(format!("  {}", wrong.diagnostic.message));
    }
    let agent = match connect::existing(&place).await? {
        Some(client) => look(&client).await?.generation,
        None => 0,
    };
    store.accept(agent, readers)?;
    store.save("sign", &[])?;
    out::say(format!(
        "the secrets of {environment} are signed as they are now, for {}",
        store.readers().join(", ")
    ));
    Ok(0)
}

/// Sends what the environment's agent is to hand over, before it is asked for a run that starts something.
pub async fn send(place: &Place, client: &Client, what: &What) -> Result<(), Trouble> {
    let starts = matches!(
        what,
        What::Up { .. }
            | What::Deploy { .. }
            | What::Promote { .. }
            | What::Rollback { .. }
            | What::Restart { .. }
    );
    if !starts {
        return Ok(());
    }
    match warned(place, client, what).await {
        // At night the way back is what counts, whatever stands in the tree: the agent has what it took before.
        Err(refused) if is_back(what) && refused.diagnostic.code.starts_with("secret::") => {
            out::note(format!(
                "warning: {}; the agent goes back with those that it has",
                refused.diagnostic.message
            ));
            Ok(())
        }
        sent => sent,
    }
}

async fn warned(place: &Place, client: &Client, what: &What) -> Result<(), Trouble> {
    if let Some(file) = file(&place.app)?
        && !matches!(what, What::Restart { .. })
    {
        warn(&file, place);
    }
    send_part(place, client).await
}

fn is_back(what: &What) -> bool {
    matches!(what, What::Rollback { .. })
}

/// The same without a word.
async fn send_part(place: &Place, client: &Client) -> Result<(), Trouble> {
    let Some(text) = offer::part(place)? else {
        return Ok(());
    };
    client
        .post_again::<()>("/v1/secrets", &TakeSecrets { text })
        .await
        .map_err(ClientError::into_trouble)
}

/// Says which secrets are due, and which rotation waits for somebody to go on with it.
fn warn(file: &File, place: &Place) {
    let environment = &place.environment;
    let config = place.config();
    let policies = config.map(|config| config.secrets).unwrap_or_default();
    let now = times::now_ms();
    let Some(secrets) = file.environments.get(environment) else {
        return;
    };
    for (name, row) in &secrets.rows {
        let most = policies.get(name).map_or(secret::OVERDUE_DAYS, days);
        if row.days(now) >= secret::due(most) {
            out::note(format!(
                "warning: {name} of {environment} is {} days old, and no promotion goes with one of {most}: `tow secrets rotate {name} -e {environment}`",
                row.days(now),
            ));
        }
        let rotation = row.rotation.as_ref();
        if rotation.is_some_and(|one| one.stage != Stage::Overlapping || one.until <= now / 1000) {
            out::note(format!(
                "warning: the rotation of {name} in {environment} is not at its end: `tow secrets rotate {name} -e {environment}` goes on with it"
            ));
        }
    }
}

fn days(policy: &config::Secret) -> i64 {
    i64::try_from(policy.rotate.as_secs() / 86_400).unwrap_or(i64::MAX)
}
