//! The `ssh` program, and how it is called.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::config::Server;

/// Where `tow` may be on a server: installed for all, or for one user.
const PROGRAMS: &str = "/usr/local/bin/tow \"$HOME/.local/bin/tow\"";

/// The exit code by which a server says that it has no `tow`.
pub(super) const NO_PROGRAM: i32 = 127;

/// What always goes with it. What a person has in their configuration for this host counts too, but
/// for what would get between: commands, terminals, forwarding.
const OPTIONS: [&str; 8] = [
    "RemoteCommand=none",
    "RequestTTY=no",
    "PermitLocalCommand=no",
    "LogLevel=ERROR",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "EscapeChar=none",
];

/// Not even what is asked for on the command line.
const FORWARDS_NOTHING: &str = "ClearAllForwardings=yes";

/// How ssh is called on this machine.
#[derive(Debug, Clone)]
pub struct Manner {
    /// The program: `ssh`, or what stands in for it.
    pub program: OsString,
    /// Whether somebody can be asked for a passphrase, or whether a host's key is right.
    pub interactive: bool,
    /// Folder for the sockets of shared connections; none are shared without.
    pub sockets: Option<PathBuf>,
}

impl Manner {
    /// `program`, sharing connections below the runtime folder `runtime`, which is made for this
    /// user alone; not sharing where that cannot be.
    #[must_use]
    pub fn new(program: OsString, interactive: bool, runtime: &Path) -> Manner {
        let folder = runtime.join("ssh");
        Manner {
            program,
            interactive,
            sockets: own_folder(&folder).then_some(folder),
        }
    }
}

/// Whether it is there, this user's, and closed to others: who could put a socket into it would
/// be ssh's other end.
fn own_folder(folder: &Path) -> bool {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    let found = made.and_then(|()| std::fs::symlink_metadata(folder));
    found.is_ok_and(|found| {
        found.is_dir()
            && found.uid() == rustix::process::geteuid().as_raw()
            && found.permissions().mode().trailing_zeros() >= 6
    })
}

/// A machine, and how it is called.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// The machine.
    pub server: Server,
    /// How ssh is called.
    pub manner: Manner,
}

/// An agent on another machine.
#[derive(Debug, Clone)]
pub struct Route {
    /// The machine.
    pub ssh: Ssh,
    /// The application.
    pub app: String,
    /// The environment.
    pub environment: String,
    /// The rehearsal that it is of, where it is not the real one.
    pub rehearsal: Option<Rehearsal>,
}

/// A rehearsal on a server: its environments have a folder of their own there, and agents that take
/// planted faults. Nothing of the real ones is reached that way.
#[derive(Debug, Clone)]
pub struct Rehearsal {
    /// Its name, which is the folder's.
    pub name: String,
    /// How long its agents outlive what they hear last; seconds.
    pub lasts: u64,
    /// Whether the folder is made where it is not there.
    pub begins: bool,
}

impl Ssh {
    /// ssh, about to run `remote` in the user's shell over there: one string, as ssh passes it on.
    /// Its standard streams are pipes; it is killed when it is dropped.
    #[must_use]
    pub fn command(&self, remote: &str) -> Command {
        let mut command = self.base();
        command.args(["-o", FORWARDS_NOTHING]);
        if let Some(sockets) = &self.manner.sockets {
            let mut path = OsString::from("ControlPath=");
            path.push(sockets.join("%C"));
            command.args(["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o"]);
            command.arg(path);
        }
        self.name(&mut command);
        command.arg(remote);
        command
    }

    /// ssh, about to listen on `here`, and to carry each connection to the address `there` as the
    /// server sees it. On a connection of its own: what else is said must not wait behind a load.
    #[must_use]
    pub fn forward(&self, here: SocketAddr, there: SocketAddr) -> Command {
        let mut command = self.base();
        command.args(["-o", "ControlMaster=no", "-o", "ControlPath=none"]);
        command.args(["-o", "ExitOnForwardFailure=yes", "-N", "-L"]);
        command.arg(format!("{here}:{there}"));
        self.name(&mut command);
        command.stdin(Stdio::null());
        command
    }

    fn base(&self) -> Command {
        let mut command = Command::new(&self.manner.program);
        for option in OPTIONS {
            command.args(["-o", option]);
        }
        if !self.manner.interactive {
            command.args(["-o", "BatchMode=yes"]);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn name(&self, command: &mut Command) {
        if let Some(port) = self.server.port {
            command.arg("-p").arg(port.to_string());
        }
        if let Some(user) = &self.server.user {
            command.arg("-l").arg(user);
        }
        command.arg("--").arg(&self.server.host);
    }
}

impl Route {
    /// What runs over there. Quoted so that every login shell passes it on to `sh` as it stands.
    pub(super) fn remote(&self) -> String {
        let more = self.rehearsal.as_ref().map(|rehearsal| {
            let Rehearsal {
                name,
                lasts,
                begins,
            } = rehearsal;
            let begins = if *begins { " --begins" } else { "" };
            format!(" --rehearsal {name} --lasts {lasts}{begins}")
        });
        remote(&self.app, &self.environment, &more.unwrap_or_default())
    }

    /// What runs over there for the key `name`, whatever it asks for.
    #[must_use]
    pub fn command_for_key(app: &str, environment: &str, name: &str) -> String {
        remote(app, environment, &format!(" --only deploy --key {name}"))
    }
}

/// `app` and `environment` are names, which no shell takes for anything else.
fn remote(app: &str, environment: &str, more: &str) -> String {
    format!(
        "sh -c 'for tow in {PROGRAMS}; do if test -x \"$tow\"; then exec \"$tow\" agent dial \
         --app {app} --environment {environment}{more}; fi; done; exit {NO_PROGRAM}'"
    )
}
