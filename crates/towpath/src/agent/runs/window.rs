//! What is begun by itself: the end of a window, and contractions that have become due.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Holder, LOOK, Runs, drive, note_plan};
use crate::release::{self, Environment, Operation, World};

/// Retires the warm version when its window is over.
pub(in crate::agent) async fn close_windows(world: Arc<World>, runs: Arc<Runs>) {
    let mut rows = world.store.follow();
    loop {
        contract(&world, &runs).await;
        let left = world.environment().ok().and_then(|now| {
            let warm = now.warm.filter(|_| now.open.is_none())?;
            Some(
                world
                    .store
                    .clock()
                    .left(&warm.since, Duration::from_millis(warm.window_ms)),
            )
        });
        match left {
            Some(Duration::ZERO) => {
                close(&world, &runs).await;
                sleep(LOOK).await;
            }
            Some(left) => {
                let _ = tokio::time::timeout(left, rows.changed()).await;
            }
            None => {
                let _ = rows.changed().await;
            }
        }
    }
}

async fn close(world: &Arc<World>, runs: &Arc<Runs>) {
    let holder = Holder::new(world, "towpath", "ends a window");
    let Some(claim) = runs.claim(&holder) else {
        return;
    };
    let Ok(now) = world.environment() else { return };
    if now.open.is_some() || now.warm.is_none() {
        return;
    }
    if note_plan(world, &release::retire(&now), None, None).is_ok() {
        drive(world.clone(), claim).await;
    }
}

/// Applies the contractions that have become due with the end of a run.
async fn contract(world: &Arc<World>, runs: &Arc<Runs>) {
    let Ok(now) = world.environment() else { return };
    let is_due = |now: &Environment| {
        let last = now.ended.last();
        now.open.is_none()
            && last.is_some_and(|last| last.done && last.operation != Operation::Migrate)
    };
    if !is_due(&now) {
        return;
    }
    // The run that has ended may still be tidied up after.
    let holder = Holder::new(world, "towpath", "contracts a schema");
    let Some(claim) = runs.soon(world, &holder).await else {
        return;
    };
    // What it is may have changed before the claim.
    let Ok(now) = world.environment() else { return };
    let planned = {
        let world = world.clone();
        tokio::task::spawn_blocking(move || release::contract(&world, &now)).await
    };
    if let Ok(Some(plan)) = planned
        && note_plan(world, &plan, None, None).is_ok()
    {
        drive(world.clone(), claim).await;
    }
}
