//! PostgreSQL: a session, over a socket that may break at any moment.
//!
//! The threads of [`super::Db`] wait for their database, so each session has a small runtime of its own that is driven
//! only while a statement is under way. Every wait has an end: the server is told to give up first, and if it does not
//! answer even then, the session counts as broken. Nothing is ever sent over a broken session, a COMMIT least of all.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error as _;
use std::time::Duration;

use bytes::BytesMut;
use tokio::runtime::Runtime;
use tokio_postgres::config::Host;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::conn::{Dialect, Engine};
use super::{DbError, Row, Value};

/// How long the server may take to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long we wait for an answer; the server gives up earlier, see [`SETUP`].
const PATIENCE: Duration = Duration::from_secs(12);
/// How long sent data may stay unacknowledged, and an idle connection unprobed.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);

/// How a session begins. Whatever the server's default, an acknowledged commit is on disk; and an instance that is gone
/// without a word does not keep its transaction, and with it the lock, for ever.
const SETUP: &str = "
    SET lock_timeout = '9s';
    SET statement_timeout = '10s';
    SET idle_in_transaction_session_timeout = '10s';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// Begins a transaction that writes. The lock puts the writes of all instances in one order, as SQLite does of itself:
/// positions and times of arrival then become visible in their order, which live updates and roll-ups rely on. Under it
/// READ COMMITTED is right, and nothing stricter: each statement has to see what the holders before us committed, and a
/// snapshot of the whole transaction would be as old as the beginning of the wait for the lock.
///
/// The number is the first eight letters of the name, so that nobody else's lock is met by chance.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(x'666c6f7773636f70'::bigint)";

/// Ends a transaction that writes. Of one that has failed, the server would take COMMIT for ROLLBACK and call it a success;
/// a statement before it fails there, and COMMIT is not reached.
const COMMIT: &str = "SELECT 1; COMMIT";

/// A session.
pub struct Session {
    runtime: Runtime,
    client: Client,
    place: String,
    statements: RefCell<HashMap<String, Statement>>,
    broken: Cell<bool>,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// `Unavailable`, with the place and the reason.
    pub fn connect(config: &Config) -> Result<Self, DbError> {
        let place = place(config);
        let unavailable = |text: String| DbError::Unavailable(format!("{place}: {text}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unavailable(error.to_string()))?;
        let connecting = async {
            let (client, connection) = bounded(config).connect(NoTls).await?;
            // Its end shows in every later use of the client.
            tokio::spawn(connection);
            client.batch_execute(SETUP).await?;
            Ok(client)
        };
        let connected = runtime
            .block_on(async { tokio::time::timeout(CONNECT_TIMEOUT, connecting).await })
            .map_err(|_| unavailable(format!("no connection within {CONNECT_TIMEOUT:?}")))?;
        let client = connected.map_err(|error| unavailable(text(&error)))?;
        Ok(Self {
            runtime,
            client,
            place,
            statements: RefCell::default(),
            broken: Cell::new(false),
        })
    }

    /// Waits for an answer, but not for ever.
    fn wait<T>(
        &self,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, DbError> {
        if self.is_broken() {
            return Err(self.unavailable("the connection is broken"));
        }
        let answered = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, asked).await });
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.fault(&error)),
            Err(_) => {
                self.broken.set(true);
                Err(self.unavailable(&format!("no answer within {PATIENCE:?}")))
            }
        }
    }

    /// Statements that end in a transaction or outside of one; if they fail, outside.
    fn batch(&self, sql: &str) -> Result<(), DbError> {
        let done = self.wait(self.client.batch_execute(sql));
        if done.is_err() && self.wait(self.client.batch_execute("ROLLBACK")).is_err() {
            self.broken.set(true);
        }
        done
    }

    fn prepared(&self, sql: &str) -> Result<Statement, DbError> {
        if let Some(known) = self.statements.borrow().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.wait(self.client.prepare(&sql.replace('?', "$")))?;
        let mut statements = self.statements.borrow_mut();
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn unavailable(&self, text: &str) -> DbError {
        DbError::Unavailable(format!("{}: {text}", self.place))
    }

    fn fault(&self, error: &tokio_postgres::Error) -> DbError {
        let said = error.as_db_error();
        let fatal = said.is_none_or(|said| {
            matches!(
                said.parsed_severity(),
                Some(Severity::Fatal | Severity::Panic)
            )
        });
        if fatal || self.client.is_closed() {
            self.broken.set(true);
        }
        match said.map(|said| said.code()) {
            Some(code) if !fatal && waited_in_vain(code) => DbError::Busy(text(error)),
            Some(code) if !fatal && !overwhelmed(code) => DbError::Failed(text(error)),
            _ => self.unavailable(&text(error)),
        }
    }
}

