#!/usr/bin/env python3
"""Rolls traces up: one row of `rollups` for each application and second.

A second is handled when it has been over for SETTLED seconds. Traces get their time of arrival under the database's
write lock and in the order of their rows; the worker reads them under that same lock, so a second that is over for it
stays as it was. The rows of a second and the cursor behind them are one transaction: a worker that is killed, at
whatever moment, is continued by the next one exactly where its last commit was.

The cursor is read once, at the start. Two workers at once do not know of each other and write every row twice: that
only one of them runs is up to whoever runs it.
"""

import os
import select
import signal
import sqlite3
import sys
import time

SETTLED = 2.0  # seconds
EVERY = 1.0  # seconds
BUSY_TIMEOUT = 10.0  # seconds
BUSY_STEP = 0.1  # seconds; SQLite cannot be woken while it waits for a lock, so it waits in steps
AT_ONCE = 60  # seconds of traffic in one transaction


def database_path(url):
    """The file behind `sqlite:///abs/path.db` or `sqlite:rel.db`."""
    for prefix in ("sqlite://", "sqlite:"):
        if url.startswith(prefix) and len(url) > len(prefix):
            return url[len(prefix):]
    sys.exit(f"rollup: `DATABASE_URL` is `{url}`; it must be `sqlite:///abs/path.db` or `sqlite:rel.db`")


def connect(path):
    # "rw": a wrong path must not become a new, empty database.
    uri = "file:" + path.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?mode=rw"
    conn = sqlite3.connect(uri, uri=True, timeout=BUSY_STEP, isolation_level=None)
    conn.execute("PRAGMA synchronous = FULL")
    return conn


class Stop:
    """Told by SIGTERM or SIGINT; a pipe wakes whoever waits."""

    def __init__(self):
        self.told = False
        self.reader, self.writer = os.pipe()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.tell)

    def tell(self, _number, _frame):
        if not self.told:
            self.told = True
            os.write(self.writer, b"x")

    def wait(self, seconds):
        select.select([self.reader], [], [], max(seconds, 0.0))


def percentile(ordered, share):
    """Nearest rank: the smallest value that `share` of all are not above."""
    rank = max(1, -(-len(ordered) * share // 100))
    return ordered[int(rank) - 1]


def read_cursor(conn):
    """The last second that is rolled up; -1 before the first."""
    row = conn.execute("SELECT bucket FROM rollup_cursor WHERE id = 1").fetchone()
    return row[0] if row else -1


def settled_traces(conn, cursor, now):
    """Traces of the next seconds that are over, by (application, second)."""
    begin, end = (cursor + 1) * 1000, int(now - SETTLED) * 1000
    first = conn.execute(
        "SELECT min(ingested_at) FROM traces WHERE ingested_at >= ? AND ingested_at < ?", (begin, end)
    ).fetchone()[0]
    if first is None:
        return {}
    end = min(end, (first // 1000 + AT_ONCE) * 1000)
    buckets = {}
    for app, at, duration, tokens, failed in conn.execute(
        "SELECT app, ingested_at, duration_ms, tokens, error IS NOT NULL FROM traces"
        " WHERE ingested_at >= ? AND ingested_at < ?",
        (first, end),
    ):
        buckets.setdefault((app, at // 1000), []).append((duration, tokens, failed))
    return buckets


def rollup_row(app, bucket, traces):
    durations = sorted(duration for duration, _, _ in traces)
    tokens = sum(tokens for _, tokens, _ in traces)
    failed = sum(failed for _, _, failed in traces)
    return (app, bucket, len(traces), tokens, failed, percentile(durations, 50), percentile(durations, 95))


def store(conn, rows):
    conn.executemany(
        "INSERT INTO rollups (app, bucket, traces, tokens, error_count, p50_ms, p95_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    conn.execute(
        "INSERT INTO rollup_cursor (id, bucket) VALUES (1, ?)"
        " ON CONFLICT (id) DO UPDATE SET bucket = excluded.bucket",
        (max(row[1] for row in rows),),
    )


def begin(conn, stop):
    """Takes the write lock; False if it was told to stop before it had it."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while not stop.told:
        try:
            conn.execute("BEGIN IMMEDIATE")
            return True
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
    return False


def roll_up(conn, cursor, stop):
    """Rolls up what has settled, in one transaction, and gives the new cursor."""
    if not begin(conn, stop):
        return cursor
    try:
        buckets = settled_traces(conn, cursor, time.time())
        rows = [rollup_row(app, bucket, traces) for (app, bucket), traces in sorted(buckets.items())]
        if rows:
            store(conn, rows)
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
    if not rows:
        return cursor
    traces = sum(row[2] for row in rows)
    cursor = max(row[1] for row in rows)
    print(f"rollup: {traces} traces in {len(rows)} rows, up to second {cursor}", flush=True)
    return cursor


def work(path, stop):
    conn = connect(path)
    cursor = read_cursor(conn)
    print(f"rollup: works on {path} from second {cursor + 1}", flush=True)
    due = time.monotonic()
    while not stop.told:
        before = cursor
        cursor = roll_up(conn, cursor, stop)
        if cursor == before:
            due = max(due + EVERY, time.monotonic())
            stop.wait(due - time.monotonic())
    conn.close()
    print("rollup: stops", flush=True)


def main():
    url = os.environ.get("DATABASE_URL")
    if not url:
        sys.exit("rollup: `DATABASE_URL` is not set; try `sqlite:flowscope.db`")
    stop = Stop()
    try:
        work(database_path(url), stop)
    except sqlite3.Error as error:
        sys.exit(f"rollup: database: {error}")


if __name__ == "__main__":
    main()
