//! A strict look at the bytes of requests before hyper sees them.
//!
//! hyper is lenient in ways that leave no trace in the parsed head: a line may end in a bare LF, and a length beside
//! `Transfer-Encoding` is dropped. It writes every head anew, so neither can be used to smuggle; but who sends such a
//! thing is to be told 400. So the bytes are followed here, heads and bodies, and the byte at which a request becomes
//! unacceptable is made a NUL, which hyper refuses wherever it stands. Bytes that are in order are never touched.

/// Most of a line that is kept: names and values of interest are shorter.
const LINE: usize = 64;

/// Where in a connection's requests the next byte stands.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    state: State,
    line: Line,
    head: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Head,
    /// So many bytes of a body.
    Body(u64),
    Chunk(Chunk),
    /// Not looked at: after a request to upgrade.
    Pass,
    /// Nothing from here on may be read as anything.
    Spoiled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// The size so far, and whether there was a digit.
    Size(u64, bool),
    /// After the digits: blanks and extensions, up to CR.
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    Trailer,
}

/// The line that is being read.
#[derive(Debug)]
struct Line {
    bytes: [u8; LINE],
    len: usize,
    /// The last byte was a CR.
    cr: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; LINE],
            len: 0,
            cr: false,
        }
    }
}

/// What the head that is being read has said.
#[derive(Debug, Default)]
struct Head {
    /// Its first line is over.
    begun: bool,
    length: Option<u64>,
    coded: bool,
    upgrade: bool,
}

/// What one byte came to.
enum Step {
    To(State),
    Spoil,
}

impl Framing {
    /// Look at the next bytes; what must be refused is spoiled, so that hyper refuses it.
    pub(crate) fn scan(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let left = (bytes.len() - at) as u64;
            match self.state {
                State::Pass => return,
                State::Spoiled => return bytes[at..].fill(0),
                State::Body(count) | State::Chunk(Chunk::Data(count)) => {
                    let skip = count.min(left);
                    at += skip as usize;
                    self.skipped(count - skip);
                }
                State::Head | State::Chunk(_) => {
                    self.byte(&mut bytes[at]);
                    at += 1;
                }
            }
        }
    }

    fn skipped(&mut self, rest: u64) {
        self.state = match self.state {
            State::Body(_) if rest == 0 => State::Head,
            State::Body(_) => State::Body(rest),
            _ if rest == 0 => State::Chunk(Chunk::DataCr),
            _ => State::Chunk(Chunk::Data(rest)),
        };
    }

    fn byte(&mut self, byte: &mut u8) {
        let step = match self.state {
            State::Chunk(chunk) if chunk != Chunk::Trailer => in_chunk(chunk, *byte),
            state => self.in_line(state, *byte),
        };
        match step {
            Step::To(state) => self.state = state,
            Step::Spoil => {
                // hyper lets NUL stand in a chunk's extension, but no line feed.
                let in_extension = matches!(self.state, State::Chunk(Chunk::Extension(_)));
                *byte = if in_extension { b'\n' } else { 0 };
                self.state = State::Spoiled;
            }
        }
    }

    fn in_line(&mut self, state: State, byte: u8) -> Step {
        match (byte, self.line.cr) {
            (b'\n', true) => self.line_ended(state),
            (b'\n', false) | (_, true) | (0, _) => Step::Spoil,
            (b'\r', false) => {
                self.line.cr = true;
                Step::To(state)
            }
            (b' ' | b'\t', false) if self.line.len == 0 => Step::Spoil,
            _ => {
                self.line.push(byte);
                Step::To(state)
            }
        }
    }

    fn line_ended(&mut self, state: State) -> Step {
        let line = std::mem::take(&mut self.line);
        if line.len > 0 {
            return self.noted(&line, state);
        }
        match state {
            // Empty lines may come before a request.
            State::Head if !self.head.begun => Step::To(State::Head),
            State::Head => Step::To(std::mem::take(&mut self.head).next()),
            _ => Step::To(State::Head),
        }
    }

    /// Take note of a line of a head; lines of trailers say nothing.
    fn noted(&mut self, line: &Line, state: State) -> Step {
        if state == State::Head {
            if self.head.begun {
                self.head.note(line.text());
            }
            self.head.begun = true;
        }
        if self.head.length.is_some() && self.head.coded {
            Step::Spoil
        } else {
            Step::To(state)
        }
    }
}

