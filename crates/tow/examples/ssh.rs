//! Stands in for `ssh` in the tests of links: runs the command on a "server", which is a folder.
//!
//! In the folder `TOWPATH_TEST_LINK`: `root/`, the server's file system; `states`, where its states
//! are; `channels/N`, what each connection was called with; `bytes/N`, how much went in and out of
//! it; and what is to go wrong, if anything: `cut` (lines of connection, direction and byte after which
//! the link is cut), `refuse` (what to say instead of connecting), `say` (what the far side says).
//! With `-L` it carries connections, as ssh does.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

fn main() -> ExitCode {
    let link = PathBuf::from(std::env::var_os("TOWPATH_TEST_LINK").unwrap_or_default());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = number(&link, &arguments.join("\n"));
    if let Some(at) = arguments.iter().position(|argument| argument == "-L") {
        return forward(&arguments[at + 1]);
    }
    if let Ok(text) = fs::read(link.join("refuse")) {
        let _ = std::io::stderr().write_all(&text);
        return ExitCode::from(255);
    }
    if let Ok(text) = fs::read(link.join("say")) {
        say(&text);
        return ExitCode::SUCCESS;
    }
    let remote = arguments.last().cloned().unwrap_or_default();
    let forced = fs::read_to_string(link.join("forced")).ok();
    connect(&link, number, &forced.unwrap_or(remote))
}

/// `-L HERE:THERE`, both with a port: the server is this machine. Ends when it is killed.
fn forward(ends: &str) -> ExitCode {
    let parts: Vec<&str> = ends.split(':').collect();
    let [here, from, there, to] = parts.as_slice() else {
        return ExitCode::from(255);
    };
    let Ok(listener) = TcpListener::bind(format!("{here}:{from}")) else {
        return ExitCode::from(255);
    };
    for near in listener.incoming().flatten() {
        if let Ok(far) = TcpStream::connect(format!("{there}:{to}")) {
            let ends = (near.try_clone(), far.try_clone());
            if let (Ok(near_too), Ok(far_too)) = ends {
                thread::spawn(move || pass(near, far));
                thread::spawn(move || pass(far_too, near_too));
            }
        }
    }
    ExitCode::SUCCESS
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// As a server would: the first line, and the rest as an answer to what it is told.
fn say(text: &[u8]) {
    let first = text.iter().position(|byte| *byte == b'\n');
    let (line, answer) = text.split_at(first.map_or(text.len(), |at| at + 1));
    let mut out = std::io::stdout();
    let _ = out.write_all(line).and_then(|()| out.flush());
    if !answer.is_empty() {
        let _ = std::io::stdin().read(&mut [0; 4096]);
        let _ = out.write_all(answer).and_then(|()| out.flush());
    }
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// The number of this connection, from 1.
fn number(link: &Path, said: &str) -> u64 {
    for number in 1.. {
        let path = link.join("channels").join(number.to_string());
        if let Ok(mut file) = fs::File::create_new(&path) {
            let _ = file.write_all(said.as_bytes());
            return number;
        }
        if !path.exists() {
            break;
        }
    }
    0
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    In,
    Out,
}

struct Wire {
    way: Direction,
    /// Bytes after which it is cut.
    cut: Option<u64>,
    /// Where is written how many have passed.
    count: PathBuf,
}

fn connect(link: &Path, number: u64, remote: &str) -> ExitCode {
    let root = link.join("root");
    let remote = remote.replace("/usr/local", &root.join("usr/local").display().to_string());
    let states = fs::read_to_string(link.join("states")).unwrap_or_default();
    let spawned = Command::new("sh")
        .arg("-c")
        .arg(remote)
        .env("HOME", root.join("home"))
        .env("TOWPATH_STATE", states)
        .env_remove("TOWPATH_TEST_LINK")
        .env_remove("TOWPATH_SSH")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        return ExitCode::from(255);
    };
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return ExitCode::from(255);
    };
    let cut = cut(link, number);
    let wire = |way, name: &str| Wire {
        way,
        cut: cut.filter(|cut| cut.0 == way).map(|cut| cut.1),
        count: link.join("bytes").join(format!("{number}.{name}")),
    };
    let (ends, ended) = channel();
    let (inward, outward) = (wire(Direction::In, "in"), wire(Direction::Out, "out"));
    carry(std::io::stdin(), stdin, inward, ends.clone());
    carry(stdout, std::io::stdout(), outward, ends);
    let end = ended
        .iter()
        .find(|end| !matches!(end, End::Closed(Direction::In)));
    match end {
        // The far side ends by itself once it has nobody to listen to.
        Some(End::Cut) => {
            let _ = std::io::stderr().write_all(b"Connection closed by remote host\n");
            ExitCode::from(255)
        }
        Some(End::Closed(_)) => {
            let code = child.wait().ok().and_then(|status| status.code());
            ExitCode::from(u8::try_from(code.unwrap_or(255)).unwrap_or(255))
        }
        None => ExitCode::from(255),
    }
}

fn cut(link: &Path, number: u64) -> Option<(Direction, u64)> {
    let text = fs::read_to_string(link.join("cut")).ok()?;
    let this = |line: &str| {
        let mut words = line.split_whitespace();
        let is_this = words.next()?.parse() == Ok(number);
        let way = match words.next()? {
            "in" => Direction::In,
            _ => Direction::Out,
        };
        let after = words.next()?.parse().ok()?;
        is_this.then_some((way, after))
    };
    text.lines().find_map(this)
}

enum End {
    Cut,
    Closed(Direction),
}

/// Passes on what is allowed to pass.
fn carry(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    wire: Wire,
    ends: Sender<End>,
) {
    thread::spawn(move || {
        let (mut piece, mut passed) = (vec![0; 16 << 10], 0);
        loop {
            if wire.cut == Some(passed) {
                let _ = ends.send(End::Cut);
                return;
            }
            let room = wire.cut.map_or(piece.len() as u64, |cut| cut - passed);
            let most = piece.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let Ok(read @ 1..) = from.read(&mut piece[..most]) else {
                break;
            };
            if to
                .write_all(&piece[..read])
                .and_then(|()| to.flush())
                .is_err()
            {
                break;
            }
            passed += read as u64;
            let _ = fs::write(&wire.count, passed.to_string());
        }
        let _ = ends.send(End::Closed(wire.way));
    });
}
