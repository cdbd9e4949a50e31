//! Resources: what services need and do not run themselves. Connections and places as data.

pub mod postgres;
pub mod sqlite;

/// An open connection to a database. Blocking.
pub enum Connection {
    /// To a SQLite file.
    Sqlite(rusqlite::Connection),
    /// To a PostgreSQL server.
    Postgres(::postgres::Client),
}
