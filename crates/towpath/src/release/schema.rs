//! What a run has to do to the schemas of the databases, and when.
//!
//! Expansions come before the switch: the version that serves bears them. A rewrite is applied while requests wait, with
//! the version that comes in behind it. Contractions are left for a run of their own, once every version that may still
//! serve knows them. Before anything is planned the migrations are tried out on a scratch copy, so what would fail, or
//! hold its locks for too long, is found while nothing is touched.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::back::can_go_back;
use super::effect::migrations;
use super::hold::{Hold, Needs, hold, is_bearable};
use super::planner::Result;
use super::prepare::Prepared;
use super::tried::{Trial, try_out};
use super::{Environment, Operation, Plan, Refusal, Step, Version, World, database, foreign};
use crate::build;
use crate::config::{Config, Resource, ResourceKind};
use crate::diagnostic::Diagnostic;
use crate::id::RunId;
use crate::migrate::{self, Engine, Kind, Migration};
use crate::resource::kept;
use crate::resource::sqlite::Place;

pub(super) fn engine_of(resource: &Resource) -> Engine {
    match resource.kind {
        ResourceKind::Postgres => Engine::Postgres,
        ResourceKind::Sqlite | ResourceKind::Redis | ResourceKind::Storage => Engine::Sqlite,
    }
}

/// Looking must not make one, nor start its server.
pub(super) fn has_database(world: &World, name: &str, resource: &Resource) -> bool {
    match resource.kind {
        ResourceKind::Postgres if resource.is_run() => world
            .environment()
            .is_ok_and(|now| now.provided.contains(name)),
        ResourceKind::Postgres => true,
        ResourceKind::Sqlite | ResourceKind::Redis | ResourceKind::Storage => {
            database::place(world, name, resource).path().exists()
        }
    }
}

/// Whether it is a server of ours that has data and does not run now: nobody can see what its schema is.
pub(super) fn is_down(world: &World, name: &str, resource: &Resource) -> bool {
    let has_data = || !matches!(kept::read(&world.state(), name), Ok(None));
    resource.kind == ResourceKind::Postgres
        && resource.is_run()
        && !has_database(world, name, resource)
        && has_data()
}

/// The folder of migrations in a tree. What a finished build has put in its place may lead anywhere.
pub(super) fn folder_of(world: &World, root: &Path, folder: &Path) -> Result<PathBuf> {
    let path = root.join(folder);
    let is_own_tree = !root.starts_with(world.state());
    if is_own_tree || path.symlink_metadata().is_err() {
        return Ok(path);
    }
    build::migrations_in(root, folder).map_err(|error| {
        Refusal::Invalid(
            Diagnostic::error("migrate::invalid", error.to_string()).note("nothing was applied"),
        )
    })
}

pub(super) fn invalid(resource: &str, error: &migrate::Error) -> Refusal {
    let diagnostic = error.diagnostic(resource);
    match error {
        migrate::Error::Database(_) | migrate::Error::Locked(..) | migrate::Error::Busy(_) => {
            Refusal::Failed(diagnostic)
        }
        _ => Refusal::Invalid(diagnostic.note("nothing was touched")),
    }
}

/// What a version brings to one resource, and what of it the database does not have.
pub(super) struct Brought {
    pub engine: Engine,
    pub all: Vec<Migration>,
    pub pending: Vec<u64>,
}

impl Brought {
    pub(super) fn kind(&self, version: u64) -> Kind {
        let file = self.all.iter().find(|file| file.version == version);
        file.map_or(Kind::Expand, |file| file.up.header.kind)
    }

    fn pending_of(&self, meant: impl Fn(Kind) -> bool) -> Vec<u64> {
        let pending = self.pending.iter().copied();
        pending
            .filter(|version| meant(self.kind(*version)))
            .collect()
    }
}

