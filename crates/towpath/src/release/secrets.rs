//! What services ask for has to be there, and for the agent to read, before anything is touched.

use std::collections::BTreeSet;

use super::planner::Result;
use super::{Operation, Refusal, World};
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::secret::OVERDUE_DAYS;
use crate::secret::keep::Keeper;

/// Refuses a configuration whose secrets could not be handed over.
pub(super) fn check(world: &World, config: &Config, operation: Operation) -> Result<()> {
    let services = config.services.values();
    let keys: BTreeSet<_> = services
        .flat_map(|service| service.secrets.clone())
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = keys.into_iter().collect();
    let environment = &world.environment;
    let lack = Keeper::new(&world.state()).lacks(environment, &keys);
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
        Operation::Promote => young(world, &keys),
        _ => Ok(()),
    }
}

/// What is promoted comes with secrets that are rotated; going back, and mending something, is always free.
fn young(world: &World, keys: &[String]) -> Result<()> {
    let environment = &world.environment;
    let file = Keeper::new(&world.state()).file();
    let file = file
        .map_err(|error| Refusal::Failed(Diagnostic::error("secret::failed", error.to_string())))?;
    let now = world.store.clock().wall_ms();
    let age = |key: &String| Some((key.clone(), file.as_ref()?.row(environment, key)?.days(now)));
    let oldest = keys.iter().filter_map(age).max_by_key(|(_, days)| *days);
    match oldest {
        Some((key, days)) if days >= OVERDUE_DAYS => {
            Err(Refusal::Refused(overdue(environment, &key, days)))
        }
        _ => Ok(()),
    }
}

fn overdue(environment: &str, key: &str, days: i64) -> Diagnostic {
    let text = format!("{key} of {environment} is {days} days old");
    Diagnostic::error("secret::overdue", text)
        .note(format!(
            "no promotion goes with a secret of {OVERDUE_DAYS} days; roll-backs and deployments do"
        ))
        .note("nothing was touched")
        .help(format!("run `tow secrets rotate {key} -e {environment}`"))
}
