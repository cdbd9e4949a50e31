//! Migrations by hand: a run of their own, and how the schemas stand.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::effect::migrations;
use super::planner::{Result, quiet};
use super::schema::{self, Brought, engine_of};
use super::{Environment, Operation, Plan, Refusal, Step, Version, World, scratch};
use crate::config::{Config, Resource, ResourceKind};
use crate::diagnostic::Diagnostic;
use crate::id::RunId;
use crate::manifest::LOCAL;
use crate::migrate::{self, Engine, Kind, State};
use crate::resource::Connection;

/// What is to be done to the schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Migrating {
    /// Apply what is pending.
    Up,
    /// Take back what is above this number.
    Down(u64),
    /// Count the schema as migrated up to this number.
    Baseline(u64),
}

/// Whose migrations: a source tree's, or those of the version that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// Folder of the manifest.
    pub root: PathBuf,
    /// The manifest.
    pub manifest: String,
}

fn refused(code: &'static str, text: String, help: impl Into<String>) -> Refusal {
    let diagnostic = Diagnostic::error(code, text);
    Refusal::Refused(diagnostic.note("nothing was touched").help(help))
}

fn version(world: &World, now: &Environment, tree: Option<Tree>) -> Result<Version> {
    let environment = &world.environment;
    match (tree, &now.live) {
        (Some(tree), _) => Ok(Version {
            run: RunId(now.last_run + 1),
            release: None,
            root: tree.root,
            dev: true,
            manifest: tree.manifest,
            instances: Vec::new(),
            seed: None,
            images: std::collections::BTreeMap::new(),
            purpose: world.purpose(),
        }),
        (None, Some(live)) => Ok(Version {
            instances: Vec::new(),
            ..live.clone()
        }),
        (None, None) => Err(refused(
            "migrate::no-version",
            format!("nothing serves in {environment}, so there are no migrations"),
            format!("`tow deploy -e {environment}` brings a release in, with its migrations"),
        )),
    }
}

/// Plans it. Blocking.
///
/// # Errors
/// [`Refusal`]; nothing is touched then.
pub fn migrate(
    world: &World,
    now: &Environment,
    tree: Option<Tree>,
    resource: Option<&str>,
    how: Migrating,
    actor: &str,
) -> Result<Plan> {
    let is_tree = tree.is_some();
    let version = version(world, now, tree)?;
    let config = version
        .config(&world.environment)
        .map_err(Refusal::Failed)?;
    let known = |name: &str| config.resources.contains_key(name);
    if let Some(name) = resource.filter(|name| !known(name)) {
        let text = format!("there is no resource `{name}`");
        return Err(Refusal::Invalid(
            Diagnostic::error("migrate::unknown", text).note("nothing was touched"),
        ));
    }
    let mut plan = quiet(now, Operation::Migrate, actor, Vec::new());
    for name in config.resources.keys() {
        if resource.is_some_and(|resource| resource != name) {
            continue;
        }
        runs(world, name, &config.resources[name])?;
        let Some(brought) = schema::brought(world, &config, name, &version.root)? else {
            continue;
        };
        match how {
            Migrating::Up => up(world, now, &version, (name, &brought), &mut plan)?,
            Migrating::Down(to) => down(
                world,
                now,
                &config,
                is_tree,
                (name, &brought, to),
                &mut plan,
            )?,
            Migrating::Baseline(number) => baseline(name, &brought, number, &mut plan)?,
        }
    }
    plan.steps.retain(|step| is_ours(&config, step));
    let several = plan
        .steps
        .iter()
        .filter(|step| !matches!(step, Step::BackUp { .. }))
        .count()
        > 1;
    if several && how != Migrating::Up {
        let text = "there are several databases with migrations".to_owned();
        return Err(refused(
            "migrate::which",
            text,
            "name one: `--resource NAME`",
        ));
    }
    plan.new = Some(version);
    Ok(plan)
}

