DROP TABLE time_logs;
DROP TABLE habit_days;
DROP TABLE habits;
DROP TABLE tasks;
DROP TABLE sessions;
DROP TABLE users;
DROP FUNCTION app_user();
