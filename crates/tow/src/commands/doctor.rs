//! What this machine lacks.

use serde::Serialize;
use towpath::agent;
use towpath::config;
use towpath::manifest::Manifest;
use towpath::setup::Looked;

use super::Ending;
use crate::cli::Cli;
use crate::cli::commands::Doctor;
use crate::out;
use crate::place::{App, Place};

/// What `--json` prints.
#[derive(Serialize)]
struct Seen<'a> {
    environment: &'a str,
    /// Where the environment is, when that is not this machine.
    server: Option<String>,
    ok: bool,
    looked: &'a [Looked],
}

/// `tow doctor`.
pub fn doctor(cli: &Cli, arguments: &Doctor) -> Ending {
    let json = arguments.here.json;
    let app = App::find(cli)?;
    let place = app.place(&arguments.here.environment)?;
    let invalid = |report| out::invalid_manifest(&report, json);
    let manifest = Manifest::parse("tow.toml", &app.text).map_err(invalid)?;
    let config = config::resolve(&manifest, &place.environment).map_err(invalid)?;
    let looked = agent::doctor(&config, &app.root.join("tow.toml"), &place.state);
    let missing = looked.iter().filter(|one| !one.ok).count();
    if json {
        out::json(&Seen {
            environment: &place.environment,
            server: place.server.as_ref().map(ToString::to_string),
            ok: missing == 0,
            looked: &looked,
        });
    } else {
        tell(&place, &looked, missing);
    }
    Ok(u8::from(missing > 0))
}

fn tell(place: &Place, looked: &[Looked], missing: usize) {
    out::say(format!("{} on this machine", place.environment));
    let width = looked.iter().map(|one| one.what.len()).max().unwrap_or(0);
    for one in looked {
        let word = if one.ok { "ok" } else { "amiss" };
        out::say(format!("  {word:<6} {:<width$}  {}", one.what, one.text));
        if let Some(line) = &one.line {
            out::say(format!("  {:<6} {:<width$}    {line}", "", ""));
        }
    }
    if let Some(server) = &place.server {
        let name = &place.environment;
        out::say(format!(
            "it runs on {server}: `tow setup -e {name} --dry-run` looks there"
        ));
    }
    out::say(match missing {
        0 => "nothing is missing".to_owned(),
        1 => "one thing is amiss".to_owned(),
        count => format!("{count} things are amiss"),
    });
}
