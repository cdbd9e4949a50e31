//! Tending an instance that should run.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use towpath_shim::protocol::{State, Status};

use super::{Error, Process, Supervisor, probe};
use crate::id::InstanceId;

const LOOK: Duration = Duration::from_millis(250);

/// How long one without a probe has to run, after it was started anew, until it is taken to be well.
const STAYS: Duration = Duration::from_secs(1);

/// Longest pause between two starts of a shim that fail.
const AGAIN: Duration = Duration::from_secs(10);

/// How an instance is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Health {
    /// What its shim says; `None` while there is none.
    pub status: Option<Status>,
    /// Whether there is a steady probe.
    #[serde(default)]
    pub is_asked: bool,
    /// Whether the steady probe passes; `None` when there is none, or it has not passed since the last start.
    pub healthy: Option<bool>,
    /// Whether it has been started anew, and where it has no steady probe only just.
    #[serde(default)]
    pub is_anew: bool,
    /// What the steady probe was answered last time it failed.
    pub error: Option<String>,
    /// It was started again as often as it may be, and is given up.
    pub gave_up: bool,
    /// How often its shim had to be started anew.
    pub shims: u32,
    /// Port, when it serves one.
    pub port: Option<u16>,
}

impl Health {
    /// How often it was started after the first time, by its shim or with it.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.status.as_ref().map_or(0, |status| status.restarts) + self.shims
    }

    /// Whether it was started anew, and has not answered since.
    #[must_use]
    pub fn is_coming(&self) -> bool {
        self.is_anew && self.healthy.is_none()
    }
}

pub(super) struct Tended {
    health: Arc<Mutex<Health>>,
    task: JoinHandle<()>,
}

impl Tended {
    pub(super) fn health(&self) -> Health {
        self.health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Supervisor {
    /// From now on `process` is kept running; a second call changes nothing.
    pub fn tend(self: &Arc<Self>, process: Process) {
        let mut tended = self.tended();
        if tended.contains_key(&process.id) {
            return;
        }
        let id = process.id.clone();
        let health = Arc::new(Mutex::new(Health {
            port: process.port,
            is_asked: process.alive.is_some(),
            ..Health::default()
        }));
        let task = tokio::spawn(care(Arc::downgrade(self), process, health.clone()));
        tended.insert(id, Tended { health, task });
    }

    /// From now on it is nobody's business whether `id` runs.
    pub fn leave(&self, id: &InstanceId) {
        self.tended().remove(id);
    }
}

/// The steady probe's count of passes and failures in a row.
#[derive(Default)]
struct Row {
    passes: u32,
    failures: u32,
    asked: Option<Instant>,
    /// When it was asked first.
    begun: Option<Instant>,
    /// Whose they are: process id, and when it was started.
    of: Option<(u32, u64)>,
    /// When that was seen first.
    turned: Option<Instant>,
    /// Starts that failed in a row.
    refused: u32,
    /// When the next is tried.
    again: Option<Instant>,
}

impl Row {
    /// What one process has answered says nothing of the next one.
    fn turn(&mut self, status: Option<&Status>, health: &mut Health) {
        let Some(State::Running { pid, since_ms }) = status.map(|status| &status.state) else {
            return;
        };
        let now = Some((*pid, *since_ms));
        let before = std::mem::replace(&mut self.of, now);
        if before.is_some() && before != now {
            *self = Row {
                of: now,
                turned: Some(Instant::now()),
                ..Row::default()
            };
            (health.healthy, health.error, health.is_anew) = (None, None, true);
        }
    }
}

async fn care(supervisor: Weak<Supervisor>, process: Process, health: Arc<Mutex<Health>>) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut row = Row::default();
    loop {
        tick.tick().await;
        let Some(supervisor) = supervisor.upgrade() else {
            return;
        };
        let status = supervisor.status(&process.id).await;
        match status {
            None => revive(&supervisor, &process, &health, &mut row).await,
            Some(_) if row.refused > 0 => {
                (row.refused, row.again) = (0, None);
                update(&health, |health| {
                    (health.healthy, health.error) = (None, None)
                });
            }
            Some(_) => {}
        }
        // At once: nobody is to see a new process with how the one before it had not ended yet.
        update(&health, |health| {
            row.turn(status.as_ref(), health);
            health.status = status.clone().or(health.status.take());
        });
        if let Some(status) = status.filter(super::is_running) {
            steady(&supervisor, &process, &status, &health, &mut row).await;
        }
    }
}

/// No shim answers: either it ended because it gave up, or somebody killed it.
async fn revive(
    supervisor: &Arc<Supervisor>,
    process: &Process,
    health: &Mutex<Health>,
    row: &mut Row,
) {
    if row.again.is_some_and(|again| Instant::now() < again) {
        return;
    }
    let ended = supervisor.ended(&process.id);
    // A machine that goes down tells every shim to stop; after it came up they are wanted again.
    if let Some(status) = ended.filter(|status| !status.stopped) {
        update(health, |health| {
            health.gave_up = true;
            health.healthy = Some(false);
            health.status = Some(status);
        });
        return;
    }
    match supervisor.launch(process).await {
        Ok(()) => update(health, |health| health.shims += 1),
        Err(error) => {
            row.refused = row.refused.saturating_add(1);
            let pause = LOOK * 2_u32.saturating_pow(row.refused.min(16));
            row.again = Some(Instant::now() + pause.min(AGAIN));
            update(health, |health| {
                // What a silent one runs may be alive; of the others nothing is.
                if !matches!(error, Error::Silent(_)) {
                    health.status = None;
                }
                (health.healthy, health.error) = (Some(false), Some(error.to_string()));
            });
        }
    }
}

async fn steady(
    supervisor: &Supervisor,
    process: &Process,
    status: &Status,
    health: &Mutex<Health>,
    row: &mut Row,
) {
    let Some(alive) = &process.alive else {
        if row.turned.is_some_and(|turned| turned.elapsed() >= STAYS) {
            update(health, |health| health.is_anew = false);
        }
        return;
    };
    let (is_coming, is_known) = {
        let health = health.lock().unwrap_or_else(PoisonError::into_inner);
        (health.is_coming(), health.healthy.is_some())
    };
    // Until it has answered once it is asked at every look.
    if is_known && row.asked.is_some_and(|asked| asked.elapsed() < alive.every) {
        return;
    }
    let begun = *row.begun.get_or_insert_with(Instant::now);
    row.asked = Some(Instant::now());
    let asked = probe::ask(
        &alive.probe,
        process,
        status,
        &supervisor.places,
        alive.timeout,
    )
    .await;
    match asked.answer {
        Ok(()) => {
            (row.passes, row.failures) = (row.passes + 1, 0);
        }
        Err(_) => {
            (row.passes, row.failures) = (0, row.failures + 1);
        }
    }
    // One that has never answered has the time to that it would have later on; one that comes again is waited for.
    let is_late = begun.elapsed() >= alive.every * alive.failures;
    let counts = is_known || (is_late && !is_coming);
    update(health, |health| {
        if row.passes >= alive.passes {
            (health.healthy, health.error) = (Some(true), None);
        } else if row.failures >= alive.failures && counts {
            health.healthy = Some(false);
        }
        if let Err(answer) = asked.answer {
            health.error = Some(format!("{} -> {answer}", asked.question.0));
        }
    });
}

fn update(health: &Mutex<Health>, change: impl FnOnce(&mut Health)) {
    change(&mut health.lock().unwrap_or_else(PoisonError::into_inner));
}
