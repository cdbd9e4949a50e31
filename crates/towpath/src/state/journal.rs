//! The journal: one row an event, chained by hash, appended by compare-and-set.

use std::fmt;
use std::str::FromStr;

use rusqlite::{Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, Store};
use crate::clock::Mark;
use crate::id::{Digest, RunId};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The step is about to act; for a run, its plan.
    Intent,
    /// It has acted and holds.
    Ok,
    /// It could not.
    Failed,
    /// What it did is about to be undone.
    UndoIntent,
    /// What it did is undone.
    Undone,
    /// Neither done nor undone: a person is needed.
    Stuck,
    /// It could not, and is tried again.
    Waiting,
    /// Somebody asked for something: to cancel, or to try again.
    Signal,
    /// From here on there is no way back.
    Pivot,
}

const KINDS: [(Kind, &str); 9] = [
    (Kind::Intent, "intent"),
    (Kind::Ok, "ok"),
    (Kind::Failed, "failed"),
    (Kind::UndoIntent, "undo_intent"),
    (Kind::Undone, "undone"),
    (Kind::Stuck, "stuck"),
    (Kind::Waiting, "waiting"),
    (Kind::Signal, "signal"),
    (Kind::Pivot, "pivot"),
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS
            .iter()
            .find(|(kind, _)| kind == self)
            .map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Kind {
    type Err = Error;
    fn from_str(text: &str) -> Result<Kind, Error> {
        let found = KINDS
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(kind, _)| *kind);
        found.ok_or_else(|| Error::Unreadable(format!("journal kind `{text}`")))
    }
}

/// What a writer says; the store adds number, times and chain.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The run it belongs to.
    pub run: RunId,
    /// The step's name, unique in its run; `run` for the run itself.
    pub step: String,
    /// Counted from 1.
    pub attempt: u32,
    /// What happened.
    pub kind: Kind,
    /// On whose behalf.
    pub actor: String,
    /// Typed by the step and the kind.
    pub data: Value,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its number, without gaps, from 1.
    pub seq: i64,
    /// The run it belongs to.
    pub run: RunId,
    /// The step's name.
    pub step: String,
    /// Counted from 1.
    pub attempt: u32,
    /// What happened.
    pub kind: Kind,
    /// When, on both clocks; wall time never falls.
    pub at: Mark,
    /// On whose behalf.
    pub actor: String,
    /// Typed by the step and the kind.
    pub data: Value,
    /// Hash of the row before.
    pub prev: Digest,
    /// Hash of this row, `prev` included.
    pub hash: Digest,
}

impl Row {
    fn digest(&self) -> Digest {
        let Row {
            seq,
            run,
            step,
            attempt,
            kind,
            at,
            actor,
            data,
            prev,
            hash: _,
        } = self;
        let fields = serde_json::json!([
            seq, run, step, attempt, kind, at.wall_ms, at.boot_id, at.boot_ms, actor, data, prev
        ]);
        Digest::of(fields.to_string().as_bytes())
    }
}

impl Store {
    /// Appends one row. On a full disk the ballast is given up for it.
    ///
    /// # Errors
    /// [`Error::Superseded`] when another agent has opened the store since.
    pub fn append(&self, entry: &Entry) -> Result<Row, Error> {
        self.append_if(entry, &mut |_| Ok(()))
    }

    /// As [`Store::append`], but only a row that `admits` takes, asked within the transaction.
    ///
    /// # Errors
    /// [`Error::Refused`] with what it says against the row, which is not written then.
    pub fn append_if(
        &self,
        entry: &Entry,
        admits: &mut dyn FnMut(&Row) -> Result<(), String>,
    ) -> Result<Row, Error> {
        let appended = match self.try_append(entry, admits) {
            Err(Error::Database(error)) if is_full(&error) && self.drop_ballast() => {
                self.try_append(entry, admits)
            }
            other => other,
        }?;
        self.last.send_replace(appended.seq);
        Ok(appended)
    }

