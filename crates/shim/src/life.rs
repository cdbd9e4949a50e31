//! The life of a shim: one loop that waits for children, output, requests and its own deadlines.
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, WaitStatus};

use crate::child::{self, Child};
use crate::control::{self, Control};
use crate::file::{self, Reserved};
use crate::log::{Log, Source, now_ms};
use crate::protocol::{Exit, Reply, Request, Spec, State, Status};
use crate::restart::{History, Next};
use crate::signals::{self, Signals};
use crate::start::{Error, Started};
use crate::tree::{self, Process};

/// Between two rounds of SIGKILL; doubled up to the longest, for what the kernel does not let go.
const FIRST_ROUND: Duration = Duration::from_millis(2);
const LONGEST_ROUND: Duration = Duration::from_millis(200);
/// Chunks taken from one pipe when its child has ended: twice what it holds.
const LAST_CHUNKS: usize = 32;
/// Further tries to write the end down.
const LAST_TRIES: usize = 3;

/// Where the tree stands.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The main child lives.
    Running,
    /// It ended; descendants it left are being ended before anything else happens.
    Clearing {
        kill_at: Instant,
        restart_at: Option<Instant>,
    },
    /// A new start is due.
    Backoff { due: Instant },
    /// Everything is being ended.
    Stopping { kill_at: Instant },
    /// Nothing will be started any more. Replaced children may still live.
    Ended,
}

/// The child that is restarted and whose end counts.
struct Main {
    pid: u32,
    since_ms: u64,
}

/// A shim that has come up.
pub(crate) struct Shim {
    spec: Spec,
    stop_signal: Signal,
    lock: OwnedFd,
    listeners: Vec<TcpListener>,
    exit_file: Reserved,
    control: Control,
    signals: Signals,
    log: Log,
    sources: Vec<Source>,
    phase: Phase,
    main: Option<Main>,
    /// Children that [`Request::Replace`] put aside and that still live.
    replaced: Vec<u32>,
    /// False once the system says there is no child at all, and so no descendant either.
    has_children: bool,
    history: History,
    restarts: u32,
    last_exit: Option<Exit>,
    stopped: bool,
    round: Duration,
}

impl Shim {
    pub(crate) fn new(started: Started) -> Result<Self, Error> {
        let Started {
            spec,
            stop_signal,
            lock,
            listeners,
            control,
            exit_file,
            conceal,
        } = started;
        Ok(Self {
            signals: Signals::new().map_err(Error::system("take signals"))?,
            control: Control::new(control),
            log: Log::new(spec.log.clone(), conceal),
            sources: Vec::new(),
            phase: Phase::Ended,
            main: None,
            replaced: Vec::new(),
            has_children: false,
            history: History::default(),
            restarts: 0,
            last_exit: None,
            stopped: false,
            round: FIRST_ROUND,
            spec,
            stop_signal,
            lock,
            listeners,
            exit_file,
        })
    }

    /// Runs until nothing is left to run.
    pub(crate) fn live(mut self) -> Result<(), Error> {
        self.start_child();
        loop {
            self.reap();
            self.advance(Instant::now());
            if matches!(self.phase, Phase::Ended) && !self.has_children {
                return self.finish();
            }
            self.turn();
        }
    }

    /// Waits for whatever comes first, and deals with all that came.
    fn turn(&mut self) {
        let ready = self.wait();
        let (signals, ready) = ready.split_at(1);
        let (output, control) = ready.split_at(self.sources.len());
        if !signals[0].is_empty() && self.signals.told_to_stop() {
            self.stop(None);
        }
        self.read_output(output);
        for (id, request) in self.control.serve(control) {
            self.respond(id, request);
        }
        self.control.tidy();
    }

    fn wait(&self) -> Vec<PollFlags> {
        let mut interests = vec![PollFd::new(&self.signals.fd, PollFlags::IN)];
        interests.extend(
            self.sources
                .iter()
                .map(|one| PollFd::new(&one.fd, PollFlags::IN)),
        );
        interests.extend(self.control.interests());
        let timeout = self
            .timeout()
            .and_then(|timeout| Timespec::try_from(timeout).ok());
        if rustix::event::poll(&mut interests, timeout.as_ref()).is_err() {
            // Out of kernel memory, or stopped and continued: nothing to give up a tree for.
            thread::sleep(FIRST_ROUND);
        }
        interests.iter().map(PollFd::revents).collect()
    }

    /// Time until something is due; `None` when nothing is.
    fn timeout(&self) -> Option<Duration> {
        if self.control.pending() {
            return Some(Duration::ZERO);
        }
        let due = match self.phase {
            Phase::Running | Phase::Ended => return None,
            Phase::Backoff { due } => due,
            Phase::Clearing { kill_at, .. } | Phase::Stopping { kill_at } => kill_at,
        };
        let left = due.saturating_duration_since(Instant::now());
        let killing = !matches!(self.phase, Phase::Backoff { .. }) && left.is_zero();
        Some(if killing { self.round } else { left })
    }

