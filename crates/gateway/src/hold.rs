//! What the control API does: switch, drain, hold and their end, each durable before it is told.
//!
//! `Keeper` lives on the control thread, so its steps are never interleaved but where they wait.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::api::{
    self, Apply, Certificates, Challenges, Conflict, Counts, Drain, Drained, Held, Hold, InFlight,
    Mode, OnExpiry, Readiness, Renew, Resume, State,
};
use crate::flight::{Flight, Kind};
use crate::front::Front;
use crate::health::Checks;
use crate::metrics::{self, Metrics};
use crate::random;
use crate::readiness::{Heard, Last};
use crate::store::{Kept, Store, StoreError};
use crate::table::Table;
use crate::traffic::{Gate, Traffic};

/// Longest lease, milliseconds.
const LEASE_MS: u64 = 30_000;
/// How long closing streams may take when there is no longer time for it.
const STREAMS_END: Duration = Duration::from_secs(2);

/// Why something asked for was not done.
#[derive(Debug)]
pub(crate) enum Denied {
    /// 409.
    Conflict(Conflict),
    /// Another status, and one line.
    Refused(StatusCode, String),
}

impl From<StoreError> for Denied {
    fn from(error: StoreError) -> Self {
        let (status, text) = match error {
            StoreError::Busy => (
                StatusCode::LOCKED,
                "another gateway writes this state".to_owned(),
            ),
            StoreError::Stale => (
                StatusCode::GONE,
                "another gateway has changed this state".to_owned(),
            ),
            StoreError::Retired => (StatusCode::GONE, "this gateway retires".to_owned()),
            StoreError::Io(error) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("state not written: {error}"),
            ),
        };
        Self::Refused(status, text)
    }
}

/// A hold in force.
struct Holding {
    holder: String,
    token: String,
    deadline: Instant,
    on_expiry: OnExpiry,
    /// The holder was told, and may have built on it.
    told: bool,
    /// Ends the hold at its deadline.
    timer: AbortHandle,
}

/// The one that moves the gate.
pub(crate) struct Keeper {
    traffic: Arc<Traffic>,
    front: Arc<Front>,
    metrics: Vec<Arc<Metrics>>,
    version: String,
    store: RefCell<Store>,
    last: Last,
    /// What the store says about `closed`.
    durably_closed: Cell<bool>,
    holding: RefCell<Option<Holding>>,
    checks: RefCell<Checks>,
}

impl Keeper {
    /// Must be called on a local runtime: the health checks begin.
    pub(crate) fn new(
        traffic: Arc<Traffic>,
        front: Arc<Front>,
        metrics: Vec<Arc<Metrics>>,
        version: String,
        store: Store,
        last: Last,
    ) -> Rc<Self> {
        let now = traffic.now();
        Rc::new(Self {
            durably_closed: Cell::new(now.gate == Gate::Closed),
            checks: RefCell::new(Checks::start(&now.table)),
            traffic,
            front,
            metrics,
            version,
            store: RefCell::new(store),
            last,
            holding: RefCell::new(None),
        })
    }

    pub(crate) fn state(&self) -> State {
        let now = self.traffic.now();
        let in_flight = self.traffic.flights_below(u64::MAX);
        State {
            version: self.version.clone(),
            pid: std::process::id(),
            epoch: now.flight.epoch,
            label: now.label.clone(),
            mode: self.mode(),
            table: now.table.source.clone(),
            in_flight: in_flight
                .iter()
                .filter(|flight| !flight.is_empty())
                .map(|flight| shown(flight))
                .collect(),
            targets: now
                .table
                .targets()
                .map(|(target, _)| (target.id.clone(), target.state()))
                .collect(),
            answered: metrics::answered(&self.metrics),
            certificates: self.certificates(),
        }
    }

    fn certificates(&self) -> Certificates {
        let (hosts, problem) = self.front.keyring.state();
        Certificates { hosts, problem }
    }

    /// Read the folder of certificates again.
    pub(crate) fn reload_certificates(&self) -> Certificates {
        self.front.keyring.reload();
        self.certificates()
    }

