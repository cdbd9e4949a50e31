//! Environments of the manifest.

use towpath::agent::api::Trouble;
use towpath::config;
use towpath::manifest::{Manifest, clone_environment};
use towpath::state::write_whole;

use super::Ending;
use crate::cli::Cli;
use crate::cli::commands::{CloneEnvironment, Env, EnvCommand};
use crate::out;
use crate::place::App;

/// `tow env`.
pub fn env(cli: &Cli, arguments: &Env) -> Ending {
    match &arguments.command {
        EnvCommand::Clone(arguments) => clone(cli, arguments),
    }
}

fn clone(cli: &Cli, arguments: &CloneEnvironment) -> Ending {
    let app = App::find(cli)?;
    let mut set = Vec::new();
    for pair in &arguments.set {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(super::inner::usage("--set takes NAME=VALUE"));
        };
        set.push((name.to_owned(), value.to_owned()));
    }
    let (from, to) = (&arguments.from, &arguments.to);
    let cloned = clone_environment(&app.text, from, to, &set);
    let cloned = cloned.map_err(|diagnostic| Trouble {
        exit: 3,
        diagnostic,
    })?;
    // Only a manifest that is right is written.
    let report = config::check_text("tow.toml", &cloned.text);
    if report.has_errors() {
        return Err(out::invalid_manifest(&report, false));
    }
    if arguments.dry_run {
        out::say(cloned.text.trim_end());
    } else {
        let path = app.root.join("tow.toml");
        write_whole(&path, cloned.text.as_bytes()).map_err(|error| super::inner::failed(&error))?;
        out::say(format!(
            "{to} is written to {}, after {from}",
            path.display()
        ));
    }
    if !cloned.left_out.is_empty() {
        let keys: Vec<_> = cloned
            .left_out
            .iter()
            .map(|key| format!("`{key}`"))
            .collect();
        out::note(format!(
            "  left out, because they are {from}'s own: {}",
            keys.join(", ")
        ));
    }
    let manifest = Manifest::parse("tow.toml", &cloned.text).ok();
    let way = manifest.and_then(|manifest| config::resolve(&manifest, to).ok());
    if way.is_some_and(|config| !config.promote.contains(to)) {
        out::note(format!(
            "  it is not in `promote`: releases reach it by `tow deploy -e {to}`"
        ));
    }
    Ok(0)
}
