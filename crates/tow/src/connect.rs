//! Finding the agent of an environment, and starting one where there is none.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use towpath::agent::api::{Status, Trouble};
use towpath::agent::{self, Client, ClientError, socket};
use towpath::diagnostic::Diagnostic;

use crate::link;
use crate::place::{Place, Rehearsal};

/// A starting agent may first have to adopt, and to replace a gateway.
const COMES_UP: Duration = Duration::from_secs(30);

/// One that has the socket and says nothing for so long hangs.
const ANSWERS: Duration = Duration::from_secs(10);

/// The client of the environment's agent: on its server where it has one; else on this machine,
/// where it is started when it is not there.
pub async fn agent(place: &Place) -> Result<Client, Trouble> {
    match &place.server {
        Some(server) => link::agent(place, server, false).await,
        None => own_agent(place).await,
    }
}

/// The same for looking, which makes no environment: `None` where there is none yet. Whether there is one on a server
/// only the server can say.
pub async fn existing(place: &Place) -> Result<Option<Client>, Trouble> {
    match place.server.is_some() || agent::exists(&place.state) {
        true => agent(place).await.map(Some),
        false => Ok(None),
    }
}

/// Its agent, of whatever version it is.
pub async fn for_upgrade(place: &Place) -> Result<Client, Trouble> {
    match &place.server {
        Some(server) => link::agent(place, server, true).await,
        None => own_agent(place).await,
    }
}

/// Sees that there is an agent after one has gone: on a server it is for the server to do.
pub async fn again(place: &Place) {
    if place.server.is_none() {
        // One that cannot be started yet may be, at the next try.
        let _ = own_agent(place).await;
    }
}

async fn own_agent(place: &Place) -> Result<Client, Trouble> {
    let client = Client::new(socket(&place.state));
    if answers(&client).await {
        return Ok(client);
    }
    let start = || {
        start(
            &place.app.name,
            &place.environment,
            &place.state,
            &place.rehearsal,
        )
    };
    let mut child = start()?;
    let deadline = Instant::now() + COMES_UP;
    let mut is_taken = false;
    while !answers(&client).await {
        let code = child.try_wait().ok().flatten().map(|status| status.code());
        is_taken |= code == Some(Some(4));
        if code.is_some_and(|code| code != Some(4)) || Instant::now() > deadline {
            let holder = agent::holder(&place.state).filter(|_| is_taken);
            return Err(holder.map_or_else(|| silent(place), |pid| hangs(place, pid)));
        }
        sleep(Duration::from_millis(20)).await;
        // One that was refused has found another agent there, which will answer, or is on its way
        // out and makes room.
        if code.is_some() && !answers(&client).await {
            child = start()?;
        }
    }
    Ok(client)
}

async fn answers(client: &Client) -> bool {
    let asked = timeout(ANSWERS, client.get::<Status>("/v1/status")).await;
    !matches!(
        asked,
        Err(_) | Ok(Err(ClientError::Unreachable(..) | ClientError::Broken(_)))
    )
}

/// Starts the agent of a state directory.
pub fn start(
    app: &str,
    environment: &str,
    state: &Path,
    rehearsal: &Rehearsal,
) -> Result<Child, Trouble> {
    let log = state.join("agent.log");
    let failed = |error: &dyn std::fmt::Display| Trouble {
        exit: 1,
        diagnostic: Diagnostic::error(
            "agent::not-started",
            format!("the agent of {environment}: {error}"),
        ),
    };
    // A rehearsal's is made by whoever begins it; one that is gone is not to come back.
    if !matches!(rehearsal, Rehearsal::There(_)) {
        std::fs::create_dir_all(state).map_err(|error| failed(&error))?;
    }
    let out = std::fs::File::create(&log).map_err(|error| failed(&error))?;
    let exe = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = Command::new(exe);
    command
        .arg("agent")
        .args(["--app", app, "--environment", environment, "--dir"]);
    command.arg(state);
    match rehearsal {
        Rehearsal::None => {}
        Rehearsal::Here => drop(command.arg("--rehearsal")),
        Rehearsal::There(there) => {
            let lasts = there.lasts.to_string();
            command.args(["--rehearsal", "--lasts", &lasts]);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(out)
        .current_dir("/");
    command.spawn().map_err(|error| failed(&error))
}

/// It has the state, so no other can take its place.
fn hangs(place: &Place, pid: u32) -> Trouble {
    let name = &place.environment;
    let text = format!(
        "the agent of {name} (process {pid}) holds its state, and has not answered for {} s",
        COMES_UP.as_secs()
    );
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next());
    let (what, help) = match state {
        Some("T" | "t") => (
            "somebody has stopped it (SIGSTOP)",
            format!("let it go on: `kill -CONT {pid}`"),
        ),
        Some("D") => (
            "it waits for a disk",
            "see that the disk of its state directory answers".to_owned(),
        ),
        _ => (
            "it runs, and is at something that does not end",
            format!(
                "end it: `kill -9 {pid}`; the next command starts one that goes on where it was"
            ),
        ),
    };
    let diagnostic = Diagnostic::error("agent::hangs", text)
        .note(what)
        .note("services and gateway are as they were, and go on without it")
        .help(help);
    Trouble {
        exit: 1,
        diagnostic,
    }
}

fn silent(place: &Place) -> Trouble {
    let log = place.state.join("agent.log");
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let mut diagnostic = Diagnostic::error(
        "agent::not-started",
        format!("the agent of {} does not come up", place.environment),
    );
    if !text.trim().is_empty() {
        diagnostic = diagnostic.note(text.trim().to_owned());
    }
    let diagnostic = diagnostic
        .note("services and gateway are as they were")
        .help(format!("see {}", log.display()));
    Trouble {
        exit: 1,
        diagnostic,
    }
}
