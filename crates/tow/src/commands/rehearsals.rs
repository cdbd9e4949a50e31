//! The folders of rehearsals on a server: beside those of the real environments, where no boot
//! process looks, and each with a name of its own.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use towpath::agent::api::Trouble;
use towpath::agent::dial::Wanted;
use towpath::clock::Clock;
use towpath::link;
use towpath::manifest::form::is_name;

use crate::cli::Cli;
use crate::cli::commands::Dial;
use crate::connect;
use crate::place::{Rehearsal, machine_states};

/// One without an agent that is older has been left by a reboot, or worse.
const LEFT_MS: i64 = 600_000;

/// The rehearsal that is dialled for.
pub fn of(arguments: &Dial) -> Result<Option<link::Rehearsal>, Trouble> {
    let Some((name, lasts)) = arguments.rehearsal.as_ref().zip(arguments.lasts) else {
        return Ok(None);
    };
    // They become folders.
    for part in [name, &arguments.app, &arguments.environment] {
        if !is_name(part) {
            let text =
                format!("`{part}` cannot name a rehearsal, an application or an environment");
            return Err(super::inner::usage(text));
        }
    }
    Ok(Some(link::Rehearsal {
        name: name.clone(),
        lasts,
        begins: arguments.begins,
    }))
}

/// The state directory of an environment of a rehearsal, made where that is asked for.
pub fn state(cli: &Cli, wanted: &Wanted, rehearsal: &link::Rehearsal) -> PathBuf {
    let all = all(cli);
    let state = all
        .join(&rehearsal.name)
        .join(&wanted.app)
        .join(&wanted.environment);
    if rehearsal.begins {
        // Where it cannot be made, that it is not there is said next.
        let _ = std::fs::create_dir_all(&state);
        sweep(&all);
    }
    state
}

fn all(cli: &Cli) -> PathBuf {
    let states = cli.state.clone().unwrap_or_else(machine_states);
    let mut name = states.file_name().unwrap_or_default().to_owned();
    name.push("-rehearsals");
    states.with_file_name(name)
}

/// Rehearsals that have been left get an agent once more, which takes down what there is, and removes it.
fn sweep(all: &Path) {
    for rehearsal in folders(all).into_iter().filter(|dir| is_old(dir)) {
        for app in folders(&rehearsal) {
            for state in folders(&app) {
                match is_name(&name(&state)) {
                    true => take_away(&app, &state),
                    // An agent was about to remove it.
                    false => drop(std::fs::remove_dir_all(&state)),
                }
            }
            let _ = std::fs::remove_dir(&app);
        }
        let _ = std::fs::remove_dir(&rehearsal);
    }
}

/// Another agent of the same environment, which has its lock, is not disturbed by that.
fn take_away(app: &Path, state: &Path) {
    let rehearsal = Rehearsal::There(link::Rehearsal {
        name: String::new(),
        lasts: 1,
        begins: false,
    });
    let _ = connect::start(&name(app), &name(state), state, &rehearsal);
}

fn name(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn is_old(dir: &Path) -> bool {
    let changed = std::fs::metadata(dir).and_then(|found| found.modified());
    let changed = changed
        .ok()
        .and_then(|changed| changed.duration_since(UNIX_EPOCH).ok());
    let changed = changed.and_then(|since| i64::try_from(since.as_millis()).ok());
    changed.is_some_and(|changed| Clock::system().wall_ms() - changed > LEFT_MS)
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}
