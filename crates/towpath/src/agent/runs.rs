//! One run at a time: who may drive it, going on with it, tidying up after it.

mod begin;
mod cancel;
mod held;
mod window;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::answer::{Failure, failed, invalid, refused};
use super::api::{Collect, LookAtSchemas};
use crate::diagnostic::Diagnostic;
use crate::id::RunId;
use crate::release::{
    self, Cancel, Collected, Outcome, Phase, Plan, Refusal, SchemaStatus, World, is_release_command,
};
use crate::state::{Entry, Kind};

pub(super) use begin::begin;
pub(super) use cancel::cancel;
use held::under_way;
pub(super) use window::close_windows;

/// Longest pause between looks at the window.
const LOOK: Duration = Duration::from_millis(500);

/// Longest wait for somebody else's planning, tidying up, or start of a job.
const PLANNED: Duration = Duration::from_secs(15);

/// The run under way, as this process drives it.
#[derive(Default)]
pub(super) struct Runs {
    driving: Mutex<Option<Driving>>,
}

/// Whoever has the claim.
struct Driving {
    cancel: Cancel,
    holder: Holder,
}

/// Who holds a claim, and what for, while no run of the journal says so.
#[derive(Clone, Default)]
pub(super) struct Holder {
    token: Option<String>,
    actor: String,
    does: &'static str,
    since_ms: i64,
}

impl Holder {
    pub(super) fn new(world: &World, actor: &str, does: &'static str) -> Holder {
        Holder {
            token: None,
            actor: actor.to_owned(),
            does,
            since_ms: world.store.clock().wall_ms(),
        }
    }
}

impl Runs {
    fn driving(&self) -> std::sync::MutexGuard<'_, Option<Driving>> {
        self.driving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps every other run out until the claim is dropped or driven.
    pub(super) fn claim(self: &Arc<Self>, holder: &Holder) -> Option<Claim> {
        let mut driving = self.driving();
        if driving.is_some() {
            return None;
        }
        let cancel = Cancel::default();
        *driving = Some(Driving {
            cancel: cancel.clone(),
            holder: holder.clone(),
        });
        Some(Claim {
            runs: self.clone(),
            cancel,
        })
    }

