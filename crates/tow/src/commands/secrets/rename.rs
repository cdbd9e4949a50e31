//! `tow secrets rename`: an application's secrets after `app` was given another name. Each value says inside whose it
//! is, so all of them are encrypted anew, by somebody who reads them all.

use std::path::PathBuf;

use towpath::agent::api::Trouble;
use towpath::secret::{self, Claim, File};

use super::super::Ending;
use super::store::Store;
use super::{failed, trouble};
use crate::cli::Cli;
use crate::out;
use crate::place::{App, Place, Rehearsal};

/// `tow secrets rename`.
pub fn rename(cli: &Cli) -> Ending {
    let app = App::find(cli)?;
    let file = File::read(&app.root).map_err(|error| failed(&error))?;
    let Some(file) = file.filter(|file| file.project != app.name) else {
        out::say(format!(
            "no secrets here are those of another than `{}`",
            app.name
        ));
        return Ok(0);
    };
    let old = file.project.clone();
    let mut stores = stores(&app, &file)?;
    let claim = Claim::of(&app.root, Some(&file)).map_err(|error| failed(&error))?;
    let Some(first) = stores.first() else {
        let renamed = File {
            project: app.name.clone(),
            ..file
        };
        return written(&app, claim, &renamed, &old);
    };
    let renamed = file.renamed(&app.name, &first.identity);
    let renamed = renamed.map_err(|error| not_read(&error, &old))?;
    for store in &mut stores {
        store.file = renamed.clone();
        store.record("rename", &[format!("{old} {}", app.name)])?;
    }
    let ended = written(&app, claim, &renamed, &old)?;
    for store in &stores {
        store.remember()?;
    }
    Ok(ended)
}

/// The environments that have secrets, each as it was seen last under the old name.
fn stores(app: &App, file: &File) -> Result<Vec<Store>, Trouble> {
    let before = App {
        name: file.project.clone(),
        ..app.clone()
    };
    let mut stores = Vec::new();
    for environment in file.environments.keys() {
        Store::with(&place(&before, environment), file.clone())?.check()?;
        stores.push(Store::with(&place(app, environment), file.clone())?);
    }
    Ok(stores)
}

/// Also of an environment that the manifest has no more: its secrets are there all the same.
fn place(app: &App, environment: &str) -> Place {
    Place {
        app: app.clone(),
        environment: environment.to_owned(),
        state: PathBuf::new(),
        server: None,
        rehearsal: Rehearsal::None,
    }
}

fn written(app: &App, claim: Claim, file: &File, old: &str) -> Ending {
    claim.write(file).map_err(|error| failed(&error))?;
    out::say(format!(
        "the secrets of `{old}` are those of `{}`",
        app.name
    ));
    out::note(format!(
        "  commit {}; what was brought in as `{old}` goes on under that name until `tow down`",
        secret::FILE
    ));
    for environment in file.environments.keys().filter(|name| *name != "local") {
        out::note(format!(
            "  the agent of {environment} is another under the new name: `tow secrets people add agent -e {environment}`"
        ));
    }
    Ok(0)
}

fn not_read(error: &secret::Error, old: &str) -> Trouble {
    let text = format!("they cannot be given another name: {error}");
    let help = format!(
        "have somebody run it who reads every environment; to let one in, set `app` back to `{old}` first, then `tow secrets people add`"
    );
    let mut refused = trouble(4, "secret::no-reader", text, &help);
    refused.diagnostic = refused.diagnostic.note("nothing was changed");
    refused
}
