//! What a server starts when it comes up: one agent for every environment below its state root.
//!
//! An agent that dies is started again, after a pause that grows while it keeps dying. One that is
//! there already, because it outlived an earlier boot process or a command started it, says so by
//! its lock (exit code 4), and is watched instead. New environments are heard of through inotify.
//! The boot process ends without its agents, and they run on: it holds nothing that they need.

mod environments;
mod keeper;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use environments::Environment;
use environments::Watch;

/// The file below the state root that says which process boots it.
pub const LOCK: &str = "boot.lock";

/// Where environments are, and what their agents are started from.
#[derive(Debug, Clone)]
pub struct Options {
    /// The state root: environments are `APP/ENV` below it.
    pub states: PathBuf,
    /// The `tow` program. Looked up at each start, so that a newer one under that name is taken.
    pub tow: PathBuf,
}

/// Why booting ended.
#[derive(Debug)]
pub enum Error {
    /// Another process boots this state root.
    Taken {
        /// The state root.
        states: PathBuf,
        /// Its process id, when it could be read.
        pid: Option<u32>,
    },
    /// From the file system.
    Io(PathBuf, std::io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Taken { states, pid } => {
                write!(f, "`{}` is booted by another process", states.display())?;
                pid.map_or(Ok(()), |pid| write!(f, ", {pid}"))
            }
            Error::Io(path, error) => write!(f, "`{}`: {error}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

/// Something that happened to the agent of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which environment.
    pub environment: Environment,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Its agent was started.
    Started(u32),
    /// Its agent was there already.
    Adopted(u32),
    /// Its agent ended; it is started again after a pause.
    Ended(String, Duration),
    /// It could not be started; that is tried again after a pause.
    NotStarted(String, Duration),
    /// Its folder is gone, and it is not started again.
    Gone,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Environment { app, name, .. } = &self.environment;
        write!(f, "{app}/{name}: ")?;
        let pause = |pause: &Duration| format!("again in {} ms", pause.as_millis());
        match &self.what {
            What::Started(pid) => write!(f, "agent {pid} started"),
            What::Adopted(pid) => write!(f, "agent {pid} is there"),
            What::Ended(how, left) => write!(f, "the agent ended ({how}), {}", pause(left)),
            What::NotStarted(why, left) => write!(f, "not started: {why}, {}", pause(left)),
            What::Gone => f.write_str("its folder is gone"),
        }
    }
}

/// Keeps an agent running for every environment, until it is dropped: the agents run on then.
///
/// # Errors
/// When another process does so already, or the state root cannot be read.
pub async fn run(options: Options, tell: mpsc::UnboundedSender<Event>) -> Result<(), Error> {
    let io = |error| Error::Io(options.states.clone(), error);
    std::fs::create_dir_all(&options.states).map_err(io)?;
    let _lock = lock(&options.states)?;
    let mut watch = Watch::new(&options.states).map_err(io)?;
    let mut kept = Kept::default();
    loop {
        for environment in watch.environments().map_err(io)? {
            kept.keep(environment, &options, &tell);
        }
        watch.changed().await.map_err(io)?;
    }
}

/// One task an environment; ended with this process' interest, and without their agents.
#[derive(Default)]
struct Kept(BTreeMap<Environment, JoinHandle<()>>);

impl Kept {
    fn keep(
        &mut self,
        environment: Environment,
        options: &Options,
        tell: &mpsc::UnboundedSender<Event>,
    ) {
        if self
            .0
            .get(&environment)
            .is_some_and(|task| !task.is_finished())
        {
            return;
        }
        let task = keeper::keep(environment.clone(), options.tow.clone(), tell.clone());
        self.0.insert(environment, tokio::spawn(task));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

/// A descriptor of ours that can be waited for.
type Readable = AsyncFd<OwnedFd>;

fn readable(fd: OwnedFd) -> std::io::Result<Readable> {
    // SAFETY: an `OwnedFd` is open, and the same one, for as long as `AsyncFd` owns it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(Into::into)
}

fn lock(states: &Path) -> Result<File, Error> {
    let path = states.join(LOCK);
    let io = |error| Error::Io(path.clone(), error);
    let mut options = File::options();
    let options = options.create(true).truncate(false).read(true).write(true);
    let mut file = options.open(&path).map_err(io)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(Error::Taken {
            states: states.to_owned(),
            pid: pid_in(&path),
        });
    }
    let pid = format!("{}\n", std::process::id());
    // On a full disk whoever comes second is not told who was first; the lock is what counts.
    let _ = file
        .set_len(0)
        .and_then(|()| file.write_all(pid.as_bytes()));
    Ok(file)
}

/// The process id that a lock file names.
fn pid_in(path: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok()
}
