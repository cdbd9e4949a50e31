//! Jobs: starting those that are due, and keeping book of how they ended.
//!
//! A run of a job is a process under a shim, as an instance is, and outlives the agent. What is due is started under
//! the claim that runs of the environment have, so never while one begins or goes on: what falls due in the meantime
//! is started once, afterwards. It is written down before it starts and after it has ended, so that an agent which
//! comes in between starts nothing twice; one whose shim is gone is not started again, as nobody knows how far it came.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::api::{JobEnd, JobStatus};
use super::runs::{Holder, Runs};
use crate::clock::Mark;
use crate::config::{Role, Service};
use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use crate::release::{Version, World, ending};
use crate::state::write_whole;
use crate::supervise::Process;

/// Pause between looks.
const LOOK: Duration = Duration::from_millis(500);

/// Runs of one job at once, where they may overlap.
const AT_ONCE: u32 = 64;

/// What is known of one job; `jobs/NAME.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Book {
    /// The schedule that `due_ms` is of.
    schedule: String,
    /// When it is due, Unix milliseconds.
    due_ms: Option<i64>,
    /// Those that were started and whose end is not written down.
    running: Vec<Running>,
    /// How the last one ended.
    last: Option<JobEnd>,
    /// How often it was due while one before still ran.
    skipped: u64,
}

/// One that was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Running {
    id: InstanceId,
    began: Mark,
    /// Time that it may take, milliseconds.
    timeout_ms: Option<u64>,
}

/// The books of one environment.
pub(super) struct Jobs {
    world: Arc<World>,
    /// Whoever changes a book has this.
    pen: Mutex<()>,
    /// Runs whose end somebody waits for.
    awaited: Mutex<BTreeSet<InstanceId>>,
}

impl Jobs {
    pub fn new(world: Arc<World>) -> Arc<Jobs> {
        Arc::new(Jobs {
            world,
            pen: Mutex::default(),
            awaited: Mutex::default(),
        })
    }

    /// Starts what is due, for as long as the agent lives.
    pub async fn keep(self: Arc<Self>, runs: Arc<Runs>) {
        loop {
            // What cannot be written down, on a full disk, is not started; it is tried again at the next look.
            let _ = self.look(&runs).await;
            sleep(LOOK).await;
        }
    }

    async fn look(self: &Arc<Self>, runs: &Arc<Runs>) -> Result<(), Diagnostic> {
        for name in names(&self.world) {
            for running in read(&self.world, &name).running {
                self.follow(&name, running);
            }
        }
        let now = self.world.environment()?;
        // The claim is not touched while a run is open: whoever goes on with that one is to have it.
        let Some(live) = now.live.filter(|_| now.open.is_none()) else {
            return Ok(());
        };
        let config = live.config(&self.world.environment)?;
        for (name, service) in &config.services {
            if service.role == Role::Job && self.is_due(name, service)? {
                let holder = Holder::new(&self.world, "towpath", "starts a job");
                let Some(_claim) = runs.claim(&holder) else {
                    continue;
                };
                let now = self.world.environment()?;
                if now.open.is_none() && now.live.as_ref() == Some(&live) {
                    self.start(name, service, &live).await?;
                }
            }
        }
        Ok(())
    }

    /// A clock that was set back must not put off what is due by as much.
    fn is_due(&self, name: &str, service: &Service) -> Result<bool, Diagnostic> {
        let Some(schedule) = &service.schedule else {
            return Ok(false);
        };
        let now = self.world.store.clock().wall_ms();
        let next = schedule.next(now);
        let _pen = self.pen();
        let mut book = read(&self.world, name);
        let due = match book.due_ms {
            Some(due) if book.schedule == schedule.to_string() => {
                Some(next.map_or(due, |next| due.min(next)))
            }
            _ => next,
        };
        if book.due_ms != due || book.schedule != schedule.to_string() {
            book.due_ms = due;
            book.schedule = schedule.to_string();
            write(&self.world, name, &book)?;
        }
        Ok(due.is_some_and(|due| due <= now))
    }

