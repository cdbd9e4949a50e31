//! Foreign migrators on copies: what they do to the schema, and whether the version that serves works with it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Result, migrations, migrators, version};
use crate::config::{Config, Migrator, Resource, ResourceKind};
use crate::diagnostic::Diagnostic;
use crate::id::Digest;
use crate::migrate;
use crate::release::foreign::{OLD_FAILS, by};
use crate::release::resources::folder;
use crate::release::scratch::Copies;
use crate::release::trial::{self, Trial};
use crate::release::{OpenRun, Side, Step, Version, World, scratch};

/// What a rehearsal has shown: evidence, and what an undo compares with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Shown {
    /// A line each, for people.
    told: Vec<String>,
    /// The schemas before and after, by resource.
    schemas: BTreeMap<String, Schemas>,
    /// What was seen of the version that serves on what was left.
    old: Option<Works>,
}

/// A version works on a copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Works {
    /// How long it took to be ready, milliseconds.
    ready_ms: u64,
    /// What it has written, and was found again.
    wrote: Option<String>,
}

impl fmt::Display for Works {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ready after {} ms", self.ready_ms)?;
        match &self.wrote {
            Some(wrote) => write!(f, ", and {wrote} is found again"),
            None => Ok(()),
        }
    }
}

/// Digests of a schema, and all that differs.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Schemas {
    before: Digest,
    after: Digest,
    difference: Vec<String>,
}

/// Tries it. Nothing of it is left afterwards, however it ends.
pub(super) async fn rehearse(world: &World, run: &OpenRun, resources: &[String]) -> Result<Value> {
    clear(world, run).await?;
    let shown = on_copies(world, run, resources).await;
    let cleared = clear(world, run).await;
    let shown = shown.map_err(|trouble| untouched(world, run, trouble))?;
    cleared?;
    Ok(serde_json::to_value(shown).unwrap_or_default())
}

fn untouched(world: &World, run: &OpenRun, trouble: Diagnostic) -> Diagnostic {
    let serves = run.plan.old.as_ref().map(|old| {
        let (name, old) = (&world.environment, old.name());
        format!("; {name} still serves {old}")
    });
    trouble.note(format!(
        "that was on a copy: the database itself was not touched{}",
        serves.unwrap_or_default()
    ))
}

/// What an agent before may have left as well.
async fn clear(world: &World, run: &OpenRun) -> Result<()> {
    trial::stop_all(world, run).await?;
    migrators::stop_on_copies(world, run).await?;
    scratch::remove(world, &databases(world, run)?).await
}

/// All that either version is told of, but caches.
fn databases(world: &World, run: &OpenRun) -> Result<BTreeMap<String, Resource>> {
    let mut all = BTreeMap::new();
    if let Some(old) = &run.plan.old {
        all.extend(old.config(&world.environment)?.resources);
    }
    all.extend(
        version(run, Side::New)?
            .config(&world.environment)?
            .resources,
    );
    all.retain(|_, resource| resource.kind != ResourceKind::Redis);
    Ok(all)
}

async fn on_copies(world: &World, run: &OpenRun, resources: &[String]) -> Result<Shown> {
    let new = version(run, Side::New)?;
    let config = new.config(&world.environment)?;
    folder::make_all(&world.state(), &config, world.user)?;
    let copies = copies(world, run).await?;
    let mut before = BTreeMap::new();
    for name in resources {
        let schema = schema_of_copy(world, name, &config.resources[name]).await?;
        note_schema(world, run, name, &schema)?;
        before.insert(name.clone(), schema);
    }
    migrated(world, run, (&new, &config), resources, &copies).await?;
    let mut shown = Shown::default();
    for (name, before) in before {
        let after = schema_of_copy(world, &name, &config.resources[&name]).await?;
        let difference = migrate::difference(&before, &after);
        shown.told.extend(said(&name, &difference));
        let schemas = Schemas {
            before: digest(&before),
            after: digest(&after),
            difference,
        };
        shown.schemas.insert(name, schemas);
    }
    let is_rewrite = |name: &String| {
        let foreign = config.resources[name].foreign();
        foreign.is_some_and(|foreign| foreign.rewrite)
    };
    if let (Some(old), false) = (&run.plan.old, resources.iter().any(is_rewrite)) {
        let works = works(world, run, old, resources, &copies).await;
        shown.old = works.map_err(|why| refused(old, &config, &shown, why))?;
        let told = shown.old.as_ref().map(|works| {
            let name = old.name();
            format!("{name} was started on the copy: {works}")
        });
        shown.told.extend(told);
    }
    Ok(shown)
}

