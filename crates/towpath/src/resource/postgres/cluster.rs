//! A PostgreSQL server of ours: how its data is made, what it is told, how it is run.

use std::path::{Path, PathBuf};

use super::binaries::Binaries;
use crate::resource::kept::Kept;
use crate::resource::{Command, environment};

/// The server's own administrator.
pub const ADMIN: &str = "tow";

/// The folder of the server's data.
#[must_use]
pub fn data(home: &Path) -> PathBuf {
    home.join("data")
}

/// The major version of data that is there.
#[must_use]
pub fn version_of_data(home: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data(home).join("PG_VERSION")).ok()?;
    text.trim().parse().ok()
}

/// Makes the data below `home`; the administrator's password is in the file `password`, which nobody else reads.
///
/// The locale is one that knows letters beyond ASCII, sorts the same on every machine, and is part of the C library.
#[must_use]
pub fn make(binaries: &Binaries, home: &Path, password: &Path) -> Command {
    let text = |path: PathBuf| path.display().to_string();
    let argv = vec![
        text(binaries.folder.join("initdb")),
        format!("--pgdata={}", text(data(home))),
        format!("--username={ADMIN}"),
        format!("--pwfile={}", password.display()),
        "--auth=scram-sha-256".to_owned(),
        "--encoding=UTF8".to_owned(),
        "--locale=C.UTF-8".to_owned(),
        "--data-checksums".to_owned(),
        "--no-instructions".to_owned(),
    ];
    Command {
        argv,
        env: environment(home),
        cwd: home.to_owned(),
    }
}

/// Runs the server on what is kept of it, with its configuration at `files`.
#[must_use]
pub fn run(binaries: &Binaries, kept: &Kept, files: &Files) -> Command {
    let argv = vec![
        binaries.folder.join("postgres").display().to_string(),
        "-D".to_owned(),
        data(&kept.home).display().to_string(),
        "-c".to_owned(),
        format!("config_file={}", files.config.display()),
    ];
    Command {
        argv,
        env: environment(&kept.home),
        cwd: kept.home.clone(),
    }
}

/// The files that a server is told everything by. They hold no secret and are not the server's to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Settings.
    pub config: PathBuf,
    /// Who may connect, and how.
    pub access: PathBuf,
}

impl Files {
    /// Those of the resource `name`, in the folder of what is kept.
    #[must_use]
    pub fn of(folder: &Path, name: &str) -> Files {
        Files {
            config: folder.join(format!("{name}.conf")),
            access: folder.join(format!("{name}.access")),
        }
    }
}

/// The settings.
///
/// Archiving is on, to nowhere: turning it on later would want a restart, while where to can be changed in a running
/// server. A second copy of everything on the very same disk would fill it and protect nothing.
#[must_use]
pub fn settings(kept: &Kept, files: &Files, title: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let path = |path: &Path| quoted(&path.display().to_string());
    let lines = [
        ("listen_addresses", quoted("127.0.0.1")),
        ("port", kept.port.to_string()),
        ("unix_socket_directories", quoted("")),
        ("max_connections", "100".to_owned()),
        ("hba_file", path(&files.access)),
        ("cluster_name", quoted(title)),
        ("shared_buffers", quoted("64MB")),
        ("max_wal_size", quoted("512MB")),
        ("min_wal_size", quoted("32MB")),
        ("fsync", "on".to_owned()),
        ("full_page_writes", "on".to_owned()),
        ("wal_level", "logical".to_owned()),
        ("archive_mode", "on".to_owned()),
        ("archive_command", quoted("true")),
        ("max_replication_slots", "4".to_owned()),
        ("max_wal_senders", "4".to_owned()),
        ("max_slot_wal_keep_size", quoted("1GB")),
        ("password_encryption", quoted("scram-sha-256")),
        ("logging_collector", "off".to_owned()),
        ("log_destination", quoted("stderr")),
        ("log_line_prefix", quoted("[%p] %q%u@%d %a ")),
        ("log_checkpoints", "off".to_owned()),
        ("timezone", quoted("UTC")),
        ("log_timezone", quoted("UTC")),
        ("restart_after_crash", "on".to_owned()),
    ];
    let mut text =
        "# Written by Towpath at every start; what is changed here is lost.\n".to_owned();
    for (name, value) in lines {
        text.push_str(&format!("{name} = {value}\n"));
    }
    text
}

/// Who may connect: with a password, from this machine.
#[must_use]
pub fn access() -> String {
    "# Written by Towpath at every start; what is changed here is lost.\n\
     host all all 127.0.0.1/32 scram-sha-256\n\
     host replication tow 127.0.0.1/32 scram-sha-256\n"
        .to_owned()
}

/// The file by which a server keeps others from its data.
#[must_use]
pub fn lock(home: &Path) -> PathBuf {
    data(home).join("postmaster.pid")
}