impl Line {
    fn push(&mut self, byte: u8) {
        if self.len < LINE {
            self.bytes[self.len] = byte;
            self.len += 1;
        }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Head {
    fn note(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            return;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            // What is no number hyper refuses.
            let digits = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
            self.length = Some(digits.unwrap_or(0));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.coded = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        }
    }

    /// What comes after this head.
    fn next(self) -> State {
        match (self.upgrade, self.coded, self.length.unwrap_or(0)) {
            (true, ..) => State::Pass,
            (_, true, _) => State::Chunk(Chunk::Size(0, false)),
            (_, _, 0) => State::Head,
            (_, _, length) => State::Body(length),
        }
    }
}

fn in_chunk(chunk: Chunk, byte: u8) -> Step {
    let next = match (chunk, byte) {
        (Chunk::Size(size, _), digit) if digit.is_ascii_hexdigit() && size >> 60 == 0 => {
            let value = (digit as char).to_digit(16).unwrap_or(0);
            Chunk::Size(size << 4 | u64::from(value), true)
        }
        (Chunk::Size(size, true) | Chunk::Extension(size), b'\r') => Chunk::SizeLf(size),
        (Chunk::Size(size, true), b';' | b' ' | b'\t') => Chunk::Extension(size),
        (Chunk::Extension(size), other) if other != b'\n' && other != 0 => Chunk::Extension(size),
        (Chunk::SizeLf(0), b'\n') => Chunk::Trailer,
        (Chunk::SizeLf(size), b'\n') => Chunk::Data(size),
        (Chunk::DataCr, b'\r') => Chunk::DataLf,
        (Chunk::DataLf, b'\n') => Chunk::Size(0, false),
        _ => return Step::Spoil,
    };
    Step::To(State::Chunk(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na\nb\0cPUT / HTTP/1.1\r\nHost: a\r\n\
        Transfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\na\nb\0c\r\n1 \r\nx\r\n0\r\nT: r\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";

    fn scanned(bytes: &[u8], cut: usize) -> Vec<u8> {
        let mut framing = Framing::default();
        let mut bytes = bytes.to_vec();
        let (first, second) = bytes.split_at_mut(cut);
        framing.scan(first);
        framing.scan(second);
        bytes
    }

    #[test]
    fn what_is_in_order_is_not_touched_wherever_it_is_cut() {
        for cut in 0..=REQUEST.len() {
            assert_eq!(scanned(REQUEST, cut), REQUEST, "cut at {cut}");
        }
    }

    #[test]
    fn what_comes_after_all_that_is_still_looked_at() {
        let bad = [REQUEST, b"GET / HTTP/1.1\n\r\n"].concat();
        for cut in 0..=bad.len() {
            assert_eq!(scanned(&bad, cut)[bad.len() - 3], 0, "cut at {cut}");
        }
    }

    #[test]
    fn what_follows_something_spoiled_is_never_a_request() {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for chunk in [&b"2;\nxx\r\n0\r\n\r\n"[..], b"0;\n\r\n\r\n", b"x\r\n"] {
            let after = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
            let bytes = [&head[..], chunk, after].concat();
            for cut in 0..bytes.len() {
                let seen = scanned(&bytes, cut);
                assert!(
                    !seen.windows(9).any(|nine| nine == b"/smuggled"),
                    "{chunk:?} cut at {cut}"
                );
            }
        }
    }
}
