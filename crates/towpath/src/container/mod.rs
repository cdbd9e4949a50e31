//! Containers, by the command of an engine: `docker`, else `podman`, on this machine.
//!
//! A container is an instance like any other. Its shim runs a small program of ours ([`run`]), which
//! makes the container, keeps the engine's client attached to it, so that its output is the
//! instance's log, and ends with the container's own exit code. What becomes of the processes:
//!
//! - **The agent is killed:** nothing happens; the next one talks to the shim.
//! - **The client is killed:** another one is attached; lines in between are lost, and that is said.
//! - **Our program is killed:** the shim starts it again, and it goes on with the container, known by
//!   its label, if that is what it would make itself.
//! - **The shim is killed:** the container's processes carry the mark, as those of every instance, and
//!   are swept; what is left of the container is removed by its label before a new one is made.
//! - **The engine is killed:** the container serves on as long as it lives. The engine is waited for,
//!   and is the one to say how the container ended.
//!
//! The engine's client reads its own environment, as whoever the agent is. So a service's variables
//! never get there: they go to the client as a file that is a pipe, not on a disk and in no argv.

mod engine;
mod image;
mod run;
mod running;
mod spec;

pub use engine::{Engine, Error, client_environment, remove_marked};
pub use image::Found;
pub use run::run;
pub use running::Running;
pub use spec::{Published, Spec, command};

use crate::diagnostic::Diagnostic;

/// The signal by which a shim tells our program to end: it is nobody else's, so that the client,
/// which gets it too, does nothing (SIGURG).
pub const TOLD: i32 = 23;

/// There is no engine that could be asked: what to do about it.
#[must_use]
pub fn missing(error: &Error) -> Diagnostic {
    let diagnostic = Diagnostic::error("container::no-engine", error.to_string());
    diagnostic.help(match error {
        Error::None => "on Debian, as root: `apt-get install -y docker.io`, or `podman`",
        Error::Elsewhere(_) => "take DOCKER_HOST out of the environment, or let it name a socket",
        _ => "see that it runs, `systemctl start docker`, and that this user may use it",
    })
}
