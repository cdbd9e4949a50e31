//! A page for everybody while an environment is worked on.

use towpath::agent::ClientError;
use towpath::agent::api::{MaintenanceSet, SetMaintenance};
use towpath::manifest::form;

use super::deploy::actor;
use super::{Ending, inner};
use crate::cli::commands::{Maintenance, MaintenanceCommand};
use crate::cli::{Cli, There};
use crate::place::App;
use crate::{connect, out, render};

/// `tow maintenance on` and `off`.
pub async fn maintenance(cli: &Cli, arguments: &Maintenance) -> Ending {
    let (there, asked) = match &arguments.command {
        MaintenanceCommand::On {
            there,
            message,
            retry_after,
        } => {
            let after = form::duration(retry_after).map(|after| after.as_secs());
            let after = after.and_then(|after| u32::try_from(after).ok());
            let after = after.filter(|after| *after > 0).ok_or_else(|| {
                inner::usage(format!(
                    "--retry-after {retry_after}: a duration of at least 1s is wanted, as in 5m"
                ))
            })?;
            (there, asked(true, message.clone(), after, there))
        }
        MaintenanceCommand::Off { there } => (there, asked(false, None, 0, there)),
    };
    let place = App::find(cli)?.place(&there.environment)?;
    let client = connect::agent(&place).await?;
    out::note(render::place(&place));
    let set: MaintenanceSet = client
        .post_again("/v1/maintenance", &asked)
        .await
        .map_err(ClientError::into_trouble)?;
    match there.json {
        true => out::json(&set),
        false => out::say(said(&set, &there.environment, there.dry_run)),
    }
    Ok(0)
}

fn asked(on: bool, message: Option<String>, retry_after_s: u32, there: &There) -> SetMaintenance {
    SetMaintenance {
        on,
        message,
        retry_after_s,
        actor: actor(),
        dry_run: there.dry_run,
    }
}

fn said(set: &MaintenanceSet, environment: &str, dry_run: bool) -> String {
    let would = if dry_run { "would be " } else { "" };
    match (&set.before, &set.now) {
        (None, None) => format!("{environment} is not in maintenance; nothing to do"),
        (_, None) => format!("maintenance {would}off: {environment} serves as before"),
        (before, Some(_)) => {
            let again = if before.is_some() {
                ", in other words"
            } else {
                ""
            };
            let when = match set.serving {
                true => "requests get 503 and a page",
                false => "nothing serves now; it counts when something does",
            };
            format!("maintenance {would}on{again}: {when}\n  tow maintenance off -e {environment}")
        }
    }
}

/// Whether JSON is wanted.
pub fn wants_json(arguments: &Maintenance) -> bool {
    match &arguments.command {
        MaintenanceCommand::On { there, .. } | MaintenanceCommand::Off { there } => there.json,
    }
}
