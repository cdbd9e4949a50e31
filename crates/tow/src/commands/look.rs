//! Looking: status, instances, logs, releases.

use towpath::agent::api::{LogLine, ReleaseStatus, Status as EnvironmentStatus, Trouble};
use towpath::agent::{Client, ClientError};

use super::Ending;
use crate::cli::commands::{Logs, Ps, Releases, Status};
use crate::cli::{Cli, Here};
use crate::place::App;
use crate::{connect, out, render};

async fn client(cli: &Cli, here: &Here) -> Result<Client, Trouble> {
    connect::agent(&App::find(cli)?.place(&here.environment)?).await
}

/// `tow status`.
pub async fn status(cli: &Cli, arguments: &Status) -> Ending {
    let client = client(cli, &arguments.here).await?;
    if !arguments.here.json {
        return tell_status(&client).await.map(|()| 0);
    }
    let status: EnvironmentStatus = client
        .get("/v1/status")
        .await
        .map_err(ClientError::into_trouble)?;
    out::json(&status);
    Ok(0)
}

/// The status, as text.
pub async fn tell_status(client: &Client) -> Result<(), Trouble> {
    let status: EnvironmentStatus = client
        .get("/v1/status")
        .await
        .map_err(ClientError::into_trouble)?;
    out::say(render::status(&status));
    Ok(())
}

/// `tow ps`.
pub async fn ps(cli: &Cli, arguments: &Ps) -> Ending {
    let client = client(cli, &arguments.here).await?;
    let status: EnvironmentStatus = client
        .get("/v1/status")
        .await
        .map_err(ClientError::into_trouble)?;
    if arguments.here.json {
        out::json(&status.instances);
    } else {
        out::say(render::instances(&status));
    }
    Ok(0)
}

/// `tow releases`.
pub async fn releases(cli: &Cli, arguments: &Releases) -> Ending {
    let client = client(cli, &arguments.here).await?;
    let releases: Vec<ReleaseStatus> = client
        .get("/v1/releases")
        .await
        .map_err(ClientError::into_trouble)?;
    if arguments.here.json {
        out::json(&releases);
    } else if releases.is_empty() {
        out::say(format!(
            "{} has no release yet; `tow deploy -e {}` makes one",
            arguments.here.environment, arguments.here.environment
        ));
    } else {
        out::say(render::releases(&releases));
    }
    Ok(0)
}

/// `tow logs`.
pub async fn logs(cli: &Cli, arguments: &Logs) -> Ending {
    let client = client(cli, &arguments.here).await?;
    let service = arguments
        .service
        .as_ref()
        .map_or(String::new(), |name| format!("&service={name}"));
    let path = format!(
        "/v1/logs?lines={}&follow={}{service}",
        arguments.lines,
        u8::from(arguments.follow)
    );
    let mut lines = client
        .lines(&path)
        .await
        .map_err(ClientError::into_trouble)?;
    while let Some(line) = lines
        .next::<LogLine>()
        .await
        .map_err(ClientError::into_trouble)?
    {
        if arguments.here.json {
            out::say(serde_json::to_string(&line).unwrap_or_default());
        } else {
            out::say(format!("{} | {}", line.instance, line.line));
        }
    }
    Ok(0)
}
