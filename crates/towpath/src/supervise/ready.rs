//! Waiting until a started instance is ready, or saying well why it is not.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use towpath_shim::protocol::{Exit, State, Status};

use super::{Owner, Process, Supervisor, logs, probe, sockets};

/// Starts of a new instance that may fail before it is given up.
const STARTS: u32 = 3;

/// How long a killed process may hold its port.
const LINGERS: Duration = Duration::from_secs(1);

/// Why an instance did not become ready: everything that a person would look up next.
#[derive(Debug, Clone)]
pub struct NotReady {
    /// How long it was waited for.
    pub waited: Duration,
    /// How its process ended, when it did.
    pub exit: Option<Exit>,
    /// Starts that were tried.
    pub starts: u32,
    /// The last question, its answer, and how long ago that was.
    pub last: Option<(String, String, Duration)>,
    /// The port it was given.
    pub port: Option<u16>,
    /// Who else listens on that port: `name (pid)`.
    pub taken_by: Option<String>,
    /// The ports its tree listens on.
    pub listens: Vec<u16>,
    /// The last lines of its log.
    pub tail: Vec<String>,
    /// Its shim is gone, or could not be asked.
    pub silent: bool,
}

/// How long an instance took.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Readiness {
    /// From the first question to the last pass, milliseconds.
    pub took_ms: u64,
}

impl Supervisor {
    /// Waits until `process` has passed its start-up probe as often as it must.
    ///
    /// # Errors
    /// [`NotReady`] when its time is up, or it has died [`STARTS`] times.
    pub async fn ready(&self, process: &Process) -> Result<Readiness, NotReady> {
        let Some(ready) = process.ready.clone() else {
            return Ok(Readiness { took_ms: 0 });
        };
        let (begun, mut passes, mut last) = (Instant::now(), 0, None);
        loop {
            let status = self.status(&process.id).await;
            if let Some(status) = status
                .as_ref()
                .filter(|status| matches!(status.state, State::Running { .. }))
            {
                let asked =
                    probe::ask(&ready.probe, process, status, &self.places, ready.timeout).await;
                passes = if asked.answer.is_ok() { passes + 1 } else { 0 };
                last = asked
                    .answer
                    .err()
                    .map(|answer| (asked.question.0, answer, Instant::now()))
                    .or(last);
            }
            if passes >= ready.passes {
                let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                return Ok(Readiness { took_ms });
            }
            let status = status.or_else(|| self.ended(&process.id));
            if begun.elapsed() > ready.within || is_hopeless(status.as_ref()) {
                let last = last.map(|(question, answer, at): (String, String, Instant)| {
                    (question, answer, at.elapsed())
                });
                return Err(self.not_ready(process, status, begun.elapsed(), last).await);
            }
            sleep(ready.every).await;
        }
    }

    async fn not_ready(
        &self,
        process: &Process,
        status: Option<Status>,
        waited: Duration,
        last: Option<(String, String, Duration)>,
    ) -> NotReady {
        let log = self.places.log(&process.service, &process.id);
        let pids = status.as_ref().map_or(&[] as &[u32], |status| &status.pids);
        NotReady {
            taken_by: self.taken_by(process).await,
            listens: sockets::ports_of(pids),
            waited,
            exit: status.as_ref().and_then(|status| status.last_exit.clone()),
            starts: status.as_ref().map_or(0, |status| status.restarts + 1),
            last,
            port: process.port,
            tail: logs::tail(&log, 10),
            silent: status.is_none(),
        }
    }

    /// Who else listens on the port of `process`. What its own tree left is being killed, and holds the port for
    /// a moment after it is in no tree: only who is still there after [`LINGERS`] is another.
    async fn taken_by(&self, process: &Process) -> Option<String> {
        let port = process.port?;
        let begun = Instant::now();
        loop {
            let status = self.status(&process.id).await;
            let pids = status.map_or_else(Vec::new, |status| status.pids);
            let found = other(port, &pids)?;
            if begun.elapsed() > LINGERS {
                return Some(found);
            }
            sleep(LINGERS / 10).await;
        }
    }
}

fn other(port: u16, pids: &[u32]) -> Option<String> {
    match sockets::owner(port, pids) {
        Owner::Other(Some((pid, name))) => Some(format!("{name} ({pid})")),
        Owner::Other(None) => Some("another user's process".to_owned()),
        _ => None,
    }
}

fn is_hopeless(status: Option<&Status>) -> bool {
    status.is_some_and(|status| {
        let never_starts = status
            .last_exit
            .as_ref()
            .is_some_and(|exit| exit.start_error.is_some());
        matches!(status.state, State::Ended) || status.restarts >= STARTS || never_starts
    })
}
