//! Looking: status, instances, logs, releases.

use std::collections::{BTreeMap, HashSet};

use towpath::agent::api::{
    LogLine, MetricsText, ReleaseStatus, Status as EnvironmentStatus, Trouble,
};
use towpath::agent::{Client, ClientError};
use towpath::id::InstanceId;

use super::Ending;
use crate::cli::commands::{Logs, Metrics, Ps, Releases, Status};
use crate::cli::{Cli, Here};
use crate::place::{App, Place};
use crate::{connect, out, render};

/// The agent of an environment, and `None` where there is no environment yet: looking makes none.
async fn client(cli: &Cli, here: &Here) -> Result<Option<Client>, Trouble> {
    let place = App::find(cli)?.place(&here.environment)?;
    let client = connect::existing(&place).await?;
    if client.is_none() && !here.json {
        out::note(nothing(&place));
    }
    Ok(client)
}

fn nothing(place: &Place) -> String {
    let name = &place.environment;
    let config = place.config();
    let way = config.map(|config| config.promote).unwrap_or_default();
    let command = match way.iter().position(|environment| environment == name) {
        _ if name == "local" => "tow up".to_owned(),
        None | Some(0) => format!("tow deploy -e {name}"),
        Some(_) => format!("tow promote -e {name}"),
    };
    format!("{name} is not there yet: `{command}` makes it")
}

/// What an environment is that is not there yet.
fn absent(cli: &Cli, here: &Here) -> Result<EnvironmentStatus, Trouble> {
    let place = App::find(cli)?.place(&here.environment)?;
    Ok(EnvironmentStatus {
        app: place.app.name,
        environment: place.environment,
        verdict: "stopped".to_owned(),
        version: crate::version().to_owned(),
        agent_pid: 0,
        state: place.state,
        listen: None,
        maintenance: None,
        live: None,
        warm: None,
        run: None,
        health: None,
        traffic: BTreeMap::new(),
        instances: Vec::new(),
        gateway: None,
        certificates: Vec::new(),
        jobs: Vec::new(),
        https: None,
        ended: Vec::new(),
    })
}

/// `tow status`.
pub async fn status(cli: &Cli, arguments: &Status) -> Ending {
    let Some(client) = client(cli, &arguments.here).await? else {
        if arguments.here.json {
            out::json(&absent(cli, &arguments.here)?);
        }
        return Ok(0);
    };
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

/// `tow metrics`.
pub async fn metrics(cli: &Cli, arguments: &Metrics) -> Ending {
    let here = Here {
        environment: arguments.environment.clone(),
        json: false,
    };
    let Some(client) = client(cli, &here).await? else {
        return Ok(0);
    };
    let metrics: MetricsText = client
        .get("/v1/metrics")
        .await
        .map_err(ClientError::into_trouble)?;
    out::say(metrics.text.trim_end());
    Ok(0)
}

/// `tow ps`.
pub async fn ps(cli: &Cli, arguments: &Ps) -> Ending {
    let Some(client) = client(cli, &arguments.here).await? else {
        if arguments.here.json {
            out::say("[]");
        }
        return Ok(0);
    };
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
    let Some(client) = client(cli, &arguments.here).await? else {
        if arguments.here.json {
            out::say("[]");
        }
        return Ok(0);
    };
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

/// Times that a link is made anew without a line coming over it.
const IN_VAIN: u32 = 5;

/// `tow logs`.
pub async fn logs(cli: &Cli, arguments: &Logs) -> Ending {
    let Some(client) = client(cli, &arguments.here).await? else {
        return Ok(0);
    };
    let mut heard = Heard::default();
    let mut in_vain = 0;
    loop {
        let before = heard.lines;
        let ended = hear(&client, arguments, &mut heard).await;
        in_vain = if heard.lines > before { 0 } else { in_vain + 1 };
        match ended {
            Ok(()) => return Ok(0),
            Err(error) if !error.is_passing() || !client.is_linked() || in_vain > IN_VAIN => {
                return Err(error.into_trouble());
            }
            Err(_) => out::note("  the link broke; going on from the line heard last"),
        }
    }
}

/// How far logs have been heard, for going on when the link has broken.
#[derive(Default)]
struct Heard {
    /// Of each instance, once all of what was written before has come.
    places: BTreeMap<InstanceId, String>,
    /// How many lines there were.
    lines: u64,
    /// What has come until then.
    first: HashSet<(InstanceId, String)>,
}

async fn hear(client: &Client, arguments: &Logs, heard: &mut Heard) -> Result<(), ClientError> {
    let named = arguments.service.as_ref();
    let service = named.map_or(String::new(), |name| format!("&service={name}"));
    let from = heard.places.iter();
    let from: String = from
        .map(|(instance, place)| format!("&from={instance}@{place}"))
        .collect();
    let path = format!(
        "/v1/logs?lines={}&follow={}{service}{from}",
        arguments.lines,
        u8::from(arguments.follow)
    );
    let again = heard.first.clone();
    let mut lines = client.lines(&path).await?;
    while let Some(line) = lines.next::<LogLine>().await? {
        let whose = (line.instance.clone(), line.line.clone());
        match &line.at {
            Some(place) => drop(heard.places.insert(line.instance.clone(), place.clone())),
            None if again.contains(&whose) => continue,
            None => drop(heard.first.insert(whose)),
        }
        heard.lines += 1;
        if !line.only_place {
            say(line, arguments.here.json);
        }
    }
    Ok(())
}

fn say(line: LogLine, as_json: bool) {
    match as_json {
        // How far it is read is between command and agent.
        true => {
            let line = LogLine { at: None, ..line };
            out::say(serde_json::to_string(&line).unwrap_or_default());
        }
        false => out::say(format!("{} | {}", line.instance, line.line)),
    }
}
