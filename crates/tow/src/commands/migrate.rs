//! Migrations by hand.

use std::path::{Path, PathBuf};

use towpath::agent::api::{Begin, Begun, LookAtSchemas, Trouble, What};
use towpath::config;
use towpath::diagnostic::Diagnostic;
use towpath::manifest::Manifest;
use towpath::migrate as migrations;
use towpath::release::{Migrating, MigrationStatus, SchemaStatus, Tree};

use super::Ending;
use super::deploy::{Act, act, actor, tell_changes};
use crate::cli::Cli;
use crate::cli::commands::{Engine, Migrate, MigrateCommand, Migration};
use crate::follow::Course;
use crate::place::{App, Place};
use crate::{connect, out, times};

/// `tow migrate`.
pub async fn migrate(cli: &Cli, arguments: &Migrate) -> Ending {
    match &arguments.command {
        MigrateCommand::Up(migration) => run(cli, migration, Migrating::Up).await,
        MigrateCommand::Down { to, migration } => run(cli, migration, Migrating::Down(*to)).await,
        MigrateCommand::Baseline { version, migration } => {
            run(cli, migration, Migrating::Baseline(*version)).await
        }
        MigrateCommand::Status { here } => status(cli, &here.environment, here.json).await,
        MigrateCommand::New {
            name,
            engine,
            resource,
        } => new(&App::find(cli)?, name, *engine, resource.as_deref()),
    }
}

/// Whether the course is to be printed as JSON.
pub fn wants_json(arguments: &Migrate) -> bool {
    match &arguments.command {
        MigrateCommand::Up(migration)
        | MigrateCommand::Down { migration, .. }
        | MigrateCommand::Baseline { migration, .. } => migration.here.json,
        MigrateCommand::Status { here } => here.json,
        MigrateCommand::New { .. } => false,
    }
}

/// Where the source tree runs its migrations are meant, else those of the release that serves.
fn tree(place: &Place) -> Option<Tree> {
    (place.environment == "local").then(|| Tree {
        root: place.app.root.clone(),
        manifest: place.app.text.clone(),
    })
}

async fn run(cli: &Cli, migration: &Migration, how: Migrating) -> Ending {
    let place = App::find(cli)?.place(&migration.here.environment)?;
    let client = connect::agent(&place).await?;
    let what = What::Migrate {
        how,
        resource: migration.resource.clone(),
        tree: tree(&place),
    };
    let begin = Begin {
        dry_run: migration.dry_run,
        ..Begin::new(what, actor())
    };
    let json = migration.here.json;
    act(Act {
        place: &place,
        client: &client,
        begin,
        json,
    })
    .await
}

/// What would be done, or that there is nothing to do.
pub fn tell_plan(begun: &Begun, dry_run: bool, json: bool) -> Ending {
    match (json, dry_run) {
        (true, true) => out::json(begun),
        (true, false) => out::json(&Course::nothing()),
        (false, _) if begun.steps.is_empty() => {
            out::say("there is nothing to do");
            tell_changes(begun);
        }
        (false, _) => {
            out::say("would do:");
            begun
                .steps
                .iter()
                .for_each(|step| out::say(format!("  {step}")));
            tell_changes(begun);
        }
    }
    Ok(0)
}

async fn status(cli: &Cli, environment: &str, json: bool) -> Ending {
    let place = App::find(cli)?.place(environment)?;
    let client = connect::agent(&place).await?;
    let asked = LookAtSchemas { tree: tree(&place) };
    let schemas: Vec<SchemaStatus> = client
        .post("/v1/schemas", &asked)
        .await
        .map_err(towpath::agent::ClientError::into_trouble)?;
    if json {
        out::json(&schemas);
        return Ok(0);
    }
    if schemas.is_empty() {
        out::say("no database has migrations of ours");
    }
    schemas.iter().for_each(tell);
    Ok(0)
}

