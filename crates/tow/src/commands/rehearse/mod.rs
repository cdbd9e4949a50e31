//! `tow rehearse`: the whole way of a release, there and back, in a scratch folder and under the
//! load that the application declares.
//!
//! Local, staging and production are three agents with states of their own, on this machine or on
//! servers; what crosses between them crosses as it would between machines. The rehearsal passes only if every request was
//! answered, every acknowledged write is found once, every number the application counts itself is
//! zero, the way back took less than a second, and the broken version was refused.

mod databases;
mod report;
mod round;
mod rounds;
mod scratch;
mod secrets;
mod servers;
mod stage;

use towpath::agent::api::Trouble;
use towpath::config::{self, Config};
use towpath::diagnostic::Diagnostic;
use towpath::manifest::Manifest;

use super::Ending;
use super::deploy::Leaving;
use crate::cli::Cli;
use crate::cli::commands::Rehearse;
use crate::out;
use crate::place::App;
use report::Report;
use round::{Fault, Goal};
use scratch::Scratch;
use stage::Stage;

/// Requests and writes of a round that only has to find a planted fault.
const PROOF: Goal = Goal {
    requests: 6_000,
    writes: 1_200,
};

/// `tow rehearse`.
pub async fn rehearse(cli: &Cli, arguments: &Rehearse) -> Ending {
    let app = App::find(cli)?;
    let config = last_environment(&app)?;
    let ends = [config.promote.first(), config.promote.last()];
    let ends = ends.map(|end| end.map_or("", String::as_str));
    let servers = servers::servers(&app, ends, arguments.servers.as_ref())?;
    let scratch = Scratch::make(&app, &config, arguments)?;
    out::note(format!(
        "rehearsing {} in {}",
        app.name,
        scratch.dir.display()
    ));
    let mut stage = Stage::open(&scratch, &config, &servers)?;
    // A CI that ends its job says so by SIGTERM, a terminal that is closed by SIGHUP.
    let mut leaving = Leaving::listen();
    let begun = tokio::select! {
        begun = stage.begin() => begun,
        () = leaving.told() => Err(interrupted()),
    };
    let performed = match begun {
        Ok(()) => tokio::select! {
            performed = perform(&stage, &scratch, &config, arguments) => performed,
            () = stage.beat() => Err(interrupted()),
            () = leaving.told() => Err(interrupted()),
        },
        Err(trouble) => Err(trouble),
    };
    let left = stage.strike().await;
    left.iter().for_each(out::note);
    if arguments.keep || arguments.scratch.is_some() {
        out::note(format!("left for looking at: {}", scratch.dir.display()));
    } else {
        scratch.remove();
    }
    let report = performed.map_err(|trouble| stopped(trouble, &left))?;
    if arguments.json {
        out::json(&report);
    } else {
        out::say(report.render());
    }
    Ok(u8::from(!report.passed))
}

fn interrupted() -> Trouble {
    Trouble {
        exit: 1,
        diagnostic: Diagnostic::error("rehearse::interrupted", "the rehearsal was interrupted"),
    }
}

/// What is true now.
fn stopped(trouble: Trouble, left: &[String]) -> Trouble {
    let diagnostic = match left {
        [] => trouble.diagnostic.note("everything it started is stopped"),
        _ => trouble
            .diagnostic
            .note("what it started is not all stopped; see above"),
    };
    Trouble {
        diagnostic,
        ..trouble
    }
}

async fn perform(
    stage: &Stage,
    scratch: &Scratch,
    config: &Config,
    arguments: &Rehearse,
) -> Result<Report, Trouble> {
    let declared = &config.rehearse.as_ref().ok_or_else(undeclared)?;
    let goal = Goal {
        requests: arguments.requests.unwrap_or(declared.requests),
        writes: arguments.writes.unwrap_or(declared.writes),
    };
    let mut report = Report::default();
    report.hosts = stage.hosts();
    if !arguments.skip_local {
        stage.local(&mut report).await?;
    }
    stage.first(&mut report).await?;
    stage.next(scratch, &mut report).await?;
    let fault = arguments.sabotage.as_deref().and_then(Fault::named);
    report.round = Some(round::round(stage, Some(scratch), fault, goal, &mut report.steps).await?);
    report.sabotage = arguments.sabotage.clone();
    for _ in 1..arguments.rounds {
        let round = round::round(stage, None, fault, goal, &mut report.steps).await?;
        report.more.push(round);
    }
    if arguments.prove {
        for fault in Fault::all() {
            let round = round::round(stage, None, Some(fault), PROOF, &mut report.steps).await?;
            report.faults.push(round);
        }
    }
    report.judge();
    Ok(report)
}

/// The configuration of the environment at the end of the way.
fn last_environment(app: &App) -> Result<Config, Trouble> {
    let invalid = |report| out::invalid_manifest(&report, false);
    let manifest = Manifest::parse("tow.toml", &app.text).map_err(invalid)?;
    let first = config::resolve(&manifest, "local").map_err(invalid)?;
    let [_, .., last] = first.promote.as_slice() else {
        return Err(no_way());
    };
    let config = config::resolve(&manifest, last).map_err(invalid)?;
    match (&config.traffic, &config.rehearse) {
        (Some(_), Some(_)) => Ok(config),
        _ => Err(undeclared()),
    }
}

fn no_way() -> Trouble {
    let diagnostic = Diagnostic::error(
        "rehearse::no-way",
        "`promote` names less than two environments",
    )
    .note("nothing was touched")
    .help("say the way a release goes: promote = [\"staging\", \"production\"]");
    Trouble {
        exit: 3,
        diagnostic,
    }
}

fn undeclared() -> Trouble {
    let diagnostic = Diagnostic::error(
        "rehearse::undeclared",
        "the manifest declares no `[traffic]` and `[rehearse]`",
    )
    .note("nothing was touched")
    .help("declare the load and the versions; docs/manifest.md has an example");
    Trouble {
        exit: 3,
        diagnostic,
    }
}