    fn try_append(
        &self,
        entry: &Entry,
        admits: &mut dyn FnMut(&Row) -> Result<(), String>,
    ) -> Result<Row, Error> {
        let mut db = self.db();
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let epoch: i64 = tx.query_row("SELECT epoch FROM lease", (), |row| row.get(0))?;
        if epoch != self.epoch {
            return Err(Error::Superseded {
                ours: self.epoch,
                now: epoch,
            });
        }
        let row = self.next_row(&tx, entry)?;
        admits(&row).map_err(Error::Refused)?;
        tx.execute(
            "INSERT INTO journal VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                row.seq,
                row.run.0.cast_signed(),
                row.step,
                row.attempt,
                row.kind.to_string(),
                row.at.wall_ms,
                row.at.boot_id,
                row.at.boot_ms,
                row.actor,
                row.data.to_string(),
                row.prev.0,
                row.hash.0
            ],
        )?;
        tx.commit()?;
        Ok(row)
    }

    fn next_row(&self, tx: &Transaction<'_>, entry: &Entry) -> Result<Row, Error> {
        let last = tx.query_row(
            "SELECT seq, wall, hash FROM journal ORDER BY seq DESC LIMIT 1",
            (),
            |row| Ok((row.get(0)?, row.get(1)?, Digest(row.get(2)?))),
        );
        let (seq, wall, prev): (i64, i64, Digest) = match last {
            Err(rusqlite::Error::QueryReturnedNoRows) => (0, 0, Digest([0; 32])),
            other => other?,
        };
        let at = Mark {
            wall_ms: self.clock.wall_ms().max(wall),
            boot_ms: self.clock.boot_ms(),
            boot_id: self.clock.boot_id().to_owned(),
        };
        let Entry {
            run,
            step,
            attempt,
            kind,
            actor,
            data,
        } = entry.clone();
        let mut row = Row {
            seq: seq + 1,
            run,
            step,
            attempt,
            kind,
            at,
            actor,
            data,
            prev,
            hash: prev,
        };
        row.hash = row.digest();
        Ok(row)
    }

    /// All rows after `seq`, in order.
    ///
    /// # Errors
    /// When the database cannot be read or holds a row that does not parse.
    pub fn rows(&self, after: i64) -> Result<Vec<Row>, Error> {
        let db = self.db();
        let query = format!("SELECT {COLUMNS} FROM journal WHERE seq > ?1 ORDER BY seq");
        let mut query = db.prepare_cached(&query)?;
        let mut found = query.query([after])?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            rows.push(read(row)?);
        }
        Ok(rows)
    }

    /// The first row of a run: its plan, and what it was asked with.
    ///
    /// # Errors
    /// As [`Store::rows`].
    pub fn first_of(&self, run: RunId) -> Result<Option<Row>, Error> {
        let db = self.db();
        let query = format!("SELECT {COLUMNS} FROM journal WHERE run = ?1 ORDER BY seq LIMIT 1");
        let mut query = db.prepare_cached(&query)?;
        let mut found = query.query([run.0.cast_signed()])?;
        found.next()?.map(read).transpose()
    }
}

const COLUMNS: &str = "seq, run, step, attempt, kind, wall, boot_id, mono, actor, data, prev, hash";

fn read(row: &rusqlite::Row<'_>) -> Result<Row, Error> {
    let data: String = row.get(9)?;
    Ok(Row {
        seq: row.get(0)?,
        run: RunId(row.get::<_, i64>(1)?.cast_unsigned()),
        step: row.get(2)?,
        attempt: row.get(3)?,
        kind: row.get::<_, String>(4)?.parse()?,
        at: Mark {
            wall_ms: row.get(5)?,
            boot_id: row.get(6)?,
            boot_ms: row.get(7)?,
        },
        actor: row.get(8)?,
        data: serde_json::from_str(&data).map_err(|error| Error::Unreadable(error.to_string()))?,
        prev: Digest(row.get(10)?),
        hash: Digest(row.get(11)?),
    })
}

/// Checks numbers and chain from the first row on.
///
/// # Errors
/// [`Error::Chain`] with the first row that does not fit.
pub(super) fn verify(rows: &[Row]) -> Result<(), Error> {
    let mut prev = Digest([0; 32]);
    for (row, seq) in rows.iter().zip(1..) {
        if row.seq != seq || row.prev != prev || row.hash != row.digest() {
            return Err(Error::Chain { seq });
        }
        prev = row.hash;
    }
    Ok(())
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}
