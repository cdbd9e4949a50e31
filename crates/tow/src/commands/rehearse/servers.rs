//! Which environments of a rehearsal are on servers, and how its load gets to a gateway there.
//!
//! The gateway of a rehearsal listens on the server's own loopback: what is rehearsed, with users
//! and passwords that stand in a manifest, is for nobody else to see. So the load goes through ssh.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr};
use tokio::time::{Instant, sleep, timeout};
use towpath::agent::api::Trouble;
use towpath::config::Server;
use towpath::diagnostic::Diagnostic;
use towpath::link::Ssh;

use crate::commands::inner::usage;
use crate::link;
use crate::place::App;

/// An ssh that has to log in first is there within.
const COMES_UP: Duration = Duration::from_secs(30);

/// A gateway that is reached answers within.
const ANSWERS: Duration = Duration::from_secs(5);

/// A port that is free may be somebody else's a moment later.
const TRIES: u32 = 3;

/// Where one environment of a rehearsal was.
#[derive(Debug, Clone, Serialize)]
pub struct Host {
    /// The environment.
    pub environment: String,
    /// Its server.
    pub server: String,
    /// How requests got there.
    pub load: &'static str,
}

/// The servers of these environments: those that the manifest names, but for what was said instead.
/// None without `--servers`: a rehearsal goes to no server unasked.
pub fn servers(
    app: &App,
    environments: [&str; 2],
    said: Option<&Vec<String>>,
) -> Result<BTreeMap<String, Server>, Trouble> {
    let mut servers = BTreeMap::new();
    let Some(said) = said else {
        return Ok(servers);
    };
    for environment in environments {
        if let Some(server) = app.place(environment)?.server {
            servers.insert(environment.to_owned(), server);
        }
    }
    for one in said {
        let (environment, server) = one
            .split_once('=')
            .and_then(|(name, server)| Some((name, Server::parse(server)?)))
            .ok_or_else(|| usage(format!("`{one}` is not understood: say ENV=USER@HOST")))?;
        if !environments.contains(&environment) {
            let text = format!(
                "`{environment}` is not rehearsed on a server: {} and {} are",
                environments[0], environments[1]
            );
            return Err(usage(text));
        }
        servers.insert(environment.to_owned(), server);
    }
    match servers.is_empty() {
        true => Err(usage(format!(
            "the manifest names no server of {} or {}: say --servers {}=USER@HOST",
            environments[0], environments[1], environments[1]
        ))),
        false => Ok(servers),
    }
}

/// The way of a load to a gateway; it is closed when this is dropped.
pub struct Way {
    /// Where requests are sent.
    pub address: SocketAddr,
    forward: Option<Forward>,
}

/// An ssh that carries connections.
struct Forward {
    server: Server,
    child: Child,
    errors: Arc<Mutex<String>>,
}

impl Way {
    /// To a gateway of this machine.
    pub fn here(address: SocketAddr) -> Way {
        Way {
            address,
            forward: None,
        }
    }

    /// Through ssh to the gateway that listens on `address` of the server, once it answers.
    pub async fn through(server: &Server, address: SocketAddr) -> Result<Way, Trouble> {
        let mut tries = 0;
        loop {
            tries += 1;
            match open(&link::ssh(server), address).await {
                Err(Closed::Ended(_)) if tries < TRIES => {}
                Err(Closed::Ended(said)) => {
                    return Err(unforwarded(server, format!("ssh ended; it says: {said}")));
                }
                Err(Closed::Silent) => {
                    let why = format!("nothing came back from {address} there");
                    return Err(unforwarded(server, why));
                }
                Ok(way) => return Ok(way),
            }
        }
    }

    /// Returns when the way is no more, and why; never, for one of this machine.
    pub async fn broken(&mut self) -> Trouble {
        let Some(forward) = &mut self.forward else {
            return std::future::pending().await;
        };
        let _ = forward.child.wait().await;
        let text = format!(
            "the link to {} broke, which the load went through",
            forward.server
        );
        let diagnostic = Diagnostic::error("rehearse::link", text)
            .note(format!("ssh says: {}", said(&forward.errors)))
            .note("requests that failed by that say nothing about the release")
            .help("see that the link holds, and rehearse again");
        Trouble {
            exit: 1,
            diagnostic,
        }
    }
}

enum Closed {
    /// ssh did, and what it said.
    Ended(String),
    /// Whatever is at the far end.
    Silent,
}

async fn open(ssh: &Ssh, there: SocketAddr) -> Result<Way, Closed> {
    let ended = |error: std::io::Error| Closed::Ended(error.to_string());
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(ended)?;
    let here = free.local_addr().map_err(ended)?;
    drop(free);
    let mut child = ssh.forward(here, there).spawn().map_err(ended)?;
    let errors = Arc::default();
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(keep(stderr, Arc::clone(&errors)));
    }
    let deadline = Instant::now() + COMES_UP;
    loop {
        if let Ok(stream) = TcpStream::connect(here).await {
            match answers(stream).await {
                true => break,
                false => return Err(Closed::Silent),
            }
        }
        if child.try_wait().is_ok_and(|end| end.is_some()) || Instant::now() > deadline {
            return Err(Closed::Ended(said(&errors)));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(Way {
        address: here,
        forward: Some(Forward {
            server: ssh.server.clone(),
            child,
            errors,
        }),
    })
}

/// Whether there is a gateway behind it: whatever it says, it says something.
async fn answers(mut stream: TcpStream) -> bool {
    let ask = async {
        let asked = b"HEAD / HTTP/1.1\r\nhost: rehearsal\r\nconnection: close\r\n\r\n";
        stream.write_all(asked).await?;
        stream.read(&mut [0; 16]).await
    };
    matches!(timeout(ANSWERS, ask).await, Ok(Ok(1..)))
}

async fn keep(mut stderr: ChildStderr, errors: Arc<Mutex<String>>) {
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut piece).await {
        let mut kept = errors.lock().unwrap_or_else(PoisonError::into_inner);
        // It may say the same of every connection.
        if kept.len() < 4096 {
            kept.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    }
}

fn said(errors: &Mutex<String>) -> String {
    let kept = errors.lock().unwrap_or_else(PoisonError::into_inner);
    match kept.trim() {
        "" => "nothing".to_owned(),
        text => text.to_owned(),
    }
}

fn unforwarded(server: &Server, why: String) -> Trouble {
    let text = format!("the load does not get to the gateway on {server}: {why}");
    let diagnostic = Diagnostic::error("rehearse::no-way-for-load", text)
        .note("the gateway of a rehearsal listens on the server's loopback, and the load goes there through ssh")
        .help("sshd has to allow that: `AllowTcpForwarding local` or `yes` in its configuration");
    Trouble {
        exit: 1,
        diagnostic,
    }
}
