//! The application's role and database in a server of ours. Blocking.

use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};

use super::CONNECTS;
use super::cluster::ADMIN;
use crate::resource::kept::{Kept, Password};

/// Connects to a server of ours.
fn connect(
    kept: &Kept,
    user: &str,
    password: &Password,
    database: &str,
    purpose: &str,
) -> Result<Client, postgres::Error> {
    Config::new()
        .host("127.0.0.1")
        .port(kept.port)
        .user(user)
        .password(password.reveal())
        .dbname(database)
        .application_name(&format!("tow/{purpose}"))
        .connect_timeout(CONNECTS)
        .connect(NoTls)
}

/// As the server's administrator.
///
/// # Errors
/// When it cannot be reached, or refuses.
pub fn admin(kept: &Kept, database: &str, purpose: &str) -> Result<Client, postgres::Error> {
    connect(kept, ADMIN, &kept.admin, database, purpose)
}

/// As the application, which owns its database.
///
/// # Errors
/// When it cannot be reached, or refuses.
pub fn own(kept: &Kept, purpose: &str) -> Result<Client, postgres::Error> {
    connect(kept, &kept.name, &kept.password, &kept.name, purpose)
}

/// Makes the application's role and database where they are missing, and sees that it can use them. As often as one
/// likes.
///
/// # Errors
/// From the server.
pub fn provide(kept: &Kept) -> Result<(), postgres::Error> {
    let mut admin = admin(kept, "postgres", "provide")?;
    let name = quoted(&kept.name);
    let role = admin.query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&kept.name])?;
    // A statement that fails is logged: it holds what the server keeps of a password, and not the password.
    let verifier = postgres_protocol::password::scram_sha_256(kept.password.reveal().as_bytes());
    let limits = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS";
    if role.is_none() {
        admin.batch_execute(&format!(
            "CREATE ROLE {name} {limits} PASSWORD '{verifier}'"
        ))?;
    }
    let database = admin.query_opt(
        "SELECT 1 FROM pg_database WHERE datname = $1",
        &[&kept.name],
    )?;
    if database.is_none() {
        admin.batch_execute(&format!("CREATE DATABASE {name} OWNER {name}"))?;
    }
    admin.batch_execute(&format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"))?;
    let tried = own(kept, "provide");
    let refused = |error: &postgres::Error| error.code() == Some(&SqlState::INVALID_PASSWORD);
    let mut own = match tried {
        // The file of passwords was written anew.
        Err(error) if refused(&error) => {
            admin.batch_execute(&format!("ALTER ROLE {name} PASSWORD '{verifier}'"))?;
            own(kept, "provide")?
        }
        tried => tried?,
    };
    own.query_one("SELECT 1", &[]).map(drop)
}

/// Whether the server is only on its way up, or down.
#[must_use]
pub fn is_coming(error: &postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::CANNOT_CONNECT_NOW,
        None => true,
    }
}

/// A name as SQL has it.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
