//! Building what is another environment's own, from the same commit in a tree of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::builds::{artifacts, build_in, buildable, trouble};
use super::{Result, blocking, version};
use crate::build;
use crate::id::{Digest, InstanceId, RunId};
use crate::release::{OpenRun, Side, Step, StepState, Version, World, baked, collect};

/// The processes of a step that bakes.
#[must_use]
pub fn bake_ids(environment: &str, services: &[String], run: RunId) -> Vec<InstanceId> {
    let ids = services.iter().map(|name| bake_id(environment, name, run));
    ids.collect()
}

fn bake_id(environment: &str, service: &str, run: RunId) -> InstanceId {
    InstanceId(format!("bake-{environment}-{service}-{run}"))
}

/// Builds `services` as they are in `environment`, and packs them; nothing else of that tree is kept.
pub(super) async fn bake(
    world: &World,
    run: &OpenRun,
    environment: &str,
    services: &[String],
) -> Result<Value> {
    let version = version(run, Side::New)?;
    let seed = version.seed.clone();
    let seed = seed.ok_or_else(|| trouble("the plan has no source"))?;
    if let Some(artifacts) = baked::known(world, seed.build, environment) {
        return Ok(json!({ "artifacts": artifacts, "reused": true }));
    }
    // Of an attempt that a crash cut off, processes may go on, and half a tree be there.
    undo(world, run, environment, services).await?;
    let tree = Version {
        root: baked::folder(&world.state(), seed.build, environment),
        ..version
    };
    let config = tree.config(environment)?;
    let (source, root) = (world.blobs.path(seed.tree), tree.root.clone());
    blocking(move || lay(&source, &root)).await?;
    for name in config.order.iter().filter(|name| services.contains(name)) {
        if let Some((service, command)) = buildable(&config, name) {
            let id = bake_id(environment, name, run.plan.run);
            let built = build_in(world, &tree, id, (name, service), command).await;
            built.map_err(|error| error.note(format!("it was built for {environment}")))?;
        }
    }
    let (blobs, root, builder) = (world.blobs.clone(), tree.root.clone(), world.builder());
    let wanted: BTreeSet<String> = services.iter().cloned().collect();
    let artifacts = blocking(move || {
        if let Some(user) = builder {
            build::take(&root, user).map_err(|error| trouble(&error.to_string()))?;
        }
        artifacts(&config, &root, &blobs, &|name| wanted.contains(name))
    });
    let artifacts = artifacts.await?;
    clear(tree.root).await?;
    Ok(json!({ "artifacts": artifacts }))
}

fn lay(source: &Path, root: &Path) -> Result<()> {
    let failed = |error: build::Error| trouble(&error.to_string());
    let io = |error| failed(build::Error::Io(source.to_owned(), error));
    let file = std::fs::File::open(source).map_err(io)?;
    let plain = build::plain(std::io::BufReader::new(file)).map_err(io)?;
    build::unpack(plain, root).map_err(failed)
}

async fn clear(root: std::path::PathBuf) -> Result<()> {
    blocking(move || collect::clear(&root).map_err(|error| trouble(&error.to_string()))).await
}

/// Ends what it has begun, and removes the tree. What was packed belongs to no release then.
pub(super) async fn undo(
    world: &World,
    run: &OpenRun,
    environment: &str,
    services: &[String],
) -> Result<()> {
    for id in bake_ids(environment, services, run.plan.run) {
        let stopped = world.supervisor.stop(&id, None).await;
        stopped.map_err(|error| trouble(&error.to_string()))?;
    }
    let seed = run.plan.new.as_ref().and_then(|new| new.seed.clone());
    match seed {
        Some(seed) => clear(baked::folder(&world.state(), seed.build, environment)).await,
        None => Ok(()),
    }
}

/// What the run has baked, by environment.
pub(super) fn baked(run: &OpenRun) -> BTreeMap<String, BTreeMap<String, Digest>> {
    let gave = run.plan.steps.iter().filter_map(|step| {
        let Step::Bake { environment, .. } = step else {
            return None;
        };
        let Some(StepState::Ok(gave)) = run.steps.get(&step.to_string()) else {
            return None;
        };
        let artifacts = serde_json::from_value(gave["artifacts"].clone()).ok()?;
        Some((environment.clone(), artifacts))
    });
    gave.collect()
}