    fn read_output(&mut self, ready: &[PollFlags]) {
        let mut ready = ready.iter();
        let log = &mut self.log;
        self.sources.retain_mut(|source| {
            let silent = ready.next().is_none_or(|flags| flags.is_empty());
            silent || source.read(log) != Some(false)
        });
    }

    /// Takes what the pipes hold now, so that it is in the log before what happens next.
    fn drain_output(&mut self) {
        for source in &mut self.sources {
            for _ in 0..LAST_CHUNKS {
                if source.read(&mut self.log) != Some(true) {
                    break;
                }
            }
        }
    }

    fn respond(&mut self, id: control::Id, request: Result<Request, String>) {
        let reply = match request {
            Ok(Request::Status) => Reply::Status(self.status()),
            Ok(Request::Wait) => return self.control.defer(id),
            Ok(Request::Stop { grace_ms }) => {
                self.stop(grace_ms);
                return self.control.defer(id);
            }
            Ok(Request::Replace { argv }) => self.replace(argv),
            Err(why) => control::refused(&why),
        };
        self.control.answer(id, &reply);
    }
}

/// Starting and ending.
impl Shim {
    fn start_child(&mut self) {
        self.history.started(Instant::now());
        match child::spawn(&self.spec, &self.spec.argv, self.listeners.len()) {
            Ok(child) => self.adopt(child),
            Err(why) => self.main_ended(None, None, Some(why)),
        }
    }

    fn adopt(&mut self, child: Child) {
        self.log.remark(&format!("started {}", child.pid));
        self.sources.push(Source::new(child.out, "out"));
        self.sources.push(Source::new(child.err, "err"));
        self.main = Some(Main {
            pid: child.pid,
            since_ms: now_ms(),
        });
        self.phase = Phase::Running;
        self.has_children = true;
    }

    fn replace(&mut self, argv: Vec<String>) -> Reply {
        if matches!(self.phase, Phase::Clearing { .. } | Phase::Stopping { .. }) {
            return control::refused("the tree is being ended");
        }
        let child = match child::spawn(&self.spec, &argv, self.listeners.len()) {
            Ok(child) => child,
            Err(why) => return control::refused(&why),
        };
        self.replaced.extend(self.main.take().map(|main| main.pid));
        self.spec.argv = argv;
        self.history = History::default();
        self.history.started(Instant::now());
        let pid = child.pid;
        self.adopt(child);
        Reply::Replaced { pid }
    }

