//! Work on agents themselves.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use towpath::agent::api::{Status, Trouble, Upgrade};
use towpath::agent::{Client, ClientError};
use towpath::diagnostic::Diagnostic;

use super::Ending;
use crate::cli::commands::{Server, ServerCommand};
use crate::cli::{Cli, Here};
use crate::place::App;
use crate::{connect, out, version};

/// `tow server`.
pub async fn server(cli: &Cli, arguments: &Server) -> Ending {
    match &arguments.command {
        ServerCommand::Upgrade { here } => upgrade(cli, here).await,
        ServerCommand::Key(arguments) => super::key::key(cli, arguments).await,
    }
}

async fn upgrade(cli: &Cli, here: &Here) -> Ending {
    let place = App::find(cli)?.place(&here.environment)?;
    let client = connect::for_upgrade(&place).await?;
    let before: Status = client
        .get("/v1/status")
        .await
        .map_err(ClientError::into_trouble)?;
    // On a server it is the one that answers there.
    let preface = client.preface().await.map_err(ClientError::into_trouble)?;
    let tow = match preface {
        Some(preface) => preface.tow,
        None => std::env::current_exe().map_err(|error| super::inner::failed(&error))?,
    };
    out::note(format!(
        "{}: agent and gateway {} -> {}",
        place.environment,
        before.version,
        version()
    ));
    let _: () = client
        .post("/v1/upgrade", &Upgrade { tow })
        .await
        .map_err(ClientError::into_trouble)?;
    let after = upgraded(&client).await?;
    if here.json {
        out::json(&after);
    } else {
        out::say(format!("{} runs {}", place.environment, version()));
    }
    Ok(0)
}

/// Waits until agent and gateway are of this build.
async fn upgraded(client: &Client) -> Result<Status, Trouble> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Ok(status) = client.get::<Status>("/v1/status").await {
            let gateway = status
                .gateway
                .as_ref()
                .is_none_or(|gateway| gateway.version == version());
            if status.version == version() && gateway {
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
