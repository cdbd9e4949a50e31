//! The secrets of the environment: what the agent keeps of them, and says of them. It says no value, to nobody.

use super::answer::{Failure, failed, refused};
use super::api::{AuditRows, SecretsStatus, TakeSecrets};
use crate::diagnostic::Diagnostic;
use crate::release::World;
use crate::secret::keep::Keeper;
use crate::secret::{Error, File, audit};

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
    let taken = keeper(world).take(&file, &world.app, &world.environment);
    taken.map_err(|error| trouble(&error))
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