/// Reads and checks what is in the folder.
pub(super) fn brought(
    world: &World,
    config: &Config,
    name: &str,
    root: &Path,
) -> Result<Option<Brought>> {
    let resource = &config.resources[name];
    let Some(folder) = resource.migrations() else {
        return Ok(None);
    };
    let engine = engine_of(resource);
    let refuse = |error: migrate::Error| invalid(name, &error);
    let all = migrate::load(&folder_of(world, root, folder)?, engine).map_err(refuse)?;
    let pending: Vec<&Migration> = match has_database(world, name, resource) {
        false => all.iter().collect(),
        true => {
            let mut db = migrations::open(world, config, name).map_err(Refusal::Failed)?;
            migrate::pending(&mut db, &all).map_err(refuse)?
        }
    };
    migrate::check(engine, pending.iter().copied()).map_err(refuse)?;
    let pending = pending.iter().map(|migration| migration.version).collect();
    Ok(Some(Brought {
        engine,
        all,
        pending,
    }))
}

/// What bringing a version in does to the schemas.
pub(super) fn needs(
    world: &World,
    now: &Environment,
    config: &Config,
    prepared: &Prepared,
    operation: Operation,
) -> Result<Needs> {
    let mut needs = Needs {
        rehearsed: Vec::new(),
        rewritten: BTreeSet::new(),
        steps: Vec::new(),
        hold: Hold::Never,
        changes: Vec::new(),
    };
    let mut waits_ms = 0;
    for name in config.resources.keys() {
        lies_there(world, now, name, &config.resources[name])?;
        if operation == Operation::Restart {
            continue;
        }
        if operation == Operation::Rollback {
            can_go_back(world, now, config, name, prepared)?;
            continue;
        }
        database::check(&world.state(), name, &config.resources[name]).map_err(Refusal::Refused)?;
        let brought = brought(world, config, name, &prepared.root)?;
        let versions = match &brought {
            // With nothing that serves there is nobody who could mind.
            Some(brought) if now.live.is_none() => brought.pending.clone(),
            Some(brought) => brought.pending_of(|kind| kind != Kind::Contract),
            None => Vec::new(),
        };
        let resource = &config.resources[name];
        let foreign = resource.foreign();
        let is_due = operation != Operation::Up || !versions.is_empty() || foreign.is_some();
        if is_due && resource.is_backed_up() {
            needs.steps.push(Step::BackUp {
                resource: name.clone(),
            });
        }
        if let Some(foreign) = foreign {
            foreign::plan(world, now, (name, resource, foreign), operation, &mut needs)?;
        }
        let Some(brought) = brought.filter(|_| !versions.is_empty()) else {
            continue;
        };
        let tried = try_out(
            world,
            (name, resource),
            &brought,
            &versions,
            RunId(now.last_run + 1),
        )?;
        needs
            .changes
            .extend(told(name, &brought, &versions, &tried));
        if now.live.is_some() {
            can_be_taken_back((name, resource), &brought, &versions)?;
            let hold = hold(&brought, &versions, &tried);
            if hold == Hold::UntilSwitch {
                needs.rewritten.insert(name.clone());
            }
            needs.hold = needs.hold.max(hold);
            waits_ms += tried.as_ref().map_or(0, |tried| tried.total_ms);
        }
        needs.steps.push(Step::Migrate {
            resource: name.clone(),
            versions,
        });
    }
    is_bearable(needs.hold, waits_ms)?;
    Ok(needs)
}

