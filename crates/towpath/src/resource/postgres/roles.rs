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
    connect(kept, kept.user(), &kept.password, &kept.name, purpose)
}

const LIMITS: &str = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS";

fn exists(admin: &mut Client, role: &str) -> Result<bool, postgres::Error> {
    let found = admin.query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&role])?;
    Ok(found.is_some())
}

/// A user that acts as the application's role from the first statement of a session on, so that whatever it makes
/// belongs to that role, and not to one that goes.
fn make_user(
    admin: &mut Client,
    kept: &Kept,
    user: &str,
    password: &Password,
) -> Result<(), postgres::Error> {
    let what = match exists(admin, user)? {
        true => "ALTER",
        false => "CREATE",
    };
    let (owner, user) = (quoted(&kept.name), quoted(user));
    let verifier = verifier(password);
    admin.batch_execute(&format!(
        "{what} ROLE {user} LOGIN {LIMITS} PASSWORD '{verifier}'; \
         GRANT {owner} TO {user}; \
         ALTER ROLE {user} SET role TO {owner}"
    ))
}

/// Lets a second user in, who acts as the application's role, and sees that it does. As often as one likes.
///
/// # Errors
/// From the server; whoever could connect before still can.
pub fn let_in(kept: &Kept, user: &str, password: &Password) -> Result<bool, postgres::Error> {
    let mut admin = admin(kept, "postgres", "rotate")?;
    make_user(&mut admin, kept, user, password)?;
    let mut own = connect(kept, user, password, &kept.name, "rotate")?;
    let acts_as: String = own.query_one("SELECT current_user::text", &[])?.get(0);
    Ok(acts_as == kept.name)
}

/// What the server keeps of a password. A statement that fails is logged: it holds this, and not the password.
fn verifier(password: &Password) -> String {
    postgres_protocol::password::scram_sha_256(password.reveal().as_bytes())
}

fn open_again(admin: &mut Client, user: &str, password: &Password) -> Result<(), postgres::Error> {
    let (user, verifier) = (quoted(user), verifier(password));
    admin.batch_execute(&format!("ALTER ROLE {user} LOGIN PASSWORD '{verifier}'"))
}

/// Lets a user in that may have been shut out since. As often as one likes.
///
/// # Errors
/// From the server; whoever could connect before still can.
pub fn let_in_again(kept: &Kept, user: &str, password: &Password) -> Result<(), postgres::Error> {
    let mut admin = admin(kept, "postgres", "rotate")?;
    open_again(&mut admin, user, password)
}

/// Lets a user in no more; its password is gone.
///
/// # Errors
/// From the server.
pub fn shut_out(kept: &Kept, user: &str) -> Result<(), postgres::Error> {
    let mut admin = admin(kept, "postgres", "rotate")?;
    admin.batch_execute(&format!(
        "ALTER ROLE {} NOLOGIN PASSWORD NULL",
        quoted(user)
    ))
}

/// How many sessions a user has.
///
/// # Errors
/// From the server.
pub fn sessions(kept: &Kept, user: &str) -> Result<i64, postgres::Error> {
    let mut admin = admin(kept, "postgres", "rotate")?;
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
    Ok(admin.query_one(asked, &[&user])?.get(0))
}

/// Ends the sessions of a user where they stand: what a planted fault does, and nothing else.
///
/// # Errors
/// From the server.
pub fn end_sessions(kept: &Kept, user: &str) -> Result<(), postgres::Error> {
    let mut admin = admin(kept, "postgres", "rotate")?;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";
    admin.execute(end, &[&user]).map(drop)
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
    if role.is_none() {
        let verifier = verifier(&kept.password);
        admin.batch_execute(&format!(
            "CREATE ROLE {name} LOGIN {LIMITS} PASSWORD '{verifier}'"
        ))?;
    }
    if let Some(user) = &kept.login
        && !exists(&mut admin, user)?
    {
        make_user(&mut admin, kept, user, &kept.password)?;
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
    let mut own = match tried {
        // The file of passwords was written anew, or somebody has shut the user out.
        Err(error) if is_refused(&error) => {
            open_again(&mut admin, kept.user(), &kept.password)?;
            own(kept, "provide")?
        }
        tried => tried?,
    };
    own.query_one("SELECT 1", &[]).map(drop)
}

/// Whether the server knows another password, or none, or does not let that user in.
fn is_refused(error: &postgres::Error) -> bool {
    let refusals = [
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
    ];
    error.code().is_some_and(|code| refusals.contains(code))
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
