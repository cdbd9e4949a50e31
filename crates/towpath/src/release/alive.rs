//! Whether a resource of an environment answers, as its services would reach it.
//!
//! Everything that may block comes first ([`prepare`]): files, names that are looked up, what is kept of a server of
//! ours. The conversation itself ([`ask`]) is a future, and whoever drops it has nothing left open.

use std::path::Path;

use towpath_shim::protocol::User;

use super::database;
use super::resources::{self, folder};
use crate::config::{Resource, ResourceKind};
use crate::resource::{postgres, redis};

/// What a resource that answers has said beside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections of others, where it counts them.
    pub connections: Option<u64>,
}

/// A resource that is to be asked, or has been.
pub enum Asking {
    /// The file system has answered.
    Answered(Result<(), String>),
    /// A file that is not there, and need not have been made yet.
    NotMade,
    /// A PostgreSQL.
    Postgres(postgres::alive::Question),
    /// A Redis.
    Redis(redis::alive::Question),
}

/// All that may block. What is wrong is said without a password.
#[must_use]
pub fn prepare(state: &Path, name: &str, resource: &Resource, user: Option<User>) -> Asking {
    let prepared = match resource.kind {
        ResourceKind::Sqlite => Ok(sqlite(state, name, resource)),
        ResourceKind::Storage => Ok(Asking::Answered(folder::alive(state, name, user))),
        ResourceKind::Postgres => url(state, name, resource)
            .and_then(|url| postgres::alive::question(&url))
            .map(Asking::Postgres),
        ResourceKind::Redis => url(state, name, resource)
            .and_then(|url| redis::alive::question(&url))
            .map(Asking::Redis),
    };
    prepared.unwrap_or_else(|why| Asking::Answered(Err(why)))
}

fn url(state: &Path, name: &str, resource: &Resource) -> Result<String, String> {
    let attributes = resources::attributes(state, name, resource);
    let mut attributes = attributes.map_err(|why| why.message)?;
    Ok(attributes.remove("url").unwrap_or_default())
}

fn sqlite(state: &Path, name: &str, resource: &Resource) -> Asking {
    let place = database::place_in(state, name, resource);
    match place.alive() {
        Ok(()) => Asking::Answered(Ok(())),
        Err(Some(why)) => Asking::Answered(Err(why)),
        // Also one that we migrate: with no migration yet, nobody has made it.
        Err(None) => Asking::NotMade,
    }
}

/// The conversation. It does not end by itself where nobody answers.
///
/// # Errors
/// What came instead of an answer.
pub async fn ask(asking: Asking) -> Result<Seen, String> {
    match asking {
        Asking::Answered(answer) => answer.map(|()| Seen::default()),
        Asking::NotMade => Ok(Seen::default()),
        Asking::Postgres(question) => {
            let connections = postgres::alive::ask(question).await?;
            Ok(Seen { connections })
        }
        Asking::Redis(question) => redis::alive::ask(question).await.map(|()| Seen::default()),
    }
}
