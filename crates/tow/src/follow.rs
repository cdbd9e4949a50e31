//! Following a run to its end, and saying how it goes.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::time::sleep;
use towpath::agent::api::{Begun, Trouble};
use towpath::agent::{Client, ClientError};
use towpath::diagnostic::Diagnostic;
use towpath::release::OLD_FAILS;
use towpath::state::{Kind, Row};

use crate::place::Place;
use crate::{connect, out, times};

/// One step as it went.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StepTime {
    /// Its name.
    pub step: String,
    /// `ok`, `failed`, `cancelled`, `undone`, `stuck`.
    pub outcome: String,
    /// From intent to result, milliseconds.
    pub took_ms: i64,
    /// From the run's beginning to the result, milliseconds.
    pub at_ms: i64,
}

/// A run as it went.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Course {
    /// The run.
    pub run: String,
    /// `done`, `undone`, `stuck`; `nothing` when there was nothing to do, and no run.
    pub outcome: String,
    /// From its beginning to its end, milliseconds.
    pub took_ms: i64,
    /// Its steps in the order of their results.
    pub steps: Vec<StepTime>,
    /// Why it was undone, or is stuck.
    pub failure: Option<Diagnostic>,
}

impl Course {
    /// There was nothing to do.
    pub fn nothing() -> Course {
        Course {
            run: String::new(),
            outcome: "nothing".to_owned(),
            took_ms: 0,
            steps: Vec::new(),
            failure: None,
        }
    }

    /// The exit code that says it.
    pub fn exit(&self) -> u8 {
        match self.outcome.as_str() {
            "done" | "nothing" => 0,
            "undone" if self.is_refused() => 4,
            "undone" => 5,
            _ => 6,
        }
    }

    /// Whether it was found on copies that it must not come in: nothing was touched then.
    fn is_refused(&self) -> bool {
        let code = self.failure.as_ref().map(|failure| &*failure.code);
        code == Some(OLD_FAILS)
    }

    /// Whether a foreign migrator was at work beside what serves, which was seen to bear that: nothing is put back then.
    pub fn leaves_schema(&self) -> bool {
        let is = |step: &StepTime, name: &str, outcome| {
            step.step.starts_with(name) && step.outcome == outcome
        };
        let any = |name, outcome| self.steps.iter().any(|step| is(step, name, outcome));
        let began = any("migrator:", "undone") || any("launch:", "undone");
        any("rehearse", "ok") && began && !any("hold", "ok")
    }

    /// When a step had its result, from the run's beginning.
    pub fn at(&self, step: &str) -> Option<i64> {
        self.steps
            .iter()
            .find(|found| found.step == step && found.outcome == "ok")
            .map(|found| found.at_ms)
    }
}

/// How long a build may be silent before it is said where to look.
const SILENT: Duration = Duration::from_secs(2);

/// What a step that was cut off by `tow cancel` has failed with.
pub const CANCELLED: &str = "deploy::cancelled";

/// How much is said on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// Nothing.
    Nothing,
    /// The step it is at, where somebody watches.
    Step,
    /// That, and a line for each step that has ended.
    Steps,
}

/// Follows `begun` to its end. The agent may go away meanwhile; where it does, another is started,
/// which goes on with the run.
pub async fn follow(
    place: &Place,
    client: &Client,
    begun: &Begun,
    tell: Tell,
) -> Result<Course, Trouble> {
    let mut teller = Teller::new(place, begun, tell);
    let mut patience = 0;
    loop {
        let heard = teller.heard;
        let path = format!("/v1/runs/{}/rows?after={heard}", begun.run);
        let attended = attend(client, &path, &mut teller).await;
        if teller.heard > heard {
            patience = 0;
        }
        match attended {
            Ok(true) => return Ok(teller.course),
            // A link that cannot be made anew has been tried for long enough.
            Err(error) if !error.is_passing() || client.is_linked() => {
                return Err(left(place, begun, error));
            }
            _ if patience < 20 => {
                patience += 1;
                if client.is_linked() {
                    teller.say("  the link broke; going on from what was heard last");
                }
                sleep(Duration::from_millis(100)).await;
                connect::again(place).await;
            }
            _ if client.is_linked() => {
                let broken = ClientError::Broken("over and over".to_owned());
                return Err(left(place, begun, broken));
            }
            _ => {
                return Err(
                    ClientError::Broken("it ended in the middle of the run".to_owned())
                        .into_trouble(),
                );
            }
        }
    }
}

/// The run is not followed any more, and goes on.
fn left(place: &Place, begun: &Begun, error: ClientError) -> Trouble {
    let trouble = error.into_trouble();
    let environment = &place.environment;
    let goes_on = format!("{} goes on without this command", begun.run);
    let help =
        format!("`tow status -e {environment}` shows it, `tow cancel -e {environment}` undoes it");
    Trouble {
        diagnostic: trouble.diagnostic.note(goes_on).help(help),
        ..trouble
    }
}

