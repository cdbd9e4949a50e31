//! Agents on other machines: how ssh is called, and what is said about the link.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use towpath::agent::api::Trouble;
use towpath::agent::{Client, ClientError, Linked};
use towpath::config::Server;
use towpath::link::{Manner, Preface, Route, Skew, Ssh};
use towpath::supervise::Places;

use crate::place::{Place, Rehearsal};
use crate::{out, version};

/// How long a link that broke is tried again, where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine, with ssh as it is called from here. `TOWPATH_SSH` is another program for it.
pub fn ssh(server: &Server) -> Ssh {
    let program = std::env::var_os("TOWPATH_SSH").unwrap_or_else(|| "ssh".into());
    // Beside the folders of environments, which are as short as they can be.
    let runtime = Places::runtime_of(Path::new(""));
    let runtime = runtime.parent().unwrap_or(Path::new("/tmp"));
    Ssh {
        server: server.clone(),
        manner: Manner::new(program, std::io::stdin().is_terminal(), runtime),
    }
}

/// The client of the agent of `place` on `server`, which has been reached.
pub async fn agent(place: &Place, server: &Server, any_version: bool) -> Result<Client, Trouble> {
    let client = Client::linked(Linked {
        route: Route {
            ssh: ssh(server),
            app: place.app.name.clone(),
            environment: place.environment.clone(),
            rehearsal: match &place.rehearsal {
                Rehearsal::There(rehearsal) => Some(rehearsal.clone()),
                Rehearsal::None | Rehearsal::Here => None,
            },
        },
        any_version,
        patience: patience(),
        tell: Box::new(|text| out::note(format!("  {text}"))),
        seen: Mutex::default(),
    });
    let preface = client.preface().await.map_err(ClientError::into_trouble)?;
    if let Some(preface) = preface {
        name_skew(&preface, server);
    }
    Ok(client)
}

/// How long a link that broke is tried again: seconds, in `TOWPATH_PATIENCE`.
pub fn patience() -> Duration {
    let said = std::env::var("TOWPATH_PATIENCE").ok();
    let seconds = said.and_then(|text| text.parse().ok());
    seconds.map_or(PATIENCE, Duration::from_secs)
}

fn name_skew(preface: &Preface, server: &Server) {
    if let Skew::Near(_) = preface.skew() {
        out::note(format!(
            "  the agent on {server} is tow {}, this is tow {}: one apart works",
            preface.version,
            version()
        ));
    }
}
