//! A connection to whichever engine, for whoever asks it something.
//!
//! SQL is written once, with parameters `?1`, `?2`, ..., as SQLite has them. Where the engines differ beyond that, as in
//! full-text search, whoever asks looks at [`Conn::dialect`].

use super::{DbError, Row, Value};

/// Which SQL a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite's.
    Sqlite,
    /// PostgreSQL's.
    Postgres,
}

/// One connection; a database engine is one implementation.
pub trait Engine: Send {
    /// Which SQL it speaks.
    fn dialect(&self) -> Dialect;

    /// Begins a transaction that writes. Until it ends, no other process's does: the order of rows is the order of
    /// commits, over all instances.
    fn begin(&self) -> Result<(), DbError>;

    /// Ends the transaction: after `Ok` it is on disk, after an error none is open.
    fn commit(&self) -> Result<(), DbError>;

    /// Carries out a statement and gives the rows it answers with.
    fn query(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, DbError>;

    /// Carries out a statement and gives the number of rows it changed.
    fn execute(&self, sql: &str, values: &[Value]) -> Result<u64, DbError>;

    /// Whether there is a table of this name.
    fn has_table(&self, name: &str) -> Result<bool, DbError>;

    /// The time, milliseconds since 1970, on the clock that all instances on this database share.
    fn now_ms(&self) -> Result<i64, DbError>;

    /// Whether it can never answer again.
    fn is_broken(&self) -> bool;
}

/// One connection, to whichever engine.
pub struct Conn(Box<dyn Engine>);

impl Conn {
    /// Wraps an engine's connection.
    pub fn new(engine: impl Engine + 'static) -> Self {
        Self(Box::new(engine))
    }

    /// Which SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        self.0.dialect()
    }

    /// Carries out a statement and gives the number of rows it changed.
    ///
    /// # Errors
    /// The database's.
    pub fn execute(&self, sql: &str, values: &[Value]) -> Result<u64, DbError> {
        storable(values)?;
        self.0.execute(sql, values)
    }

    /// All rows of the answer, each made into what it stands for.
    ///
    /// # Errors
    /// The database's.
    pub fn query<T>(
        &self,
        sql: &str,
        values: &[Value],
        make: impl FnMut(Row) -> Result<T, DbError>,
    ) -> Result<Vec<T>, DbError> {
        storable(values)?;
        self.0.query(sql, values)?.into_iter().map(make).collect()
    }

    /// The first row of the answer, if there is one.
    ///
    /// # Errors
    /// The database's.
    pub fn first<T>(
        &self,
        sql: &str,
        values: &[Value],
        make: impl FnOnce(Row) -> Result<T, DbError>,
    ) -> Result<Option<T>, DbError> {
        storable(values)?;
        self.0
            .query(sql, values)?
            .into_iter()
            .next()
            .map(make)
            .transpose()
    }

    /// The only row of the answer.
    ///
    /// # Errors
    /// The database's; `Failed` if there is no row.
    pub fn one<T>(
        &self,
        sql: &str,
        values: &[Value],
        make: impl FnOnce(Row) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        self.first(sql, values, make)?
            .ok_or_else(|| DbError::Failed("an answer has no row".to_owned()))
    }

    /// Whether there is a table of this name.
    ///
    /// # Errors
    /// The database's.
    pub fn has_table(&self, name: &str) -> Result<bool, DbError> {
        self.0.has_table(name)
    }

    /// The time, milliseconds since 1970, on the clock that all instances on this database share.
    ///
    /// # Errors
    /// The database's.
    pub fn now_ms(&self) -> Result<i64, DbError> {
        self.0.now_ms()
    }

    /// Whether it can never answer again.
    pub(super) fn is_broken(&self) -> bool {
        self.0.is_broken()
    }

    /// Begins a transaction that writes.
    pub(super) fn begin(&self) -> Result<(), DbError> {
        self.0.begin()
    }

    /// Does `work`, and undoes what it did if it fails.
    pub(super) fn in_savepoint<T>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        self.execute("SAVEPOINT piece", &[])?;
        let outcome = work(self);
        if outcome.is_err() {
            self.execute("ROLLBACK TO piece", &[])?;
        }
        self.execute("RELEASE piece", &[])?;
        outcome
    }

    /// Ends the transaction: after `Ok` it is on disk, after an error none is open.
    pub(super) fn commit(&self) -> Result<(), DbError> {
        self.0.commit()
    }
}

/// PostgreSQL cannot store U+0000, so neither engine is given one.
fn storable(values: &[Value]) -> Result<(), DbError> {
    let null = |value: &Value| matches!(value, Value::Text(text) if text.contains('\0'));
    if values.iter().any(null) {
        return Err(DbError::Invalid("text must not contain U+0000".to_owned()));
    }
    Ok(())
}
