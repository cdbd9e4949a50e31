DROP INDEX traces_by_noted;
ALTER TABLE traces DROP COLUMN noted_at;
DROP TABLE trace_notes;
