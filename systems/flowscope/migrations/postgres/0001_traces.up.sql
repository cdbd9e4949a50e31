-- Times are milliseconds since 1970 (UTC); durations are milliseconds. Names are in the order of their bytes, as in SQLite.

CREATE TABLE users (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          TEXT   NOT NULL UNIQUE,
    password_hash TEXT   NOT NULL,
    created_at    BIGINT NOT NULL
);

-- Only the SHA-256 of a token is kept: whoever reads the table cannot sign in with it.
CREATE TABLE sessions (
    token_hash BYTEA  PRIMARY KEY,
    user_id    BIGINT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- `trace_id` is the client's, and not unique on purpose: a write that arrives twice stays visible.
CREATE TABLE traces (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    trace_id    TEXT   NOT NULL,
    app         TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    started_at  BIGINT NOT NULL,
    ingested_at BIGINT NOT NULL,
    duration_ms DOUBLE PRECISION NOT NULL,
    tokens      BIGINT NOT NULL,
    error       TEXT,
    input       TEXT,
    output      TEXT
);
CREATE INDEX traces_by_trace_id ON traces (trace_id);
CREATE INDEX traces_by_app ON traces (app, id);
CREATE INDEX traces_by_ingest ON traces (ingested_at);

-- The spans of a trace in pre-order; `parent` is the position of the span they are nested in.
CREATE TABLE spans (
    trace_row   BIGINT NOT NULL REFERENCES traces (id),
    position    BIGINT NOT NULL,
    parent      BIGINT,
    name        TEXT   NOT NULL,
    kind        TEXT   NOT NULL,
    start_ms    DOUBLE PRECISION NOT NULL,
    duration_ms DOUBLE PRECISION NOT NULL,
    tokens      BIGINT NOT NULL,
    error       TEXT,
    input       TEXT,
    output      TEXT,
    PRIMARY KEY (trace_row, position)
);

-- Words as the service takes texts apart: no dictionary of the server's has a say in what is found.
CREATE TABLE trace_search (
    id    BIGINT   PRIMARY KEY REFERENCES traces (id),
    words TSVECTOR NOT NULL
);
CREATE INDEX trace_search_by_word ON trace_search USING gin (words);

CREATE TABLE prompts (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE prompt_versions (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prompt_id  BIGINT NOT NULL REFERENCES prompts (id),
    version    BIGINT NOT NULL,
    body       TEXT   NOT NULL,
    comment    TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (prompt_id, version)
);

CREATE TABLE prompt_search (
    id    BIGINT   PRIMARY KEY REFERENCES prompt_versions (id),
    words TSVECTOR NOT NULL
);
CREATE INDEX prompt_search_by_word ON prompt_search USING gin (words);

-- One row an app and second. Not unique on purpose: two workers at once are seen as doubled rows.
CREATE TABLE rollups (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app         TEXT   NOT NULL,
    bucket      BIGINT NOT NULL,
    traces      BIGINT NOT NULL,
    tokens      BIGINT NOT NULL,
    error_count BIGINT NOT NULL,
    p50_ms      DOUBLE PRECISION NOT NULL,
    p95_ms      DOUBLE PRECISION NOT NULL
);
CREATE INDEX rollups_by_app ON rollups (app, bucket);
CREATE INDEX rollups_by_bucket ON rollups (bucket);

CREATE TABLE rollup_cursor (
    id     BIGINT PRIMARY KEY CHECK (id = 1),
    bucket BIGINT NOT NULL
);
