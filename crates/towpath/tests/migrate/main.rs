//! Migrations on real databases of both engines: what goes wrong leaves them as they were.
//!
//! PostgreSQL is started by the tests themselves, in a folder of theirs, from the installed programs; where there are
//! none, what is about it is left out and says so.
#![allow(clippy::unwrap_used)] // in the helpers of tests as in the tests themselves
#![allow(clippy::print_stderr)] // counts and what is left out

mod both;
mod database;
mod docs;
mod hostile;
mod only_postgres;
mod only_sqlite;
mod runners;
mod server;
mod snapshot;
mod tls;
