//! The worker: one row of `rollups` for each application and second.
//!
//! A second is handled when it has been over for [`SETTLED_MS`]. Traces get their time of arrival under the write lock and
//! in the order of their rows; the worker reads them under that same lock, so a second that is over for it stays as it
//! was. The rows of a second and the cursor behind them are one transaction: a worker that is killed, at whatever moment,
//! is continued by the next one exactly where its last commit was.
//!
//! The cursor is read at the start, under the lock too: a server may still be committing for a worker that was killed.
//! After that two workers at once do not know of each other and write every row twice: that only one of them runs is up to
//! whoever runs it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::db::{Conn, Db, DbError};
use crate::server::stopped;
use crate::values;

/// How long a second must have been over, milliseconds.
const SETTLED_MS: i64 = 2000;
/// Time between two looks when there is nothing to do.
const EVERY: Duration = Duration::from_secs(1);
/// How long a stop waits for the transaction under way. What is not committed by then is the next worker's.
const GRACE: Duration = Duration::from_secs(1);
/// Seconds of traffic in one transaction.
const AT_ONCE: i64 = 60;

/// How it was when it was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// No transaction was under way.
    Between,
    /// One still waited: for a lock, or for a server that does not answer.
    Waiting,
}

/// What one transaction did.
struct Done {
    traces: i64,
    rows: usize,
    cursor: i64,
}

/// One trace, as far as it counts.
struct Counted {
    duration_ms: f64,
    tokens: i64,
    failed: bool,
}

/// Rolls up until it is told to stop. `place` is where the database is, for people.
///
/// # Errors
/// What waiting does not mend; whoever runs it starts it again.
pub async fn work(db: &Db, place: &str, stop: watch::Receiver<bool>) -> Result<Ended, DbError> {
    let mut begun = false;
    let mut said = String::new();
    while !*stop.borrow() {
        let ended = tokio::select! {
            ended = from_cursor(db, place, &mut begun, &stop) => ended,
            () = async { stopped(stop.clone()).await; tokio::time::sleep(GRACE).await } => {
                return Ok(Ended::Waiting);
            }
        };
        match ended {
            Err(error @ (DbError::Busy(_) | DbError::Unavailable(_))) => {
                // Whether the last transaction was committed may not be known: the cursor is.
                let text = error.to_string();
                if said != text {
                    eprintln!("rollup: {text}");
                    said = text;
                }
                let _ = timeout(EVERY, stopped(stop.clone())).await;
            }
            ended => return ended.map(|()| Ended::Between),
        }
    }
    Ok(Ended::Between)
}

async fn from_cursor(
    db: &Db,
    place: &str,
    begun: &mut bool,
    stop: &watch::Receiver<bool>,
) -> Result<(), DbError> {
    let mut cursor = db.write(read_cursor).await?;
    if !*begun {
        println!("rollup: works on {place} from second {}", cursor + 1);
        *begun = true;
    }
    let mut due = Instant::now();
    while !*stop.borrow() {
        if let Some(done) = db.write(move |conn| roll_up(conn, cursor)).await? {
            let Done { traces, rows, .. } = done;
            cursor = done.cursor;
            println!("rollup: {traces} traces in {rows} rows, up to second {cursor}");
        } else {
            due = Instant::now().max(due + EVERY);
            // Elapsed: the next look.
            let _ = tokio::time::timeout_at(due, stopped(stop.clone())).await;
        }
    }
    Ok(())
}

/// The last second that is rolled up; -1 before the first.
fn read_cursor(conn: &Conn) -> Result<i64, DbError> {
    let sql = "SELECT bucket FROM rollup_cursor WHERE id = 1";
    let cursor = conn.first(sql, values![], |mut row| row.take())?;
    Ok(cursor.unwrap_or(-1))
}

/// Rolls up what has settled since `cursor`; `None` if nothing has.
fn roll_up(conn: &Conn, cursor: i64) -> Result<Option<Done>, DbError> {
    let seconds = settled(conn, cursor)?;
    let Some((cursor, _)) = seconds.keys().next_back().cloned() else {
        return Ok(None);
    };
    for ((bucket, app), traces) in &seconds {
        store(conn, app, *bucket, traces)?;
    }
    conn.execute(
        "INSERT INTO rollup_cursor (id, bucket) VALUES (1, ?1)
         ON CONFLICT (id) DO UPDATE SET bucket = excluded.bucket",
        values![cursor],
    )?;
    Ok(Some(Done {
        traces: seconds.values().map(|traces| count(traces)).sum(),
        rows: seconds.len(),
        cursor,
    }))
}

/// Traces of the next seconds that are over, by second and application.
fn settled(conn: &Conn, cursor: i64) -> Result<BTreeMap<(i64, String), Vec<Counted>>, DbError> {
    let begin = (cursor + 1) * 1000;
    let end = (conn.now_ms()? - SETTLED_MS) / 1000 * 1000;
    let first: Option<i64> = conn.one(
        "SELECT min(ingested_at) FROM traces WHERE ingested_at >= ?1 AND ingested_at < ?2",
        values![begin, end],
        |mut row| row.take(),
    )?;
    let Some(first) = first else {
        return Ok(BTreeMap::new());
    };
    let end = end.min((first / 1000 + AT_ONCE) * 1000);
    let traces = conn.query(
        "SELECT ingested_at / 1000, app, duration_ms, tokens,
                CAST(CASE WHEN error IS NULL THEN 0 ELSE 1 END AS BIGINT)
         FROM traces
         WHERE ingested_at >= ?1 AND ingested_at < ?2",
        values![first, end],
        |mut row| {
            let key: (i64, String) = (row.take()?, row.take()?);
            let trace = Counted {
                duration_ms: row.take()?,
                tokens: row.take()?,
                failed: row.take::<i64>()? == 1,
            };
            Ok((key, trace))
        },
    )?;
    let mut seconds: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (key, trace) in traces {
        seconds.entry(key).or_default().push(trace);
    }
    Ok(seconds)
}

fn store(conn: &Conn, app: &str, bucket: i64, traces: &[Counted]) -> Result<(), DbError> {
    let mut durations: Vec<f64> = traces.iter().map(|trace| trace.duration_ms).collect();
    durations.sort_by(f64::total_cmp);
    let tokens = traces
        .iter()
        .fold(0i64, |sum, trace| sum.saturating_add(trace.tokens));
    let failed = traces.iter().filter(|trace| trace.failed).count();
    conn.execute(
        "INSERT INTO rollups (app, bucket, traces, tokens, error_count, p50_ms, p95_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        values![
            app,
            bucket,
            count(traces),
            tokens,
            failed as i64,
            percentile(&durations, 50),
            percentile(&durations, 95),
        ],
    )?;
    Ok(())
}

fn count(traces: &[Counted]) -> i64 {
    traces.len() as i64
}

/// Nearest rank: the smallest value that `share` of all are not above.
fn percentile(ordered: &[f64], share: usize) -> f64 {
    let rank = (ordered.len() * share).div_ceil(100).max(1);
    ordered.get(rank - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(
            (percentile(&values, 50), percentile(&values, 95)),
            (10.0, 19.0)
        );
        assert_eq!((percentile(&[7.0], 50), percentile(&[7.0], 95)), (7.0, 7.0));
    }
}