/// A server of ours is started with what needs it, and by no migration.
fn runs(world: &World, name: &str, resource: &Resource) -> Result<()> {
    let is_ours = resource.kind == ResourceKind::Postgres && resource.is_run();
    let is_meant = is_ours && resource.migrations().is_some();
    if !is_meant || schema::has_database(world, name, resource) {
        return Ok(());
    }
    let environment = &world.environment;
    let start = match (environment == LOCAL, schema::is_down(world, name, resource)) {
        (true, _) => "`tow up` starts it, and applies what is pending".to_owned(),
        (false, true) => {
            format!("`tow rollback -e {environment}` starts it with the release that served last")
        }
        (false, false) => {
            format!("`tow deploy -e {environment}` makes it, and applies what is pending")
        }
    };
    let state = if schema::is_down(world, name, resource) {
        "is down"
    } else {
        "is not there yet"
    };
    Err(refused(
        "migrate::down",
        format!("the database `{name}` {state}"),
        start,
    ))
}

/// A contraction of a tree is refused where what serves, or is kept warm, is a release that does not know it.
fn known_to_all(world: &World, now: &Environment, (name, brought): (&str, &Brought)) -> Result<()> {
    let contractions = || {
        let pending = brought.pending.iter().copied();
        pending.filter(|version| brought.kind(*version) == Kind::Contract)
    };
    let warm = now.warm.as_ref().map(|warm| &warm.version);
    let served = now.live.iter().chain(warm);
    for other in served.filter(|other| other.release.is_some()) {
        let unknown = schema::unknown_to(world, other, name, contractions())?;
        if let Some(version) = unknown.first() {
            let text = format!(
                "{name}: {version:04} is a contraction, and {}, which runs in {}, does not know it",
                other.name(),
                world.environment
            );
            let help = format!(
                "bring in a release that has it: `tow deploy -e {}`; it is applied when no other is left",
                world.environment
            );
            return Err(refused("migrate::needed", text, help));
        }
    }
    Ok(())
}

fn baseline(name: &str, brought: &Brought, number: u64, plan: &mut Plan) -> Result<()> {
    if !brought.all.iter().any(|file| file.version == number) {
        let text = format!("`{name}` has no migration {number:04}");
        return Err(Refusal::Invalid(
            Diagnostic::error("migrate::missing", text).note("nothing was touched"),
        ));
    }
    plan.steps.push(Step::Baseline {
        resource: name.to_owned(),
        version: number,
    });
    Ok(())
}

fn up(
    world: &World,
    now: &Environment,
    version: &Version,
    (name, brought): (&str, &Brought),
    plan: &mut Plan,
) -> Result<()> {
    if version.dev {
        known_to_all(world, now, (name, brought))?;
    }
    let due = schema::due(world, now, version)?;
    let due = due.into_iter().find(|(resource, _)| resource == name);
    let due = due.map(|(_, versions)| versions).unwrap_or_default();
    let is_meant = |version: &u64| match brought.kind(*version) {
        Kind::Expand => true,
        Kind::Contract => due.contains(version),
        Kind::Rewrite => now.live.is_none(),
    };
    let (versions, later): (Vec<u64>, Vec<u64>) =
        brought.pending.iter().copied().partition(is_meant);
    for version in later {
        let kind = brought.kind(version);
        plan.changes.push(match kind {
            Kind::Rewrite => format!(
                "{name}: {version:04} waits: it is a rewrite, which comes in with a deployment"
            ),
            _ => format!(
                "{name}: {version:04} waits until no version that does not know it is kept warm"
            ),
        });
    }
    if versions.is_empty() {
        return Ok(());
    }
    let config = version
        .config(&world.environment)
        .map_err(Refusal::Failed)?;
    let found = (name, &config.resources[name]);
    plan.changes.extend(schema::foretell(
        world, found, brought, &versions, plan.run,
    )?);
    let resource = name.to_owned();
    plan.steps.push(Step::BackUp {
        resource: resource.clone(),
    });
    plan.steps.push(Step::Migrate { resource, versions });
    Ok(())
}