/// Of all databases, so that nothing tried reaches one of them; with our own migrations of this run, which the new version
/// counts on.
async fn copies(world: &World, run: &OpenRun) -> Result<Copies> {
    let mut copies = Copies::new();
    let is_storage = |(_, resource): &(String, Resource)| resource.kind == ResourceKind::Storage;
    let all = databases(world, run)?.into_iter();
    let (storages, databases): (Vec<_>, Vec<_>) = all.partition(is_storage);
    for (name, resource) in databases {
        copies.insert(name.clone(), scratch::copy(world, &name, &resource).await?);
        let ours = run.plan.steps.iter().find_map(|step| match step {
            Step::Migrate { resource, versions } if *resource == name => Some(versions),
            _ => None,
        });
        if let Some(versions) = ours {
            migrations::up_on_copy(world, run, (&name, &resource), versions).await?;
        }
    }
    scratch::give(world)?;
    // By whom the services run as, who have to have the folder for that.
    for (name, resource) in storages {
        copies.insert(name.clone(), scratch::copy(world, &name, &resource).await?);
    }
    Ok(copies)
}

/// By a command each; or by the new version's start, which then has to become ready.
async fn migrated(
    world: &World,
    run: &OpenRun,
    (new, config): (&Version, &Config),
    resources: &[String],
    copies: &Copies,
) -> Result<()> {
    let mut on_start = Vec::new();
    for name in resources {
        match config.resources[name].foreign().map(|foreign| &foreign.by) {
            Some(Migrator::Run { .. }) => migrators::on_copy(world, run, name, copies).await?,
            Some(Migrator::OnStart) => on_start.push(name.clone()),
            None => {}
        }
    }
    let Some(trial) = Trial::new(world, run, new, trial::NEW, &on_start)? else {
        return Ok(());
    };
    let ready = trial.start(world, copies).await;
    ready.map_err(|why| Diagnostic {
        code: "rehearse::not-ready".into(),
        ..why
    })?;
    trial.stop(world).await
}

/// How the version works; `None` where nothing of it uses the resources.
async fn works(
    world: &World,
    run: &OpenRun,
    old: &Version,
    resources: &[String],
    copies: &Copies,
) -> Result<Option<Works>> {
    let Some(trial) = Trial::new(world, run, old, trial::OLD, resources)? else {
        return Ok(None);
    };
    let ready_ms = trial.start(world, copies).await?;
    let wrote = trial.write(world).await?;
    trial.stop(world).await?;
    Ok(Some(Works { ready_ms, wrote }))
}

/// The new schema would break what serves, now and after going back.
fn refused(old: &Version, config: &Config, shown: &Shown, why: Diagnostic) -> Diagnostic {
    let names: Vec<&str> = shown.schemas.keys().map(String::as_str).collect();
    let old = old.name();
    let text = format!(
        "{old} does not work with what the migrator leaves of `{}`",
        names.join("`, `")
    );
    let who = names
        .iter()
        .filter_map(|name| config.resources[*name].foreign());
    let who: Vec<String> = who.map(by).collect();
    let mut told = Diagnostic::error(OLD_FAILS, text)
        .note(format!(
            "{} has migrated a copy:\n{}",
            who.join(", "),
            shown.told.join("\n")
        ))
        .note(format!("{old} on that copy: {}", why.message));
    told.notes.extend(why.notes);
    told.help(
        "split the change: first what both versions bear, and with a later release the rest; or accept that there is no way back: `rewrite = true` beside the migrator, and it migrates while requests wait",
    )
}

async fn schema_of_copy(world: &World, name: &str, resource: &Resource) -> Result<Vec<String>> {
    tokio::task::block_in_place(|| {
        let mut copy = scratch::open(world, name, resource)?;
        migrate::schema(&mut copy).map_err(|error| error.diagnostic(name))
    })
}

fn digest(schema: &[String]) -> Digest {
    Digest::of(schema.join("\n").as_bytes())
}

/// Most lines of a difference that are told; the whole of it is in the journal.
const MOST: usize = 20;

/// Longest line of it.
const LONGEST: usize = 140;

/// A difference as people read it.
pub(super) fn said(name: &str, difference: &[String]) -> Vec<String> {
    if difference.is_empty() {
        return vec![format!("{name}: the schema stays as it is")];
    }
    let line = |line: &String| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let line = words.join(" ");
        match line.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{name}: {}...", &line[..end]),
            None => format!("{name}: {line}"),
        }
    };
    let mut lines: Vec<String> = difference.iter().take(MOST).map(line).collect();
    if difference.len() > MOST {
        lines.push(format!("{name}: and {} more", difference.len() - MOST));
    }
    lines
}

