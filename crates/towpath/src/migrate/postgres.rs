//! The runner's part of PostgreSQL.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use postgres::error::{ErrorPosition, SqlState};
use postgres::types::Type;
use postgres::{Client, GenericClient, SimpleQueryMessage};

use super::error::Said;
use super::rules::{Again, again};
use super::runner::not_before;
use super::sqlite::{half_done, unfinished};
use super::statement::{Statement, statements_of};
use super::{Applied, Engine, Error, Header, Kind, Migration, Options, Script, State};
use crate::diagnostic::Span;
use crate::id::Digest;

/// Pause between looks at a lock.
const LOOK: Duration = Duration::from_millis(50);

/// Longest wait for the end of sessions that were told to end.
const ENDS: Duration = Duration::from_secs(10);

/// Whether it is still the same.
const TRANSACTION: &str = "SELECT pg_current_xact_id()::text";

/// How much longer what runs outside of transactions waits: it stands in nobody's way meanwhile.
const PATIENCE: u32 = 12;

/// The table with its schema, in quotes; `None` where there is none yet.
fn found_table(client: &mut impl GenericClient) -> Result<Option<String>, Error> {
    let sql = "SELECT quote_ident(n.nspname) || '.towpath_migrations' FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('towpath_migrations')";
    told(client, sql)
}

/// The first column of the last row, if there is one. What is constant is asked at once, without being prepared: each
/// migration asks, and a server elsewhere is far.
fn told(client: &mut impl GenericClient, sql: &str) -> Result<Option<String>, Error> {
    let said = client.simple_query(sql)?;
    let rows = said.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
        _ => None,
    });
    Ok(rows.flatten())
}

fn table(client: &mut impl GenericClient) -> Result<String, Error> {
    if let Some(table) = found_table(client)? {
        return Ok(table);
    }
    let row = client.query_one("SELECT quote_ident(current_schema())", &[])?;
    match row.get::<_, Option<String>>(0) {
        Some(schema) => Ok(format!("{schema}.towpath_migrations")),
        None => Err(Error::Database(
            "no schema of the role's `search_path` exists".to_owned(),
        )),
    }
}

fn has_states(client: &mut impl GenericClient, table: &str) -> Result<bool, Error> {
    let sql = "SELECT count(*) = 8 FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
    Ok(client.query_one(sql, &[&table])?.get(0))
}

pub(super) fn applied(client: &mut impl GenericClient) -> Result<BTreeMap<u64, Applied>, Error> {
    let Some(table) = found_table(client)? else {
        return Ok(BTreeMap::new());
    };
    let further = match has_states(client, &table)? {
        true => "kind, state, statements, started_ms",
        false => "'expand', 'applied', 0::bigint, 0::bigint",
    };
    let sql = format!("SELECT version, name, checksum, applied_ms, {further} FROM {table}");
    let rows = client.query(&sql, &[])?;
    let found = rows.into_iter().map(|row| {
        let applied = Applied {
            name: row.get(1),
            checksum: row.get(2),
            kind: Kind::from_word(row.get(4)).unwrap_or_default(),
            state: State::from_word(row.get(5)),
            statements: row.get::<_, i64>(6).cast_unsigned(),
            started_ms: row.get(7),
            applied_ms: row.get(3),
        };
        (row.get::<_, i64>(0).cast_unsigned(), applied)
    });
    Ok(found.collect())
}

/// Makes the table, or brings one of the first form up to date.
pub(super) fn prepare(client: &mut Client) -> Result<(), Error> {
    let table = table(client)?;
    if found_table(client)?.is_some() && has_states(client, &table)? {
        return Ok(());
    }
    let sql = format!(
        "BEGIN;
        CREATE TABLE IF NOT EXISTS {table} (version bigint PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
            applied_ms bigint NOT NULL);
        ALTER TABLE {table} ADD COLUMN IF NOT EXISTS kind text NOT NULL DEFAULT 'expand',
            ADD COLUMN IF NOT EXISTS state text NOT NULL DEFAULT 'applied',
            ADD COLUMN IF NOT EXISTS statements bigint NOT NULL DEFAULT 0,
            ADD COLUMN IF NOT EXISTS started_ms bigint NOT NULL DEFAULT 0;
        COMMIT"
    );
    client.batch_execute(&sql).map_err(|error| {
        let _ = client.batch_execute("ROLLBACK");
        error.into()
    })
}

