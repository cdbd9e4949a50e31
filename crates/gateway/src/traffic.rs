//! Who is let through: the snapshot in force, the protocol of entering it, and the queue of a hold.
//!
//! The mover (the control thread) puts a new snapshot in place, then raises the generation, then looks at the counts.
//! A request reads a snapshot, adds itself to its flight, then looks at the generation. All are sequentially
//! consistent, so either the mover's look finds the request counted, or the request finds the generation moved, takes
//! itself out and begins again. There is no third case, hence nothing slips past a hold.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};

use crate::flight::{Flight, Kind};
use crate::table::Table;

/// Whether requests are let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    Held,
    Closed,
}

/// What requests follow at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    generation: u64,
    pub(crate) gate: Gate,
    pub(crate) label: String,
    pub(crate) table: Arc<Table>,
    pub(crate) flight: Arc<Flight>,
}

/// Shared by all threads.
pub(crate) struct Traffic {
    snapshot: ArcSwap<Snapshot>,
    generation: AtomicU64,
    queue: Mutex<Queue>,
    /// Flights of earlier epochs that may not be empty, and the present one last.
    flights: Mutex<Vec<Arc<Flight>>>,
    threads: usize,
    waiting_limit: usize,
}

/// Requests waiting for the end of a hold, by ticket: first in, first out.
#[derive(Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// Why a request is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    Closed,
    Full,
    NoRoute,
}

