//! Backups of a PostgreSQL database by its own tools.

use std::path::{Path, PathBuf};

use postgres::Client;

use crate::resource::{Command, environment};

/// Longest wait for a table that somebody has locked, as the server reads it: requests may wait meanwhile.
const LOCK_WAIT: &str = "30s";

/// Who has locked what, so that it cannot even be read; a line each, and not more than a few.
///
/// # Errors
/// When the server cannot be asked.
pub fn locked(client: &mut Client) -> Result<Vec<String>, postgres::Error> {
    let sql = "SELECT c.oid::regclass::text, coalesce(nullif(a.application_name, ''), 'a session without a name'), a.pid
        FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'AccessExclusiveLock' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid <> pg_backend_pid()
        ORDER BY 1 LIMIT 5";
    let rows = client.query(sql, &[])?;
    let lines = rows.iter().map(|row| {
        let (table, who, pid): (String, String, i32) = (row.get(0), row.get(1), row.get(2));
        format!("`{table}` is locked by `{who}` (server process {pid})")
    });
    Ok(lines.collect())
}

/// Writes the database at `url` to the file `to`. The password goes by the environment: arguments are anybody's to read.
#[must_use]
pub fn dump(program: &Path, url: &str, to: &Path) -> Command {
    let (place, password) = super::without_password(url);
    let mut command = command(
        program,
        vec![
            "--format=custom".to_owned(),
            "--no-password".to_owned(),
            format!("--lock-wait-timeout={LOCK_WAIT}"),
            format!("--file={}", to.display()),
            format!("--dbname={place}"),
        ],
        to,
    );
    command
        .env
        .extend(password.map(|password| ("PGPASSWORD".to_owned(), password)));
    command
}

/// Reads the dump's table of contents, and with it that it is one.
#[must_use]
pub fn list(program: &Path, file: &Path) -> Command {
    let arguments = vec![
        "--list".to_owned(),
        "--file=/dev/null".to_owned(),
        file.display().to_string(),
    ];
    command(program, arguments, file)
}

/// Puts the dump at `file` into the database at `url`, whole or not at all.
#[must_use]
pub fn restore(program: &Path, url: &str, file: &Path) -> Command {
    let (place, password) = super::without_password(url);
    let mut command = command(
        program,
        vec![
            "--single-transaction".to_owned(),
            "--exit-on-error".to_owned(),
            "--clean".to_owned(),
            "--if-exists".to_owned(),
            "--no-password".to_owned(),
            format!("--dbname={place}"),
            file.display().to_string(),
        ],
        file,
    );
    command
        .env
        .extend(password.map(|password| ("PGPASSWORD".to_owned(), password)));
    command
}

/// Writes what is in the dump at `file` to `to`, as SQL.
#[must_use]
pub fn script(program: &Path, file: &Path, to: &Path) -> Command {
    let arguments = vec![
        format!("--file={}", to.display()),
        file.display().to_string(),
    ];
    command(program, arguments, file)
}

/// Takes away everything that `role` has in the database at `url`, and runs the script at `file` there, in one
/// transaction.
#[must_use]
pub fn replay(psql: &Path, url: &str, role: &str, file: &Path) -> Command {
    let (place, password) = super::without_password(url);
    let drop = format!("DROP OWNED BY {} CASCADE", super::roles::quoted(role));
    let mut command = command(
        psql,
        vec![
            "--no-psqlrc".to_owned(),
            "--quiet".to_owned(),
            "--no-password".to_owned(),
            "--set=ON_ERROR_STOP=1".to_owned(),
            "--single-transaction".to_owned(),
            format!("--dbname={place}"),
            format!("--command={drop}"),
            format!("--file={}", file.display()),
        ],
        file,
    );
    command
        .env
        .extend(password.map(|password| ("PGPASSWORD".to_owned(), password)));
    command
}

fn command(program: &Path, arguments: Vec<String>, file: &Path) -> Command {
    let folder: PathBuf = file.parent().unwrap_or(file).to_owned();
    let mut env = environment(&folder);
    env.insert("PGAPPNAME".to_owned(), "tow/backup".to_owned());
    env.insert("PGCONNECT_TIMEOUT".to_owned(), "10".to_owned());
    Command {
        argv: std::iter::once(program.display().to_string())
            .chain(arguments)
            .collect(),
        env,
        cwd: folder,
    }
}
