//! One round under load: the next version in, and back again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::time::{interval, timeout};
use towpath::agent::api::{Trouble, What};
use towpath::config::Traffic;
use towpath::diagnostic::Diagnostic;
use towpath::load::{self, Load, ReadBack, Zero};
use towpath::release::Sabotage;

use super::report::{Refused, Round, StepDone};
use super::scratch::Scratch;
use super::stage::{Stage, run};
use crate::follow::Tell;
use crate::out;

/// The longest that a round may wait for its load.
const PATIENCE: Duration = Duration::from_secs(900);

/// Requests and acknowledged writes at least.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// Requests.
    pub requests: u64,
    /// Writes.
    pub writes: u64,
}

/// A fault that is planted to see it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// After the roll-back the backup is put back, as deployers do that go back by restoring.
    DropWrite,
    /// The old version is killed before the switch.
    EarlyKill,
    /// The old version is killed right after the switch.
    SkipDrain,
    /// The old worker is not stopped.
    DoubleWorker,
}

impl Fault {
    /// All of them.
    pub fn all() -> [Fault; 4] {
        [
            Fault::DropWrite,
            Fault::EarlyKill,
            Fault::SkipDrain,
            Fault::DoubleWorker,
        ]
    }

    /// As typed.
    pub fn name(self) -> &'static str {
        match self {
            Fault::DropWrite => "drop-write",
            Fault::EarlyKill => "early-kill",
            Fault::SkipDrain => "skip-drain",
            Fault::DoubleWorker => "double-worker",
        }
    }

    /// From what was typed.
    pub fn named(name: &str) -> Option<Fault> {
        Fault::all().into_iter().find(|fault| fault.name() == name)
    }

    fn sabotage(self) -> Sabotage {
        match self {
            Fault::DropWrite => Sabotage::PutBack,
            Fault::EarlyKill => Sabotage::EarlyKill,
            Fault::SkipDrain => Sabotage::SkipDrain,
            Fault::DoubleWorker => Sabotage::DoubleWorker,
        }
    }

    /// What is planted into the promotion.
    fn there(self) -> Option<Sabotage> {
        Some(self.sabotage()).filter(|_| self != Fault::DropWrite)
    }

    /// What is planted into the way back.
    fn back(self) -> Option<Sabotage> {
        Some(self.sabotage()).filter(|_| self == Fault::DropWrite)
    }
}

fn load_trouble(error: &load::Error) -> Trouble {
    let diagnostic = Diagnostic::error("rehearse::load", error.to_string())
        .note("the load could not be begun, or not be checked");
    Trouble {
        exit: 1,
        diagnostic,
    }
}

/// The next version in and back under load; with `broken`, staging refuses that meanwhile.
pub async fn round(
    stage: &Stage,
    broken: Option<&Scratch>,
    fault: Option<Fault>,
    goal: Goal,
    steps: &mut Vec<StepDone>,
) -> Result<Round, Trouble> {
    let mut way = stage.way(&stage.production).await?;
    let address = way.address;
    let traffic = &stage.traffic;
    let load = Load::start(address, None, traffic.clone())
        .await
        .map_err(|error| load_trouble(&error))?;
    let token = load.token().cloned();
    let before = load::zeros(address, None, traffic, token.as_ref())
        .await
        .map_err(|error| load_trouble(&error))?;
    let bar = bar(goal);
    let acted = tokio::select! {
        acted = act(stage, &load, broken, fault, goal, steps) => acted,
        trouble = way.broken() => Err(trouble),
        () = watch(&load, bar.as_ref()) => unreachable_end(),
    };
    let report = load.stop().await;
    bar.iter().for_each(ProgressBar::finish_and_clear);
    let acted = acted?;
    let (found, zeros) = verify(address, traffic, token.as_ref(), &report.writes, &before).await?;
    Ok(Round {
        fault,
        load: report,
        writes: found,
        zeros,
        rollback_ms: acted.rollback_ms,
        refused: acted.refused,
    })
}

/// What a round did besides its load.
struct Acted {
    rollback_ms: u64,
    refused: Option<Refused>,
}

