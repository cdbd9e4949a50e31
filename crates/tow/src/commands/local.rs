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
        what,
        actor: super::deploy::actor(),
        dry_run: arguments.dry_run,
        again: false,
        sabotage: None,
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
        what: What::Down,
        actor: super::deploy::actor(),
        dry_run: arguments.dry_run,
        again: false,
        sabotage: None,
    };
    let ended = act(Act {
        place: &place,
        client: &client,
        begin,
        json: arguments.here.json,
    })
    .await?;
    if ended == 0 && !arguments.dry_run {
        let _: () = client
            .post("/v1/exit", &())
            .await
            .map_err(towpath::agent::ClientError::into_trouble)?;
        if !arguments.here.json {
            out::say(format!(
                "{} is stopped; its data stays in {}",
                place.environment,
                place.state.join("data").display()
            ));
        }
    }
    Ok(ended)
}
