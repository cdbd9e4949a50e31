//! Asking a shim: one request, one reply, over its control socket.
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::protocol::{Reply, Request};

/// Longer than the reply of any real tree; whatever sends more is no shim.
const LONGEST_REPLY: u64 = 16 << 20;

/// Why there is no reply.
#[derive(Debug)]
pub enum Error {
    /// Nothing listens there: the shim ended or never came up. See `exit.json` and `error`.
    Absent(io::Error),
    /// The shim closed the connection without an answer: it ended just now. See `exit.json`.
    Closed,
    /// The time is over.
    Late,
    /// Any other failure of the socket.
    Io(io::Error),
    /// The reply is not one of the protocol.
    Garbled(serde_json::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(error) => write!(f, "no shim listens: {error}"),
            Self::Closed => write!(f, "the shim closed the connection without an answer"),
            Self::Late => write!(f, "the shim did not answer in time"),
            Self::Io(error) => write!(f, "the shim's socket failed: {error}"),
            Self::Garbled(error) => write!(f, "the shim's answer is not understood: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound | Kind::ConnectionRefused => Self::Absent(error),
            Kind::WouldBlock | Kind::TimedOut => Self::Late,
            Kind::BrokenPipe | Kind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// Sends one request and waits for its reply, `timeout` for all of it together.
///
/// # Errors
/// See [`Error`]. After [`Error::Late`] the request may have been carried out all the same.
pub fn ask(socket: &Path, request: &Request, timeout: Duration) -> Result<Reply, Error> {
    let deadline = Instant::now().checked_add(timeout);
    let mut stream = connect(socket, left(deadline)?)?;
    let mut line = serde_json::to_vec(request).map_err(Error::Garbled)?;
    line.push(b'\n');
    stream.set_write_timeout(left(deadline)?)?;
    stream.write_all(&line)?;
    let reply = read_line(stream, deadline)?;
    serde_json::from_slice(&reply).map_err(Error::Garbled)
}

/// Time left, `None` when there is no limit.
fn left(deadline: Option<Instant>) -> Result<Option<Duration>, Error> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if left == Some(Duration::ZERO) {
        return Err(Error::Late);
    }
    Ok(left)
}

fn connect(path: &Path, timeout: Option<Duration>) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let kind = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = rustix::net::socket_with(kind.0, kind.1, SocketFlags::CLOEXEC, None)?;
    // Connecting blocks while the shim's backlog is full; the sending timeout bounds that too.
    set_socket_timeout(&socket, Timeout::Send, timeout)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket.into())
}

fn read_line(stream: UnixStream, deadline: Option<Instant>) -> Result<Vec<u8>, Error> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(LONGEST_REPLY));
    loop {
        reader
            .get_ref()
            .get_ref()
            .set_read_timeout(left(deadline)?)?;
        let bytes = reader.fill_buf()?;
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let taken = end.unwrap_or(bytes.len());
        if end.is_none() && taken == 0 {
            return Err(Error::Closed);
        }
        line.extend_from_slice(&bytes[..taken]);
        reader.consume(taken);
        if end.is_some() {
            return Ok(line);
        }
    }
}