/// Where the schema from before the run is noted.
fn noted(world: &World, run: &OpenRun, name: &str) -> PathBuf {
    let folder = world.state().join("backups");
    folder.join(format!("{}-{name}.schema", run.plan.run))
}

/// Notes it, once: what is noted is from before anything was changed.
pub(super) fn note_schema(
    world: &World,
    run: &OpenRun,
    name: &str,
    schema: &[String],
) -> Result<()> {
    let path = noted(world, run, name);
    if path.exists() {
        return Ok(());
    }
    let text = serde_json::to_vec(schema).unwrap_or_default();
    crate::state::write_whole(&path, &text).map_err(|error| {
        let text = format!("the schema of `{name}` could not be noted: {error}");
        Diagnostic::error("rehearse::not-noted", text).help("see that there is room on the disk")
    })
}

/// How the schema of the database itself differs from what it was before the run; `None` where that is not known.
pub(super) fn changed(
    world: &World,
    run: &OpenRun,
    config: &Config,
    name: &str,
) -> Option<Vec<String>> {
    let text = std::fs::read(noted(world, run, name)).ok()?;
    let before: Vec<String> = serde_json::from_slice(&text).ok()?;
    let now = migrations::schema(world, config, name).ok()?;
    Some(migrate::difference(&before, &now))
}

fn shown(run: &OpenRun) -> Option<Shown> {
    let gave = run.steps.get("rehearse")?.gave()?;
    serde_json::from_value(gave.clone()).ok()
}

/// Sees that the version before works with what is there now, which may be neither the schema of before nor the one
/// that was tried: a migrator may have stopped half-way.
pub(super) async fn undo(world: &World, run: &OpenRun, resources: &[String]) -> Result<()> {
    clear(world, run).await?;
    let (Some(shown), Some(old)) = (shown(run), &run.plan.old) else {
        return Ok(());
    };
    let config = version(run, Side::New)?.config(&world.environment)?;
    let mut unknown = Vec::new();
    for name in resources {
        let now = digest(&migrations::schema(world, &config, name)?);
        let known = shown.schemas.get(name);
        if known.is_none_or(|known| now != known.before && now != known.after) {
            unknown.push(name.clone());
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let copies = copies(world, run).await?;
    let works = works(world, run, old, resources, &copies).await;
    let cleared = clear(world, run).await;
    works.map_err(|why| half_way(world, run, (old, &config), &unknown, why))?;
    cleared
}

/// The version that serves may not work with what is there, and what was written since the backup would be lost with it.
fn half_way(
    world: &World,
    run: &OpenRun,
    (old, config): (&Version, &Config),
    names: &[String],
    why: Diagnostic,
) -> Diagnostic {
    let old = old.name();
    let text = format!(
        "the migrator has left `{}` half-way, and {old} does not work with that",
        names.join("`, `")
    );
    let mut told = Diagnostic::error("migrate::half-way", text)
        .note(format!("{old} on a copy of it: {}", why.message));
    told.notes.extend(why.notes);
    for name in names {
        let changed = changed(world, run, config, name).unwrap_or_default();
        told.notes.push(said(name, &changed).join("\n"));
        let backup = format!("{}-{name}", run.plan.run);
        told.notes.push(format!(
            "the backup from before it is `{backup}.*` in {}; what {old} has written since is not in it",
            world.state().join("backups").display()
        ));
    }
    told.note(
        "finish or take back by hand what the migrator has begun, or put the backup in its place",
    )
}

/// What a version that does not become ready has done to the schemas meanwhile, for whoever reads why.
pub(super) fn after_start(world: &World, run: &OpenRun, mut trouble: Diagnostic) -> Diagnostic {
    let shown = shown(run);
    let config = version(run, Side::New).and_then(|new| new.config(&world.environment));
    let (Some(shown), Ok(config)) = (shown, config) else {
        return trouble;
    };
    for name in shown.schemas.keys() {
        let Some(changed) = changed(world, run, &config, name) else {
            continue;
        };
        let lines = said(name, &changed).join("\n");
        trouble.notes.push(match changed.is_empty() {
            true => lines,
            false => format!("the schema has changed, and stays so:\n{lines}"),
        });
    }
    let old = run.plan.old.as_ref().map(Version::name);
    if let (Some(old), Some(works)) = (old, &shown.old) {
        trouble.notes.push(format!(
            "{old} was started on a copy with the new schema before: {works}"
        ));
    }
    trouble
}
