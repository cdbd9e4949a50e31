//! Running the source tree, and stopping.

use towpath::agent::api::{Begin, What};

use super::Ending;
use super::deploy::{Act, act};
use crate::cli::Cli;
use crate::cli::commands::{Down, Up};
use crate::place::App;
use crate::{connect, out};

/// `tow up`.
pub async fn up(cli: &Cli, arguments: &Up) -> Ending {
    let app = App::find(cli)?;
    let place = app.place(&arguments.here.environment)?;
    let what = What::Up {
        root: app.root.clone(),
        manifest: app.text.clone(),
    };
    let begin = Begin {
        dry_run: arguments.dry_run,
        ..Begin::new(what, super::deploy::actor())
    };
    let client = connect::agent(&place).await?;
    let ended = act(Act {
        place: &place,
        client: &client,
        begin,
        json: arguments.here.json,
    })
    .await?;
    if ended == 0 && !arguments.dry_run && !arguments.here.json {
        super::look::tell_status(&client).await?;
    }
    Ok(ended)
}

/// `tow down`.
pub async fn down(cli: &Cli, arguments: &Down) -> Ending {
    let place = App::find(cli)?.place(&arguments.here.environment)?;
    let client = connect::agent(&place).await?;
    let begin = Begin {
        dry_run: arguments.dry_run,
        ..Begin::new(What::Down, super::deploy::actor())
    };
    let ended = act(Act {
        place: &place,
        client: &client,
        begin,
        json: arguments.here.json,
    })
    .await?;
    if ended == 0 && !arguments.dry_run {
        // On a server the agent stays, for whoever deploys next.
        if place.server.is_none() {
            let _: () = client
                .post("/v1/exit", &())
                .await
                .map_err(towpath::agent::ClientError::into_trouble)?;
        }
        if !arguments.here.json {
            let data = match &place.server {
                Some(server) => format!("on {server}"),
                None => format!("in {}", place.state.join("data").display()),
            };
            out::say(format!(
                "{} is stopped; its data stays {data}",
                place.environment
            ));
        }
    }
    Ok(ended)
}
