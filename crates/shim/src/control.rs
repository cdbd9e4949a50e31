//! The control socket: many connections, none of which can hold up another or the shim.
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::event::{PollFd, PollFlags};

use crate::protocol::{Reply, Request};

/// Connections at a time.
const MOST: usize = 64;
/// A longer request is none.
const LONGEST: usize = 64 << 10;

/// The listener and its connections.
pub(crate) struct Control {
    listener: UnixListener,
    connections: Vec<Connection>,
    next_id: u64,
}

/// Names a connection for as long as the shim lives.
pub(crate) type Id = u64;

struct Connection {
    id: Id,
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Its request is answered later; what else it sends stays where it is.
    waits: bool,
    /// It will send nothing more, but may still want its answers.
    input_ended: bool,
    /// Closed once `output` is gone.
    closing: bool,
    gone: bool,
}

impl Control {
    pub(crate) fn new(listener: UnixListener) -> Self {
        Self {
            listener,
            connections: Vec::new(),
            next_id: 0,
        }
    }

    /// What to poll for; [`Control::serve`] takes the results in the same order.
    pub(crate) fn interests(&self) -> impl Iterator<Item = PollFd<'_>> {
        let listener = PollFd::new(&self.listener, PollFlags::IN);
        let connections = self.connections.iter();
        let connections = connections.map(|one| PollFd::new(&one.stream, one.interest()));
        std::iter::once(listener).chain(connections)
    }

    /// True if a request can be taken without waiting for anything.
    pub(crate) fn pending(&self) -> bool {
        self.connections.iter().any(Connection::has_request)
    }

    /// Reads, writes, accepts; returns at most one request of each connection, so that one that
    /// sends many does not starve the others.
    pub(crate) fn serve(&mut self, ready: &[PollFlags]) -> Vec<(Id, Result<Request, String>)> {
        if let Some((&listener, ready)) = ready.split_first() {
            for (connection, &flags) in self.connections.iter_mut().zip(ready) {
                connection.serve(flags);
            }
            if !listener.is_empty() {
                self.accept();
            }
        }
        self.take()
    }

    /// Answers the request of a connection; ignored if it went away.
    pub(crate) fn answer(&mut self, id: Id, reply: &Reply) {
        if let Some(connection) = self.connections.iter_mut().find(|one| one.id == id) {
            connection.answer(reply);
        }
    }

    /// Leaves the request of a connection to [`Control::answer_all`].
    pub(crate) fn defer(&mut self, id: Id) {
        if let Some(connection) = self.connections.iter_mut().find(|one| one.id == id) {
            connection.waits = true;
        }
    }

    /// Drops the connections that are done; to be called once the requests are answered.
    pub(crate) fn tidy(&mut self) {
        self.connections.retain(|connection| !connection.is_done());
    }

    /// Reads for the last time; returns the connections whose requests are still open.
    pub(crate) fn close(mut self) -> Farewell {
        self.accept();
        for connection in &mut self.connections {
            connection.read();
        }
        for (id, request) in self.take() {
            match request {
                Ok(Request::Status | Request::Wait | Request::Stop { .. }) => self.defer(id),
                Ok(Request::Replace { .. }) => self.answer(id, &refused("the shim has ended")),
                Err(why) => self.answer(id, &refused(&why)),
            }
        }
        Farewell {
            connections: self.connections,
        }
    }

    fn take(&mut self) -> Vec<(Id, Result<Request, String>)> {
        let mut taken = Vec::new();
        for connection in &mut self.connections {
            taken.extend(connection.take().map(|request| (connection.id, request)));
        }
        taken
    }

    fn accept(&mut self) {
        for _ in 0..MOST {
            let Ok((stream, _)) = self.listener.accept() else {
                return;
            };
            if stream.set_nonblocking(true).is_ok() {
                self.make_room();
                self.next_id += 1;
                self.connections.push(Connection::new(self.next_id, stream));
            }
        }
    }

    /// A silent client must not lock everybody else out: the oldest one without an open request
    /// goes, and if all have one, the oldest of all.
    fn make_room(&mut self) {
        if self.connections.len() >= MOST {
            let silent = self.connections.iter().position(|one| !one.waits);
            self.connections.remove(silent.unwrap_or(0));
        }
    }
}

/// The connections that wait for the end.
pub(crate) struct Farewell {
    connections: Vec<Connection>,
}

impl Farewell {
    /// Answers everybody who waits. An end is short and fits into the socket's buffer; a client that
    /// did not read what it got before loses its answer.
    pub(crate) fn answer_all(mut self, reply: &Reply) {
        for connection in &mut self.connections {
            if connection.waits {
                connection.answer(reply);
            }
        }
    }
}

impl Connection {
    fn new(id: Id, stream: UnixStream) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        let (waits, input_ended, closing, gone) = (false, false, false, false);
        Self {
            id,
            stream,
            input,
            output,
            waits,
            input_ended,
            closing,
            gone,
        }
    }

    /// A connection that is gone is reported without being asked for.
    fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.reads());
        flags.set(PollFlags::OUT, !self.output.is_empty());
        flags
    }

    fn reads(&self) -> bool {
        !self.input_ended && !self.closing && self.input.len() <= LONGEST
    }

    fn serve(&mut self, ready: PollFlags) {
        if ready.intersects(PollFlags::IN | PollFlags::HUP) && self.reads() {
            self.read();
        }
        if ready.contains(PollFlags::OUT) {
            self.write();
        }
        self.gone |= ready.intersects(PollFlags::HUP | PollFlags::ERR);
    }

    fn read(&mut self) {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.input_ended = true,
            Ok(size) => self.input.extend_from_slice(&chunk[..size]),
            Err(error) => self.gone |= is_final(&error),
        }
    }

    fn write(&mut self) {
        match self.stream.write(&self.output) {
            Ok(size) => drop(self.output.drain(..size)),
            Err(error) => self.gone |= is_final(&error),
        }
    }

    fn has_request(&self) -> bool {
        let free = !self.waits && !self.closing && self.output.is_empty();
        free && (self.input.contains(&b'\n') || self.input.len() > LONGEST)
    }

    /// The next request, unless the answer to the one before is still on its way.
    fn take(&mut self) -> Option<Result<Request, String>> {
        if !self.has_request() {
            return None;
        }
        match self.input.iter().position(|&byte| byte == b'\n') {
            Some(end) if end <= LONGEST => {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                let request = serde_json::from_slice(&line[..end]);
                Some(request.map_err(|error| format!("not a request: {error}")))
            }
            _ => {
                self.closing = true;
                Some(Err(format!("a request is at most {LONGEST} bytes")))
            }
        }
    }

    fn answer(&mut self, reply: &Reply) {
        self.waits = false;
        match serde_json::to_vec(reply) {
            Ok(line) => self.output.extend(line.into_iter().chain(*b"\n")),
            Err(_) => self.gone = true,
        }
        self.write();
    }

    fn is_done(&self) -> bool {
        let silent = self.output.is_empty() && !self.waits && !self.has_request();
        self.gone || silent && (self.closing || self.input_ended)
    }
}

fn is_final(error: &io::Error) -> bool {
    !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

pub(crate) fn refused(why: &str) -> Reply {
    Reply::Refused {
        why: why.to_owned(),
    }
}