fn down(
    world: &World,
    now: &Environment,
    config: &Config,
    is_tree: bool,
    (name, brought, to): (&str, &Brought, u64),
    plan: &mut Plan,
) -> Result<()> {
    let mut db = migrations::open(world, config, name).map_err(Refusal::Failed)?;
    let have = migrate::applied(&mut db);
    let have = have.map_err(|error| Refusal::Failed(error.diagnostic(name)))?;
    let versions: Vec<u64> = have
        .keys()
        .copied()
        .filter(|version| *version > to)
        .collect();
    if versions.is_empty() {
        return Ok(());
    }
    if let (Some(live), false) = (&now.live, is_tree) {
        let text = format!(
            "{} serves, and it is made for these migrations",
            live.name()
        );
        return Err(refused(
            "migrate::needed",
            text,
            "go back to an earlier release: `tow rollback`",
        ));
    }
    for version in &versions {
        let file = brought.all.iter().find(|file| file.version == *version);
        let invalid = |error: migrate::Error| {
            Refusal::Invalid(error.diagnostic(name).note("nothing was touched"))
        };
        let file = file.ok_or_else(|| {
            invalid(migrate::Error::Missing(
                *version,
                have[version].name.clone(),
            ))
        })?;
        file.down
            .as_ref()
            .ok_or_else(|| invalid(migrate::Error::NoDown(*version)))?;
        plan.changes.push(format!(
            "{name}: takes {version:04}_{} back, with what was written into it",
            file.name
        ));
    }
    let resource = name.to_owned();
    plan.steps.push(Step::BackUp {
        resource: resource.clone(),
    });
    plan.steps.push(Step::TakeBack { resource, versions });
    Ok(())
}

/// The contractions that have become due with the end of the last run, as a run; `None` where there is none, or where
/// they were tried already. Blocking.
#[must_use]
pub fn contract(world: &World, now: &Environment) -> Option<Plan> {
    let last = now.ended.last()?;
    if now.open.is_some() || last.operation == Operation::Migrate || !last.done {
        return None;
    }
    let live = now.live.as_ref()?;
    let due = schema::due(world, now, live).ok()?;
    if due.is_empty() {
        return None;
    }
    let config = live.config(&world.environment).ok()?;
    let steps = due.into_iter().flat_map(|(resource, versions)| {
        [
            Step::BackUp {
                resource: resource.clone(),
            },
            Step::Migrate { resource, versions },
        ]
    });
    let steps = steps.filter(|step| is_ours(&config, step)).collect();
    let version = Version {
        instances: Vec::new(),
        ..live.clone()
    };
    Some(Plan {
        new: Some(version),
        ..quiet(now, Operation::Migrate, "towpath", steps)
    })
}

/// Not a backup that somebody else takes.
fn is_ours(config: &Config, step: &Step) -> bool {
    match step {
        Step::BackUp { resource } => config
            .resources
            .get(resource)
            .is_none_or(Resource::is_backed_up),
        _ => true,
    }
}

/// How the schema of one database stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SchemaStatus {
    /// The resource.
    pub resource: String,
    /// The kind of database.
    pub engine: Engine,
    /// Its migrations, in order.
    pub migrations: Vec<MigrationStatus>,
    /// What the schema has, or has not, against what its migrations make of nothing; `None` where that was not looked at.
    pub drift: Option<Vec<String>>,
    /// Why it was not.
    pub problem: Option<String>,
}

/// How one migration stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MigrationStatus {
    /// Its number.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// What it means.
    pub kind: Kind,
    /// `applied`, `baseline`, `started`, `pending`, `edited`, or `unknown` for one that is not in the folder.
    pub state: String,
    /// When it was applied, Unix milliseconds.
    pub applied_ms: Option<i64>,
}

