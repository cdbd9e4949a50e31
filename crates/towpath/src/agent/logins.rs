//! Who connects to the databases of the environment: looked at, and rotated.

use std::sync::Arc;

use super::answer::{Failure, failed, refused, wrong};
use super::api::MoveLogin;
use super::runs::{self, Runs};
use super::secrets::running;
use crate::release::{self, LoginMove, LoginStatus, World};
use crate::secret::keep::Keeper;
use crate::secret::{Event, audit};

pub(super) async fn look(world: &Arc<World>, name: &str) -> Result<LoginStatus, Failure> {
    let (world, name, running) = (world.clone(), name.to_owned(), running(world).await?);
    let looked = tokio::task::spawn_blocking(move || release::login(&world, &name, &running)).await;
    looked
        .map_err(|_| failed(runs::panicked()))?
        .map_err(failed)
}

/// Makes a step, and writes down who asked for it. No run goes on meanwhile, which may provide the same resource, and
/// no other step.
pub(super) async fn go(
    world: &Arc<World>,
    runs: &Arc<Runs>,
    name: &str,
    asked: MoveLogin,
) -> Result<(), Failure> {
    if asked.step == LoginMove::EndEarly && !world.rehearsal {
        return Err(wrong("faults are planted in rehearsals only"));
    }
    let claim = runs::alone(world, runs, &asked.actor, "rotates a password").await?;
    let (running, name) = (running(world).await?, name.to_owned());
    let world = world.clone();
    let moved = tokio::task::spawn_blocking(move || {
        // Held to the end of this, whether anybody waits for it or not.
        let _claim = claim;
        note(&world, &name, &asked).map_err(|error| {
            failed(crate::diagnostic::Diagnostic::error(
                "secret::failed",
                error.to_string(),
            ))
        })?;
        release::move_login(&world, &name, asked.step, &running).map_err(refused)
    });
    moved.await.map_err(|_| failed(runs::panicked()))?
}

fn note(world: &World, name: &str, asked: &MoveLogin) -> Result<(), crate::secret::Error> {
    let event = Event {
        seq: 0,
        at_ms: world.store.clock().wall_ms(),
        actor: asked.actor.clone(),
        action: "rotate".to_owned(),
        environment: world.environment.clone(),
        keys: vec![format!("login of {name}")],
        before: String::new(),
    };
    let chain = audit::of_agent(&world.state(), &world.app, &world.environment);
    chain.add(event, &Keeper::new(&world.state()).identity()?)
}
