//! Settings, all from the environment.

use std::fmt;
use std::net::{AddrParseError, IpAddr, SocketAddr};
use std::num::ParseIntError;
use std::path::PathBuf;

/// How this process is to run.
pub struct Settings {
    /// The SQLite file.
    pub database: PathBuf,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Name and password of the user created when there is none yet.
    pub first_user: Option<(String, String)>,
}

/// Why the environment cannot be used.
#[derive(Debug)]
pub enum SettingsError {
    /// `DATABASE_URL` is not given.
    NoDatabase,
    /// `DATABASE_URL` is not a SQLite URL.
    NotSqlite(String),
    /// `HOST` is not an IP address.
    Host(AddrParseError),
    /// `PORT` is not a port.
    Port(ParseIntError),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDatabase => f.write_str("`DATABASE_URL` is not set; try `sqlite:flowscope.db`"),
            Self::NotSqlite(url) => write!(
                f,
                "`DATABASE_URL` is `{url}`; it must be `sqlite:///abs/path.db` or `sqlite:rel.db`"
            ),
            Self::Host(error) => write!(f, "`HOST` is not an IP address: {error}"),
            Self::Port(error) => write!(f, "`PORT` is not a port: {error}"),
        }
    }
}

impl Settings {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// A variable that is missing or cannot be understood.
    pub fn from_env() -> Result<Self, SettingsError> {
        let url = variable("DATABASE_URL").ok_or(SettingsError::NoDatabase)?;
        let host = variable("HOST").unwrap_or_else(|| "127.0.0.1".to_owned());
        let port = variable("PORT").unwrap_or_else(|| "8080".to_owned());
        let host: IpAddr = host.parse().map_err(SettingsError::Host)?;
        let port: u16 = port.parse().map_err(SettingsError::Port)?;
        Ok(Self {
            database: sqlite_path(&url)?,
            listen: SocketAddr::new(host, port),
            first_user: variable("FLOWSCOPE_USER").zip(variable("FLOWSCOPE_PASSWORD")),
        })
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn sqlite_path(url: &str) -> Result<PathBuf, SettingsError> {
    let path = url
        .strip_prefix("sqlite://")
        .or_else(|| url.strip_prefix("sqlite:"))
        .filter(|path| !path.is_empty())
        .ok_or_else(|| SettingsError::NotSqlite(url.to_owned()))?;
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_url_give_the_path() {
        let path = |url| sqlite_path(url).ok();
        assert_eq!(path("sqlite:///srv/a.db"), Some(PathBuf::from("/srv/a.db")));
        assert_eq!(path("sqlite:a.db"), Some(PathBuf::from("a.db")));
        assert_eq!(path("postgres://h/a"), None);
        assert_eq!(path("sqlite:"), None);
    }
}