async fn act(
    stage: &Stage,
    load: &Load,
    broken: Option<&Scratch>,
    fault: Option<Fault>,
    goal: Goal,
    steps: &mut Vec<StepDone>,
) -> Result<Acted, Trouble> {
    let label = fault.map_or(String::new(), |fault| format!(", {} planted", fault.name()));
    reached(load, goal, 20).await?;
    let begun = Instant::now();
    let (release, client) = stage.carry().await?;
    let course = run(
        &stage.production,
        &client,
        What::Promote { release },
        fault.and_then(Fault::there),
        Tell::Nothing,
    )
    .await?;
    stage.done(
        &stage.production,
        &format!("promote the next version{label}"),
        begun,
        course,
        steps,
    )?;
    reached(load, goal, 50).await?;
    let begun = Instant::now();
    let course = run(
        &stage.production,
        &client,
        What::Rollback { to: None },
        fault.and_then(Fault::back),
        Tell::Nothing,
    )
    .await?;
    let rollback_ms = course
        .at("switch")
        .and_then(|at| u64::try_from(at).ok())
        .unwrap_or(u64::MAX);
    stage.done(
        &stage.production,
        &format!("roll back{label}"),
        begun,
        course,
        steps,
    )?;
    let refused = match broken {
        Some(scratch) => Some(refuse(stage, scratch, steps).await?),
        None => None,
    };
    reached(load, goal, 100).await?;
    Ok(Acted {
        rollback_ms,
        refused,
    })
}

async fn reached(load: &Load, goal: Goal, percent: u64) -> Result<(), Trouble> {
    let waited = timeout(
        PATIENCE,
        load.reached(goal.requests * percent / 100, goal.writes * percent / 100),
    )
    .await;
    waited.map_err(|_| {
        let text = format!(
            "the load did not come to {} requests and {} writes",
            goal.requests, goal.writes
        );
        Trouble {
            exit: 1,
            diagnostic: Diagnostic::error("rehearse::load", text),
        }
    })
}

/// Staging must refuse the broken version, and answer on meanwhile.
async fn refuse(
    stage: &Stage,
    scratch: &Scratch,
    steps: &mut Vec<StepDone>,
) -> Result<Refused, Trouble> {
    scratch.lay_broken()?;
    let way = stage.way(&stage.staging).await?;
    let traffic = Traffic {
        rate: (stage.traffic.rate / 8).max(1),
        connections: 4,
        ..stage.traffic.clone()
    };
    let load = Load::start(way.address, None, traffic)
        .await
        .map_err(|error| load_trouble(&error))?;
    let begun = Instant::now();
    let (client, what) = stage.archive().await?;
    let course = run(&stage.staging, &client, what, None, Tell::Nothing).await?;
    let report = load.stop().await;
    let step = StepDone {
        environment: stage.staging.environment.clone(),
        step: "deploy a version that never becomes ready".to_owned(),
        outcome: course.outcome.clone(),
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    out::note(step.line());
    steps.push(step);
    Ok(Refused {
        outcome: course.outcome,
        why: course.failure.map(|failure| failure.message),
        requests: report.requests.total,
        failed: report.requests.failed,
    })
}

async fn verify(
    address: SocketAddr,
    traffic: &Traffic,
    token: Option<&load::Token>,
    ids: &[String],
    before: &[Zero],
) -> Result<(ReadBack, Vec<Zero>), Trouble> {
    let found = load::read_back(address, None, traffic, token, ids)
        .await
        .map_err(|error| load_trouble(&error))?;
    let after = load::zeros(address, None, traffic, token)
        .await
        .map_err(|error| load_trouble(&error))?;
    // What an earlier round left is not this round's.
    let zeros = after.into_iter().zip(before).map(|(after, before)| Zero {
        value: after.value.saturating_sub(before.value),
        of: after.of.saturating_sub(before.of),
        ..after
    });
    Ok((found, zeros.collect()))
}

fn bar(goal: Goal) -> Option<ProgressBar> {
    out::is_watched().then(|| {
        let bar = ProgressBar::new(goal.requests);
        let style = ProgressStyle::with_template("  under load {bar:24} {msg}");
        style
            .map(|style| bar.clone().with_style(style))
            .unwrap_or(bar)
    })
}

/// Says how the load goes; never ends by itself.
async fn watch(load: &Load, bar: Option<&ProgressBar>) {
    let pause = if bar.is_some() {
        Duration::from_millis(200)
    } else {
        Duration::from_secs(10)
    };
    let mut tick = interval(pause);
    tick.tick().await;
    loop {
        tick.tick().await;
        let now = load.progress();
        let text = format!(
            "{} requests, {} failed, {} writes, {:.0}/s",
            now.total, now.failed, now.acknowledged, now.rate_now
        );
        match bar {
            Some(bar) => {
                bar.set_position(now.total);
                bar.set_message(text);
            }
            None => out::note(format!("    {text}")),
        }
    }
}

fn unreachable_end() -> Result<Acted, Trouble> {
    Err(Trouble {
        exit: 1,
        diagnostic: Diagnostic::error("rehearse::load", "watching the load ended"),
    })
}
