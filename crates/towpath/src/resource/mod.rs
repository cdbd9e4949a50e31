//! Resources: what services need and do not run themselves. Connections, places, and the processes that make them, as
//! data: who runs those is `supervise`.

pub mod kept;
pub mod postgres;
pub mod reach;
pub mod redis;
pub mod sqlite;
pub mod url;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An open connection to a database. Blocking.
pub enum Connection {
    /// To a SQLite file.
    Sqlite(rusqlite::Connection),
    /// To a PostgreSQL server.
    Postgres(::postgres::Client),
}

/// What is to be run for a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; a secret is never among them.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its folder.
    pub cwd: PathBuf,
}

/// What programs of a resource have in their environment; nothing of the agent's own but where programs are.
fn environment(home: &Path) -> BTreeMap<String, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    let home = home.display().to_string();
    [
        ("PATH", path),
        ("HOME", home),
        ("LC_ALL", "C.UTF-8".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Folders of `PATH`.
fn path_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

/// Whether `path` is a file that may be run.
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The first number in what a program says of its version.
fn version_of(program: &Path) -> Option<(u32, String)> {
    let said = std::process::Command::new(program)
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let word = said
        .split([' ', '='])
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, word.trim().to_owned()))
}