    fn reap(&mut self) {
        self.has_children = loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid.as_raw_nonzero().get() as u32, status),
                Ok(None) => break true,
                Err(Errno::INTR) => {}
                Err(_) => break false,
            }
        };
    }

    fn ended(&mut self, pid: u32, status: WaitStatus) {
        let (code, signal) = (status.exit_status(), status.terminating_signal());
        if self.main.take_if(|main| main.pid == pid).is_some() {
            self.main_ended(code, signal, None);
        } else if let Some(at) = self.replaced.iter().position(|&replaced| replaced == pid) {
            self.replaced.remove(at);
            self.drain_output();
            self.log.remark(&format!("the replaced {pid} ended"));
            if matches!(self.phase, Phase::Ended) {
                self.clear(None);
            }
        }
    }

    fn main_ended(&mut self, code: Option<i32>, signal: Option<i32>, start_error: Option<String>) {
        let left = self.strays().len() as u32;
        let exit = Exit {
            code,
            signal,
            start_error,
            left,
            at_ms: now_ms(),
        };
        self.drain_output();
        self.log.remark(&describe(&exit));
        if !matches!(self.phase, Phase::Stopping { .. }) {
            let next = self
                .history
                .ended(&self.spec.restart, &exit, Instant::now());
            self.log.remark(&announce(next));
            self.clear(match next {
                Next::Start(due) => Some(due),
                Next::Rest | Next::GiveUp => None,
            });
        }
        self.last_exit = Some(exit);
    }

    /// Ends what an ended child left behind; then a new start may follow.
    fn clear(&mut self, restart_at: Option<Instant>) {
        let kill_at = Instant::now() + Duration::from_millis(self.spec.stop.grace_ms);
        self.phase = Phase::Clearing {
            kill_at,
            restart_at,
        };
        self.signal_targets();
    }

    fn stop(&mut self, grace_ms: Option<u64>) {
        let grace = grace_ms.unwrap_or(self.spec.stop.grace_ms);
        let kill_at = Instant::now() + Duration::from_millis(grace);
        if let Phase::Stopping { kill_at: before } = &mut self.phase {
            *before = kill_at.min(*before);
            return;
        }
        self.log.remark("told to stop");
        self.stopped = true;
        self.phase = Phase::Stopping { kill_at };
        self.signal_targets();
    }

    fn signal_targets(&mut self) {
        self.round = FIRST_ROUND;
        for process in self.targets() {
            process.signal(self.stop_signal);
        }
    }

    /// What is being ended in this phase, the main child first.
    fn targets(&self) -> Vec<Process> {
        let mut targets = match self.phase {
            Phase::Stopping { .. } => tree::below(std::process::id(), &[]),
            _ => self.strays(),
        };
        targets.sort_by_key(|process| !self.is_main(process));
        targets
    }

    fn is_main(&self, process: &Process) -> bool {
        self.main
            .as_ref()
            .is_some_and(|main| main.pid == process.pid)
    }

    /// Descendants that are not below a living main or replaced child: somebody daemonized.
    fn strays(&self) -> Vec<Process> {
        let main = self.main.iter().map(|main| main.pid);
        let except: Vec<u32> = main.chain(self.replaced.iter().copied()).collect();
        tree::below(std::process::id(), &except)
    }

    /// Does what is due.
    fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Running | Phase::Ended => {}
            Phase::Backoff { due } if now >= due => {
                self.restarts += 1;
                self.start_child();
            }
            Phase::Backoff { .. } => {}
            Phase::Clearing { restart_at, .. } if self.is_clear() => {
                self.phase = restart_at.map_or(Phase::Ended, |due| Phase::Backoff { due });
            }
            Phase::Stopping { .. } if !self.has_children => self.phase = Phase::Ended,
            Phase::Clearing { kill_at, .. } | Phase::Stopping { kill_at } => {
                if now >= kill_at {
                    tree::kill_all(&self.targets());
                    if matches!(self.phase, Phase::Stopping { .. }) {
                        tree::kill_children();
                    }
                    self.round = (self.round * 2).min(LONGEST_ROUND);
                }
            }
        }
    }

    /// Without any child there is no descendant; a replaced child leaves only the look at `/proc`.
    fn is_clear(&self) -> bool {
        !self.has_children || !self.replaced.is_empty() && self.strays().is_empty()
    }

    fn status(&self) -> Status {
        let mut tree = tree::glimpse(std::process::id());
        tree.sort_by_key(|process| !self.is_main(process));
        let usage = tree::sum(tree.iter());
        Status {
            shim_pid: std::process::id(),
            state: self.state(),
            restarts: self.restarts,
            last_exit: self.last_exit.clone(),
            pids: tree.iter().map(|process| process.pid).collect(),
            cpu_ms: usage.cpu_ms + signals::reaped_cpu_ms(),
            rss_bytes: usage.rss_bytes,
            log: self.log.lost(),
            stopped: self.stopped,
        }
    }

    fn state(&self) -> State {
        let left = |due: Instant| due.saturating_duration_since(Instant::now()).as_millis() as u64;
        match (self.phase, &self.main) {
            (Phase::Running, Some(main)) => State::Running {
                pid: main.pid,
                since_ms: main.since_ms,
            },
            (
                Phase::Backoff { due }
                | Phase::Clearing {
                    restart_at: Some(due),
                    ..
                },
                _,
            ) => State::Backoff { left_ms: left(due) },
            (Phase::Clearing { .. } | Phase::Stopping { .. }, _) => State::Stopping,
            (Phase::Running | Phase::Ended, _) => State::Ended,
        }
    }

    /// Leaves the exit status, frees socket, listeners and directory, and only then answers: who
    /// waited for the end can start the next shim at once.
    fn finish(mut self) -> Result<(), Error> {
        self.drain_output();
        for source in &mut self.sources {
            source.end(&mut self.log);
        }
        self.log.remark("nothing is left to run");
        let status = self.status();
        let written = self.write_exit(&status);
        let removed = file::remove(&self.spec.socket).map_err(Error::file(&self.spec.socket));
        let farewell = self.control.close();
        drop(self.listeners);
        drop(self.lock);
        farewell.answer_all(&Reply::Status(status));
        written.and(removed)
    }

    fn write_exit(&mut self, status: &Status) -> Result<(), Error> {
        let text = serde_json::to_vec(status);
        let text = text.map_err(|error| Error::system("write the end")(io::Error::from(error)))?;
        let mut result = self.exit_file.write(&text);
        for _ in 0..LAST_TRIES {
            if result.is_ok() {
                break;
            }
            thread::sleep(LONGEST_ROUND);
            result = self.exit_file.write(&text);
        }
        result.map_err(Error::system("write exit.json"))
    }
}

fn describe(exit: &Exit) -> String {
    let mut text = match (exit.code, exit.signal, &exit.start_error) {
        (_, _, Some(why)) => format!("not started: {why}"),
        (Some(code), _, _) => format!("exited with status {code}"),
        (_, Some(signal), _) => format!("ended by signal {signal}"),
        _ => "ended".to_owned(),
    };
    if exit.left > 0 {
        text.push_str(&format!(", {} descendants left", exit.left));
    }
    text
}

fn announce(next: Next) -> String {
    match next {
        Next::Start(due) => {
            let left = due.saturating_duration_since(Instant::now());
            format!("starts again in {} ms", left.as_millis())
        }
        Next::Rest => "is not started again".to_owned(),
        Next::GiveUp => "gave up: too many starts in too short a time".to_owned(),
    }
}