/// The key that runners on this table exclude each other by.
pub(super) struct Lock(i64);

/// Keeps other runners out, for as long as the session lives.
///
/// Asked for again and again: a session that waits in the lock itself holds a snapshot, and `CREATE INDEX CONCURRENTLY`
/// of the one who has the lock would wait for that.
pub(super) fn lock(client: &mut Client, options: &Options) -> Result<Lock, Error> {
    let digest = Digest::of(table(client)?.as_bytes()).0;
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    let key = i64::from_be_bytes(first);
    let begun = Instant::now();
    loop {
        let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&key])?;
        if row.get(0) {
            return Ok(Lock(key));
        }
        if begun.elapsed() > options.runner_wait {
            return Err(Error::Busy(runner(client, key)?));
        }
        std::thread::sleep(LOOK);
    }
}

fn runner(client: &mut Client, key: i64) -> Result<String, Error> {
    let sql = "SELECT coalesce(nullif(a.application_name, ''), 'a session without a name'), a.pid,
            to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
        FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND ((l.classid::bigint << 32) | l.objid::bigint) = $1";
    let row = client.query_opt(sql, &[&key])?;
    Ok(match row {
        Some(row) => {
            let (name, pid, since): (String, i32, Option<String>) =
                (row.get(0), row.get(1), row.get(2));
            let since = since.map_or(String::new(), |since| {
                format!(", connected since {since} UTC")
            });
            format!("`{name}` (server process {pid}{since})")
        }
        None => "somebody who has let go of it by now".to_owned(),
    })
}

/// Gives the lock up; a session that is gone has given it up already.
pub(super) fn unlock(client: &mut Client, lock: &Lock) {
    let _ = client.execute("SELECT pg_advisory_unlock($1)", &[&lock.0]);
}

/// Ends the sessions that an agent before this one has left in the database under `application_name`, so that what
/// they were at is over before anybody looks. Returns how many there were.
///
/// # Errors
/// When the server cannot be asked, or a session does not end.
pub fn end_survivors(client: &mut Client, application_name: &str) -> Result<u64, Error> {
    let others =
        "FROM pg_stat_activity WHERE datname = current_database() AND usename = session_user
        AND application_name = $1 AND pid <> pg_backend_pid()";
    let ended = client.query(
        &format!("SELECT pg_terminate_backend(pid) {others}"),
        &[&application_name],
    )?;
    let begun = Instant::now();
    loop {
        let left: i64 = client
            .query_one(&format!("SELECT count(*) {others}"), &[&application_name])?
            .get(0);
        if left == 0 {
            return Ok(ended.len() as u64);
        }
        if begun.elapsed() > ENDS {
            return Err(Error::Database(format!(
                "{left} sessions of `{application_name}` do not end"
            )));
        }
        std::thread::sleep(LOOK);
    }
}

/// False when another runner applied it in the meantime.
pub(super) fn apply(
    client: &mut Client,
    migration: &Migration,
    options: &Options,
) -> Result<bool, Error> {
    if migration.up.header.no_transaction {
        return outside(client, migration, options);
    }
    patiently(options, || once(client, migration, options))
}

