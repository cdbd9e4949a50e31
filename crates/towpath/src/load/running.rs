//! A load while it runs.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{Ask, Client, Target};
use super::connection::{Answer, Fault};
use super::mix::{Mix, Ticket};
use super::record::{Record, UnderWay};
use super::report::{ConnectionKind, FailureKind, Progress, Report};
use super::sent::{PAUSE, SlowLine};
use super::shape::{Shape, write_id};
use super::{EXCERPT, Error, Token, excerpt, sign_in};
use crate::config::Traffic;

/// Time that requests under way have at the end. Each has ten seconds of its own, so it is never used up by a slow server.
const STOP: Duration = Duration::from_secs(30);
const NANOS: u128 = 1_000_000_000;

/// A running load. Dropping it ends it at once, with no report.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
    stop: watch::Sender<bool>,
    token: Option<Token>,
}

/// What the workers share.
#[derive(Debug)]
struct Shared {
    target: Arc<Target>,
    shapes: Vec<Shape>,
    run: String,
    rate: u32,
    start: Instant,
    mix: Mutex<Mix>,
    record: Mutex<Record>,
    finished: Notify,
    slow: Option<SlowLine>,
}

impl Load {
    /// Signs in, and begins to send.
    ///
    /// # Errors
    /// The sign-in fails, the traffic is empty, or one of its requests cannot be sent.
    pub async fn start(
        addr: SocketAddr,
        host: Option<String>,
        traffic: Traffic,
    ) -> Result<Self, Error> {
        let token = sign_in(addr, host.as_deref(), &traffic).await?;
        let target = Target::new(addr, host.as_deref(), token.as_ref())?;
        let shared = Arc::new(Shared::new(target, &traffic)?);
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        for _ in 0..traffic.connections {
            workers.spawn(Arc::clone(&shared).work(stopped.clone()));
        }
        Ok(Self {
            shared,
            workers,
            stop,
            token,
        })
    }

    /// What it signed in with.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Where it stands; cheap.
    pub fn progress(&self) -> Progress {
        lock(&self.shared.record).progress(self.shared.start.elapsed())
    }

    /// Returns when at least so many requests have finished and so many writes are acknowledged: never, when the server
    /// acknowledges none.
    pub async fn reached(&self, requests: u64, writes: u64) {
        loop {
            let finished = self.shared.finished.notified();
            let progress = self.progress();
            if progress.total >= requests && progress.acknowledged >= writes {
                return;
            }
            finished.await;
        }
    }

    /// Sends no more, waits for what is under way (at most 30 seconds; what is left has failed), and reports.
    pub async fn stop(mut self) -> Report {
        let overdue = self.shared.overdue();
        self.stop.send_replace(true);
        let ended = async { while self.workers.join_next().await.is_some() {} };
        if timeout(STOP, ended).await.is_err() {
            self.workers.shutdown().await;
        }
        let elapsed = self.shared.start.elapsed();
        let mut record = std::mem::replace(
            &mut *lock(&self.shared.record),
            Record::new(std::iter::empty()),
        );
        record.fail_unfinished(elapsed);
        let ids = record
            .acknowledged
            .iter()
            .map(|n| write_id(&self.shared.run, *n));
        Report {
            writes: ids.collect(),
            requests: record.requests(elapsed, self.shared.rate, overdue),
            elapsed,
            token: self.token.take(),
        }
    }
}

impl Shared {
    fn new(target: Target, traffic: &Traffic) -> Result<Self, Error> {
        let shapes = Shape::all(traffic);
        let mix = Mix::new(shapes.iter().map(|shape| shape.weight), traffic.fresh);
        let mix = mix.filter(|_| traffic.rate > 0 && traffic.connections > 0);
        let shared = Self {
            target: Arc::new(target),
            run: run_name()?,
            rate: traffic.rate,
            start: Instant::now(),
            mix: Mutex::new(mix.ok_or(Error::NothingDeclared)?),
            record: Mutex::new(Record::new(shapes.iter().map(Shape::name))),
            finished: Notify::new(),
            slow: SlowLine::new(traffic.connections),
            shapes,
        };
        shared.check()?;
        Ok(shared)
    }

    /// Whether every declared request can be sent at all.
    fn check(&self) -> Result<(), Error> {
        let ticket = Ticket {
            index: 0,
            kind: 0,
            nth: 1,
            fresh: false,
        };
        for shape in &self.shapes {
            let request = self.target.request(&shape.ask(&ticket, &self.run));
            request.map_err(|error| Error::Request(shape.name(), error.to_string()))?;
        }
        Ok(())
    }

    async fn work(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut client = Client::new(Arc::clone(&self.target));
        loop {
            let ticket = lock(&self.mix).take();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stopped| *stopped) => return,
                () = sleep_until(self.start + self.due(ticket.index)) => {}
            }
            self.carry_out(&mut client, &ticket).await;
        }
    }

    async fn carry_out(&self, client: &mut Client, ticket: &Ticket) {
        let shape = &self.shapes[ticket.kind];
        let due = self.due(ticket.index);
        let slow = shape.is_write() && self.slow.as_ref().is_some_and(|line| line.takes(due));
        lock(&self.record).begin(ticket.index, self.under_way(ticket, slow));
        let ask = Ask {
            slow,
            ..shape.ask(ticket, &self.run)
        };
        let answered = client.send(&ask, EXCERPT).await;
        let fault = answered.and_then(|answer| expected(shape, &answer)).err();
        let mut record = lock(&self.record);
        record.add_resent(std::mem::take(&mut client.resent));
        if shape.is_write() && fault.is_none() {
            record.acknowledged.push(ticket.nth);
        }
        record.end(ticket.index, self.start.elapsed(), fault);
        drop(record);
        self.finished.notify_waiters();
    }

    /// What a client takes over a request itself is not waited for.
    fn under_way(&self, ticket: &Ticket, slow: bool) -> UnderWay {
        let own = if slow { PAUSE } else { Duration::ZERO };
        UnderWay {
            kind: ticket.kind,
            connection: if ticket.fresh {
                ConnectionKind::Fresh
            } else {
                ConnectionKind::Kept
            },
            due: self.due(ticket.index) + own,
            sent: self.start.elapsed() + own,
        }
    }

    /// When a request is due, since the start.
    fn due(&self, index: u64) -> Duration {
        let nanos = u128::from(index) * NANOS / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Requests that are due and not begun.
    fn overdue(&self) -> u64 {
        let due = self.start.elapsed().as_nanos() * u128::from(self.rate) / NANOS;
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        due.saturating_sub(lock(&self.record).begun())
    }
}

fn expected(shape: &Shape, answer: &Answer) -> Result<(), Fault> {
    if shape.expect.contains(&answer.status.as_u16()) {
        return Ok(());
    }
    let detail = format!("{}: {}", answer.status, excerpt(&answer.body));
    Err(Fault::new(FailureKind::Status, detail))
}

/// What the identifiers of a run begin with; no other run has it.
fn run_name() -> Result<String, Error> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|error| Error::Random(error.into()))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// A worker that panics leaves whole counts behind: each is changed under one lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
