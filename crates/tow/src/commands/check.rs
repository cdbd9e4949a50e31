//! What needs the manifest alone.

use std::path::Path;

use serde::Serialize;
use towpath::agent::api::Trouble;
use towpath::config;
use towpath::container::{self, Engine};
use towpath::diagnostic::{Diagnostic, Report, Severity};
use towpath::manifest::Manifest;
use towpath::release;
use towpath::secret;

use super::Ending;
use crate::cli::Cli;
use crate::cli::commands::Check;
use crate::out;
use crate::place::App;

/// `tow check`.
pub fn check(cli: &Cli, arguments: &Check) -> Ending {
    let root = root(cli)?;
    let path = root.join("tow.toml");
    let text = std::fs::read(&path).map_err(|error| super::inner::failed(&error))?;
    let mut report = config::check_text("tow.toml", &String::from_utf8_lossy(&text));
    if let (Some(manifest), _) = Manifest::read("tow.toml", &report.text) {
        let tree = config::check_tree(&manifest, &manifest.environments(), &root);
        report.extend(tree.diagnostics);
        report.extend(secrets(&manifest, &root)?);
    }
    let engine = engine(&report);
    report.diagnostics.extend(engine);
    let migrations = migrations(cli, &root, &report);
    let all = || std::iter::once(&report).chain(&migrations);
    if arguments.json {
        out::json(&Said {
            report: &report,
            migrations: &migrations,
        });
    } else if all().any(|one| !one.diagnostics.is_empty()) {
        let shown = all().filter(|one| !one.diagnostics.is_empty());
        let shown = shown.map(|one| one.render(out::is_colourful()).trim_end().to_owned());
        out::note(shown.collect::<Vec<_>>().join("\n\n"));
    } else {
        let environments = Manifest::parse("tow.toml", &report.text)
            .map(|manifest| manifest.environments().join(", "));
        out::say(format!(
            "{}: right for {}",
            path.display(),
            environments.unwrap_or_default()
        ));
    }
    Ok(if all().any(Report::has_errors) { 3 } else { 0 })
}

/// What `--json` says: of the manifest, and of each file of migrations that is wrong.
#[derive(Serialize)]
struct Said<'a> {
    #[serde(flatten)]
    report: &'a Report,
    migrations: &'a [Report],
}

/// What a deployment would say of the migrations that it finds in this tree.
fn migrations(cli: &Cli, root: &Path, report: &Report) -> Vec<Report> {
    let manifest = Manifest::parse("tow.toml", &report.text);
    let app = App::open(root, cli.state.clone());
    let (Ok(manifest), Ok(app)) = (manifest, app) else {
        return Vec::new();
    };
    let state = |environment: &str| {
        let place = app.place(environment).ok()?;
        place.server.is_none().then_some(place.state)
    };
    release::check_migrations(&manifest, root, &state)
}

/// Secrets that are asked for and not there, and a file of them that is not as it was signed.
fn secrets(manifest: &Manifest, root: &std::path::Path) -> Result<Vec<Diagnostic>, Trouble> {
    let wrong = |error: secret::Error| Trouble {
        exit: 3,
        diagnostic: Diagnostic::error("secret::tampered", error.to_string())
            .help("look at who changed it: `git log -p tow.secrets.toml`"),
    };
    let app = manifest.get("app").and_then(|app| app.as_text());
    let file = match app {
        Some(app) => secret::File::of(root, app),
        None => secret::File::read(root),
    };
    let file = file.map_err(|error| match error {
        secret::Error::Project { .. } => super::secrets::failed(&error),
        error => wrong(error),
    })?;
    let environments = manifest.environments();
    for environment in &environments {
        match (&file, app) {
            (Some(file), Some(app)) => super::secrets::checked(file, app, environment)
                .map(drop)
                .map_err(|trouble| Trouble { exit: 3, ..trouble })?,
            (Some(file), None) => file.verify(environment).map_err(wrong)?,
            (None, _) => {}
        }
    }
    let has = |environment: &str, name: &str| {
        file.as_ref()
            .is_some_and(|file| file.row(environment, name).is_some())
    };
    Ok(config::check_secrets(manifest, &environments, &has).diagnostics)
}

/// An environment on this machine whose services run in containers needs an engine here.
fn engine(report: &Report) -> Option<Diagnostic> {
    let manifest = Manifest::parse("tow.toml", &report.text).ok()?;
    let here = manifest.environments().into_iter().find_map(|environment| {
        let config = config::resolve(&manifest, environment).ok()?;
        let is_dev = |service: &config::Service| {
            environment == towpath::manifest::LOCAL && service.dev.is_some()
        };
        let mut services = config.services.iter();
        let (name, _) =
            services.find(|(_, service)| service.container.is_some() && !is_dev(service))?;
        config.server.is_none().then(|| (environment, name.clone()))
    });
    let (environment, service) = here?;
    let error = Engine::find().and_then(|engine| engine.answers()).err()?;
    let mut diagnostic = container::missing(&error);
    diagnostic.severity = Severity::Warning;
    Some(diagnostic.note(format!(
        "`{service}` of {environment} runs in a container on this machine"
    )))
}

/// The folder only: the manifest in it may be wrong.
fn root(cli: &Cli) -> Result<std::path::PathBuf, Trouble> {
    let start = cli
        .dir
        .clone()
        .unwrap_or(std::env::current_dir().unwrap_or_default());
    let found = start
        .ancestors()
        .find(|dir| dir.join("tow.toml").is_file())
        .map(std::path::Path::to_owned);
    found.ok_or_else(|| {
        let text = format!(
            "there is no `tow.toml` in `{}` or above it",
            start.display()
        );
        let diagnostic = Diagnostic::error("manifest::missing", text)
            .help("go to the application's folder, or name it with -C");
        Trouble {
            exit: 3,
            diagnostic,
        }
    })
}

/// `tow schema`.
pub fn schema() -> Ending {
    out::json(&towpath::manifest::schema());
    Ok(0)
}
