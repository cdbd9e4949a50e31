//! What the process is given: its listeners, and how many descriptors it may open.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const FIRST: RawFd = 3;

/// The listeners passed by whoever started this process, by the `LISTEN_FDS` protocol.
pub(crate) fn inherited() -> io::Result<Vec<TcpListener>> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
    };
    let count = match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count,
        _ => 0,
    };
    (FIRST..FIRST + count as RawFd).map(adopt).collect()
}

fn adopt(fd: RawFd) -> io::Result<TcpListener> {
    // Opening it by its number in /proc would be a new file; looking first keeps a wrong count from doing harm.
    File::open(format!("/proc/self/fdinfo/{fd}"))?;
    // SAFETY: the protocol gives this process the descriptor, it is open, and nothing else here has taken it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    let listener = TcpListener::from(fd);
    listener.local_addr()?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Raise the limit of open descriptors as far as allowed; the limit then.
pub(crate) fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(1 << 20, |count| count.min(1 << 20) as usize)
}
