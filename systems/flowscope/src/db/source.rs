//! Which database, as `DATABASE_URL` says it.

use std::fmt;
use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::postgres::{self, Session};
use super::sqlite::File;
use super::{Conn, DbError};

/// A database that can be connected to.
#[derive(Clone)]
pub enum Source {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(Box<Config>),
}

/// Why a URL names no database. The URL itself is not repeated: it may have a password in it.
#[derive(Debug, PartialEq, Eq)]
pub enum SourceError {
    /// No scheme that we know.
    Scheme,
    /// The URL of a server that cannot be understood, and why.
    Server(String),
    /// It asks for TLS.
    Tls,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => f.write_str(
                "it must be `sqlite:///abs/path.db`, `sqlite:rel.db` or `postgres://user@host/database`",
            ),
            Self::Server(error) => write!(f, "not a URL of PostgreSQL: {error}"),
            Self::Tls => f.write_str("`sslmode=require` is asked for, and TLS is not supported"),
        }
    }
}

impl Source {
    /// Understands a URL.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn parse(url: &str) -> Result<Self, SourceError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return server(url);
        }
        url.strip_prefix("sqlite://")
            .or_else(|| url.strip_prefix("sqlite:"))
            .filter(|path| !path.is_empty())
            .map(|path| Self::Sqlite(PathBuf::from(path)))
            .ok_or(SourceError::Scheme)
    }

    /// Connects.
    ///
    /// # Errors
    /// `Unavailable`, mostly.
    pub(super) fn connect(&self) -> Result<Conn, DbError> {
        match self {
            Self::Sqlite(path) => File::open(path).map(Conn::new),
            Self::Postgres(config) => Session::connect(config).map(Conn::new),
        }
    }
}

/// Where it is, for people.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(config) => f.write_str(&postgres::place(config)),
        }
    }
}

fn server(url: &str) -> Result<Source, SourceError> {
    let config: Config = url
        .parse()
        .map_err(|error| SourceError::Server(postgres::text(&error)))?;
    if config.get_hosts().is_empty() {
        return Err(SourceError::Server("it names no host".to_owned()));
    }
    // Better not to start than to go on in the clear.
    if config.get_ssl_mode() == SslMode::Require {
        return Err(SourceError::Tls);
    }
    Ok(Source::Postgres(Box::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(url: &str) -> Option<PathBuf> {
        match Source::parse(url) {
            Ok(Source::Sqlite(path)) => Some(path),
            _ => None,
        }
    }

    fn fault(url: &str) -> Option<SourceError> {
        Source::parse(url).err()
    }

    #[test]
    fn both_forms_of_a_file_give_the_path() {
        assert_eq!(file("sqlite:///srv/a.db"), Some("/srv/a.db".into()));
        assert_eq!(file("sqlite:a.db"), Some("a.db".into()));
        assert_eq!(fault("sqlite:"), Some(SourceError::Scheme));
        assert_eq!(fault("mysql://a:b@c/d"), Some(SourceError::Scheme));
    }

    #[test]
    fn a_server_is_named_without_its_password() {
        for url in [
            "postgres://me:secret@db:5433/a",
            "postgresql://me:secret@db:5433/a",
        ] {
            let name = Source::parse(url).map(|source| source.to_string());
            assert_eq!(name.as_deref(), Ok("PostgreSQL at db:5433"));
        }
        let socket = Source::parse("postgres://me@%2Frun%2Fpg/a").map(|source| source.to_string());
        assert_eq!(socket.as_deref(), Ok("PostgreSQL in /run/pg"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_the_password() {
        for url in [
            "postgres://me:secret@h:port/a",
            "postgres://me:secret@h/a?secret=1",
            "postgres:///a",
        ] {
            let fault = fault(url)
                .map(|fault| fault.to_string())
                .unwrap_or_default();
            assert!(
                fault.starts_with("not a URL of PostgreSQL"),
                "{url}: {fault}"
            );
            assert!(!fault.contains("me:secret"), "{fault}");
        }
        assert_eq!(
            fault("postgres://h/a?sslmode=require"),
            Some(SourceError::Tls)
        );
    }
}
