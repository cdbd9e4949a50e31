//! Planning a run and beginning it, once however often it is asked for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::held::under_way;
use super::{Holder, Runs, drive, note_plan, panicked, unread, why};
use crate::agent::answer::{Failure, failed, refused};
use crate::agent::api::{Begin, Begun, What};
use crate::agent::secrets;
use crate::id::{ReleaseId, RunId};
use crate::release::{self, Bring, Environment, Operation, Order, Plan, Refusal, World};

/// Plans a run and begins it.
pub(in crate::agent) async fn begin(
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
