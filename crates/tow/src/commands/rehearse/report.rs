//! What a rehearsal saw.

use serde::{Serialize, Serializer};
use towpath::load::{ReadBack, Report as LoadReport, Zero};

use super::databases::{self, Database};
use super::round::Fault;
use super::rounds;
use super::servers::Host;
use crate::{render, times};

/// The way back must be shorter, milliseconds.
pub const WAY_BACK: u64 = 1_000;

/// Something that was done in an environment.
#[derive(Debug, Clone, Serialize)]
pub struct StepDone {
    /// Where.
    pub environment: String,
    /// What.
    pub step: String,
    /// `done`, `undone`, `stuck`.
    pub outcome: String,
    /// How long it took, milliseconds.
    pub took_ms: u64,
}

impl StepDone {
    /// For people.
    pub fn line(&self) -> String {
        let Self {
            environment,
            step,
            outcome,
            took_ms,
        } = self;
        format!(
            "  {outcome:<7}{environment:<12}{step}, {}",
            times::span(*took_ms)
        )
    }
}

/// How staging refused the broken version.
#[derive(Debug, Clone, Serialize)]
pub struct Refused {
    /// How its deployment ended.
    pub outcome: String,
    /// Why.
    pub why: Option<String>,
    /// Requests to staging meanwhile.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
}

impl Refused {
    fn holds(&self) -> bool {
        self.outcome == "undone" && self.failed == 0 && self.requests > 0
    }
}

/// One round under load.
#[derive(Debug)]
pub struct Round {
    /// The fault that was planted.
    pub fault: Option<Fault>,
    /// The load.
    pub load: LoadReport,
    /// Its writes, read back.
    pub writes: ReadBack,
    /// What the application counts itself.
    pub zeros: Vec<Zero>,
    /// From asking for the way back to requests going back, milliseconds.
    pub rollback_ms: u64,
    /// The broken version, in the round that has one.
    pub refused: Option<Refused>,
}

impl Round {
    /// Whether nothing failed, nothing was lost, nothing was doubled.
    fn passes(&self) -> bool {
        self.problems().is_empty()
    }

    /// What is wrong, in words.
    fn problems(&self) -> Vec<String> {
        let requests = &self.load.requests;
        let counts = [
            ("failed requests", requests.failed, requests.total),
            ("lost writes", self.writes.lost, self.writes.acknowledged),
            (
                "doubled writes",
                self.writes.doubled,
                self.writes.acknowledged,
            ),
            (
                "unreadable writes",
                self.writes.unreadable,
                self.writes.acknowledged,
            ),
        ];
        let zeros = self
            .zeros
            .iter()
            .map(|zero| (zero.name.as_str(), zero.value, zero.of));
        let counted = counts
            .into_iter()
            .chain(zeros)
            .filter(|(_, count, of)| *count > 0 || *of == 0);
        counted
            .map(|(name, count, of)| format!("{count} {name} of {of}"))
            .collect()
    }
}

impl Serialize for Round {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = serde_json::json!({
            "fault": self.fault,
            "found": self.fault.map(|_| !self.passes()),
            "problems": self.problems(),
            "requests": self.load.requests,
            "writes": self.writes,
            "zeros": self.zeros,
            "rollback_ms": self.rollback_ms,
            "refused": self.refused,
        });
        value.serialize(serializer)
    }
}

/// A whole rehearsal.
#[derive(Debug, Default)]
pub struct Report {
    /// Whether it passed.
    pub passed: bool,
    /// Environments that were on servers.
    pub hosts: Vec<Host>,
    /// What the environments ran on.
    pub databases: Vec<Database>,
    /// What was done, in order.
    pub steps: Vec<StepDone>,
    /// The round that counts.
    pub round: Option<Round>,
    /// The same again, as often as was asked for.
    pub more: Vec<Round>,
    /// The fault that was asked for.
    pub sabotage: Option<String>,
    /// Rounds with a fault planted, each of which must have found it.
    pub faults: Vec<Round>,
    problems: Vec<String>,
}

impl Report {
    /// Decides whether it passed, and why not.
    pub fn judge(&mut self) {
        let mut problems = Vec::new();
        for round in self.rounds() {
            problems.extend(round.problems());
            if round.rollback_ms >= WAY_BACK {
                problems.push(format!("the way back took {} ms", round.rollback_ms));
            }
            if round
                .refused
                .as_ref()
                .is_some_and(|refused| !refused.holds())
            {
                problems
                    .push("the broken version was not refused without a failed request".to_owned());
            }
        }
        let missed = self.faults.iter().filter(|round| round.passes());
        problems.extend(
            missed.filter_map(|round| Some(format!("{} was not found", round.fault?.name()))),
        );
        self.passed = problems.is_empty();
        self.problems = problems;
    }

    /// Those that have to pass.
    fn rounds(&self) -> impl Iterator<Item = &Round> {
        self.round.iter().chain(&self.more)
    }

    /// For people.
    pub fn render(&self) -> String {
        let mut parts = Vec::new();
        if !self.databases.is_empty() {
            parts.push(databases::render(&self.databases));
        }
        if let Some(round) = &self.round {
            parts.push(counts(round));
            parts.push(plot(&round.load));
            parts.extend(details(round));
        }
        if !self.more.is_empty() {
            parts.push(rounds::render(&self.rounds().collect::<Vec<_>>()));
        }
        if !self.faults.is_empty() {
            parts.push(faults(&self.faults));
        }
        if !self.hosts.is_empty() {
            parts.push(hosts(&self.hosts));
        }
        parts.push(self.verdict());
        parts.join("\n\n")
    }