    async fn start(
        self: &Arc<Self>,
        name: &str,
        service: &Service,
        live: &Version,
    ) -> Result<(), Diagnostic> {
        let Some(process) = self.note_start(name, service, live)? else {
            return Ok(());
        };
        // Remains of one that an agent before had done with.
        let _ = self.world.supervisor.stop(&process.id, None).await;
        let launched = self.world.supervisor.launch(&process).await;
        let running = read(&self.world, name).running;
        let running = running.into_iter().find(|one| one.id == process.id);
        match (launched, running) {
            (Err(error), Some(running)) => self.note_end(name, &running, error.to_string()),
            (Ok(()), Some(running)) => {
                self.follow(name, running);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Before it starts; `None` when one before it still runs.
    fn note_start(
        &self,
        name: &str,
        service: &Service,
        live: &Version,
    ) -> Result<Option<Process>, Diagnostic> {
        let _pen = self.pen();
        let mut book = read(&self.world, name);
        let clock = self.world.store.clock();
        let schedule = service.schedule.as_ref();
        book.due_ms = schedule.and_then(|schedule| schedule.next(clock.wall_ms()));
        let is_free = |number: &u32| {
            let id = InstanceId::new(name, live.run, *number);
            book.running.iter().all(|running| running.id != id)
        };
        let free = (1..=AT_ONCE).find(is_free);
        let may = book.running.is_empty() || service.overlap;
        let Some(number) = free.filter(|_| may) else {
            book.skipped += 1;
            write(&self.world, name, &book)?;
            return Ok(None);
        };
        let process = live.job(&self.world, name, number)?;
        book.running.push(Running {
            id: process.id.clone(),
            began: clock.mark(),
            timeout_ms: service.timeout.map(crate::release::millis),
        });
        write(&self.world, name, &book)?;
        Ok(Some(process))
    }

    /// Waits for its end, beside everything else.
    fn follow(self: &Arc<Self>, name: &str, running: Running) {
        if !self.awaited().insert(running.id.clone()) {
            return;
        }
        let (jobs, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            let how = jobs.end_of(&running).await;
            while jobs.note_end(&name, &running, how.clone()).is_err() {
                sleep(LOOK).await;
            }
            let _ = jobs.world.supervisor.stop(&running.id, None).await;
            jobs.awaited().remove(&running.id);
        });
    }

    async fn end_of(&self, running: &Running) -> String {
        let supervisor = &self.world.supervisor;
        let ends = supervisor.outlive(&running.id);
        let ended = match running.timeout_ms.map(Duration::from_millis) {
            None => ends.await,
            Some(span) => {
                let left = self.world.store.clock().left(&running.began, span);
                match timeout(left, ends).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        let _ = supervisor.stop(&running.id, None).await;
                        return "took too long, and was stopped".to_owned();
                    }
                }
            }
        };
        match ended {
            Some(status) => ending(status.last_exit.as_ref()),
            None => "was stopped".to_owned(),
        }
    }

    fn note_end(&self, name: &str, running: &Running, how: String) -> Result<(), Diagnostic> {
        let _pen = self.pen();
        let mut book = read(&self.world, name);
        book.running.retain(|other| other.id != running.id);
        book.last = Some(JobEnd {
            id: running.id.clone(),
            began_ms: running.began.wall_ms,
            took_ms: self.world.store.clock().since(&running.began),
            good: how == GOOD,
            how,
        });
        write(&self.world, name, &book)
    }

    fn pen(&self) -> MutexGuard<'_, ()> {
        self.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn awaited(&self) -> MutexGuard<'_, BTreeSet<InstanceId>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one ends that did what it was for.
const GOOD: &str = "exited with status 0";

fn folder(world: &World) -> PathBuf {
    world.state().join("jobs")
}

fn names(world: &World) -> Vec<String> {
    let files = std::fs::read_dir(folder(world))
        .into_iter()
        .flatten()
        .flatten();
    files
        .filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
        .collect()
}

/// A book that cannot be read is begun anew: it is written whole, so it was never there, or somebody else wrote it.
fn read(world: &World, name: &str) -> Book {
    let text = std::fs::read(folder(world).join(format!("{name}.json")));
    text.ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

fn write(world: &World, name: &str, book: &Book) -> Result<(), Diagnostic> {
    let text = serde_json::to_vec(book).unwrap_or_default();
    let write = |dir: PathBuf| {
        std::fs::create_dir_all(&dir)?;
        write_whole(&dir.join(format!("{name}.json")), &text)
    };
    write(folder(world))
        .map_err(|error| Diagnostic::error("jobs::unwritten", format!("`{name}`: {error}")))
}

/// What there is to say of each job of `live`.
pub(super) fn status(world: &World, live: &Version) -> Result<Vec<JobStatus>, Diagnostic> {
    let config = live.config(&world.environment)?;
    let jobs = config
        .services
        .into_iter()
        .filter(|(_, service)| service.role == Role::Job);
    let one = |(name, service): (String, Service)| {
        let book = read(world, &name);
        JobStatus {
            schedule: service
                .schedule
                .map(|schedule| schedule.to_string())
                .unwrap_or_default(),
            next_ms: book.due_ms,
            running: book.running.into_iter().map(|one| one.id).collect(),
            last: book.last,
            skipped: book.skipped,
            service: name,
        }
    };
    Ok(jobs.map(one).collect())
}
