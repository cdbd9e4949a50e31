//! The far side of a link: finding the agent of an environment on this machine, and saying who it
//! is, before a stream goes to and fro between it and whoever has dialled.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::UnixStream;

use super::{Client, ClientError, api, caller};
use crate::diagnostic::Diagnostic;
use crate::link::{PROTOCOL, Platform, Preface, Refused, Rehearsal};
use crate::supervise::Places;

/// An environment of this machine, as somebody asks for it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The application.
    pub app: String,
    /// The environment.
    pub environment: String,
    /// The key that asks, when it is one that may only deploy.
    pub key: Option<String>,
    /// The rehearsal that the environment is of, where it is not the real one.
    pub rehearsal: Option<Rehearsal>,
}

/// Connects to an agent's socket; as a key to one for keys.
pub(super) async fn open(socket: &Path, key: Option<&str>) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    if let Some(key) = key {
        stream.write_all(caller::greeting(key).as_bytes()).await?;
    }
    Ok(stream)
}

/// Why there is nobody to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The environment is not set up on this machine.
    Environment,
    /// It is, and its agent does not run.
    Agent {
        /// The state directory.
        state: PathBuf,
        /// Whether it is this user's, who may start an agent then.
        own: bool,
    },
    /// This user may not talk to its agent.
    Permission {
        /// The state directory.
        state: PathBuf,
    },
}

/// The first of the state directories `states` that is there.
///
/// # Errors
/// [`Absent::Environment`].
pub fn find(states: &[PathBuf]) -> Result<PathBuf, Absent> {
    let found = states.iter().find(|state| state.is_dir());
    found.cloned().ok_or(Absent::Environment)
}

/// Connects to the agent of the state directory `state`, as `key` where one asks.
///
/// # Errors
/// [`Absent`].
pub async fn connect(state: &Path, key: Option<&str>) -> Result<(UnixStream, api::Hello), Absent> {
    let own = rustix::process::geteuid().as_raw();
    let owner = std::fs::metadata(state).map_err(|_| Absent::Environment)?;
    let state = || state.to_owned();
    for runtime in Places::runtimes_of(&state(), owner.uid()) {
        let socket = runtime.join("agent.sock");
        let client = match key {
            Some(key) => Client::with_key(&socket, key),
            None => Client::new(socket.clone()),
        };
        let place = key.map_or(socket.clone(), |_| super::narrow(&socket));
        match open(&place, key).await {
            // The folder of sockets may be in a place where anybody can make one.
            Ok(stream) if !is_of(&stream, owner.uid()) => {}
            Ok(stream) => match client.get("/v1/hello").await {
                Ok(hello) => return Ok((stream, hello)),
                Err(ClientError::Broken(_)) if own != owner.uid() => {
                    return Err(Absent::Permission { state: state() });
                }
                Err(_) => {}
            },
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(Absent::Permission { state: state() });
            }
            Err(_) => {}
        }
    }
    Err(Absent::Agent {
        state: state(),
        own: own == owner.uid(),
    })
}

/// Whether who listens is that user, or root.
fn is_of(stream: &UnixStream, uid: u32) -> bool {
    let peer = stream.peer_cred().map(|peer| peer.uid());
    peer.is_ok_and(|peer| peer == uid || peer == 0)
}

/// The line for an agent that is there, with the state directory `state`.
#[must_use]
pub fn preface(wanted: &Wanted, hello: api::Hello, state: &Path, tow: PathBuf) -> Preface {
    Preface {
        protocol: hello.protocol,
        version: hello.version,
        platform: Platform::here(),
        app: wanted.app.clone(),
        environment: wanted.environment.clone(),
        tow,
        state: Some(state.to_owned()),
        trouble: None,
    }
}

/// The line for one that is not; `version` is this program's build.
#[must_use]
pub fn refusal(wanted: &Wanted, refused: Refused, version: &str, tow: PathBuf) -> Preface {
    let hello = api::Hello {
        version: version.to_owned(),
        protocol: PROTOCOL,
    };
    Preface {
        state: None,
        trouble: Some(refused),
        ..preface(wanted, hello, Path::new(""), tow)
    }
}

/// Carries bytes both ways until one side ends: who dials never ends its half alone.
///
/// # Errors
/// From either side.
pub async fn bridge(
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
    stream: UnixStream,
) -> std::io::Result<()> {
    let (mut from, mut to) = stream.into_split();
    // `copy` flushes what it has written whenever there is nothing to read.
    tokio::select! {
        done = copy(&mut input, &mut to) => done.map(drop),
        done = copy(&mut from, &mut output) => done.map(drop),
    }
}

impl Absent {
    /// What the command that dialled prints.
    #[must_use]
    pub fn refused(&self, wanted: &Wanted) -> Refused {
        let Wanted {
            app, environment, ..
        } = wanted;
        let diagnostic = match self {
            Absent::Environment if wanted.rehearsal.is_some() => {
                let text = format!("the server has no rehearsal of {environment} any more");
                Diagnostic::error("link::no-rehearsal", text)
                    .note("its agent ends, and takes everything with it, when it hears nothing for a while")
                    .note("the environment itself was not touched")
                    .help("rehearse again")
            }
            Absent::Environment => {
                let text = format!("the server has no environment `{environment}` of `{app}`");
                Diagnostic::error("link::not-set-up", text)
                    .note("nothing was touched")
                    .help(format!("set it up: `tow setup -e {environment}`"))
            }
            Absent::Agent { state, .. } => {
                let text = format!("the agent of {environment} does not run on the server");
                Diagnostic::error("link::no-agent", text)
                    .note(format!("its state is in {}", state.display()))
                    .note("what it has started runs on without it")
                    .help(format!(
                        "`tow setup -e {environment}` starts it, and sees that it is started at boot"
                    ))
            }
            Absent::Permission { state } => {
                let text = format!("this user may not talk to the agent of {environment}");
                Diagnostic::error("link::not-permitted", text)
                    .note(format!("its state is in {}", state.display()))
                    .note("nothing was touched")
                    .help(format!(
                        "it is for members of the group `towpath`: `tow setup -e {environment}` \
                         makes this user one"
                    ))
            }
        };
        Refused {
            exit: 1,
            diagnostic,
        }
    }
}
