//! Maintenance on and off, as a person says.

use super::answer::{Failure, failed, wrong};
use super::api::{MaintenanceSet, SetMaintenance};
use crate::release::{Maintenance, World, gateway_state, maintenance, set_maintenance};

/// Longest message, characters.
const LONGEST: usize = 1000;

/// Longest time that clients are told to wait, seconds: a day.
const LATEST_S: u32 = 86_400;

pub(super) async fn set(world: &World, asked: SetMaintenance) -> Result<MaintenanceSet, Failure> {
    let before = maintenance(&world.state());
    let wanted = match asked.on {
        true => Some(wanted(world, &asked, before.as_ref())?),
        false => None,
    };
    if !asked.dry_run {
        set_maintenance(world, wanted.as_ref())
            .await
            .map_err(failed)?;
    }
    let serving = gateway_state(world).await.is_some();
    Ok(MaintenanceSet {
        before,
        now: wanted,
        serving,
    })
}

fn wanted(
    world: &World,
    asked: &SetMaintenance,
    before: Option<&Maintenance>,
) -> Result<Maintenance, Failure> {
    if !(1..=LATEST_S).contains(&asked.retry_after_s) {
        return Err(wrong("clients come again after 1 s to a day"));
    }
    let bad = |text: &String| text.chars().count() > LONGEST || text.contains(char::is_control);
    if asked.message.as_ref().is_some_and(bad) {
        return Err(wrong(format!(
            "a message has at most {LONGEST} characters, in one line"
        )));
    }
    Ok(Maintenance {
        message: asked.message.clone(),
        retry_after_s: asked.retry_after_s,
        // Other words do not make it begin anew.
        since_ms: before.map_or_else(|| world.store.clock().wall_ms(), |before| before.since_ms),
        actor: asked.actor.clone(),
    })
}
