//! Users and their sessions.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use sha2::{Digest, Sha256};

use crate::clock::now_ms;
use crate::db::{Conn, Db, DbError, Row};
use crate::values;

/// How long a session lasts, milliseconds.
const SESSION_MS: i64 = 30 * 24 * 3600 * 1000;

/// A user as the database knows them.
pub struct User {
    /// Row.
    pub id: i64,
    /// Name they sign in with.
    pub name: String,
    /// Argon2id hash in PHC form.
    pub password_hash: String,
}

/// Argon2id hash of a password with a salt of its own; `None` if the system gives no randomness.
pub fn hash_password(password: &str) -> Option<String> {
    let hash = Argon2::default().hash_password(password.as_bytes()).ok()?;
    Some(hash.to_string())
}

/// Whether `password` is the user's. An unknown user costs as much time as a known one.
pub fn password_fits(user: Option<&User>, password: &str) -> bool {
    let Some(user) = user else {
        let _ = hash_password(password);
        return false;
    };
    PasswordHash::new(&user.password_hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

/// Creates the first user if there is none, whichever of several instances comes first.
///
/// # Errors
/// The database's.
pub async fn create_first(db: &Db, name: &str, password: &str) -> Result<(), DbError> {
    if db.read(any_user).await? {
        return Ok(());
    }
    let Some(hash) = hash_password(password) else {
        return Err(DbError::Failed("no randomness for a salt".to_owned()));
    };
    let name = name.to_owned();
    db.write(move |conn| {
        // Under the write lock: of two instances that both saw no user, one inserts.
        conn.execute(
            "INSERT INTO users (name, password_hash, created_at)
             SELECT CAST(?1 AS TEXT), CAST(?2 AS TEXT), CAST(?3 AS BIGINT)
             WHERE NOT EXISTS (SELECT 1 FROM users)",
            values![name, hash, now_ms()],
        )?;
        Ok(())
    })
    .await
}

fn any_user(conn: &Conn) -> Result<bool, DbError> {
    let found = conn.first("SELECT id FROM users LIMIT 1", values![], |_| Ok(()))?;
    Ok(found.is_some())
}

/// The user of this name.
///
/// # Errors
/// The database's.
pub fn find(conn: &Conn, name: &str) -> Result<Option<User>, DbError> {
    conn.first(
        "SELECT id, name, password_hash FROM users WHERE name = ?1",
        values![name],
        user,
    )
}

fn user(mut row: Row) -> Result<User, DbError> {
    Ok(User {
        id: row.take()?,
        name: row.take()?,
        password_hash: row.take()?,
    })
}

/// A new token, 256 bits in hexadecimal; `None` if the system gives no randomness.
pub fn new_token() -> Option<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn token_hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// Opens a session, and clears out those that are over.
///
/// # Errors
/// The database's.
pub fn open_session(conn: &Conn, user: i64, token: &str) -> Result<(), DbError> {
    let now = now_ms();
    conn.execute("DELETE FROM sessions WHERE expires_at <= ?1", values![now])?;
    conn.execute(
        "INSERT INTO sessions (token_hash, user_id, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)",
        values![token_hash(token), user, now, now + SESSION_MS],
    )?;
    Ok(())
}

/// The name of the user whose session this is.
///
/// # Errors
/// The database's.
pub fn session_user(conn: &Conn, token: &str) -> Result<Option<String>, DbError> {
    conn.first(
        "SELECT users.name FROM sessions JOIN users ON users.id = sessions.user_id
         WHERE token_hash = ?1 AND expires_at > ?2",
        values![token_hash(token), now_ms()],
        |mut row| row.take(),
    )
}

/// Ends a session; one that is over already stays over.
///
/// # Errors
/// The database's.
pub fn close_session(conn: &Conn, token: &str) -> Result<(), DbError> {
    let sql = "DELETE FROM sessions WHERE token_hash = ?1";
    conn.execute(sql, values![token_hash(token)]).map(drop)
}