/// A database that is to lie elsewhere than it does would be an empty one.
fn lies_there(world: &World, now: &Environment, name: &str, resource: &Resource) -> Result<()> {
    let place = database::place(world, name, resource).path();
    if resource.kind != ResourceKind::Sqlite || place.exists() {
        return Ok(());
    }
    let live = now.live.as_ref();
    let live = live.and_then(|live| live.config(&world.environment).ok());
    let files = live.iter().flat_map(|config| config.resources.get(name));
    let files = files.filter(|found| found.kind == ResourceKind::Sqlite);
    let mut files = files.map(|found| found.file.as_deref()).chain([None]);
    let other = files.find_map(|file| {
        let other = Place::new(&world.state(), name, file).path();
        (other != place && other.exists()).then_some(other)
    });
    let Some(other) = other else { return Ok(()) };
    let text = format!("the database `{name}` would be a new and empty one");
    Err(Refusal::Refused(
        Diagnostic::error("resource::elsewhere", text)
            .note(format!("its `file` says {}", place.display()))
            .note(format!("what is there lies in {}", other.display()))
            .note("nothing was touched")
            .help("leave its `file` as it was; or `tow down`, move the file, and deploy"),
    ))
}

/// What is rewritten goes back with its backup on SQLite, and by its `down` where none is put back: on PostgreSQL, and
/// where somebody else takes it.
fn can_be_taken_back(
    (name, resource): (&str, &Resource),
    brought: &Brought,
    versions: &[u64],
) -> Result<()> {
    let is_put_back = brought.engine == Engine::Sqlite && resource.is_backed_up();
    let files = brought.all.iter();
    let mut one_way = files.filter(|file| {
        let is_meant = versions.contains(&file.version);
        is_meant && file.up.header.kind == Kind::Rewrite && file.down.is_none()
    });
    match one_way.next() {
        Some(file) if !is_put_back => Err(invalid(name, &migrate::Error::NoDown(file.version))),
        _ => Ok(()),
    }
}

/// As a person is told of it beforehand, after it was tried out.
pub(super) fn foretell(
    world: &World,
    (name, resource): (&str, &Resource),
    brought: &Brought,
    versions: &[u64],
    run: RunId,
) -> Result<Vec<String>> {
    let tried = try_out(world, (name, resource), brought, versions, run)?;
    Ok(told(name, brought, versions, &tried))
}

/// What a person is told of it beforehand.
fn told(name: &str, brought: &Brought, versions: &[u64], tried: &Trial) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for version in versions {
        let file = brought.all.iter().find(|file| file.version == *version);
        let file = file.map_or(String::new(), |file| file.name.clone());
        lines.push(format!(
            "{name}: {version:04}_{file}, {}",
            brought.kind(*version)
        ));
    }
    let tried = match tried {
        Ok(tried) => tried,
        Err(why) => {
            lines.push(format!("{name}: not tried out on a copy: {why}"));
            return lines;
        }
    };
    lines.extend(
        tried
            .difference
            .iter()
            .map(|line| format!("{name}: {line}")),
    );
    lines.push(match &tried.one_way {
        None => format!("{name}: up, down and up again leaves nothing behind"),
        Some(why) => format!("{name}: it cannot be taken back: {why}"),
    });
    lines
}

/// Those of a version's contractions that another does not know, of one resource.
pub(super) fn unknown_to(
    world: &World,
    other: &Version,
    name: &str,
    versions: impl IntoIterator<Item = u64>,
) -> Result<Vec<u64>> {
    let known = migrations_of(world, other, name)?;
    let versions = versions.into_iter();
    Ok(versions
        .filter(|version| !known.contains(version))
        .collect())
}

/// Contractions that wait, and that every version which may still serve knows: those of the version that serves, unless
/// another is warm.
pub(super) fn due(
    world: &World,
    now: &Environment,
    version: &Version,
) -> Result<Vec<(String, Vec<u64>)>> {
    let config = version
        .config(&world.environment)
        .map_err(Refusal::Failed)?;
    let mut due = Vec::new();
    for (name, resource) in &config.resources {
        if !has_contractions(world, name, resource, &version.root)? {
            continue;
        }
        let Some(brought) = brought(world, &config, name, &version.root)? else {
            continue;
        };
        let mut versions = brought.pending_of(|kind| kind == Kind::Contract);
        if let Some(warm) = &now.warm {
            let known = migrations_of(world, &warm.version, name)?;
            versions.retain(|version| known.contains(version));
        }
        if !versions.is_empty() {
            due.push((name.clone(), versions));
        }
    }
    Ok(due)
}