/// True at the run's end, false when the stream ended or broke before.
async fn attend(client: &Client, path: &str, teller: &mut Teller) -> Result<bool, ClientError> {
    let mut lines = client.lines(path).await?;
    loop {
        let mut next = std::pin::pin!(lines.next::<Row>());
        let row = tokio::select! {
            row = &mut next => row,
            () = sleep(SILENT) => {
                teller.silence();
                next.await
            }
        };
        match row {
            Ok(Some(row)) if teller.hear(&row) => return Ok(true),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(false),
            Err(error) if error.is_passing() => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

struct Teller {
    environment: String,
    tell: Tell,
    /// The step that is at work.
    at: Option<String>,
    bar: Option<ProgressBar>,
    heard: i64,
    /// What stands up to this row is of before the run was gone on with.
    after: i64,
    began: i64,
    intents: HashMap<String, i64>,
    course: Course,
}

impl Teller {
    fn new(place: &Place, begun: &Begun, tell: Tell) -> Teller {
        let bar = (out::is_watched() && tell != Tell::Nothing).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let course = Course {
            run: begun.run.to_string(),
            outcome: String::new(),
            took_ms: 0,
            steps: Vec::new(),
            failure: None,
        };
        Teller {
            environment: place.environment.clone(),
            tell,
            at: None,
            bar,
            heard: 0,
            after: begun.after,
            began: 0,
            intents: HashMap::new(),
            course,
        }
    }

    /// True at the end of the run.
    fn hear(&mut self, row: &Row) -> bool {
        if row.seq <= self.heard {
            return false;
        }
        self.heard = row.seq;
        if row.step == "run" {
            return self.hear_run(row);
        }
        match row.kind {
            Kind::Intent | Kind::UndoIntent => {
                self.intents.insert(row.step.clone(), row.at.wall_ms);
                self.at = (row.kind == Kind::Intent).then(|| row.step.clone());
                self.at_work(row);
            }
            Kind::Ok | Kind::Failed | Kind::Undone | Kind::Stuck => self.result(row),
            Kind::Waiting => self.waits(row),
            _ => {}
        }
        false
    }

    fn hear_run(&mut self, row: &Row) -> bool {
        let outcome = match row.kind {
            Kind::Intent => {
                self.began = row.at.wall_ms;
                return false;
            }
            Kind::Ok => "done",
            Kind::Undone => "undone",
            Kind::Stuck if row.seq <= self.after => return false,
            Kind::Stuck => "stuck",
            Kind::Failed => {
                self.tell("  going back:");
                return false;
            }
            Kind::Pivot => {
                self.tell("  past the point of no return:");
                return false;
            }
            _ => return false,
        };
        outcome.clone_into(&mut self.course.outcome);
        self.course.took_ms = row.at.wall_ms - self.began;
        if row.data != Value::Null {
            self.course.failure = serde_json::from_value(row.data.clone()).ok();
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        true
    }

    fn at_work(&self, row: &Row) {
        if let Some(bar) = &self.bar {
            let verb = if row.kind == Kind::UndoIntent {
                "undo "
            } else {
                ""
            };
            bar.set_message(format!("{verb}{}", row.step));
            bar.reset_elapsed();
        }
    }

    /// Nothing was heard for a while. A build may take minutes, and what it says is in its log.
    fn silence(&mut self) {
        let Some(step) = self.at.take_if(|step| step.starts_with("build:")) else {
            return;
        };
        let log = format!("`tow logs build -e {} --follow`", self.environment);
        match &self.bar {
            Some(bar) => bar.set_message(format!("{step} ({log})")),
            None => self.tell(&format!("  ...    {step:<22}goes on; see {log}")),
        }
    }

    /// A step that can only be finished has failed, and is tried again.
    fn waits(&self, row: &Row) {
        let why = row.data["message"].as_str().unwrap_or_default();
        self.tell(&format!("  again  {:<22}{why}", row.step));
    }

    fn result(&mut self, row: &Row) {
        self.at = None;
        let began = self
            .intents
            .get(&row.step)
            .copied()
            .unwrap_or(row.at.wall_ms);
        let step = StepTime {
            step: row.step.clone(),
            outcome: outcome(row),
            took_ms: row.at.wall_ms - began,
            at_ms: row.at.wall_ms - self.began,
        };
        let took = times::span(u64::try_from(step.took_ms).unwrap_or(0));
        let word = match step.outcome.as_str() {
            "cancelled" => "cut",
            other => other,
        };
        self.tell(&format!("  {word:<7}{:<22}{took}", step.step));
        let told = row.data["told"].as_array().into_iter().flatten();
        for line in told.filter_map(Value::as_str) {
            self.tell(&format!("         {line}"));
        }
        self.course.steps.push(step);
    }

    fn tell(&self, text: &str) {
        if self.tell == Tell::Steps {
            self.say(text);
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => out::note(text),
        }
    }
}

/// How a step ended; one that somebody had cut off did not fail.
fn outcome(row: &Row) -> String {
    match row.kind {
        Kind::Failed if row.data["code"] == CANCELLED => "cancelled".to_owned(),
        kind => kind.to_string(),
    }
}