    /// As [`Runs::claim`], after waiting for one who only tidies up, or plans; a run is not waited for.
    async fn soon(self: &Arc<Self>, world: &World, holder: &Holder) -> Option<Claim> {
        let deadline = Instant::now() + PLANNED;
        loop {
            let claim = self.claim(holder);
            let is_open = || world.environment().is_ok_and(|now| now.open.is_some());
            if claim.is_some() || Instant::now() > deadline || is_open() {
                return claim;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Goes on with the run that a crash cut off, if there is one.
    pub(super) fn go_on(self: &Arc<Self>, world: &Arc<World>) {
        let open = world.environment().ok().and_then(|now| now.open);
        let claim = open
            .filter(|run| run.phase != Phase::Stuck)
            .and_then(|run| self.claim(&Holder::new(world, &run.plan.actor, "goes on with a run")));
        if let Some(claim) = claim {
            tokio::spawn(drive(world.clone(), claim));
        }
    }

    /// Asks the run under way to go back.
    fn cancel(&self) {
        if let Some(driving) = self.driving().as_ref() {
            driving.cancel.ask();
        }
    }

    /// Whether the very same asking is being planned for, or its run driven.
    fn is_at(&self, token: &str) -> bool {
        let driving = self.driving();
        let at = driving
            .as_ref()
            .and_then(|driving| driving.holder.token.as_deref());
        at == Some(token)
    }

    fn holder(&self) -> Option<Holder> {
        self.driving()
            .as_ref()
            .map(|driving| driving.holder.clone())
    }
}

/// The right to drive the one run.
pub(super) struct Claim {
    runs: Arc<Runs>,
    cancel: Cancel,
}

impl Drop for Claim {
    fn drop(&mut self) {
        *self.runs.driving() = None;
    }
}

/// To the end, whatever the journal's disk says in between.
async fn drive(world: Arc<World>, claim: Claim) {
    loop {
        match release::resume(&world, &claim.cancel).await {
            Ok(Outcome::Done | Outcome::Undone(_)) => return tidy(&world, claim).await,
            Ok(Outcome::Stuck(_)) => {
                // Somebody may have said to go on before the claim was given back.
                let runs = claim.runs.clone();
                drop(claim);
                return runs.go_on(&world);
            }
            // It is another agent's now.
            Err(error) if error.code == release::SUPERSEDED => return,
            Err(_) => {}
        }
        let open = world.environment().is_ok_and(|now| now.open.is_some());
        if !open {
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// After a run that has ended. What cannot be removed now is found the next time.
async fn tidy(world: &Arc<World>, claim: Claim) {
    let now = world.store.clock().wall_ms();
    if let Some(driving) = claim.runs.driving().as_mut() {
        driving.holder.does = "tidies up after a run";
    }
    world.blobs.forget_parts(now, super::FORGOTTEN_MS);
    for id in world.supervisor.known() {
        if is_release_command(&id) {
            let _ = world.supervisor.stop(&id, None).await;
        }
    }
    let looked = set_aside(world, claim).await;
    if let Ok((_, doomed)) = looked {
        tokio::task::spawn_blocking(move || release::remove(&doomed));
    }
}

/// What is not needed, out of the way; other runs wait only for this.
async fn set_aside(
    world: &Arc<World>,
    claim: Claim,
) -> Result<(Collected, Vec<PathBuf>), Diagnostic> {
    let world = world.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let collected = release::garbage(&world)?;
        let doomed = release::doom(&world, &collected);
        drop(claim);
        Ok((collected, doomed))
    });
    looked.await.unwrap_or_else(|_| Err(panicked()))
}

pub(super) fn panicked() -> Diagnostic {
    Diagnostic::error("agent::panicked", "it panicked; this is a bug")
}

/// The claim, for somebody who does something else than a run; refused while a run is open.
pub(super) async fn alone(
    world: &World,
    runs: &Arc<Runs>,
    actor: &str,
    does: &'static str,
) -> Result<Claim, Failure> {
    let claim = runs.soon(world, &Holder::new(world, actor, does)).await;
    let claim = claim.ok_or_else(|| refused(under_way(world, runs)))?;
    match world.environment().map_err(failed)?.open {
        Some(_) => Err(refused(under_way(world, runs))),
        None => Ok(claim),
    }
}

/// Removes what is not needed, by hand.
pub(super) async fn collect(
    world: &Arc<World>,
    runs: &Arc<Runs>,
    asked: Collect,
) -> Result<Collected, Failure> {
    let claim = alone(world, runs, "`tow gc`", "removes what is not needed").await?;
    if asked.dry_run {
        let world = world.clone();
        let looked = tokio::task::spawn_blocking(move || release::garbage(&world)).await;
        return looked.map_err(|_| failed(panicked()))?.map_err(failed);
    }
    let (collected, doomed) = set_aside(world, claim).await.map_err(failed)?;
    let removed = tokio::task::spawn_blocking(move || release::remove(&doomed)).await;
    let removed = removed.map_err(|_| failed(panicked()))?;
    removed.map_err(|error| failed(Diagnostic::error("gc::failed", error.to_string())))?;
    Ok(collected)
}

/// Who has begun a run.
pub(super) fn actor(world: &World, run: RunId) -> Result<String, Failure> {
    let first = world.store.first_of(run);
    let first = first.map_err(|error| failed(unread(&error)))?;
    Ok(first.map(|row| row.actor).unwrap_or_default())
}

fn why(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Invalid(diagnostic) => invalid(diagnostic),
        Refusal::Refused(diagnostic) => refused(diagnostic),
        Refusal::Failed(diagnostic) => failed(diagnostic),
        // Only bringing a release in comes to this.
        Refusal::Already(release) => refused(Diagnostic::error(
            "deploy::already",
            format!("{release} serves already"),
        )),
    }
}

/// How the schemas stand.
pub(super) async fn schemas(
    world: &Arc<World>,
    asked: LookAtSchemas,
) -> Result<Vec<SchemaStatus>, Failure> {
    let world = world.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let now = world.environment().map_err(failed)?;
        release::schemas(&world, &now, asked.tree).map_err(why)
    });
    looked.await.map_err(|_| failed(panicked()))?
}

/// The first row of a run: from here on it is the journal's, whatever becomes of this process.
/// What it was asked with stands beside the plan.
fn note_plan(
    world: &World,
    plan: &Plan,
    token: Option<String>,
    price: Option<String>,
) -> Result<(), Diagnostic> {
    let mut data = serde_json::to_value(plan).unwrap_or_default();
    if let (Some(data), Some(token)) = (data.as_object_mut(), token) {
        data.insert("token".to_owned(), token.into());
        data.insert("price".to_owned(), price.into());
    }
    note(world, plan.run, &plan.actor, Kind::Intent, data).map(drop)
}

/// Writes a row of the run itself; gives its number.
fn note(
    world: &World,
    run: RunId,
    actor: &str,
    kind: Kind,
    data: Value,
) -> Result<i64, Diagnostic> {
    let entry = Entry {
        run,
        step: "run".to_owned(),
        attempt: 1,
        kind,
        actor: actor.to_owned(),
        data,
    };
    world.append(&entry).map(|row| row.seq)
}

fn unread(error: &crate::state::Error) -> Diagnostic {
    Diagnostic::error("state::failed", error.to_string())
}

/// Looks after the gateway's table, which must be the one that the journal says.
pub(super) async fn keep_tables(world: Arc<World>) {
    loop {
        // One that fails is tried again at the next look.
        let _ = release::keep_table(&world).await;
        let _ = release::keep_maintenance(&world).await;
        sleep(LOOK).await;
    }
}
