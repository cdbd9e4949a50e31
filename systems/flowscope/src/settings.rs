//! Settings, all from the environment.

use std::fmt;
use std::net::{AddrParseError, IpAddr, SocketAddr};
use std::num::ParseIntError;

use crate::db::{Source, SourceError};

/// How this process is to run.
pub struct Settings {
    /// The database.
    pub database: Source,
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
    /// `DATABASE_URL` names no database.
    Database(SourceError),
    /// `HOST` is not an IP address.
    Host(AddrParseError),
    /// `PORT` is not a port.
    Port(ParseIntError),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDatabase => f.write_str("`DATABASE_URL` is not set; try `sqlite:flowscope.db`"),
            Self::Database(error) => write!(f, "`DATABASE_URL`: {error}"),
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
        let host = variable("HOST").unwrap_or_else(|| "127.0.0.1".to_owned());
        let port = variable("PORT").unwrap_or_else(|| "8080".to_owned());
        let host: IpAddr = host.parse().map_err(SettingsError::Host)?;
        let port: u16 = port.parse().map_err(SettingsError::Port)?;
        Ok(Self {
            database: database()?,
            listen: SocketAddr::new(host, port),
            first_user: variable("FLOWSCOPE_USER").zip(variable("FLOWSCOPE_PASSWORD")),
        })
    }
}

/// The database that the environment names.
///
/// # Errors
/// It names none, or none that can be understood.
pub fn database() -> Result<Source, SettingsError> {
    let url = variable("DATABASE_URL").ok_or(SettingsError::NoDatabase)?;
    Source::parse(&url).map_err(SettingsError::Database)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
