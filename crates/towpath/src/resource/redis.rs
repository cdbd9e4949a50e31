//! A Redis server of ours: a cache, which forgets everything when it ends.

pub mod alive;

use std::path::{Path, PathBuf};

use super::kept::Kept;
use super::{Command, environment, is_program, path_folders, version_of};

/// Looked at before all other places, and then alone: a folder of programs.
pub const PLACE: &str = "TOWPATH_REDIS";

/// The program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its path.
    pub path: PathBuf,
    /// The major version.
    pub major: u32,
    /// The version as it says it.
    pub version: String,
}

/// The server's program, if this machine has it. Blocking.
#[must_use]
pub fn find() -> Option<Program> {
    let places = match std::env::var_os(PLACE) {
        Some(place) => vec![PathBuf::from(place)],
        None => {
            let mut places = path_folders();
            places.extend(["/usr/bin", "/usr/local/bin"].map(PathBuf::from));
            places
        }
    };
    let mut programs = places.into_iter().map(|place| place.join("redis-server"));
    let path = programs.find(|path| is_program(path))?;
    let (major, version) = redis_version(&path)?;
    Some(Program {
        path,
        major,
        version,
    })
}

/// `Redis server v=7.0.15 sha=...`
fn redis_version(path: &Path) -> Option<(u32, String)> {
    version_of(path)
}

/// Runs the server with the settings at `config`.
#[must_use]
pub fn run(program: &Program, kept: &Kept, config: &Path) -> Command {
    Command {
        argv: vec![
            program.path.display().to_string(),
            config.display().to_string(),
        ],
        env: environment(&kept.home),
        cwd: kept.home.clone(),
    }
}

/// The settings; they hold the password, so the file is the server's alone to read.
#[must_use]
pub fn settings(kept: &Kept) -> String {
    let home = kept.home.display().to_string();
    format!(
        "bind 127.0.0.1\nport {}\nprotected-mode yes\nunixsocket \"\"\ndaemonize no\nlogfile \"\"\n\
         requirepass {}\ndir \"{}\"\nsave \"\"\nappendonly no\n\
         set-proc-title no\nalways-show-logo no\n",
        kept.port,
        kept.password.reveal(),
        home.replace('\\', "\\\\").replace('"', "\\\"")
    )
}