    fn verdict(&self) -> String {
        let planted = self
            .sabotage
            .as_ref()
            .map_or(String::new(), |fault| format!(" ({fault} was planted)"));
        match (self.passed, self.sabotage.is_some()) {
            (true, false) => "passed".to_owned(),
            (true, true) => format!("passed, and should not have{planted}"),
            (false, _) => format!("FAILED{planted}: {}", self.problems.join("; ")),
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let round = self.round.as_ref();
        let value = serde_json::json!({
            "passed": self.passed,
            "problems": self.problems,
            "sabotage": self.sabotage,
            "requests": round.map(|round| &round.load.requests),
            "writes": round.map(|round| &round.writes),
            "zeros": round.map(|round| &round.zeros),
            "rollback_ms": round.map(|round| round.rollback_ms),
            "refused": round.map(|round| &round.refused),
            "rounds": self.rounds().collect::<Vec<_>>(),
            "hosts": self.hosts,
            "databases": self.databases,
            "steps": self.steps,
            "faults": self.faults,
        });
        value.serialize(serializer)
    }
}

fn row(name: &str, seen: u64, of: u64, at: &str) -> Vec<String> {
    vec![
        name.to_owned(),
        seen.to_string(),
        of.to_string(),
        at.to_owned(),
    ]
}

fn counts(round: &Round) -> String {
    let requests = &round.load.requests;
    let rate = format!(
        "{:.0}/s, {} on kept connections, {} on fresh",
        requests.rate, requests.kept, requests.fresh
    );
    let writes = format!(
        "{:.0}/s",
        round.writes.acknowledged as f64 / round.load.elapsed.as_secs_f64().max(0.001)
    );
    let mut rows = vec![
        row("failed requests", requests.failed, requests.total, &rate),
        row(
            "lost writes",
            round.writes.lost,
            round.writes.acknowledged,
            &writes,
        ),
        row(
            "doubled writes",
            round.writes.doubled,
            round.writes.acknowledged,
            &writes,
        ),
        row(
            "unreadable writes",
            round.writes.unreadable,
            round.writes.acknowledged,
            &writes,
        ),
    ];
    rows.extend(
        round
            .zeros
            .iter()
            .map(|zero| row(&zero.name, zero.value, zero.of, "")),
    );
    if let Some(refused) = &round.refused {
        rows.push(row(
            "failed meanwhile in staging",
            refused.failed,
            refused.requests,
            "while it refused the broken version",
        ));
    }
    render::table(&["COUNT", "SEEN", "OF", "AT"], &rows)
}

fn details(round: &Round) -> Vec<String> {
    let mut lines = vec![format!(
        "way back: {} ms until requests went to the version before",
        round.rollback_ms
    )];
    if let Some(refused) = &round.refused {
        let why = refused.why.clone().unwrap_or_default();
        lines.push(format!("broken version: {}, {why}", refused.outcome));
    }
    let requests = &round.load.requests;
    let shown = requests.failures.iter().take(5);
    lines.extend(shown.map(|failure| {
        format!(
            "failed after {:.1} s: {}: {}",
            failure.at.as_secs_f64(),
            failure.request,
            failure.detail
        )
    }));
    vec![lines.join("\n")]
}

fn hosts(hosts: &[Host]) -> String {
    let line = |host: &Host| {
        let Host {
            environment,
            server,
            load,
        } = host;
        format!("{environment} was on {server}, with the load {load}")
    };
    hosts.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn faults(rounds: &[Round]) -> String {
    let row = |round: &Round| {
        let name = round.fault.map_or("", Fault::name).to_owned();
        let word = if round.passes() { "NOT FOUND" } else { "found" }.to_owned();
        vec![name, word, round.problems().join("; ")]
    };
    render::table(
        &["PLANTED FAULT", "", "SEEN"],
        &rounds.iter().map(row).collect::<Vec<_>>(),
    )
}

/// Two lines of bars over the time of the load: requests a second, and the slowest of each moment.
fn plot(load: &LoadReport) -> String {
    const WIDTH: usize = 72;
    let slots = &load.requests.timeline;
    let size = slots.len().div_ceil(WIDTH).max(1);
    let groups: Vec<_> = slots
        .chunks(size)
        .filter(|group| group.len() == size)
        .collect();
    let rate = |group: &&[towpath::load::Slot]| {
        group.iter().map(|slot| slot.total).sum::<u64>() * 10 / size as u64
    };
    let slowest = |group: &&[towpath::load::Slot]| {
        let longest = group
            .iter()
            .map(|slot| slot.slowest.as_millis())
            .max()
            .unwrap_or(0);
        u64::try_from(longest).unwrap_or(u64::MAX)
    };
    let rates: Vec<u64> = groups.iter().map(rate).collect();
    let slow: Vec<u64> = groups.iter().map(slowest).collect();
    let most = |values: &[u64]| values.iter().copied().max().unwrap_or(0);
    format!(
        "requests/s  {}  up to {}\nslowest     {}  up to {} ms\n            {:.0} s",
        bars(&rates),
        most(&rates),
        bars(&slow),
        most(&slow),
        load.elapsed.as_secs_f64()
    )
}

fn bars(values: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    values
        .iter()
        .map(|value| BARS[usize::try_from(value * 7 / most).unwrap_or(7)])
        .collect()
}
