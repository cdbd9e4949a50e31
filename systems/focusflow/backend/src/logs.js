// Time that was spent in focus; what suggestions are made of.
import { Router } from "express";
import { Refusal, text, time } from "./refusal.js";

const COLUMNS = "id, note, started_at, ended_at";

export function logs({ database, updates }) {
  const router = Router();

  router.get("/logs", async (request, response) => {
    const asked = `SELECT ${COLUMNS} FROM time_logs ORDER BY started_at DESC LIMIT 50`;
    const { rows } = await database.as(request, (db) => db.query(asked));
    response.json({ logs: rows });
  });

  router.post("/logs", async (request, response) => {
    const { body } = request;
    const values = [text(body, "id", 64), String(body.note ?? "").slice(0, 500), time(body, "started_at"), time(body, "ended_at")];
    if (!values[2] || !values[3]) throw new Refusal(400, "started_at and ended_at are needed");
    const insert = "INSERT INTO time_logs (id, note, started_at, ended_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    const { rowCount } = await database.as(request, (db) => db.query(insert, values));
    if (rowCount > 0) await updates.tell(request.user, { kind: "logs" });
    response.status(rowCount > 0 ? 201 : 200).json({ id: values[0] });
  });

  return router;
}
