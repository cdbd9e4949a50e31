//! The shim: parent of every process that Towpath runs.
//!
//! One process, one thread, one poll loop. It is the subreaper of its tree, so every descendant,
//! however it forked, ends up as its child; it owns the listeners, the log and the exit status, and
//! ends only when no descendant is left. So whoever asked for it may die: the next one finds the
//! shim by its directory and goes on talking to it.
//!
//! The directory, all of it written by the shim but for the first:
//!
//! | file | |
//! | --- | --- |
//! | `spec.json` | what to run ([`protocol::Spec`]); secrets come on standard input ([`protocol::Handed`]) |
//! | `lock` | held as long as the shim lives; a second one refuses to start |
//! | `shim.json` | pid and start time ([`Identity`]) |
//! | `error` | why it did not come up, or could not write its end |
//! | `exit.json` | the end ([`protocol::Status`]), once nothing is left to run |
mod child;
pub mod client;
mod control;
mod file;
mod handed;
mod life;
mod log;
pub mod protocol;
mod restart;
mod signals;
mod start;
pub mod tree;

use std::path::Path;

pub use log::stamp;
pub use start::{Error, Identity};

/// Lives the whole life of a shim: returns when nothing is left to run.
///
/// Takes the process over: closes every descriptor from 3 on, points 0 to 2 at `/dev/null`, changes
/// session and signal mask. Call it first thing, on the only thread. An error is also written to
/// `error` in `dir`, except that the directory is another shim's: that one's files are left alone.
///
/// # Errors
/// When the shim could not come up (nothing was started then), or could not write `exit.json`.
pub fn run(dir: &Path) -> Result<(), Error> {
    let result = start::start(dir).and_then(|started| life::Shim::new(started)?.live());
    if let Err(error) = &result
        && !matches!(error, Error::Taken { .. })
    {
        // The error itself is returned; that it cannot be written down as well changes nothing.
        let _ = file::write_whole(&dir.join("error"), format!("{error}\n").as_bytes());
    }
    result
}
