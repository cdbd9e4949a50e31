-- Times are milliseconds since 1970 (UTC); durations are milliseconds.

CREATE TABLE users (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    created_at    INTEGER NOT NULL
);

-- Only the SHA-256 of a token is kept: whoever reads the file cannot sign in with it.
CREATE TABLE sessions (
    token_hash BLOB    PRIMARY KEY,
    user_id    INTEGER NOT NULL REFERENCES users (id),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- `trace_id` is the client's, and not unique on purpose: a write that arrives twice stays visible.
CREATE TABLE traces (
    id          INTEGER PRIMARY KEY,
    trace_id    TEXT    NOT NULL,
    app         TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    ingested_at INTEGER NOT NULL,
    duration_ms REAL    NOT NULL,
    tokens      INTEGER NOT NULL,
    error       TEXT,
    input       TEXT,
    output      TEXT
);
CREATE INDEX traces_by_trace_id ON traces (trace_id);
CREATE INDEX traces_by_app ON traces (app);
CREATE INDEX traces_by_ingest ON traces (ingested_at);

-- The spans of a trace in pre-order; `parent` is the position of the span they are nested in.
CREATE TABLE spans (
    trace_row   INTEGER NOT NULL REFERENCES traces (id),
    position    INTEGER NOT NULL,
    parent      INTEGER,
    name        TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    start_ms    REAL    NOT NULL,
    duration_ms REAL    NOT NULL,
    tokens      INTEGER NOT NULL,
    error       TEXT,
    input       TEXT,
    output      TEXT,
    PRIMARY KEY (trace_row, position)
) WITHOUT ROWID;

CREATE VIRTUAL TABLE trace_search USING fts5 (app, name, body, content = '');

CREATE TABLE prompts (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
);

CREATE TABLE prompt_versions (
    id         INTEGER PRIMARY KEY,
    prompt_id  INTEGER NOT NULL REFERENCES prompts (id),
    version    INTEGER NOT NULL,
    body       TEXT    NOT NULL,
    comment    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (prompt_id, version)
);

CREATE VIRTUAL TABLE prompt_search USING fts5 (name, body, content = '');

-- One row an app and second. Not unique on purpose: two workers at once are seen as doubled rows.
CREATE TABLE rollups (
    id          INTEGER PRIMARY KEY,
    app         TEXT    NOT NULL,
    bucket      INTEGER NOT NULL,
    traces      INTEGER NOT NULL,
    tokens      INTEGER NOT NULL,
    error_count INTEGER NOT NULL,
    p50_ms      REAL    NOT NULL,
    p95_ms      REAL    NOT NULL
);
CREATE INDEX rollups_by_app ON rollups (app, bucket);
CREATE INDEX rollups_by_bucket ON rollups (bucket);

CREATE TABLE rollup_cursor (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    bucket INTEGER NOT NULL
);