/// How the schemas stand, against the migrations of a tree or of the version that serves. Blocking.
///
/// # Errors
/// [`Refusal`] when there are no migrations to look at, or they cannot be read.
pub fn schemas(world: &World, now: &Environment, tree: Option<Tree>) -> Result<Vec<SchemaStatus>> {
    let version = version(world, now, tree)?;
    let config = version
        .config(&world.environment)
        .map_err(Refusal::Failed)?;
    let with_folder = config
        .resources
        .iter()
        .filter(|(_, resource)| resource.migrations().is_some());
    with_folder
        .map(|(name, resource)| one(world, &config, (name, resource), &version))
        .collect()
}

fn one(
    world: &World,
    config: &Config,
    (name, resource): (&str, &Resource),
    version: &Version,
) -> Result<SchemaStatus> {
    let engine = engine_of(resource);
    let folder = resource.migrations().unwrap_or(std::path::Path::new(""));
    let folder = schema::folder_of(world, &version.root, folder)?;
    let refuse = |error: migrate::Error| Refusal::Invalid(error.diagnostic(name));
    if schema::is_down(world, name, resource) {
        runs(world, name, resource)?;
    }
    let all = migrate::load(&folder, engine).map_err(refuse)?;
    let mut db = match schema::has_database(world, name, resource) {
        true => Some(migrations::open(world, config, name).map_err(Refusal::Failed)?),
        false => None,
    };
    let have = match &mut db {
        Some(db) => migrate::applied(db).map_err(refuse)?,
        None => Default::default(),
    };
    let mut listed: Vec<MigrationStatus> = have
        .iter()
        .map(|(version, found)| {
            let file = all.iter().find(|file| file.version == *version);
            let state = match (file, found.state) {
                (None, _) => "unknown",
                (_, State::Started) => "started",
                (Some(file), _)
                    if !found.checksum.is_empty() && file.checksum() != found.checksum =>
                {
                    "edited"
                }
                (_, State::Baseline) => "baseline",
                (_, State::Applied) => "applied",
            };
            MigrationStatus {
                version: *version,
                name: found.name.clone(),
                kind: found.kind,
                state: state.to_owned(),
                applied_ms: (found.applied_ms > 0).then_some(found.applied_ms),
            }
        })
        .collect();
    let pending = all.iter().filter(|file| !have.contains_key(&file.version));
    listed.extend(pending.map(|file| MigrationStatus {
        version: file.version,
        name: file.name.clone(),
        kind: file.up.header.kind,
        state: "pending".to_owned(),
        applied_ms: None,
    }));
    listed.sort_by_key(|one| one.version);
    let drift = match &mut db {
        Some(db) => drift(world, (name, resource), db, &all),
        None => Ok(Vec::new()),
    };
    Ok(SchemaStatus {
        resource: name.to_owned(),
        engine,
        migrations: listed,
        problem: drift.as_ref().err().cloned(),
        drift: drift.ok(),
    })
}

/// What differs from what its migrations make of nothing.
fn drift(
    world: &World,
    (name, resource): (&str, &Resource),
    db: &mut Connection,
    all: &[migrate::Migration],
) -> std::result::Result<Vec<String>, String> {
    let options = migrations::options(world);
    let expected = match db {
        Connection::Sqlite(_) => {
            let empty = rusqlite::Connection::open_in_memory();
            let empty = empty.map_err(|error| error.to_string())?;
            migrate::expected(db, &mut Connection::Sqlite(empty), all, &options)
        }
        Connection::Postgres(_) => {
            let empty = scratch::Empty::beside(world, name, resource);
            let mut empty = empty.map_err(|trouble| trouble.message.to_string())?;
            migrate::expected(db, &mut empty.db, all, &options)
        }
    };
    let expected = expected.map_err(|error| error.to_string())?;
    let found = migrate::schema(db).map_err(|error| error.to_string())?;
    Ok(migrate::difference(&expected, &found))
}
