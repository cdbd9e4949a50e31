//! Backups of a PostgreSQL database by its own tools.

use std::path::{Path, PathBuf};

use crate::resource::{Command, environment};

/// Writes the database at `url` to the file `to`. The password goes by the environment: arguments are anybody's to read.
#[must_use]
pub fn dump(program: &Path, url: &str, to: &Path) -> Command {
    let (place, password) = super::without_password(url);
    let mut command = command(
        program,
        vec![
            "--format=custom".to_owned(),
            "--no-password".to_owned(),
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