    /// Replace what issuers are answered.
    pub(crate) fn set_challenges(&self, challenges: Challenges) -> Challenges {
        let answers = Arc::new(challenges.answers.clone());
        self.front.challenges.store(answers);
        challenges
    }

    /// Replace what is said about what stands behind it.
    pub(crate) fn set_readiness(&self, readiness: Readiness) {
        self.last.keep(&readiness.afterwards);
        let heard = Arc::new(Heard::new(readiness));
        self.front.readiness.store(Some(heard));
    }

    fn mode(&self) -> Mode {
        if let Some(holding) = &*self.holding.borrow() {
            return Mode::Held {
                holder: holding.holder.clone(),
                left_ms: left_ms(holding.deadline),
                on_expiry: holding.on_expiry,
                waiting: self.traffic.waiting(),
            };
        }
        match self.traffic.now().gate {
            Gate::Closed => Mode::Closed,
            _ => Mode::Open,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        metrics::counts(&self.metrics)
    }

    pub(crate) fn metrics(&self) -> String {
        metrics::text(&self.metrics)
    }

    /// The switch. The same change again changes nothing.
    pub(crate) fn apply(&self, apply: Apply) -> Result<State, Denied> {
        let now = self.traffic.now();
        if now.label == apply.label && now.table.source == apply.table && now.flight.epoch > 0 {
            return Ok(self.state());
        }
        if let Some(expected) = apply.expect.filter(|epoch| *epoch != now.flight.epoch) {
            return Err(self.conflict(format!("epoch is {}, not {expected}", now.flight.epoch)));
        }
        let table = Table::new(apply.table, Some(&now.table))
            .map_err(|invalid| Denied::Refused(StatusCode::BAD_REQUEST, invalid.to_string()))?;
        let epoch = now.flight.epoch + 1;
        self.keep(
            epoch,
            &apply.label,
            &table.source,
            self.durably_closed.get(),
        )?;
        let checks = Checks::start(&table);
        self.traffic.switch(apply.label, table);
        *self.checks.borrow_mut() = checks;
        Ok(self.state())
    }

    /// Wait until nothing of earlier epochs is under way; streams that are at the deadline are closed.
    pub(crate) async fn drain(&self, drain: Drain) -> Drained {
        let flights = self.traffic.flights_below(drain.below);
        let limit = Duration::from_millis(drain.timeout_ms);
        if tokio::time::timeout(limit, all_empty(&flights))
            .await
            .is_ok()
        {
            return Drained {
                requests: 0,
                streams_closed: 0,
            };
        }
        let streams_closed = close_streams(&flights).await;
        Drained {
            requests: count(&flights, Kind::Request),
            streams_closed,
        }
    }

    /// Keep new requests waiting, and wait until none is under way.
    pub(crate) async fn hold(self: &Rc<Self>, hold: Hold) -> Result<Held, Denied> {
        let deadline = deadline(hold.lease_ms)?;
        if hold.holder.is_empty() {
            return Err(Denied::Refused(
                StatusCode::BAD_REQUEST,
                "a hold has a holder".to_owned(),
            ));
        }
        self.may_hold(&hold)?;
        self.persist_closed(hold.on_expiry == OnExpiry::Closed)?;
        let token = random::token();
        let was = self.traffic.now().gate;
        // A hold that was told is only taken over: it must not end because this caller goes away.
        let armed = !self.told();
        self.begin(&hold, &token, deadline);
        let undo = Undo {
            keeper: self,
            token: &token,
            gate: was,
            armed,
        };
        let flights = self.traffic.flights_below(u64::MAX);
        let streams_closed: u64 = flights.iter().map(|flight| flight.close_streams()).sum();
        let drained = tokio::time::timeout_at(deadline, all_empty(&flights))
            .await
            .is_ok();
        if !drained || !self.is_holder(&token) {
            let left = count(&flights, Kind::Request) + count(&flights, Kind::Stream);
            drop(undo);
            let text = format!(
                "not held: {left} still in flight at the end of the lease; traffic goes on"
            );
            return Err(Denied::Refused(StatusCode::GATEWAY_TIMEOUT, text));
        }
        undo.disarm();
        if let Some(holding) = &mut *self.holding.borrow_mut() {
            holding.told = true;
        }
        Ok(Held {
            token,
            waiting: self.traffic.waiting(),
            left_ms: left_ms(deadline),
            streams_closed,
        })
    }

    fn may_hold(&self, hold: &Hold) -> Result<(), Denied> {
        if let Some(holding) = &*self.holding.borrow()
            && holding.holder != hold.holder
        {
            let left = left_ms(holding.deadline);
            return Err(Denied::Conflict(Conflict {
                reason: format!("held by {} for another {left} ms", holding.holder),
                epoch: self.traffic.now().flight.epoch,
                holder: Some(holding.holder.clone()),
                left_ms: Some(left),
            }));
        }
        if self.traffic.now().gate == Gate::Closed && hold.on_expiry == OnExpiry::Old {
            return Err(self.conflict(
                "closed: a hold of a closed gateway must not open it by itself".to_owned(),
            ));
        }
        Ok(())
    }

    fn begin(self: &Rc<Self>, hold: &Hold, token: &str, deadline: Instant) {
        let holding = Holding {
            holder: hold.holder.clone(),
            token: token.to_owned(),
            deadline,
            on_expiry: hold.on_expiry,
            told: self.told(),
            timer: self.timer(token, deadline),
        };
        if let Some(before) = self.holding.borrow_mut().replace(holding) {
            before.timer.abort();
        }
        self.traffic.set_gate(Gate::Held);
    }

    /// Whether there is a hold that its holder knows of.
    fn told(&self) -> bool {
        self.holding
            .borrow()
            .as_ref()
            .is_some_and(|holding| holding.told)
    }

    fn timer(self: &Rc<Self>, token: &str, deadline: Instant) -> AbortHandle {
        let (keeper, token) = (Rc::downgrade(self), token.to_owned());
        let task = tokio::task::spawn_local(async move {
            tokio::time::sleep_until(deadline).await;
            if let Some(keeper) = keeper.upgrade() {
                keeper.expire(&token);
            }
        });
        task.abort_handle()
    }

    /// The end of the lease. `closed` was made durable when it was agreed on, and `old` is the default of a start.
    fn expire(&self, token: &str) {
        let holding = self
            .holding
            .borrow_mut()
            .take_if(|holding| holding.token == token);
        match holding.map(|holding| holding.on_expiry) {
            Some(OnExpiry::Old) => self.traffic.set_gate(Gate::Open),
            Some(OnExpiry::Closed) => self.traffic.set_gate(Gate::Closed),
            None => {}
        }
    }

    /// Lengthen the lease, or change what its end does.
    pub(crate) fn renew(self: &Rc<Self>, renew: &Renew) -> Result<Held, Denied> {
        let deadline = deadline(renew.lease_ms)?;
        self.must_hold(&renew.token)?;
        self.persist_closed(renew.on_expiry == OnExpiry::Closed)?;
        let timer = self.timer(&renew.token, deadline);
        if let Some(holding) = &mut *self.holding.borrow_mut() {
            std::mem::replace(&mut holding.timer, timer).abort();
            holding.deadline = deadline;
            holding.on_expiry = renew.on_expiry;
        }
        let waiting = self.traffic.waiting();
        Ok(Held {
            token: renew.token.clone(),
            waiting,
            left_ms: left_ms(deadline),
            streams_closed: 0,
        })
    }

    /// End a hold, or open a closed gateway.
    pub(crate) fn resume(&self, resume: &Resume) -> Result<State, Denied> {
        match &resume.token {
            Some(token) => self.must_hold(token)?,
            None if self.holding.borrow().is_some() => {
                return Err(self.conflict("held: a token is needed".to_owned()));
            }
            None => {}
        }
        self.persist_closed(false)?;
        if let Some(holding) = self.holding.borrow_mut().take() {
            holding.timer.abort();
        }
        self.traffic.set_gate(Gate::Open);
        Ok(self.state())
    }

    /// Write no state from now on, so that another gateway can.
    pub(crate) fn retire(&self) {
        self.store.borrow_mut().retire();
    }

    /// Ask the streams of all epochs to close, and wait a little for it; their number.
    pub(crate) async fn close_all_streams(&self) -> u64 {
        close_streams(&self.traffic.flights_below(u64::MAX)).await
    }

    /// Requests under way in all epochs.
    pub(crate) fn requests(&self) -> u64 {
        count(&self.traffic.flights_below(u64::MAX), Kind::Request)
    }

    fn is_holder(&self, token: &str) -> bool {
        self.holding
            .borrow()
            .as_ref()
            .is_some_and(|holding| holding.token == token)
    }

    fn must_hold(&self, token: &str) -> Result<(), Denied> {
        match self.is_holder(token) {
            true => Ok(()),
            false => {
                Err(self
                    .conflict("not the holder: the lease has ended, or another holds".to_owned()))
            }
        }
    }

    fn conflict(&self, reason: String) -> Denied {
        let epoch = self.traffic.now().flight.epoch;
        let holding = self.holding.borrow();
        let holder = holding.as_ref().map(|holding| holding.holder.clone());
        let left_ms = holding.as_ref().map(|holding| left_ms(holding.deadline));
        Denied::Conflict(Conflict {
            reason,
            epoch,
            holder,
            left_ms,
        })
    }

    fn persist_closed(&self, closed: bool) -> Result<(), Denied> {
        if self.durably_closed.get() != closed {
            let now = self.traffic.now();
            self.keep(now.flight.epoch, &now.label, &now.table.source, closed)?;
        }
        Ok(())
    }

    fn keep(
        &self,
        epoch: u64,
        label: &str,
        table: &api::Table,
        closed: bool,
    ) -> Result<(), Denied> {
        let kept = Kept {
            sequence: 0,
            epoch,
            label: label.to_owned(),
            closed,
            table: table.clone(),
        };
        self.store.borrow_mut().write(kept)?;
        self.durably_closed.set(closed);
        Ok(())
    }
}

/// Takes a hold back that was not told to its holder: it did not drain in time, or the holder has gone.
struct Undo<'a> {
    keeper: &'a Keeper,
    token: &'a str,
    gate: Gate,
    armed: bool,
}