fn tell(schema: &SchemaStatus) {
    out::say(format!("{} ({})", schema.resource, schema.engine));
    schema.migrations.iter().for_each(tell_one);
    match (&schema.drift, &schema.problem) {
        (Some(lines), _) if lines.is_empty() => {
            out::say("  the schema is what its migrations make")
        }
        (Some(lines), _) => {
            out::say("  the schema is not what its migrations make:");
            lines
                .iter()
                .for_each(|line| out::say(format!("    {line}")));
        }
        (None, Some(why)) => out::say(format!(
            "  whether the schema has drifted was not looked at: {why}"
        )),
        (None, None) => {}
    }
}

fn tell_one(one: &MigrationStatus) {
    let name = format!("{:04}_{}", one.version, one.name);
    let when = one
        .applied_ms
        .map_or(String::new(), |ms| format!("  {}", times::ago(ms)));
    let kind = match one.kind {
        migrations::Kind::Expand => String::new(),
        kind => format!("  {kind}"),
    };
    out::say(format!("  {:<9}{name}{kind}{when}", one.state));
}

fn invalid(text: String, help: &str) -> Trouble {
    let diagnostic = Diagnostic::error("migrate::new", text);
    Trouble {
        exit: 3,
        diagnostic: diagnostic.note("nothing was written").help(help),
    }
}

/// Writes the files with the next number.
fn new(app: &App, name: &str, engine: Option<Engine>, resource: Option<&str>) -> Ending {
    let is_right = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
    if name.is_empty() || !name.chars().all(is_right) {
        let text = format!("`{name}` cannot be the name of a migration");
        return Err(invalid(
            text,
            "small letters, digits and `_`, as in `add_tags`",
        ));
    }
    let folder = folder(app, resource)?;
    let next = next(&folder)?;
    let below = match engine {
        None => folder.clone(),
        Some(Engine::Sqlite) => folder.join("sqlite"),
        Some(Engine::Postgres) => folder.join("postgres"),
    };
    let failed = |error: std::io::Error| {
        invalid(
            format!("`{}`: {error}", below.display()),
            "see that it can be written",
        )
    };
    std::fs::create_dir_all(&below).map_err(failed)?;
    for (end, says) in [
        (
            "up",
            "-- What goes on working with the version before. Else begin with `-- tow: contract` or `-- tow: rewrite`.\n",
        ),
        ("down", "-- Takes back what the other file does.\n"),
    ] {
        let path = below.join(format!("{next:04}_{name}.{end}.sql"));
        let file = std::fs::File::options()
            .write(true)
            .create_new(true)
            .open(&path);
        std::io::Write::write_all(&mut file.map_err(failed)?, says.as_bytes()).map_err(failed)?;
        let shown = path.strip_prefix(&app.root).unwrap_or(&path);
        out::say(shown.display().to_string());
    }
    Ok(0)
}

/// The folder of the one database that has migrations, or of the one that is named.
fn folder(app: &App, resource: Option<&str>) -> Result<PathBuf, Trouble> {
    let manifest = Manifest::parse("tow.toml", &app.text);
    let config = manifest.and_then(|manifest| config::resolve(&manifest, "local"));
    let config = config.map_err(|report| out::invalid_manifest(&report, false))?;
    let with_folder = config.resources.iter().filter(|(name, found)| {
        found.migrations().is_some() && resource.is_none_or(|resource| resource == *name)
    });
    let found: Vec<&Path> = with_folder
        .filter_map(|(_, found)| found.migrations())
        .collect();
    match found[..] {
        [folder] => Ok(app.root.join(folder)),
        [] => Err(invalid(
            "no database has migrations of ours".to_owned(),
            "say where they are: `migrate = \"migrations\"` below the resource",
        )),
        _ => Err(invalid(
            "there are several databases with migrations".to_owned(),
            "name one: `--resource NAME`",
        )),
    }
}

/// The number after the greatest of any engine.
fn next(folder: &Path) -> Result<u64, Trouble> {
    let mut greatest = 0;
    for engine in [migrations::Engine::Sqlite, migrations::Engine::Postgres] {
        let all = migrations::load(folder, engine).map_err(|error| Trouble {
            exit: 3,
            diagnostic: error.diagnostic("migrations").note("nothing was written"),
        })?;
        greatest = all.iter().map(|file| file.version).fold(greatest, u64::max);
    }
    Ok(greatest + 1)
}