/// Again, after a pause, where a lock was not to be had: what waits behind our waiting goes on meanwhile.
fn patiently<T>(options: &Options, mut work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut pause = Duration::from_millis(100);
    for _ in 1..options.tries {
        match work() {
            Err(Error::Locked(..)) => {}
            other => return other,
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    work()
}

fn once(client: &mut Client, migration: &Migration, options: &Options) -> Result<bool, Error> {
    let version = migration.version;
    let table = table(client)?;
    within(client, version, &migration.up, options, |tx| {
        if !note(tx, &table, migration, State::Applied, options)? {
            return Ok(false);
        }
        run_all(tx, version, &migration.up)?;
        // Whatever role the migration has taken on. Its beginning is after every other's.
        let now = options.clock.wall_ms();
        tx.batch_execute(&format!(
            "RESET ROLE;
            UPDATE {table} SET state = 'applied', applied_ms = greatest({now}, started_ms) WHERE version = {version}"
        ))?;
        Ok(true)
    })
}

/// One transaction, and nothing of its settings is left.
fn within<T>(
    client: &mut Client,
    version: u64,
    script: &Script,
    options: &Options,
    work: impl FnOnce(&mut postgres::Transaction<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut tx = client.transaction()?;
    let settings = settings("LOCAL ", &script.header, options.lock_timeout, options);
    let id = told(&mut tx, &format!("{settings}; {TRANSACTION}"))?;
    let done = work(&mut tx)?;
    if told(&mut tx, TRANSACTION)? != id {
        return Err(Error::Transaction(version));
    }
    let last = script.text.trim_end().len();
    tx.commit()
        .map_err(|error| wrong(&error, version, script, last.saturating_sub(1)..last))?;
    client.batch_execute("RESET ROLE; RESET ALL")?;
    Ok(done)
}

/// `row_security` off makes an error of what the policies would silently leave out.
fn settings(scope: &str, header: &Header, lock_timeout: Duration, options: &Options) -> String {
    let lock = header.lock_timeout.unwrap_or(lock_timeout).as_millis();
    let statement = header.statement_timeout.or(options.statement_timeout);
    let statement = statement.map_or(0, |timeout| timeout.as_millis());
    format!(
        "SET {scope}lock_timeout = {lock}; SET {scope}statement_timeout = {statement}; SET {scope}row_security = off;
        SET {scope}idle_in_transaction_session_timeout = 0"
    )
}

fn newest(client: &mut impl GenericClient, table: &str) -> Result<i64, Error> {
    let sql = format!("SELECT coalesce(max(greatest(applied_ms, started_ms)), 0) FROM {table}");
    Ok(client.query_one(&sql, &[])?.get(0))
}

/// The row of a migration that begins; false when it is there already.
fn note(
    client: &mut impl GenericClient,
    table: &str,
    migration: &Migration,
    state: State,
    options: &Options,
) -> Result<bool, Error> {
    let now = options.clock.wall_ms();
    let is_over = state != State::Started;
    let sql = format!(
        "INSERT INTO {table} AS t (version, name, checksum, applied_ms, kind, state, statements, started_ms)
        SELECT $1, $2, $3, CASE WHEN $4 THEN at ELSE 0 END, $5, $6, 0, at
            FROM (SELECT greatest($7, max(applied_ms), max(started_ms)) AS at FROM {table}) newest
        ON CONFLICT (version) DO UPDATE SET name = excluded.name, checksum = excluded.checksum,
            applied_ms = excluded.applied_ms, kind = excluded.kind, state = excluded.state, statements = 0,
            started_ms = excluded.started_ms
        WHERE t.state = 'started' RETURNING version"
    );
    let rows = client.query_typed(
        &sql,
        &[
            (&migration.version.cast_signed(), Type::INT8),
            (&migration.name, Type::TEXT),
            (&migration.checksum(), Type::TEXT),
            (&is_over, Type::BOOL),
            (&migration.up.header.kind.word(), Type::TEXT),
            (&state.word(), Type::TEXT),
            (&now, Type::INT8),
        ],
    )?;
    Ok(rows.len() == 1)
}

fn finish(
    client: &mut impl GenericClient,
    table: &str,
    migration: &Migration,
    options: &Options,
) -> Result<(), Error> {
    // Whatever role the migration has taken on.
    client.batch_execute("RESET ROLE")?;
    let now = not_before(options.clock.wall_ms(), newest(client, table)?);
    let sql = format!("UPDATE {table} SET state = 'applied', applied_ms = $2 WHERE version = $1");
    client.execute(&sql, &[&migration.version.cast_signed(), &now])?;
    Ok(())
}

pub(super) fn count(
    client: &mut Client,
    migration: &Migration,
    options: &Options,
) -> Result<(), Error> {
    let table = table(client)?;
    note(client, &table, migration, State::Baseline, options).map(drop)
}

fn run_all(client: &mut impl GenericClient, version: u64, script: &Script) -> Result<(), Error> {
    statements_of(Engine::Postgres, version, script)?
        .iter()
        .try_for_each(|one| run(client, version, script, one))
}

fn run(
    client: &mut impl GenericClient,
    version: u64,
    script: &Script,
    one: &Statement<'_>,
) -> Result<(), Error> {
    client.batch_execute(one.text).map_err(|error| {
        let at = error
            .as_db_error()
            .and_then(|error| match error.position() {
                Some(ErrorPosition::Original(position)) => usize::try_from(*position).ok(),
                _ => None,
            });
        let byte = at.and_then(|at| one.text.char_indices().nth(at.checked_sub(1)?));
        let span = match byte {
            Some((byte, char)) => {
                let start = one.span.start + byte;
                start..start + char.len_utf8()
            }
            None => one.span_of(0, 2),
        };
        wrong(&error, version, script, span)
    })
}

fn wrong(error: &postgres::Error, version: u64, script: &Script, span: Span) -> Error {
    let said = said(error);
    let is_lock = error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
        || error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED);
    match is_lock {
        true => Error::Locked(version, said.message),
        false => Error::sql(version, &script.file, &script.text, span, said),
    }
}

/// What the server said, or what became of the connection.
pub(super) fn said(error: &postgres::Error) -> Said {
    let Some(told) = error.as_db_error() else {
        use std::error::Error as _;
        let source = error
            .source()
            .map_or(String::new(), |source| format!(": {source}"));
        return Said {
            message: format!("the connection to the server broke: {error}{source}"),
            code: String::new(),
            notes: Vec::new(),
            help: None,
        };
    };
    let notes = [told.detail(), told.hint(), told.where_()];
    Said {
        message: told.message().to_owned(),
        code: told.code().code().to_owned(),
        notes: notes.into_iter().flatten().map(str::to_owned).collect(),
        help: help(told),
    }
}

fn help(told: &postgres::error::DbError) -> Option<String> {
    let about_extension = told.message().contains("extension");
    let help = match told.code() {
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE && about_extension => {
            "migrations run as the role of the application: have an administrator of the database create the extension once"
        }
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE
            && told.message().contains("row-level") =>
        {
            "the policies of that table hold for its owner too; `SET LOCAL row_security = on` accepts what they leave out"
        }
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            "migrations run as the role of the application, never as a superuser"
        }
        code if about_extension
            && (*code == SqlState::UNDEFINED_FILE || *code == SqlState::FEATURE_NOT_SUPPORTED) =>
        {
            "the server does not have that extension: install its package there"
        }
        code if *code == SqlState::DISK_FULL => "make room on the server's disk, and try again",
        _ => return None,
    };
    Some(help.to_owned())
}

/// An index by its name, as far as it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    Absent,
    Invalid,
    Valid,
}

