//! The secrets of the environment: what the agent keeps of them, and says of them. It says no value, to nobody.

use super::answer::{Failure, failed, refused};
use super::api::{AuditRows, Holder, SecretsStatus, TakeSecrets};
use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use crate::release::{Instance, World};
use crate::secret::keep::Keeper;
use crate::secret::rotation::Given;
use crate::secret::{Error, File, audit};
use crate::supervise;

/// A command sends those of the application that it is about: then this agent is the one that is another's.
fn taken(world: &World, error: &Error) -> Failure {
    let Error::Project { has, wants } = error else {
        return trouble(error);
    };
    let environment = &world.environment;
    let text = format!(
        "the agent of {environment} is that of `{wants}`, and the secrets are those of `{has}`"
    );
    refused(
        Diagnostic::error("secret::project", text)
            .note("nothing was taken; what runs was begun under that name, and goes on")
            .help(format!(
                "take it down, and bring it in again under its new name: `tow down -e {environment}`"
            )),
    )
}

fn keeper(world: &World) -> Keeper {
    Keeper::new(&world.state())
}

fn trouble(error: &Error) -> Failure {
    let diagnostic = Diagnostic::error("secret::failed", error.to_string());
    match error {
        Error::Io(..) => failed(diagnostic),
        Error::Tampered(_) => refused(
            Diagnostic::error("secret::tampered", error.to_string())
                .note("nothing was taken; what was here before is what counts")
                .help("look at who changed it: `git log -p tow.secrets.toml`; after a merge, `tow secrets sign`"),
        ),
        _ => refused(diagnostic),
    }
}

pub(super) fn status(world: &World) -> Result<SecretsStatus, Failure> {
    let keeper = keeper(world);
    let identity = keeper.identity().map_err(|error| trouble(&error))?;
    let file = keeper.file().map_err(|error| trouble(&error))?;
    let secrets = file.and_then(|mut file| file.environments.remove(&world.environment));
    let secrets = secrets.unwrap_or_default();
    let rows = secrets.rows.into_iter();
    Ok(SecretsStatus {
        contact: identity.contact().to_string(),
        generation: secrets.signed.generation,
        versions: rows.map(|(key, row)| (key, row.version)).collect(),
    })
}

pub(super) fn take(world: &World, asked: &TakeSecrets) -> Result<(), Failure> {
    let file = File::parse(&asked.text).map_err(|error| trouble(&error))?;
    let in_use = in_use(world)?;
    let taken = keeper(world).take(&file, &world.app, &world.environment, &in_use);
    taken.map_err(|error| self::taken(world, &error))
}

/// Versions of the secrets that the version which serves was given.
fn in_use(world: &World) -> Result<Given, Failure> {
    let now = world.environment().map_err(failed)?;
    let Some(live) = now.live else {
        return Ok(Given::new());
    };
    let chain = audit::of_agent(&world.state(), &world.app, &world.environment);
    let (rows, _) = chain.read().map_err(|error| trouble(&error))?;
    let given = audit::given(&rows);
    let has = |instance: &Instance| given.get(&instance.id.0);
    let has = live.instances.iter().filter_map(has).flatten();
    Ok(has.map(|(key, version)| (key.clone(), *version)).collect())
}

/// What a dry run brings along, where it would be taken; it is not.
pub(super) fn offered(world: &World, text: &str) -> Result<File, Failure> {
    let file = File::parse(text).map_err(|error| trouble(&error))?;
    let weighed = keeper(world).weigh(&file, &world.app, &world.environment);
    weighed.map(|_| file).map_err(|error| taken(world, &error))
}

pub(super) fn audit(world: &World) -> Result<AuditRows, Failure> {
    let identity = keeper(world).identity().map_err(|error| trouble(&error))?;
    let chain = audit::of_agent(&world.state(), &world.app, &world.environment);
    let (rows, head) = chain.read().map_err(|error| trouble(&error))?;
    Ok(AuditRows {
        rows,
        head,
        key: identity.contact().key.unwrap_or_default(),
    })
}

/// Who runs and has secrets, of whatever version, side or job: what an instance was given it has for as long as it
/// runs, also where its processes were started again since.
pub(super) async fn holders(world: &World) -> Result<Vec<Holder>, Failure> {
    let mut holders = Vec::new();
    let running = running(world).await?;
    let chain = audit::of_agent(&world.state(), &world.app, &world.environment);
    // Read after the instances were listed: whoever is given something later is given what counts now.
    let (rows, _) = chain.read().map_err(|error| trouble(&error))?;
    let mut given = audit::given(&rows);
    for instance in running {
        match given.remove(&instance.0) {
            Some(given) => holders.push(Holder { instance, given }),
            None if world.supervisor.is_handed(&instance) => {
                return Err(refused(unknown(&instance)));
            }
            None => {}
        }
    }
    Ok(holders)
}

/// The instances that run now: all of them, or nothing is said, since what is missing here passes for one that has
/// ended, and its old value for one that nobody has.
pub(super) async fn running(world: &World) -> Result<Vec<InstanceId>, Failure> {
    let mut running = Vec::new();
    for instance in world.supervisor.known() {
        let runs = world.supervisor.runs(&instance).await;
        if runs.map_err(|error| refused(silent(&error)))? {
            running.push(instance);
        }
    }
    Ok(running)
}

fn silent(error: &supervise::Error) -> Diagnostic {
    Diagnostic::error("secret::silent", error.to_string())
        .note("so nobody can say that an old value is in use no more; nothing was touched")
        .help("`tow ps` shows it; say the same again when it answers, or has ended")
}

/// The chain was cut off, or begun anew: nothing can be said of what that instance has.
fn unknown(instance: &InstanceId) -> Diagnostic {
    let text = format!("the audit does not say which secrets `{instance}` was given");
    Diagnostic::error("secret::audit", text)
        .note("so nobody can say that an old value is in use no more")
        .help("`tow secrets audit --verify` says what was done to it; `tow deploy --again` starts all anew")
}
