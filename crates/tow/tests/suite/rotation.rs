//! What every rotation under load is tried with: clients that count what becomes of their requests, the command, and
//! whoever is killed on the way.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::fixture::{Fixture, Running, STAGING, Said, tow};
use crate::machine::{self, Reaped, until};

/// What is committed, whatever the file of secrets was changed to since; where the gateway listens.
pub fn deploy(fixture: &Fixture) -> String {
    fixture
        .tow(&["deploy", "-e", STAGING, "--allow-dirty"])
        .expect(0);
    fixture.listen(STAGING)
}

/// Rotates this secret.
pub fn rotate(fixture: &Fixture, name: &str, more: &[&str]) -> Said {
    fixture.tow(&[&["secrets", "rotate", name, "-e", STAGING], more].concat())
}

/// One client: its connection stays, as that of a browser does.
pub struct Line {
    listen: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Line {
    /// To this address.
    pub fn to(listen: &str) -> Line {
        Line {
            listen: listen.to_owned(),
            stream: None,
        }
    }

    /// Status and body of a GET.
    pub fn get(&mut self, path: &str, header: &str) -> Result<(u16, String), String> {
        let answer = self.ask(path, header).map_err(|error| error.to_string());
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    fn ask(&mut self, path: &str, header: &str) -> std::io::Result<(u16, String)> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.listen)?;
                stream.set_read_timeout(Some(machine::PATIENCE))?;
                BufReader::new(stream)
            }
        };
        let stream = self.stream.insert(stream);
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\n{header}\r\n\r\n",
            self.listen
        );
        stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let status = line
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok());
        let mut length = 0;
        while line.trim_end() != "" {
            line.clear();
            stream.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let broken = || std::io::Error::other("no answer");
        Ok((status.ok_or_else(broken)?, String::from_utf8(body).unwrap()))
    }
}

/// The same, on a connection of its own.
pub fn get(listen: &str, path: &str, header: &str) -> Result<(u16, String), String> {
    Line::to(listen).get(path, header)
}

/// What became of the requests.
#[derive(Default)]
pub struct Counts {
    requests: AtomicU64,
    failed: AtomicU64,
    /// 401 to somebody who was signed in.
    pub signed_out: AtomicU64,
    /// 401 to a program with a key.
    pub refused: AtomicU64,
    stop: AtomicBool,
    why: Mutex<BTreeMap<String, u64>>,
}

impl Counts {
    /// Sends one, and counts it as `denied` where it was not let in.
    pub fn send(
        &self,
        line: &mut Line,
        path: &str,
        header: &str,
        denied: &AtomicU64,
    ) -> Option<String> {
        let add = |to: &AtomicU64| to.fetch_add(1, Ordering::SeqCst);
        let answer = line.get(path, header);
        add(&self.requests);
        match answer {
            Ok((200, body)) => return Some(body),
            Ok((401, _)) => add(denied),
            other => {
                let why = format!("{:?}", other.map(|(status, _)| status));
                *self.why.lock().unwrap().entry(why).or_default() += 1;
                add(&self.failed)
            }
        };
        None
    }
}

/// One turn of a client, which it has until the load ends.
pub type Client = Box<dyn FnMut(&Counts) + Send>;

/// Clients that send all the while.
pub struct Load {
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Each in a thread of its own; returns when requests are answered.
    pub fn start(clients: Vec<Client>) -> Load {
        let counts = Arc::new(Counts::default());
        let threads = clients.into_iter().map(|mut turn| {
            let counts = counts.clone();
            std::thread::spawn(move || {
                while !counts.stop.load(Ordering::SeqCst) {
                    turn(&counts);
                    std::thread::sleep(Duration::from_millis(10));
                }
            })
        });
        let load = Load {
            threads: threads.collect(),
            counts,
        };
        load.more();
        load
    }

    /// Returns when each of them has sent some more.
    pub fn more(&self) {
        let total = || self.counts.requests.load(Ordering::SeqCst);
        let goal = total() + 7 * self.threads.len() as u64;
        until("requests go on", || (total() >= goal).then_some(()));
    }

    /// Ends it.
    pub fn stop(mut self) -> Ended {
        self.more();
        self.counts.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let counts = &self.counts;
        println!("failures: {:?}", counts.why.lock().unwrap());
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Ended {
            requests: read(&counts.requests),
            failed: read(&counts.failed),
            signed_out: read(&counts.signed_out),
            refused: read(&counts.refused),
        }
    }
}

/// Nobody goes on behind a test that has failed.
impl Drop for Load {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::SeqCst);
    }
}

/// What had become of them in the end.
pub struct Ended {
    pub requests: u64,
    pub failed: u64,
    pub signed_out: u64,
    pub refused: u64,
}

impl Ended {
    /// Those that did not go well.
    pub fn bad(&self) -> u64 {
        self.failed + self.signed_out + self.refused
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Ended {
            requests,
            failed,
            signed_out,
            refused,
        } = self;
        write!(
            f,
            "of {requests} requests {failed} failed, {signed_out} were signed out, {refused} refused"
        )
    }
}

/// Has an agent of a rehearsal in the place of the one that is there.
pub fn agent_of_rehearsal(fixture: &Fixture) -> Reaped {
    fixture.end_agent(STAGING);
    let state = fixture.state(STAGING);
    fs::create_dir_all(&state).unwrap();
    let mut command = Command::new(tow());
    let words = [
        "agent",
        "--rehearsal",
        "--app",
        "fixture",
        "--environment",
        STAGING,
        "--dir",
    ];
    command.args(words).arg(&state).stdin(Stdio::null());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = Reaped(child.unwrap());
    until("the agent answers", || fixture.seen(STAGING));
    child
}

/// Runs the command, which is killed at `place`.
pub fn killed(fixture: &Fixture, name: &str, more: &[&str], place: &str) {
    let words = [&["secrets", "rotate", name, "-e", STAGING, "--wait"], more].concat();
    let mut command = fixture.command(&tow(), &words);
    let status = command.env("TOWPATH_KILL", place).output().unwrap().status;
    assert_eq!(status.signal(), Some(9), "{place}: {status}");
}

/// A command that is held at a place until the test has done what it wants to do there.
pub struct Held {
    running: Running,
    hold: PathBuf,
}

impl Held {
    /// Starts it with this on its standard input, and returns when it is held there.
    pub fn start(fixture: &Fixture, words: &[&str], input: &str, place: &str) -> Held {
        let hold = fixture.dir.join("held-command/hold");
        fs::create_dir_all(hold.parent().unwrap()).unwrap();
        fs::write(&hold, place).unwrap();
        let mut command = fixture.command(&tow(), words);
        command.env("TOWPATH_HOLD", &hold).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let typed = child.stdin.take().unwrap().write_all(input.as_bytes());
        typed.unwrap();
        until(&format!("it comes to {place}"), || {
            let text = fs::read_to_string(hold.with_file_name("held")).ok()?;
            (text == place).then_some(())
        });
        let running = Running(child);
        Held { running, hold }
    }

    /// Lets it go on to its end.
    pub fn go_on(self, fixture: &Fixture) -> Said {
        fs::remove_file(&self.hold).unwrap();
        fixture.end(self.running)
    }
}
