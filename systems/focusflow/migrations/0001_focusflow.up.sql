-- Everything belongs to a person, and PostgreSQL itself keeps it apart. The role that the application signs in as owns
-- these tables, so row level security is FORCEd: without that it would not hold for the owner. Who asks is said in each
-- transaction (`app.user_id`); where it is not said, nothing is seen.
CREATE FUNCTION app_user() RETURNS uuid LANGUAGE sql STABLE AS
  $$ SELECT nullif(current_setting('app.user_id', true), '')::uuid $$;

CREATE TABLE users (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  email text NOT NULL UNIQUE CHECK (email = lower(email)),
  password text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
-- Who signs in or registers is not known yet: that transaction sees the one address that was typed.
CREATE POLICY own ON users
  USING (id = app_user() OR email = nullif(current_setting('app.email', true), ''));

-- A sign-in. Each refresh turns `token` over; the one before counts for half a minute, for two windows that refresh at once.
CREATE TABLE sessions (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL DEFAULT app_user() REFERENCES users ON DELETE CASCADE,
  token uuid NOT NULL,
  before uuid,
  turned_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_of ON sessions (user_id);
ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON sessions USING (user_id = app_user());

-- The identifier comes from the browser, so that a request may be sent again; it is one person's only.
CREATE TABLE tasks (
  user_id uuid NOT NULL DEFAULT app_user() REFERENCES users ON DELETE CASCADE,
  id text NOT NULL CHECK (id ~ '^[A-Za-z0-9_-]{1,64}$'),
  title text NOT NULL CHECK (title <> ''),
  done_at timestamptz,
  remind_at timestamptz,
  reminded_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, id)
);
CREATE INDEX tasks_newest ON tasks (user_id, created_at DESC);
CREATE INDEX tasks_due ON tasks (remind_at) WHERE reminded_at IS NULL AND done_at IS NULL;
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON tasks USING (user_id = app_user());
-- The worker serves everybody, and sees no more of them than the tasks with a reminder.
CREATE POLICY reminders_see ON tasks FOR SELECT
  USING (current_setting('app.worker', true) = 'reminders' AND remind_at IS NOT NULL);
CREATE POLICY reminders_mark ON tasks FOR UPDATE
  USING (current_setting('app.worker', true) = 'reminders' AND remind_at IS NOT NULL);

CREATE TABLE habits (
  user_id uuid NOT NULL DEFAULT app_user() REFERENCES users ON DELETE CASCADE,
  id text NOT NULL CHECK (id ~ '^[A-Za-z0-9_-]{1,64}$'),
  name text NOT NULL CHECK (name <> ''),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, id)
);
ALTER TABLE habits ENABLE ROW LEVEL SECURITY;
ALTER TABLE habits FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON habits USING (user_id = app_user());

CREATE TABLE habit_days (
  user_id uuid NOT NULL DEFAULT app_user(),
  habit_id text NOT NULL,
  day date NOT NULL,
  PRIMARY KEY (user_id, habit_id, day),
  FOREIGN KEY (user_id, habit_id) REFERENCES habits ON DELETE CASCADE
);
ALTER TABLE habit_days ENABLE ROW LEVEL SECURITY;
ALTER TABLE habit_days FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON habit_days USING (user_id = app_user());

CREATE TABLE time_logs (
  user_id uuid NOT NULL DEFAULT app_user() REFERENCES users ON DELETE CASCADE,
  id text NOT NULL CHECK (id ~ '^[A-Za-z0-9_-]{1,64}$'),
  note text NOT NULL DEFAULT '',
  started_at timestamptz NOT NULL,
  ended_at timestamptz NOT NULL,
  PRIMARY KEY (user_id, id),
  CHECK (ended_at > started_at AND ended_at - started_at <= interval '24 hours')
);
CREATE INDEX time_logs_newest ON time_logs (user_id, started_at DESC);
ALTER TABLE time_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE time_logs FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON time_logs USING (user_id = app_user());