/// Most folders have none, and then there is no need to ask the database.
fn has_contractions(world: &World, name: &str, resource: &Resource, root: &Path) -> Result<bool> {
    let Some(folder) = resource.migrations() else {
        return Ok(false);
    };
    let all = migrate::load(&folder_of(world, root, folder)?, engine_of(resource));
    let all = all.map_err(|error| invalid(name, &error))?;
    Ok(all.iter().any(|file| file.up.header.kind == Kind::Contract))
}

fn migrations_of(world: &World, version: &Version, name: &str) -> Result<BTreeSet<u64>> {
    let config = version
        .config(&world.environment)
        .map_err(Refusal::Failed)?;
    let folder = config
        .resources
        .get(name)
        .and_then(|found| Some((engine_of(found), found.migrations()?)));
    let Some((engine, folder)) = folder else {
        return Ok(BTreeSet::new());
    };
    let all = migrate::load(&folder_of(world, &version.root, folder)?, engine);
    let all = all.map_err(|error| invalid(name, &error))?;
    Ok(all.iter().map(|file| file.version).collect())
}

fn is_database(resource: &Resource) -> bool {
    matches!(resource.kind, ResourceKind::Sqlite | ResourceKind::Postgres)
}

/// The schemas of the databases that the version is to find, whether or not anything runs now.
pub(super) fn stays(world: &World, plan: &Plan) -> String {
    let config = plan
        .new
        .as_ref()
        .and_then(|new| new.config(&world.environment).ok());
    let Some(config) = config else {
        return "the schema is not known".to_owned();
    };
    let mut resources = config.resources.clone();
    resources.retain(|_, resource| resource.migrate.is_some());
    let at = |name: &String| {
        if let Some(foreign) = resources[name].foreign() {
            return foreign::stays(foreign);
        }
        if !has_database(world, name, &resources[name]) {
            return "there is no database yet".to_owned();
        }
        let db = migrations::open(world, &config, name).map_err(|why| why.message);
        let have = db.and_then(|mut db| migrate::applied(&mut db).map_err(|why| why.to_string()));
        match have {
            Ok(applied) => match applied.keys().max() {
                Some(version) => format!("the schema stays at {version:04}"),
                None => "no migration is applied".to_owned(),
            },
            Err(error) => format!("the schema cannot be read: {error}"),
        }
    };
    let told: Vec<String> = match resources.len() {
        0 if config.resources.values().any(is_database) => {
            vec!["the schema is the application's own".to_owned()]
        }
        0 => vec!["there is no database".to_owned()],
        1 => resources.keys().map(at).collect(),
        _ => resources
            .keys()
            .map(|name| format!("`{name}`: {}", at(name)))
            .collect(),
    };
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::hold::tests::brought;

    fn resource(more: &str) -> Resource {
        let text = format!(
            "app = \"a\"\nservices.web = {{ run = \"serve\", needs = [\"db\"] }}\nresources.db = {{ kind = \"sqlite\", migrate = \"m\"{more} }}\n"
        );
        let manifest = crate::manifest::Manifest::parse("tow.toml", &text).unwrap();
        let config = crate::config::resolve(&manifest, "local").unwrap();
        config.resources["db"].clone()
    }

    #[test]
    fn a_rewrite_that_no_backup_of_ours_takes_back_needs_a_down() {
        let asked = |more| {
            let resource = resource(more);
            can_be_taken_back(("db", &resource), &brought(Kind::Rewrite), &[1])
        };
        assert!(asked("").is_ok());
        let refused = asked(", backup = \"provider\"");
        assert!(
            matches!(refused, Err(Refusal::Invalid(why)) if why.message.contains("no `.down.sql`"))
        );
    }
}