fn index(client: &mut Client, name: &str) -> Result<Index, Error> {
    let sql = "SELECT i.indisvalid AND i.indisready FROM pg_index i WHERE i.indexrelid = to_regclass(quote_ident($1))";
    Ok(match client.query_opt(sql, &[&name])? {
        None => Index::Absent,
        Some(row) if row.get(0) => Index::Valid,
        Some(_) => Index::Invalid,
    })
}

/// What a build that broke off has left is of no use, and in the way.
fn drop_invalid(client: &mut Client, name: &str) -> Result<(), Error> {
    if index(client, name)? == Index::Invalid {
        let quoted: String = client.query_one("SELECT quote_ident($1)", &[&name])?.get(0);
        client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {quoted}"))?;
    }
    Ok(())
}

/// Statement by statement, each its own transaction: what is done is noted after each.
fn outside(client: &mut Client, migration: &Migration, options: &Options) -> Result<bool, Error> {
    let version = migration.version;
    let found = applied(client)?.remove(&version);
    if found
        .as_ref()
        .is_some_and(|found| found.state != State::Started)
    {
        return Ok(false);
    }
    let table = table(client)?;
    let same = found
        .as_ref()
        .filter(|found| found.checksum == migration.checksum());
    let done = same.map_or(0, |found| usize::try_from(found.statements).unwrap_or(0));
    let all = statements_of(Engine::Postgres, version, &migration.up)?;
    if let Some(one) = all.get(done)
        && same.is_some()
        && again(one) == Again::Unknown
    {
        return Err(unfinished(version, &migration.up, one));
    }
    if same.is_none() {
        note(client, &table, migration, State::Started, options)?;
    }
    let patience = options.lock_timeout * PATIENCE;
    client.batch_execute(&settings("", &migration.up.header, patience, options))?;
    for (place, one) in all.iter().enumerate().skip(done) {
        let ran = one_outside(client, migration, one, found.is_some());
        if let Err(error) = ran {
            let _ = client.batch_execute("RESET ROLE; RESET ALL");
            return Err(failed(
                client,
                &table,
                version,
                place,
                found.is_some(),
                error,
            ));
        }
        let sql = format!("UPDATE {table} SET statements = $2 WHERE version = $1");
        let done = i64::try_from(place + 1).unwrap_or(i64::MAX);
        client.execute(&sql, &[&version.cast_signed(), &done])?;
    }
    finish(client, &table, migration, options)?;
    client.batch_execute("RESET ALL")?;
    Ok(true)
}

