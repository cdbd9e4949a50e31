//! Work on agents themselves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use towpath::agent::api::{Status, Trouble, Upgrade};
use towpath::agent::{Client, ClientError};
use towpath::boot;
use towpath::diagnostic::Diagnostic;
use towpath::setup::{Step, Wish};

use super::Ending;
use super::setup::{self, Far, Sent};
use crate::cli::commands::{Server, ServerCommand};
use crate::cli::{Cli, Here};
use crate::place::{App, Place, machine_states};
use crate::{connect, out, version};

/// `tow server`.
pub async fn server(cli: &Cli, arguments: &Server) -> Ending {
    match &arguments.command {
        ServerCommand::Upgrade { here, binary } => upgrade(cli, here, binary.as_deref()).await,
        ServerCommand::Run => run(cli).await,
        ServerCommand::Key(arguments) => super::key::key(cli, arguments).await,
    }
}

/// `tow server run`: until it is told to end; the agents run on.
async fn run(cli: &Cli) -> Ending {
    let failed = |error: &dyn std::fmt::Display| super::inner::failed(error);
    let states = cli.state.clone().unwrap_or_else(machine_states);
    let options = boot::Options {
        states: std::path::absolute(&states).map_err(|error| failed(&error))?,
        tow: std::env::current_exe().map_err(|error| failed(&error))?,
    };
    let mut told = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
    let (tell, mut events) = mpsc::unbounded_channel();
    let runs = boot::run(options, tell);
    tokio::pin!(runs);
    loop {
        tokio::select! {
            Some(event) = events.recv() => out::note(event),
            _ = told.recv() => return Ok(0),
            _ = tokio::signal::ctrl_c() => return Ok(0),
            ended = &mut runs => return ended.map(|()| 0).map_err(|error| not_run(&error)),
        }
    }
}

fn not_run(error: &boot::Error) -> Trouble {
    let diagnostic = Diagnostic::error("server::not-run", error.to_string());
    match error {
        boot::Error::Taken { .. } => Trouble {
            exit: 4,
            diagnostic: diagnostic.note("it looks after the agents; nothing was touched"),
        },
        boot::Error::Io(..) => Trouble {
            exit: 1,
            diagnostic: diagnostic.note("agents and services that run are as they were"),
        },
    }
}

async fn upgrade(cli: &Cli, here: &Here, binary: Option<&Path>) -> Ending {
    let place = App::find(cli)?.place(&here.environment)?;
    let (tow, build) = match &place.server {
        Some(_) => installed(&place, binary).await?,
        None => {
            let tow = std::env::current_exe().map_err(|error| super::inner::failed(&error))?;
            (tow, version().to_owned())
        }
    };
    let client = connect::for_upgrade(&place).await?;
    let before: Status = client
        .get("/v1/status")
        .await
        .map_err(ClientError::into_trouble)?;
    out::note(format!(
        "{}: agent and gateway {} -> {build}",
        place.environment, before.version
    ));
    let _: () = client
        .post("/v1/upgrade", &Upgrade { tow })
        .await
        .map_err(ClientError::into_trouble)?;
    let after = upgraded(&client, &build).await?;
    if here.json {
        out::json(&after);
    } else {
        out::say(format!("{} runs {build}", place.environment));
    }
    Ok(0)
}

/// Installs the program on the environment's server; gives where it lies there, and its build.
async fn installed(place: &Place, binary: Option<&Path>) -> Result<(PathBuf, String), Trouble> {
    let far = Far::new(&setup::server(place)?);
    let sent = Sent::read(binary)?;
    let wish = setup::wish(place, &sent, false, false)?;
    // An environment stays where it was set up.
    let (mut facts, mut plan) = setup::look(&far, wish.clone()).await?;
    if facts.system.environment.is_none() && facts.own.environment.is_some() {
        let wish = Wish { user: true, ..wish };
        (facts, plan) = setup::look(&far, wish).await?;
    }
    let is_program = |step: &Step| matches!(step, Step::Program(..));
    plan.steps.retain(is_program);
    if !plan.steps.is_empty() {
        setup::act(&far, &plan, &facts, &sent).await?;
    }
    let program = plan.layout.program;
    let said = far
        .run(&format!("{} --version", program.display()), Vec::new())
        .await?;
    let build = said.out.split_whitespace().nth(1).map(str::to_owned);
    let build = build.ok_or_else(|| far.not_understood(&said))?;
    Ok((program, build))
}

/// Waits until agent and gateway are of this build.
async fn upgraded(client: &Client, build: &str) -> Result<Status, Trouble> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Ok(status) = client.get::<Status>("/v1/status").await {
            let gateway = status
                .gateway
                .as_ref()
                .is_none_or(|gateway| gateway.version == build);
            if status.version == build && gateway {
                return Ok(status);
            }
        }
        if Instant::now() > deadline {
            let text = "agent or gateway did not become this build within 60 s";
            let diagnostic = Diagnostic::error("server::not-upgraded", text)
                .note("what ran before serves on")
                .help("see `tow status` and the agent's log in its state directory");
            return Err(Trouble {
                exit: 1,
                diagnostic,
            });
        }
        sleep(Duration::from_millis(100)).await;
    }
}
