//! A connection of a test's own, past the service.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A connection to a database of either kind.
pub enum Connection {
    File(rusqlite::Connection),
    Served(Runtime, Client),
}

impl Connection {
    pub fn file(path: &Path) -> Self {
        let conn = rusqlite::Connection::open(path).unwrap();
        conn.busy_timeout(Duration::from_secs(60)).unwrap();
        Self::File(conn)
    }

    /// `None` if there is no server, or none that answers.
    pub fn served(url: &str) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let connecting = async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
            tokio::spawn(connection);
            Some(client)
        };
        let client = runtime.block_on(connecting)?;
        Some(Self::Served(runtime, client))
    }

    /// Carries out statements.
    pub fn run(&mut self, sql: &str) {
        self.try_run(sql).unwrap();
    }

    pub fn try_run(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Self::File(conn) => conn.execute_batch(sql).map_err(|error| error.to_string()),
            Self::Served(runtime, client) => runtime
                .block_on(client.batch_execute(sql))
                .map_err(|error| format!("{error:?}")),
        }
    }

    /// The first column of the answer.
    pub fn texts(&mut self, sql: &str) -> Vec<String> {
        match self {
            Self::File(conn) => {
                let mut query = conn.prepare(sql).unwrap();
                let rows = query.query_map([], |row| Ok(text(row.get_ref(0)?)));
                rows.unwrap().map(Result::unwrap).collect()
            }
            Self::Served(runtime, client) => {
                let answer = runtime.block_on(client.simple_query(sql)).unwrap();
                let rows = answer.iter().filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                });
                rows.collect()
            }
        }
    }

    /// Begins a transaction, and keeps everyone else from writing.
    pub fn hold(&mut self) {
        self.run(match self {
            Self::File(_) => "BEGIN IMMEDIATE",
            // The lock that the service takes.
            Self::Served(..) => "BEGIN; SELECT pg_advisory_xact_lock(x'666c6f7773636f70'::bigint)",
        });
    }
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Integer(number) => number.to_string(),
        other => other.as_str().unwrap().to_owned(),
    }
}
