//! Having instances replaced that know an old value.

use std::time::Duration;

use tokio::time::sleep;
use towpath::agent::api::{Begin, Status, Trouble, What};
use towpath::agent::{Client, ClientError};
use towpath::id::InstanceId;

use super::super::deploy::{Act, Leaving, act, actor};
use super::trouble;
use crate::cli::commands::Rotate;
use crate::place::Place;
use crate::times;

/// How long instances that end by themselves, such as runs of jobs, are waited for.
pub const ENDS: Duration = Duration::from_secs(60);

/// How often it is looked whether they have.
pub const LOOKS: Duration = Duration::from_millis(200);

/// What became of it.
pub enum Replaced {
    /// What serves was started anew, by a run that ended with this code.
    Run(u8),
    /// A restart does not touch them: runs of jobs, and what is being stopped.
    Left,
}

/// Starts what serves anew, where one of `behind` serves or is warm.
pub async fn replace(
    place: &Place,
    client: &Client,
    arguments: &Rotate,
    behind: &[&InstanceId],
) -> Result<Replaced, Trouble> {
    let status = told(client).await?;
    let is_of = |side: &str| {
        let mut all = status.instances.iter().filter(|one| one.side == side);
        all.any(|one| behind.contains(&&one.id))
    };
    if let (true, Some(version), false) = (is_of("warm"), &status.warm, arguments.end_window) {
        return Err(warm(place, &version.name, version.left_ms));
    }
    if !is_of("live") && !is_of("warm") {
        return Ok(Replaced::Left);
    }
    let what = What::Restart {
        ends_window: arguments.end_window,
    };
    let begin = Begin::new(what, actor());
    let ended = act(Act {
        place,
        client,
        begin,
        json: false,
    });
    ended.await.map(Replaced::Run)
}

/// What stands against a beginning, whatever is rotated.
pub fn may_begin(place: &Place, arguments: &Rotate, status: &Status) -> Result<(), Trouble> {
    if let Some(run) = &status.run {
        let text = format!(
            "{} is held by {}, a {}",
            place.environment, run.run, run.operation
        );
        let help = "wait for its end: `tow status` shows it";
        return Err(trouble(4, "deploy::locked", text, help));
    }
    match &status.warm {
        Some(version) if !arguments.end_window => Err(warm(place, &version.name, version.left_ms)),
        _ => Ok(()),
    }
}

fn warm(place: &Place, version: &str, left_ms: Option<u64>) -> Trouble {
    let text = format!(
        "{version} is warm in {}, and knows only what it was started with",
        place.environment
    );
    let left = left_ms.map_or(String::new(), |left| {
        format!("its window is over in {}; ", times::span(left))
    });
    let help = "wait for that, or stop it now: --end-window";
    let mut refused = trouble(4, "secret::warm", text, help);
    refused.diagnostic = refused.diagnostic.note(format!(
        "{left}going back to it would bring the old value back"
    ));
    refused
}

/// The environment now.
pub async fn told(client: &Client) -> Result<Status, Trouble> {
    let status = client.get("/v1/status").await;
    status.map_err(ClientError::into_trouble)
}

/// Somebody has the old value, and does not end.
pub fn in_use(who: &str) -> Trouble {
    let text = format!("{who} still has the old value");
    let help = "when it has ended, the same command goes on";
    trouble(1, "secret::in-use", text, help)
}

/// Only an agent of a rehearsal takes a planted fault.
pub async fn takes_faults(client: &Client) -> Result<(), Trouble> {
    let asked = Begin {
        dry_run: true,
        sabotage: Some(towpath::release::Sabotage::EarlyKill),
        ..Begin::new(What::Restart { ends_window: false }, actor())
    };
    let asked: Result<serde_json::Value, _> = client.post("/v1/runs", &asked).await;
    asked.map(drop).map_err(ClientError::into_trouble)
}

/// Nothing is under way meanwhile: whoever ends the command here leaves the rotation where it is.
pub async fn pause(
    leaving: &mut Leaving,
    name: &str,
    environment: &str,
    span: Duration,
) -> Result<(), Trouble> {
    tokio::select! {
        () = sleep(span) => Ok(()),
        () = leaving.told() => {
            let text = format!("the rotation of {name} in {environment} stays where it is");
            let help = format!(
                "`tow secrets rotate {name} -e {environment}` goes on, with --undo it goes back"
            );
            Err(trouble(1, "secret::detached", text, &help))
        }
    }
}