impl Traffic {
    pub(crate) fn new(
        epoch: u64,
        label: String,
        table: Table,
        gate: Gate,
        threads: usize,
        waiting_limit: usize,
    ) -> Self {
        let flight = Arc::new(Flight::new(epoch, threads));
        let flights = Mutex::new(vec![Arc::clone(&flight)]);
        let snapshot = Snapshot {
            generation: 1,
            gate,
            label,
            table: Arc::new(table),
            flight,
        };
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            generation: AtomicU64::new(1),
            queue: Mutex::default(),
            flights,
            threads,
            waiting_limit,
        }
    }

    /// The snapshot in force.
    pub(crate) fn now(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Requests kept waiting.
    pub(crate) fn waiting(&self) -> u64 {
        self.queue().waiting.len() as u64
    }

    /// Put a table in force, as the next epoch. Only the control thread calls this.
    pub(crate) fn switch(&self, label: String, table: Table) {
        let now = self.now();
        let flight = Arc::new(Flight::new(now.flight.epoch + 1, self.threads));
        self.flights().push(Arc::clone(&flight));
        self.publish(Snapshot {
            generation: now.generation + 1,
            gate: now.gate,
            label,
            table: Arc::new(table),
            flight,
        });
    }

    /// Move the gate. Only the control thread calls this.
    pub(crate) fn set_gate(&self, gate: Gate) {
        let now = self.now();
        self.publish(Snapshot {
            generation: now.generation + 1,
            gate,
            label: now.label.clone(),
            table: Arc::clone(&now.table),
            flight: Arc::clone(&now.flight),
        });
        if gate != Gate::Held {
            self.release();
        }
    }

    fn publish(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        self.snapshot.store(Arc::new(snapshot));
        self.generation.store(generation, SeqCst);
    }

    fn release(&self) {
        let waiting = std::mem::take(&mut self.queue().waiting);
        for (_, waiter) in waiting {
            let _ = waiter.send(());
        }
    }

    /// The flights of epochs below `epoch`; those that are empty for good are forgotten.
    pub(crate) fn flights_below(&self, epoch: u64) -> Vec<Arc<Flight>> {
        let mut flights = self.flights();
        let present = self.now().flight.epoch;
        flights.retain(|flight| flight.epoch >= present || !flight.is_empty());
        flights
            .iter()
            .filter(|flight| flight.epoch < epoch)
            .cloned()
            .collect()
    }

    fn flights(&self) -> MutexGuard<'_, Vec<Arc<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread's own handle on a snapshot: sharing it within the thread touches no count that is shared with others.
struct Seen(Arc<Snapshot>);

impl std::ops::Deref for Seen {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// What was in force at one moment, looked at without being let in.
pub(crate) struct View(Rc<Seen>);

impl View {
    pub(crate) fn table(&self) -> &Table {
        &self.0.table
    }
}

/// One thread's way in.
pub(crate) struct Door {
    traffic: Arc<Traffic>,
    shard: usize,
    /// The snapshot this thread read last: taking it again touches nothing that is shared.
    seen: RefCell<Rc<Seen>>,
}

/// A request that was let in; counted until dropped.
pub(crate) struct Admitted {
    snapshot: Rc<Seen>,
    shard: usize,
    kind: Kind,
    /// Index of its route in the snapshot's table.
    pub(crate) route: usize,
    /// Present for streams: changes when they are to close.
    pub(crate) closing: Option<watch::Receiver<u64>>,
}

impl Admitted {
    pub(crate) fn table(&self) -> &Table {
        &self.snapshot.table
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.snapshot.flight.leave(self.shard, self.kind);
    }
}

impl Door {
    pub(crate) fn new(traffic: Arc<Traffic>, shard: usize) -> Self {
        let seen = RefCell::new(Rc::new(Seen(traffic.now())));
        Self {
            traffic,
            shard,
            seen,
        }
    }

    /// Wait until the gate lets a request through, and count it. `websocket` makes it a stream whatever its route is.
    pub(crate) async fn enter(
        &self,
        host: &str,
        path: &str,
        websocket: bool,
    ) -> Result<Admitted, Turned> {
        let mut ticket = None;
        loop {
            let snapshot = self.snapshot();
            match snapshot.gate {
                Gate::Closed => return Err(Turned::Closed),
                Gate::Held => self.wait(&snapshot, &mut ticket).await?,
                Gate::Open => {
                    let route = snapshot.table.find(host, path).ok_or(Turned::NoRoute)?;
                    if let Some(admitted) = self.count(snapshot, route, websocket) {
                        return Ok(admitted);
                    }
                    // The mover is between its two stores: let it get on.
                    std::thread::yield_now();
                }
            }
        }
    }

    /// Look at the table in force, without being let in.
    pub(crate) fn view(&self) -> View {
        View(self.snapshot())
    }

    fn snapshot(&self) -> Rc<Seen> {
        let mut seen = self.seen.borrow_mut();
        if seen.generation != self.traffic.generation.load(SeqCst) {
            *seen = Rc::new(Seen(self.traffic.now()));
        }
        Rc::clone(&seen)
    }

    /// Enter, then look again; none when the snapshot is no longer in force.
    fn count(&self, snapshot: Rc<Seen>, route: usize, websocket: bool) -> Option<Admitted> {
        let stream = websocket || snapshot.table.routes[route].stream;
        let (kind, closing) = match stream {
            true => (Kind::Stream, Some(snapshot.flight.closing())),
            false => (Kind::Request, None),
        };
        snapshot.flight.enter(self.shard, kind);
        let generation = snapshot.generation;
        let admitted = Admitted {
            snapshot,
            shard: self.shard,
            kind,
            route,
            closing,
        };
        (self.traffic.generation.load(SeqCst) == generation).then_some(admitted)
    }

    async fn wait(&self, snapshot: &Snapshot, ticket: &mut Option<u64>) -> Result<(), Turned> {
        let (sender, released) = oneshot::channel();
        let number = {
            let mut queue = self.traffic.queue();
            if self.traffic.generation.load(SeqCst) != snapshot.generation {
                std::thread::yield_now();
                return Ok(());
            }
            if queue.waiting.len() >= self.traffic.waiting_limit {
                return Err(Turned::Full);
            }
            let number = *ticket.get_or_insert(queue.next);
            queue.next = queue.next.max(number + 1);
            queue.waiting.insert(number, sender);
            number
        };
        let _place = Place {
            traffic: &self.traffic,
            number,
        };
        let _ = released.await;
        Ok(())
    }
}

/// A place in the queue, given up when the client leaves.
struct Place<'a> {
    traffic: &'a Traffic,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.traffic.queue().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::api;

    const THREADS: usize = 2;
    const HOLDS: usize = 20_000;

    fn table() -> Table {
        let route = r#"{"routes":[{"path":"/","pool":"a"}],"pools":{"a":{"targets":[]}}}"#;
        let source: api::Table = serde_json::from_str(route).unwrap();
        Table::new(source, None).unwrap()
    }

    /// Entries and leavings as fast as they go, so that the moment between the look and the count is hit often.
    fn hammer(
        traffic: &Arc<Traffic>,
        shard: usize,
        held: &AtomicBool,
        over: &AtomicBool,
    ) -> (u64, u64) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let door = Door::new(Arc::clone(traffic), shard);
        let (mut entered, mut slipped) = (0, 0);
        while !over.load(SeqCst) {
            let admitted = runtime.block_on(door.enter("", "/", false));
            entered += 1;
            slipped += u64::from(held.load(SeqCst));
            drop(admitted);
        }
        (entered, slipped)
    }

    #[test]
    #[allow(clippy::print_stdout)]
    fn nobody_is_inside_once_a_raised_gate_was_seen_empty() {
        let traffic = Arc::new(Traffic::new(
            1,
            String::new(),
            table(),
            Gate::Open,
            THREADS,
            100,
        ));
        let (held, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let (entered, slipped) = std::thread::scope(|scope| {
            let (traffic, held, over) = (&traffic, &held, &over);
            let threads: Vec<_> = (0..THREADS)
                .map(|shard| scope.spawn(move || hammer(traffic, shard, held, over)))
                .collect();
            for _ in 0..HOLDS {
                traffic.set_gate(Gate::Held);
                while !traffic.now().flight.is_empty() {
                    std::hint::spin_loop();
                }
                held.store(true, SeqCst);
                std::thread::yield_now();
                held.store(false, SeqCst);
                traffic.set_gate(Gate::Open);
                std::thread::yield_now();
            }
            over.store(true, SeqCst);
            let counts = threads.into_iter().map(|thread| thread.join().unwrap());
            counts.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
        });
        println!("gate: {slipped} slipped of {entered} in {HOLDS} holds");
        assert_eq!(slipped, 0);
    }
}
