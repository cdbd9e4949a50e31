//! Coming up: reads the spec, takes the directory, detaches, and binds what has to be bound.
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode};
use rustix::io::Errno;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::file;
use crate::handed::{self, Conceal};
use crate::protocol::{Handed, Spec};
use crate::tree;

/// The first descriptor a child gets a listener on.
pub(crate) const FIRST_LISTENER: i32 = 3;
/// Connections that wait while the child is started again; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;
/// How long an address may stay in use.
const BIND_FOR: Duration = Duration::from_millis(200);
/// A unix address holds 108 bytes; `.new` and an end are needed beside the path.
const LONGEST_SOCKET: usize = 100;

/// Why a shim did not come up, or what failed at its end.
#[derive(Debug)]
pub enum Error {
    /// The directory belongs to a living shim.
    Taken {
        /// The directory.
        dir: PathBuf,
    },
    /// The start file cannot be followed.
    Spec(String),
    /// An address of [`Spec::listen`] cannot be bound.
    Listen {
        /// As it stands in the spec.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// A file of the directory, or the control socket.
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Any other call that should not fail.
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { dir } => write!(f, "another shim runs this directory: {}", dir.display()),
            Self::Spec(why) => write!(f, "spec.json: {why}"),
            Self::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::System { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| Self::File { path, error }
    }

    pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::System {
            what,
            error: error.into(),
        }
    }
}

/// `shim.json`: names the shim for as long as the machine is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// Clock ticks after boot; see [`tree::start_time`].
    pub starttime: u64,
}

/// A shim that is ready to start its child.
pub(crate) struct Started {
    pub(crate) spec: Spec,
    pub(crate) stop_signal: Signal,
    /// Dropping it gives the directory to whoever comes next.
    pub(crate) lock: OwnedFd,
    /// On the descriptors 3, 4, ..., so that a child finds them where it expects them.
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) control: UnixListener,
    pub(crate) exit_file: file::Reserved,
    pub(crate) conceal: Conceal,
}

/// Comes up in a directory; nothing of it is changed if another shim has it.
pub(crate) fn start(dir: &Path) -> Result<Started, Error> {
    let (spec, handed) = given(dir);
    detach().map_err(Error::system("detach"))?;
    let lock = lock(dir)?;
    for stale in ["error", "exit.json"] {
        let path = dir.join(stale);
        file::remove(&path).map_err(Error::file(&path))?;
    }
    let (mut spec, handed) = (spec?, handed?);
    spec.env.extend(handed.env);
    let stop_signal = check_spec(&spec).map_err(Error::Spec)?;
    let lock = move_up(lock, spec.listen.len()).map_err(Error::system("move the lock"))?;
    let listeners = listen(&spec.listen)?;
    let control = bind_control(&spec.socket).map_err(Error::file(&spec.socket))?;
    let exit_file = file::Reserved::new(dir.join("exit.json"));
    write_identity(&dir.join("shim.json"))?;
    Ok(Started {
        spec,
        stop_signal,
        lock,
        listeners,
        control,
        exit_file,
        conceal: Conceal::new(handed.conceal),
    })
}

/// Taken first of all, because standard input is given away next; what is wrong with it is said once the folder is
/// known to be its own.
fn given(dir: &Path) -> (Result<Spec, Error>, Result<Handed, Error>) {
    let spec = read_spec(&dir.join("spec.json"));
    let handed = match &spec {
        Ok(spec) => handed::receive(spec),
        Err(_) => Ok(Handed::default()),
    };
    (spec, handed)
}

fn detach() -> io::Result<()> {
    // Whoever started it may be in a tree of another shim; its own child is tagged again.
    tree::set_real_time_limit(None);
    match rustix::process::setsid() {
        // Already the leader of its group, so nobody else's signals reach it.
        Ok(_) | Err(Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    close_inherited()
}

fn close_inherited() -> io::Result<()> {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|&fd| fd > 2) {
        // SAFETY: nothing in this process uses a descriptor above 2 yet; `run` says so.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<OwnedFd, Error> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(Error::file(&path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file.into()),
        Err(Errno::WOULDBLOCK) => Err(Error::Taken {
            dir: dir.to_owned(),
        }),
        Err(error) => Err(Error::file(&path)(error.into())),
    }
}

/// Leaves the lowest descriptors to the listeners.
fn move_up(lock: OwnedFd, listeners: usize) -> io::Result<OwnedFd> {
    let first_free = FIRST_LISTENER + i32::try_from(listeners).unwrap_or(i32::MAX);
    Ok(rustix::io::fcntl_dupfd_cloexec(&lock, first_free)?)
}

fn read_spec(path: &Path) -> Result<Spec, Error> {
    let text = fs::read(path).map_err(Error::file(path))?;
    serde_json::from_slice(&text).map_err(|error| Error::Spec(error.to_string()))
}

fn check_spec(spec: &Spec) -> Result<Signal, String> {
    if spec.argv.is_empty() {
        return Err("argv is empty".to_owned());
    }
    if spec.socket.as_os_str().len() > LONGEST_SOCKET {
        return Err(format!("socket is longer than {LONGEST_SOCKET} bytes"));
    }
    for (name, path) in [
        ("cwd", &spec.cwd),
        ("log.path", &spec.log.path),
        ("socket", &spec.socket),
    ] {
        if !path.is_absolute() {
            return Err(format!("{name} is not an absolute path"));
        }
    }
    let signal = spec.stop.signal;
    Signal::from_named_raw(signal).ok_or_else(|| format!("stop.signal {signal} is no signal"))
}

fn listen(addresses: &[String]) -> Result<Vec<TcpListener>, Error> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for (address, fd) in addresses.iter().zip(FIRST_LISTENER..) {
        let failed = |error| Error::Listen {
            address: address.clone(),
            error,
        };
        let listener = bind(address).map_err(failed)?;
        rustix::net::listen(&listener, BACKLOG).map_err(|error| failed(error.into()))?;
        if listener.as_raw_fd() != fd {
            let error = io::Error::other(format!("descriptor {fd} is not free"));
            return Err(failed(error));
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Tries again for a moment: the child of a killed shim is ending, but may still hold the address.
fn bind(address: &str) -> io::Result<TcpListener> {
    let deadline = Instant::now() + BIND_FOR;
    loop {
        // The standard library sets SO_REUSEADDR.
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

/// Binds beside and renames, so that whoever finds the socket finds a shim behind it.
fn bind_control(path: &Path) -> io::Result<UnixListener> {
    let beside = file::beside(path);
    file::remove(&beside)?;
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(&beside);
    rustix::process::umask(mask);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    fs::rename(&beside, path)?;
    Ok(listener)
}

fn write_identity(path: &Path) -> Result<(), Error> {
    let pid = std::process::id();
    let identity = Identity {
        pid,
        starttime: tree::start_time(pid).unwrap_or_default(),
    };
    let text = serde_json::to_vec(&identity).map_err(|error| Error::Spec(error.to_string()))?;
    file::write_whole(path, &text).map_err(Error::file(path))
}
