//! Which PostgreSQL this machine has.

use std::path::{Path, PathBuf};

use super::super::{is_program, path_folders, version_of};

/// Looked at before all other places, and then alone: a folder of programs.
pub const PLACE: &str = "TOWPATH_POSTGRES";

/// The programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// Their folder.
    pub folder: PathBuf,
    /// The major version.
    pub major: u32,
    /// The version as they say it.
    pub version: String,
}

/// The programs of every version that is installed, the newest first. Blocking.
#[must_use]
pub fn installed() -> Vec<Binaries> {
    let mut found: Vec<Binaries> = Vec::new();
    for folder in places() {
        // A server needs both; a client alone has neither.
        let is_whole = is_program(&folder.join("postgres")) && is_program(&folder.join("initdb"));
        if !is_whole {
            continue;
        }
        if let Some((major, version)) = version_of(&folder.join("postgres"))
            && !found.iter().any(|other| other.major == major)
        {
            found.push(Binaries {
                folder,
                major,
                version,
            });
        }
    }
    found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
    found
}

/// The programs of that major version, or the newest. Blocking.
#[must_use]
pub fn find(major: Option<u32>) -> Option<Binaries> {
    installed()
        .into_iter()
        .find(|binaries| major.is_none_or(|major| major == binaries.major))
}

/// A client's program, of that version where there is one: a dump is refused by one that is older than the server.
#[must_use]
pub fn client(name: &str, at_least: u32) -> Option<PathBuf> {
    let of_server = installed()
        .into_iter()
        .map(|binaries| (binaries.major, binaries.folder.join(name)));
    let mut found: Vec<(u32, PathBuf)> = of_server
        .chain(places().into_iter().filter_map(|folder| {
            let program = folder.join(name);
            is_program(&program).then(|| Some((version_of(&program)?.0, program)))?
        }))
        .filter(|(major, program)| *major >= at_least && is_program(program))
        .collect();
    // The nearest: a newer one may write what an older server's tools do not read.
    found.sort();
    found.into_iter().next().map(|(_, program)| program)
}

fn places() -> Vec<PathBuf> {
    if let Some(place) = std::env::var_os(PLACE) {
        return vec![PathBuf::from(place)];
    }
    let debian = std::fs::read_dir("/usr/lib/postgresql");
    let debian = debian.into_iter().flatten().flatten();
    let mut places = path_folders();
    places.extend(debian.map(|entry| entry.path().join("bin")));
    places.push(Path::new("/usr/local/pgsql/bin").to_owned());
    places
}
