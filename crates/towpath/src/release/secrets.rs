//! What services ask for has to be there, and for the agent to read, before anything is touched.

use std::collections::BTreeSet;

use super::planner::Result;
use super::{Operation, Order, Refusal, World};
use crate::config::{Config, Resource, Secret};
use crate::diagnostic::Diagnostic;
use crate::resource::kept;
use crate::secret::OVERDUE_DAYS;
use crate::secret::keep::Keeper;

/// Refuses a configuration whose secrets could not be handed over.
pub(super) fn check(
    world: &World,
    config: &Config,
    operation: Operation,
    order: Order<'_>,
) -> Result<()> {
    let services = config.services.values();
    let addresses = config
        .resources
        .values()
        .flat_map(Resource::secrets)
        .cloned();
    let keys: BTreeSet<_> = services
        .flat_map(|service| service.secrets.clone())
        .chain(addresses)
        .collect();
    if operation == Operation::Promote {
        passwords(world, config)?;
    }
    if keys.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = keys.into_iter().collect();
    let environment = &world.environment;
    let keeper = Keeper::new(&world.state()).as_if(order.secrets);
    whose(world, &keeper)?;
    let lack = keeper.lacks(environment, &keys);
    let lack = lack.map_err(|error| {
        Refusal::Refused(
            Diagnostic::error("secret::tampered", error.to_string()).note("nothing was touched"),
        )
    })?;
    if let Some(first) = lack.missing.first() {
        let text = format!("missing in {environment}: {}", lack.missing.join(", "));
        return Err(Refusal::Invalid(
            Diagnostic::error("secret::missing", text)
                .note("nothing was touched")
                .help(format!("run `tow secrets set {first} -e {environment}`")),
        ));
    }
    if !lack.closed.is_empty() {
        let text = format!(
            "the agent of {environment} cannot read {}",
            lack.closed.join(", ")
        );
        return Err(Refusal::Refused(
            Diagnostic::error("secret::closed", text)
                .note("they are encrypted to people only; nothing was touched")
                .help(format!(
                    "run `tow secrets people add agent -e {environment}`"
                )),
        ));
    }
    match operation {
        Operation::Promote => young(world, config, &keeper, &keys),
        _ => Ok(()),
    }
}

/// The passwords of databases grow old as secrets do. Of one that was made before that was written down nothing is known.
fn passwords(world: &World, config: &Config) -> Result<()> {
    let now = world.store.clock().wall_ms() / 1000;
    for (name, policy) in &config.secrets {
        let kept = policy.resource.as_ref();
        let kept = kept.and_then(|resource| kept::read(&world.state(), resource).ok()?);
        let set = kept.map_or(0, |kept| kept.set);
        let days = (now - set) / 86_400;
        if set > 0 && days >= most(policy) {
            let told = overdue(&world.environment, name, days, most(policy));
            return Err(Refusal::Refused(told));
        }
    }
    Ok(())
}

/// Age at which no promotion goes with it any more, days.
fn most(policy: &Secret) -> i64 {
    i64::try_from(policy.rotate.as_secs() / 86_400).unwrap_or(i64::MAX)
}

/// What an application of another name has left here is not handed over.
fn whose(world: &World, keeper: &Keeper) -> Result<()> {
    let file = keeper.file();
    let file = file
        .map_err(|error| Refusal::Failed(Diagnostic::error("secret::failed", error.to_string())))?;
    let Some(file) = file.filter(|file| file.project != world.app) else {
        return Ok(());
    };
    let text = format!(
        "the secrets that {} has are those of `{}`, and this is `{}`",
        world.environment, file.project, world.app
    );
    Err(Refusal::Refused(
        Diagnostic::error("secret::project", text)
            .note("nothing was touched")
            .help("send those of this application: `tow secrets rename` where they are the same, else `tow secrets set`"),
    ))
}

/// What is promoted comes with secrets that are rotated; going back, and mending something, is always free.
fn young(world: &World, config: &Config, keeper: &Keeper, keys: &[String]) -> Result<()> {
    let environment = &world.environment;
    let file = keeper
        .file()
        .map_err(|error| Refusal::Failed(Diagnostic::error("secret::failed", error.to_string())))?;
    let now = world.store.clock().wall_ms();
    for key in keys {
        let row = file.as_ref().and_then(|file| file.row(environment, key));
        let days = row.map_or(0, |row| row.days(now));
        let most = config.secrets.get(key).map_or(OVERDUE_DAYS, most);
        if days >= most {
            return Err(Refusal::Refused(overdue(environment, key, days, most)));
        }
    }
    Ok(())
}

fn overdue(environment: &str, key: &str, days: i64, most: i64) -> Diagnostic {
    let text = format!("{key} of {environment} is {days} days old");
    Diagnostic::error("secret::overdue", text)
        .note(format!(
            "no promotion goes with a secret of {most} days; roll-backs and deployments do"
        ))
        .note("nothing was touched")
        .help(format!("run `tow secrets rotate {key} -e {environment}`"))
}
