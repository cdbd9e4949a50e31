import { Router } from "express";
import { Refusal, text } from "./refusal.js";

// Each with the days of the last four weeks on which it was kept.
const ALL = `SELECT id, name, coalesce(array_agg(day::text ORDER BY day) FILTER (WHERE day > current_date - 28), '{}') AS days
  FROM habits LEFT JOIN habit_days ON habit_id = id AND habit_days.user_id = habits.user_id
  GROUP BY habits.user_id, id ORDER BY created_at LIMIT 100`;

export function habits({ database, updates }) {
  const router = Router();
  const tell = (request) => updates.tell(request.user, { kind: "habits" });

  router.get("/habits", async (request, response) => {
    const { rows } = await database.as(request, (db) => db.query(ALL));
    response.json({ habits: rows });
  });

  router.post("/habits", async (request, response) => {
    const values = [text(request.body, "id", 64), text(request.body, "name", 100)];
    const insert = "INSERT INTO habits (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    await database.as(request, (db) => db.query(insert, values));
    await tell(request);
    response.status(201).json({ id: values[0] });
  });

  router.put("/habits/:id/days/:day", (request, response) => mark(request, response,
    "INSERT INTO habit_days (habit_id, day) SELECT id, $2 FROM habits WHERE id = $1 ON CONFLICT DO NOTHING"));

  router.delete("/habits/:id/days/:day", (request, response) => mark(request, response,
    "DELETE FROM habit_days WHERE habit_id = $1 AND day = $2"));

  async function mark(request, response, statement) {
    const { id, day } = request.params;
    if (!/^\d{4}-\d{2}-\d{2}$/.test(day)) throw new Refusal(400, "a day is like 2026-01-31");
    await database.as(request, (db) => db.query(statement, [id, day]));
    await tell(request);
    response.status(204).end();
  }

  return router;
}
