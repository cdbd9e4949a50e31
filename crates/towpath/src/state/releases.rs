//! Releases, and the keys of the environments that they are accepted from.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Error, Store};
use crate::id::{Digest, ReleaseId};

/// A release as it is kept: its signed record, word for word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRelease {
    /// Its number in this environment.
    pub id: ReleaseId,
    /// Digest of the record's text: the same in every environment.
    pub digest: Digest,
    /// The record, JSON.
    pub record: String,
    /// Ed25519 signature of the record's text, hexadecimal.
    pub signature: String,
    /// Public key of the environment that built it, hexadecimal.
    pub key: String,
    /// When it was stored, Unix milliseconds.
    pub wall_ms: i64,
}

impl Store {
    /// Keeps a release; the same record keeps its number.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn add_release(
        &self,
        record: &str,
        signature: &str,
        key: &str,
    ) -> Result<StoredRelease, Error> {
        let digest = Digest::of(record.as_bytes());
        self.db().execute(
            "INSERT OR IGNORE INTO releases (digest, record, signature, key, wall) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![digest.to_string(), record, signature, key, self.clock.wall_ms()],
        )?;
        let stored = self
            .releases()?
            .into_iter()
            .find(|release| release.digest == digest);
        stored.ok_or_else(|| Error::Unreadable(format!("release {digest}")))
    }

    /// All releases, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn releases(&self) -> Result<Vec<StoredRelease>, Error> {
        let db = self.db();
        let mut query = db.prepare_cached(
            "SELECT id, digest, record, signature, key, wall FROM releases ORDER BY id",
        )?;
        let found = query.query_map((), |row| {
            let digest: String = row.get(1)?;
            Ok(StoredRelease {
                id: ReleaseId(row.get::<_, i64>(0)?.cast_unsigned()),
                digest: digest.parse().unwrap_or(Digest([0; 32])),
                record: row.get(2)?,
                signature: row.get(3)?,
                key: row.get(4)?,
                wall_ms: row.get(5)?,
            })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The release of that number.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn release(&self, id: ReleaseId) -> Result<Option<StoredRelease>, Error> {
        Ok(self
            .releases()?
            .into_iter()
            .find(|release| release.id == id))
    }

    /// The key that releases of `environment` must be signed with: the first that was seen is kept.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn trusted_key(&self, environment: &str, offered: &str) -> Result<String, Error> {
        let db = self.db();
        db.execute(
            "INSERT OR IGNORE INTO trusted VALUES (?1, ?2)",
            params![environment, offered],
        )?;
        drop(db);
        let key = self.known_key(environment)?;
        key.ok_or_else(|| Error::Unreadable(format!("key of {environment}")))
    }

    /// The key that releases built in `environment` have to be signed with, if one was seen.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn known_key(&self, environment: &str) -> Result<Option<String>, Error> {
        let key = self.db().query_row(
            "SELECT key FROM trusted WHERE environment = ?1",
            [environment],
            |row| row.get(0),
        );
        Ok(key.optional()?)
    }
}
