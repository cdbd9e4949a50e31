import { Router } from "express";
import { Refusal, text, time } from "./refusal.js";

const COLUMNS = "id, title, done_at, remind_at, reminded_at, created_at";

export function tasks({ database, updates }) {
  const router = Router();
  const tell = (request, task) => updates.tell(request.user, { kind: "task", task });

  router.get("/tasks", async (request, response) => {
    const asked = `SELECT ${COLUMNS} FROM tasks ORDER BY created_at DESC, id LIMIT 100`;
    const { rows } = await database.as(request, (db) => db.query(asked));
    response.json({ tasks: rows });
  });

  router.get("/tasks/:id", async (request, response) => {
    const { rows } = await database.as(request, (db) => find(db, request.params.id));
    if (!rows[0]) throw new Refusal(404, "no such task");
    response.json(rows[0]);
  });

  // The same request twice is one task.
  router.post("/tasks", async (request, response) => {
    const values = [text(request.body, "id", 64), text(request.body, "title"), time(request.body, "remind_at")];
    const { task, isNew } = await database.as(request, async (db) => {
      const insert = `INSERT INTO tasks (id, title, remind_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING ${COLUMNS}`;
      const made = (await db.query(insert, values)).rows[0];
      return { task: made ?? (await find(db, values[0])).rows[0], isNew: Boolean(made) };
    });
    if (isNew) await tell(request, task);
    response.status(isNew ? 201 : 200).json(task);
  });

  router.patch("/tasks/:id", async (request, response) => {
    const done = request.body?.done;
    if (typeof done !== "boolean") throw new Refusal(400, "done is true or false");
    const asked = `UPDATE tasks SET done_at = CASE WHEN $2 THEN coalesce(done_at, now()) END WHERE id = $1 RETURNING ${COLUMNS}`;
    const { rows } = await database.as(request, (db) => db.query(asked, [request.params.id, done]));
    if (!rows[0]) throw new Refusal(404, "no such task");
    await tell(request, rows[0]);
    response.json(rows[0]);
  });

  router.delete("/tasks/:id", async (request, response) => {
    const { id } = request.params;
    const { rowCount } = await database.as(request, (db) => db.query("DELETE FROM tasks WHERE id = $1", [id]));
    if (rowCount > 0) await updates.tell(request.user, { kind: "task-gone", id });
    response.status(204).end();
  });

  return router;
}

function find(db, id) {
  return db.query(`SELECT ${COLUMNS} FROM tasks WHERE id = $1`, [id]);
}