impl Undo<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let taken = self
            .keeper
            .holding
            .borrow_mut()
            .take_if(|holding| holding.token == self.token);
        if let Some(holding) = taken {
            holding.timer.abort();
        }
        if self.keeper.holding.borrow().is_none() {
            let gate = if self.gate == Gate::Closed {
                Gate::Closed
            } else {
                Gate::Open
            };
            // Failing to write leaves the file saying `closed`, which is the safe side.
            let _ = self.keeper.persist_closed(gate == Gate::Closed);
            self.keeper.traffic.set_gate(gate);
        }
    }
}

fn deadline(lease_ms: u64) -> Result<Instant, Denied> {
    if lease_ms == 0 || lease_ms > LEASE_MS {
        let text = format!("a lease is 1 to {LEASE_MS} ms, not {lease_ms}");
        return Err(Denied::Refused(StatusCode::BAD_REQUEST, text));
    }
    Ok(Instant::now() + Duration::from_millis(lease_ms))
}

fn left_ms(deadline: Instant) -> u64 {
    deadline
        .saturating_duration_since(Instant::now())
        .as_millis() as u64
}

fn shown(flight: &Flight) -> InFlight {
    InFlight {
        epoch: flight.epoch,
        requests: flight.count(Kind::Request),
        streams: flight.count(Kind::Stream),
    }
}

fn count(flights: &[Arc<Flight>], kind: Kind) -> u64 {
    flights.iter().map(|flight| flight.count(kind)).sum()
}

async fn all_empty(flights: &[Arc<Flight>]) {
    for flight in flights {
        flight.emptied().await;
    }
}

async fn close_streams(flights: &[Arc<Flight>]) -> u64 {
    let before = count(flights, Kind::Stream);
    for flight in flights {
        flight.close_streams();
    }
    let gone = async {
        for flight in flights {
            flight.streams_ended().await;
        }
    };
    let _ = tokio::time::timeout(STREAMS_END, gone).await;
    before - count(flights, Kind::Stream).min(before)
}