fn one_outside(
    client: &mut Client,
    migration: &Migration,
    one: &Statement<'_>,
    is_repeated: bool,
) -> Result<(), Error> {
    let (version, script) = (migration.version, &migration.up);
    match again(one) {
        Again::MakesIndex(name) => {
            if is_repeated {
                drop_invalid(client, &name)?;
                if index(client, &name)? == Index::Valid {
                    return Ok(());
                }
            }
            let ran = run(client, version, script, one);
            if ran.is_err() || index(client, &name)? == Index::Invalid {
                drop_invalid(client, &name)?;
            }
            ran
        }
        Again::DropsIndex(name) if is_repeated && index(client, &name)? == Index::Absent => Ok(()),
        _ => run(client, version, script, one),
    }
}

/// A statement that failed left nothing; so the row goes where it was the first.
fn failed(
    client: &mut Client,
    table: &str,
    version: u64,
    place: usize,
    was_there: bool,
    error: Error,
) -> Error {
    if place > 0 || was_there {
        return error.leaving(half_done(place));
    }
    let sql = format!("DELETE FROM {table} WHERE version = $1 AND state = 'started'");
    match client.execute(&sql, &[&version.cast_signed()]) {
        Ok(_) => error,
        Err(_) => error.leaving(half_done(0)),
    }
}

pub(super) fn take_back(
    client: &mut Client,
    migration: &Migration,
    options: &Options,
) -> Result<(), Error> {
    let version = migration.version;
    let script = migration.down.as_ref().ok_or(Error::NoDown(version))?;
    let table = table(client)?;
    let sql = format!("DELETE FROM {table} WHERE version = $1");
    if !script.header.no_transaction {
        return patiently(options, || {
            within(client, version, script, options, |tx| {
                tx.execute(&sql, &[&version.cast_signed()])?;
                run_all(tx, version, script)
            })
        });
    }
    let patience = options.lock_timeout * PATIENCE;
    client.batch_execute(&settings("", &script.header, patience, options))?;
    let ran = back_outside(client, version, script);
    // Whatever role it has taken on.
    let reset = client.batch_execute("RESET ROLE; RESET ALL");
    ran?;
    reset?;
    client.execute(&sql, &[&version.cast_signed()])?;
    Ok(())
}

fn back_outside(client: &mut Client, version: u64, script: &Script) -> Result<(), Error> {
    for one in statements_of(Engine::Postgres, version, script)? {
        let is_gone = match again(&one) {
            Again::DropsIndex(name) => index(client, &name)? == Index::Absent,
            _ => false,
        };
        if !is_gone {
            run(client, version, script, &one)?;
        }
    }
    Ok(())
}
