//! Removing what no way back needs.

use towpath::agent::ClientError;
use towpath::agent::api::Collect;
use towpath::release::Collected;

use super::Ending;
use crate::cli::Cli;
use crate::cli::commands::Gc;
use crate::place::App;
use crate::{connect, out, render};

/// `tow gc`.
pub async fn gc(cli: &Cli, arguments: &Gc) -> Ending {
    let place = App::find(cli)?.place(&arguments.there.environment)?;
    let client = connect::agent(&place).await?;
    out::note(format!(
        "{} ({}, {})",
        place.environment,
        place.app.name,
        place.state.display()
    ));
    let dry_run = arguments.there.dry_run;
    let collected: Collected = client
        .post("/v1/gc", &Collect { dry_run })
        .await
        .map_err(ClientError::into_trouble)?;
    if arguments.there.json {
        out::json(&collected);
    } else {
        out::say(render::collected(&collected, dry_run));
    }
    Ok(0)
}
