-- Notes on traces. Only adds: version 1 names the columns it reads and writes, and goes on working.

CREATE TABLE trace_notes (
    id         INTEGER PRIMARY KEY,
    trace_id   TEXT    NOT NULL,
    author     TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX trace_notes_by_trace ON trace_notes (trace_id);

-- When a trace was last noted, so that noted traces can be listed; null for all others.
ALTER TABLE traces ADD COLUMN noted_at INTEGER;
CREATE INDEX traces_by_noted ON traces (noted_at) WHERE noted_at IS NOT NULL;
