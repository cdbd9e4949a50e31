//! What is kept of a resource that Towpath runs, for as long as its data: port, names, passwords. One file a resource,
//! readable for the agent alone; the only place that the passwords are in, beside the environments of who needs them.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::id::hex;
use crate::state::Beside;

/// A password. What is shown of it is that there is one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// One that nobody guesses: 192 bits, as digits that need no quoting anywhere.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> std::io::Result<Password> {
        let mut bytes = [0u8; 24];
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        Ok(Password(hex(&bytes)))
    }

    /// The password itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Postgres => "PostgreSQL",
            Engine::Redis => "Redis",
        })
    }
}

/// What is kept of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What it is.
    pub engine: Engine,
    /// Its major version.
    pub version: u32,
    /// Its port on loopback.
    pub port: u16,
    /// The application's role, and its database.
    pub name: String,
    /// Who connects as the application, once its password has been rotated; the role itself before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The password of who connects.
    pub password: Password,
    /// Who connected before, until that is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Login>,
    /// Whether the rotation under way goes back: who connects now had connected before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
    /// When the password was made, Unix time in seconds; 0 where that is not known.
    #[serde(default)]
    pub set: i64,
    /// The password of the server's own administrator, where it has one.
    pub admin: Password,
    /// Whom it runs as, when that is not the agent's user: user and group have this number.
    pub uid: Option<u32>,
    /// The folder of its data.
    pub home: PathBuf,
}

/// A user, and the password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: Password,
}

impl Kept {
    /// Who connects as the application.
    #[must_use]
    pub fn user(&self) -> &str {
        self.login.as_deref().unwrap_or(&self.name)
    }

    /// The other of the two users that connect in turn.
    #[must_use]
    pub fn other(&self) -> String {
        let stem: String = self.name.chars().take(61).collect();
        let first = format!("{stem}_a");
        match self.user() == first {
            true => format!("{stem}_b"),
            false => first,
        }
    }
}

/// The folder of what is kept.
#[must_use]
pub fn folder(state: &Path) -> PathBuf {
    state.join("resources")
}

/// The file of one resource.
#[must_use]
pub fn path(state: &Path, name: &str) -> PathBuf {
    folder(state).join(format!("{name}.json"))
}

/// What is kept of a resource; `None` when it was never provided.
///
/// # Errors
/// When the file cannot be read or understood.
pub fn read(state: &Path, name: &str) -> std::io::Result<Option<Kept>> {
    match std::fs::read(path(state, name)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Everything that is kept in this state, by name; what cannot be read is left out.
#[must_use]
pub fn all(state: &Path) -> Vec<(String, Kept)> {
    let entries = std::fs::read_dir(folder(state));
    let names = entries.into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name();
        Some(name.to_str()?.strip_suffix(".json")?.to_owned())
    });
    names
        .filter_map(|name| Some((name.clone(), read(state, &name).ok()??)))
        .collect()
}

/// Keeps it, whole or not at all.
///
/// # Errors
/// From the file system.
pub fn write(state: &Path, name: &str, kept: &Kept) -> std::io::Result<()> {
    write_private(&path(state, name), &serde_json::to_vec_pretty(kept)?, 0o600)
}

/// Writes a file whole with this mode, which it has from the beginning.
///
/// # Errors
/// From the file system; the old content stands then.
pub fn write_private(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    Beside::of(path, Some(mode))?.write(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let password = Password::random().unwrap();
        assert_eq!(password.reveal().len(), 48);
        assert!(!format!("{password:?}").contains(password.reveal()));
        assert_ne!(password, Password::random().unwrap());
    }
}
