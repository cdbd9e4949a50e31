//! One run at a time: beginning it, cancelling it, going on with it, closing windows.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::answer::{Failure, failed, invalid, refused};
use super::api::{Begin, Begun, Collect, LookAtSchemas, What};
use super::secrets;
use crate::clock::utc;
use crate::diagnostic::Diagnostic;
use crate::id::{ReleaseId, RunId};
use crate::release::next::asked;
use crate::release::{
    self, Bring, Cancel, Collected, Environment, OpenRun, Operation, Order, Outcome, Phase, Plan,
    Refusal, SchemaStatus, Version, World, is_release_command,
};
use crate::state::{Entry, Kind};

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

/// Removes what is not needed, by hand.
pub(super) async fn collect(
    world: &Arc<World>,
    runs: &Arc<Runs>,
    asked: Collect,
) -> Result<Collected, Failure> {
    let holder = Holder::new(world, "`tow gc`", "removes what is not needed");
    let claim = runs
        .soon(world, &holder)
        .await
        .ok_or_else(|| refused(under_way(world, runs)))?;
    if world.environment().map_err(failed)?.open.is_some() {
        return Err(refused(under_way(world, runs)));
    }
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

/// Plans a run and begins it.
pub(super) async fn begin(
    world: &Arc<World>,
    runs: &Arc<Runs>,
    asked: Begin,
) -> Result<Begun, Failure> {
    let token = asked.token.clone();
    let holder = Holder {
        token: token.clone(),
        ..Holder::new(world, &asked.actor, "plans a run")
    };
    let claim = loop {
        if let Some(token) = token.as_deref()
            && let Some(begun) = heard_before(world, runs, token).await?
        {
            return Ok(begun);
        }
        match runs.soon(world, &holder).await {
            Some(claim) => break claim,
            None if token.as_deref().is_some_and(|token| runs.is_at(token)) => {}
            None => return Err(refused(under_way(world, runs))),
        }
    };
    // While the claim was waited for, the same asking may have had its whole run.
    if let Some(token) = token.as_deref()
        && let Some(begun) = begun_under(world, token)?
    {
        return Ok(begun);
    }
    let now = world.environment().map_err(failed)?;
    if now.open.is_some() {
        return Err(refused(under_way(world, runs)));
    }
    let dry_run = asked.dry_run;
    let last = RunId(now.last_run);
    let planned = {
        let (world, now) = (world.clone(), now);
        let planned = tokio::task::spawn_blocking(move || plan(&world, &now, asked)).await;
        planned.map_err(|_| failed(panicked()))??
    };
    let (plan, price) = match planned {
        Planned::Run(plan, price) => (*plan, price),
        Planned::Already(release) => return Ok(already(last, release)),
    };
    let begun = Begun::of(&plan, price);
    let is_empty = plan.steps.is_empty() && plan.operation == Operation::Migrate;
    if dry_run || is_empty {
        release::discard(&plan);
        return Ok(begun);
    }
    note_plan(world, &plan, token, begun.price.clone()).map_err(failed)?;
    tokio::spawn(drive(world.clone(), claim));
    Ok(begun)
}

/// The run that the same asking has begun: the link broke before its answer was heard. One that is
/// still being planned is waited for.
async fn heard_before(world: &World, runs: &Runs, token: &str) -> Result<Option<Begun>, Failure> {
    loop {
        let is_at = runs.is_at(token);
        let begun = begun_under(world, token)?;
        if begun.is_some() || !is_at {
            return Ok(begun);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn begun_under(world: &World, token: &str) -> Result<Option<Begun>, Failure> {
    let now = world.environment().map_err(failed)?;
    let first = match now.tokens.get(token) {
        Some(run) => world.store.first_of(*run),
        None => Ok(None),
    };
    let first = first.map_err(|error| failed(unread(&error)))?;
    Ok(first.and_then(|row| {
        let price = row.data["price"].as_str().map(str::to_owned);
        let plan = serde_json::from_value(row.data).ok()?;
        Some(Begun::of(&plan, price))
    }))
}

enum Planned {
    /// A run, and what going back costs.
    Run(Box<Plan>, Option<String>),
    /// There is nothing to do.
    Already(ReleaseId),
}

fn already(last: RunId, release: ReleaseId) -> Begun {
    let name = Some(release.to_string());
    Begun {
        run: last,
        steps: Vec::new(),
        to: name.clone(),
        from: name,
        price: None,
        already: Some(release),
        explained: None,
        after: 0,
        changes: Vec::new(),
    }
}

/// Who has begun a run.
pub(super) fn actor(world: &World, run: RunId) -> Result<String, Failure> {
    let first = world.store.first_of(run);
    let first = first.map_err(|error| failed(unread(&error)))?;
    Ok(first.map(|row| row.actor).unwrap_or_default())
}

fn plan(world: &World, now: &Environment, asked: Begin) -> Result<Planned, Failure> {
    let Begin {
        what,
        actor,
        sabotage,
        again,
        secrets,
        dry_run,
        ..
    } = asked;
    let offered = match &secrets {
        Some(text) if dry_run => Some(secrets::offered(world, text)?),
        _ => None,
    };
    let order = Order {
        actor: &actor,
        sabotage,
        again,
        secrets: offered.as_ref(),
    };
    let bring = |operation, what| release::bring(world, now, operation, what, order);
    let plan = match what {
        What::Up { root, manifest } => bring(Operation::Up, Bring::Tree { root, manifest }),
        What::Down => release::down(world, now, &actor),
        What::Deploy { tree, source } => bring(Operation::Deploy, Bring::Archive { tree, source }),
        What::Promote { release } => bring(Operation::Promote, Bring::Release(release)),
        What::Rollback { to } => release::roll_back(world, now, to, order),
        What::Restart { ends_window } => release::restart(world, now, ends_window, order),
        What::Migrate {
            how,
            resource,
            tree,
        } => release::migrate(world, now, tree, resource.as_deref(), how, &actor),
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(Refusal::Already(release)) => return Ok(Planned::Already(release)),
        Err(refusal) => return Err(why(refusal)),
    };
    let price = (plan.operation == Operation::Rollback).then(|| release::price(world, now, &plan));
    Ok(Planned::Run(Box::new(plan), price))
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

/// Who holds the environment, since when, and until when.
fn under_way(world: &World, runs: &Runs) -> Diagnostic {
    let environment = &world.environment;
    let open = world.environment().ok().and_then(|now| now.open);
    let Some(run) = open else {
        return planned_for(environment, &runs.holder().unwrap_or_default());
    };
    let id = run.plan.run;
    let text = format!(
        "{environment} is held by {id}, a {} by {}",
        run.plan.operation, run.plan.actor
    );
    let at = run
        .at()
        .map_or(String::new(), |(step, _)| format!(" at `{step}`"));
    let (until, help) = match run.phase {
        Phase::Stuck => (
            format!("until a person goes on with it: it is stuck{at}"),
            format!(
                "see `tow status -e {environment}`, mend what it says, then `tow cancel -e {environment}`"
            ),
        ),
        Phase::Undoing => (
            format!("until it has ended: it goes back{at}"),
            format!("watch it with `tow status -e {environment}`"),
        ),
        Phase::Forward if run.is_past_pivot() => (
            format!("until it has ended: it is past its point of no return{at}"),
            format!("watch it with `tow status -e {environment}`"),
        ),
        Phase::Forward => (
            format!("until it has ended: it goes on{at}"),
            format!(
                "watch it with `tow status -e {environment}`, or undo it with `tow cancel -e {environment}`"
            ),
        ),
    };
    Diagnostic::error("deploy::locked", text)
        .note(format!("since {} and {until}", utc(run.since.wall_ms)))
        .note("nothing was touched")
        .help(help)
}

fn planned_for(environment: &str, holder: &Holder) -> Diagnostic {
    let Holder { actor, does, .. } = holder;
    Diagnostic::error(
        "deploy::locked",
        format!("{environment} is held by {actor}, who {does}"),
    )
    .note(format!(
        "since {} and until that is done, or this agent (process {}) ends",
        utc(holder.since_ms),
        std::process::id()
    ))
    .note("nothing was touched")
    .help("try again in a moment")
}

/// Asks the run under way to go back; goes on with a stuck one.
pub(super) fn cancel(world: &Arc<World>, runs: &Arc<Runs>, actor: &str) -> Result<Begun, Failure> {
    let now = world.environment().map_err(failed)?;
    let run = now
        .open
        .ok_or_else(|| refused(nothing_to_cancel(&world.environment)))?;
    let asked = asked(&run).ok_or_else(|| refused(too_late(&world.environment, &run)))?;
    let noted = note(world, run.plan.run, actor, asked.kind, asked.data);
    let after = noted.map_err(|diagnostic| match diagnostic.code.as_ref() {
        release::OVERTAKEN => refused(diagnostic),
        _ => failed(diagnostic),
    })?;
    if run.phase == Phase::Stuck {
        runs.go_on(world);
    } else {
        runs.cancel();
    }
    let steps = run.intents.iter().rev().cloned().collect();
    let name = |version: Option<&Version>| version.map(Version::name);
    let (to, from) = (name(run.plan.old.as_ref()), name(run.plan.new.as_ref()));
    Ok(Begun {
        run: run.plan.run,
        steps,
        to,
        from,
        price: None,
        already: None,
        explained: None,
        after,
        changes: Vec::new(),
    })
}

fn nothing_to_cancel(environment: &str) -> Diagnostic {
    let text = format!("no run is under way in {environment}");
    Diagnostic::error("cancel::nothing", text)
        .note("nothing was touched")
        .help(format!(
            "to go back to the version before: `tow rollback -e {environment}`"
        ))
}

fn too_late(environment: &str, run: &OpenRun) -> Diagnostic {
    let id = run.plan.run;
    let pivot = run.pivot.as_deref().unwrap_or_default();
    let text = format!("{id} has passed its point of no return, `{pivot}`");
    Diagnostic::error("cancel::too-late", text)
        .note("it is finished now, and was not stopped; a step that fails is tried again")
        .help(format!(
            "when it has ended, `tow status -e {environment}` says what there is to go back to"
        ))
}

/// Retires the warm version when its window is over.
pub(super) async fn close_windows(world: Arc<World>, runs: Arc<Runs>) {
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
