//! Explaining what a run does, before it is begun or while it is under way.

use towpath::agent::api::{Begun, RunStatus, Status, Trouble};
use towpath::agent::{Client, ClientError};
use towpath::build;
use towpath::state::Row;

use super::{Ending, deploy, inner, local};
use crate::cli::commands::{
    Deploy, Down, Explain, Explains, Plan, PlanCommand, Promote, Rollback, Up,
};
use crate::cli::{Cli, Here, There};
use crate::place::{App, Place};
use crate::{connect, out, render};

/// `tow plan`.
pub async fn plan(cli: &Cli, arguments: &Plan) -> Ending {
    match &arguments.command {
        PlanCommand::Explain(arguments) => explain(cli, arguments).await,
    }
}

/// Whether JSON is asked for.
pub fn wants_json(arguments: &Plan) -> bool {
    match &arguments.command {
        PlanCommand::Explain(arguments) => arguments.here.json,
    }
}

async fn explain(cli: &Cli, arguments: &Explain) -> Ending {
    let place = App::find(cli)?.place(&arguments.here.environment)?;
    if let Some(operation) = arguments.operation {
        return would(cli, &arguments.here, operation).await;
    }
    // Looking at what is not there yet makes nothing but what a dry run makes.
    if let Some(client) = connect::existing(&place).await? {
        let status: Status = client
            .get("/v1/status")
            .await
            .map_err(ClientError::into_trouble)?;
        if let Some(run) = &status.run {
            return under_way(&client, &place, run, arguments.here.json).await;
        }
    }
    would(cli, &arguments.here, brings_in(&place)).await
}

/// What brings a release into an environment.
fn brings_in(place: &Place) -> Explains {
    let name = &place.environment;
    let config = place.config();
    let way = config.map(|config| config.promote).unwrap_or_default();
    match way.iter().position(|environment| environment == name) {
        _ if name == "local" => Explains::Up,
        None | Some(0) => Explains::Deploy,
        Some(_) => Explains::Promote,
    }
}

/// A dry run.
async fn would(cli: &Cli, here: &Here, operation: Explains) -> Ending {
    let there = There {
        environment: here.environment.clone(),
        dry_run: true,
        json: here.json,
    };
    let here = here.clone();
    match operation {
        Explains::Up => {
            local::up(
                cli,
                &Up {
                    here,
                    dry_run: true,
                },
            )
            .await
        }
        Explains::Down => {
            local::down(
                cli,
                &Down {
                    here,
                    dry_run: true,
                },
            )
            .await
        }
        Explains::Deploy => {
            not_committed(cli)?;
            let deploy = Deploy {
                there,
                commit: None,
                release: None,
                allow_dirty: true,
                again: false,
                wait: false,
            };
            deploy::deploy(cli, &deploy).await
        }
        Explains::Promote => {
            let promote = Promote {
                there,
                again: false,
                wait: false,
            };
            deploy::promote(cli, &promote).await
        }
        Explains::Rollback => deploy::rollback(cli, &Rollback { to: None, there }).await,
    }
}

/// Looking goes on where the deployment itself would not begin.
fn not_committed(cli: &Cli) -> Result<(), Trouble> {
    let committed = build::commit_of(&App::find(cli)?.root, false);
    if let Err(error @ build::Error::Dirty(_)) = committed {
        out::note(format!(
            "note: {error}; `tow deploy` wants them committed, or --allow-dirty"
        ));
    }
    Ok(())
}

async fn under_way(client: &Client, place: &Place, run: &RunStatus, json: bool) -> Ending {
    let begun = begun(client, run).await?;
    if json {
        out::json(&begun);
        return Ok(0);
    }
    let at = run
        .step
        .as_deref()
        .map_or(String::new(), |step| format!(", at {step}"));
    out::say(format!(
        "{} brings {} into {} in the place of {}{at}:",
        run.run,
        begun.to.as_deref().unwrap_or("nothing"),
        place.environment,
        begun.from.as_deref().unwrap_or("nothing"),
    ));
    out::say(
        begun
            .explained
            .as_ref()
            .map(render::explained)
            .unwrap_or_default(),
    );
    Ok(0)
}

/// The plan is the run's first row.
async fn begun(client: &Client, run: &RunStatus) -> Result<Begun, Trouble> {
    let path = format!("/v1/runs/{}/rows", run.run);
    let mut rows = client
        .lines(&path)
        .await
        .map_err(ClientError::into_trouble)?;
    let first: Option<Row> = rows.next().await.map_err(ClientError::into_trouble)?;
    let first = first.map(|row| serde_json::from_value(row.data));
    match first {
        Some(Ok(plan)) => Ok(Begun::of(&plan, None)),
        Some(Err(error)) => Err(inner::failed(&error)),
        None => Err(inner::failed(&"the run has no plan")),
    }
}
