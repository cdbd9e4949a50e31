//! What a manifest means: in one environment, in two, and as a file for the application.

use std::collections::BTreeMap;

use towpath::config::{self, Explained};
use towpath::manifest::Manifest;
use towpath::render as rendered;

use super::Ending;
use crate::cli::Cli;
use crate::cli::commands::{Config, ConfigCommand, Format};
use crate::place::App;
use crate::{out, render};

/// `tow config`.
pub async fn config(cli: &Cli, arguments: &Config) -> Ending {
    match &arguments.command {
        None => show(cli, arguments),
        Some(ConfigCommand::Diff { one, other, json }) => diff(cli, one, other, *json),
        Some(ConfigCommand::Drift { here }) => super::drift::drift(cli, here).await,
        Some(ConfigCommand::Render { format }) => render_file(cli, *format),
    }
}

/// Whether JSON is asked for.
pub fn wants_json(arguments: &Config) -> bool {
    match &arguments.command {
        None => arguments.here.json,
        Some(ConfigCommand::Diff { json, .. }) => *json,
        Some(ConfigCommand::Drift { here }) => here.json,
        Some(ConfigCommand::Render { .. }) => false,
    }
}

fn parsed(app: &App, json: bool) -> Result<Manifest, towpath::agent::api::Trouble> {
    Manifest::parse("tow.toml", &app.text).map_err(|report| out::invalid_manifest(&report, json))
}

fn show(cli: &Cli, arguments: &Config) -> Ending {
    let json = arguments.here.json;
    let app = App::find(cli)?;
    let place = app.place(&arguments.here.environment)?;
    let manifest = parsed(&app, json)?;
    let resolved = config::resolve(&manifest, &place.environment)
        .map_err(|report| out::invalid_manifest(&report, json))?;
    let mut explained = config::explain(&manifest, &place.environment);
    let asked = arguments.explain.as_ref();
    if let Some(Some(key)) = asked {
        let all = explained.len();
        explained.retain(|one| is_asked(&one.path, key));
        if explained.is_empty() {
            return Err(no_key(key, &place.environment, all));
        }
    }
    match (json, asked) {
        (true, Some(_)) => out::json(&explained),
        (true, None) => out::json(&resolved),
        (false, asked) => {
            out::note(render::place(&place));
            tell(&explained, asked.is_some(), matches!(asked, Some(Some(_))));
        }
    }
    Ok(0)
}

/// A key, what stands below it, or a variable by its own name.
fn is_asked(path: &str, key: &str) -> bool {
    let below = |key: &str| {
        let rest = path.strip_prefix(key);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let named = path.rsplit('.').next() == Some(key) && path.contains(".env.");
    below(key) || below(&format!("variables.{key}")) || named
}

fn no_key(key: &str, environment: &str, all: usize) -> towpath::agent::api::Trouble {
    let text = format!("nothing in {environment} is called `{key}`");
    let mut trouble = super::inner::usage(text);
    let help = format!("`tow config -e {environment}` shows all {all} values");
    trouble.diagnostic = trouble.diagnostic.help(help);
    trouble
}

fn tell(explained: &[Explained], origins: bool, whole: bool) {
    let width = if whole { 2000 } else { 60 };
    let mut rows = Vec::new();
    for one in explained {
        let mut row = vec![one.path.clone(), render::short(&one.value, width)];
        row.extend(origins.then(|| one.origin.to_string()));
        rows.push(row);
        let below = one.overridden.as_ref().filter(|_| origins);
        rows.extend(below.map(|below| {
            let value = render::short(&below.value, width);
            let origin = format!("{}, overridden", below.origin);
            vec![String::new(), format!("instead of {value}"), origin]
        }));
    }
    let header: &[&str] = match origins {
        true => &["KEY", "VALUE", "FROM"],
        false => &["KEY", "VALUE"],
    };
    out::say(render::table(header, &rows));
}

/// A key whose value is not the same in two environments.
#[derive(serde::Serialize)]
struct Difference {
    path: String,
    one: Option<String>,
    other: Option<String>,
}

fn diff(cli: &Cli, one: &str, other: &str, json: bool) -> Ending {
    let app = App::find(cli)?;
    let manifest = parsed(&app, json)?;
    let mut sides = Vec::new();
    for environment in [one, other] {
        app.place(environment)?;
        config::resolve(&manifest, environment)
            .map_err(|report| out::invalid_manifest(&report, json))?;
        let explained = config::explain(&manifest, environment).into_iter();
        let values: BTreeMap<String, String> = explained.map(|one| (one.path, one.value)).collect();
        sides.push(values);
    }
    let mut paths: Vec<&String> = sides.iter().flat_map(BTreeMap::keys).collect();
    paths.sort();
    paths.dedup();
    let differences: Vec<Difference> = paths
        .into_iter()
        .filter(|path| sides[0].get(*path) != sides[1].get(*path))
        .map(|path| Difference {
            path: path.clone(),
            one: sides[0].get(path).cloned(),
            other: sides[1].get(path).cloned(),
        })
        .collect();
    if json {
        out::json(&differences);
    } else if differences.is_empty() {
        out::say(format!("{one} and {other} are the same"));
    } else {
        let shown = |value: &Option<String>| match value {
            Some(value) => render::short(value, 40),
            None => "-".to_owned(),
        };
        let row = |one: &Difference| vec![one.path.clone(), shown(&one.one), shown(&one.other)];
        let rows: Vec<_> = differences.iter().map(row).collect();
        out::say(render::table(&["KEY", one, other], &rows));
    }
    Ok(0)
}

fn render_file(cli: &Cli, format: Format) -> Ending {
    let app = App::find(cli)?;
    let manifest = parsed(&app, false)?;
    let format = match format {
        Format::EnvExample => rendered::Format::EnvExample,
        Format::Ts => rendered::Format::TypeScript,
        Format::Python => rendered::Format::Python,
        Format::Rust => rendered::Format::Rust,
    };
    let text = rendered::render(&manifest, format)
        .map_err(|report| out::invalid_manifest(&report, false))?;
    out::say(text.trim_end());
    Ok(0)
}