impl Engine for Session {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn begin(&self) -> Result<(), DbError> {
        self.batch(BEGIN)
    }

    fn commit(&self) -> Result<(), DbError> {
        self.batch(COMMIT)
    }

    fn query(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, DbError> {
        let statement = self.prepared(sql)?;
        let values: Vec<_> = values.iter().map(|value| value as _).collect();
        let rows = self.wait(self.client.query::<_>(&statement, &values))?;
        rows.iter().map(row).collect()
    }

    fn execute(&self, sql: &str, values: &[Value]) -> Result<u64, DbError> {
        let statement = self.prepared(sql)?;
        let values: Vec<_> = values.iter().map(|value| value as _).collect();
        self.wait(self.client.execute(&statement, &values))
    }

    fn has_table(&self, name: &str) -> Result<bool, DbError> {
        let rows = self.query(
            "SELECT 1::bigint WHERE to_regclass(?1) IS NOT NULL",
            &[name.into()],
        )?;
        Ok(!rows.is_empty())
    }

    /// Instances may be on several machines, so it is the server's clock.
    fn now_ms(&self) -> Result<i64, DbError> {
        let sql = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let mut rows = self.query(sql, &[])?.into_iter();
        rows.next().map_or(Ok(0), |mut row| row.take())
    }

    fn is_broken(&self) -> bool {
        self.broken.get() || self.client.is_closed()
    }
}

/// Where the server is; without user and password, which nobody needs to read.
pub(super) fn place(config: &Config) -> String {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => format!("PostgreSQL at {host}:{port}"),
        Some(Host::Unix(folder)) => format!("PostgreSQL in {}", folder.display()),
        None => format!("PostgreSQL at port {port}"),
    }
}

/// The same, with an end to every wait of the socket's.
fn bounded(config: &Config) -> Config {
    let mut config = config.clone();
    config
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(TCP_TIMEOUT)
        .keepalives_idle(TCP_TIMEOUT)
        .application_name("flowscope");
    config
}

/// Another session was in the way for too long.
fn waited_in_vain(code: &SqlState) -> bool {
    [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ]
    .contains(code)
}

/// The server cannot do what it could otherwise: no memory, no disk, read-only after a fail-over, a fault of its own.
fn overwhelmed(code: &SqlState) -> bool {
    ["08", "25006", "53", "57", "58", "XX"]
        .iter()
        .any(|class| code.code().starts_with(class))
}

/// What went wrong, with all that is known of why: an error of the driver keeps the reason for its sources.
pub(super) fn text(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        text += &format!(": {reason}");
        source = reason.source();
    }
    text
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => value.to_sql_checked(kind, out),
            Self::Real(value) => value.to_sql_checked(kind, out),
            Self::Text(value) => value.to_sql_checked(kind, out),
            Self::Blob(value) => value.to_sql_checked(kind, out),
        }
    }

    /// Looked at again when the value is known.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn row(found: &tokio_postgres::Row) -> Result<Row, DbError> {
    let columns = (0..found.len()).map(|column| value(found, column));
    Ok(Row::new(columns.collect::<Result<_, _>>()?))
}

fn value(found: &tokio_postgres::Row, column: usize) -> Result<Value, DbError> {
    let kind = found.columns()[column].type_();
    let value = match *kind {
        Type::INT8 => found.try_get::<_, Option<i64>>(column).map(Value::from),
        Type::FLOAT8 => found.try_get::<_, Option<f64>>(column).map(Value::from),
        Type::TEXT => found.try_get::<_, Option<String>>(column).map(Value::from),
        Type::BYTEA => found.try_get::<_, Option<Vec<u8>>>(column).map(Value::from),
        _ => return Err(DbError::Failed(format!("a column is of type {kind}"))),
    };
    value.map_err(|error| DbError::Failed(text(&error)))
}
