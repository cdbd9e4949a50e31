// The worker: tells people of tasks that are due. A task is marked only when it was told, so a reminder may come twice
// after a crash, and is never left out.
import { setTimeout as pause } from "node:timers/promises";
import { Database } from "./database.js";
import { settings } from "./settings.js";
import { Updates } from "./updates.js";

const EVERY_MS = 1_000;
const DUE = `UPDATE tasks SET reminded_at = now() WHERE (user_id, id) IN (
    SELECT user_id, id FROM tasks WHERE remind_at <= now() AND reminded_at IS NULL AND done_at IS NULL
    ORDER BY remind_at LIMIT 100 FOR UPDATE SKIP LOCKED)
  RETURNING user_id, id, title, done_at, remind_at, reminded_at, created_at`;

const set = settings("reminders");
const database = new Database(set.databaseUrl, 1);
const updates = new Updates(set.redisUrl);
const stop = new AbortController();
process.once("SIGTERM", () => stop.abort());

let said;
while (!stop.signal.aborted) {
  try {
    const told = await database.as({ worker: "reminders" }, remind);
    if (told > 0) console.log(`told of ${told} tasks`);
    said = undefined;
  } catch (error) {
    // The database or Redis is away: what is due now is told when they are back.
    if (said !== error.message) console.error(`later: ${error.message}`);
    said = error.message;
  }
  await pause(EVERY_MS, undefined, { signal: stop.signal }).catch(() => {});
}
updates.close();
await database.close();

async function remind(db) {
  const { rows } = await db.query(DUE);
  for (const { user_id, ...task } of rows) await updates.publish(user_id, { kind: "reminder", task });
  return rows.length;
}
