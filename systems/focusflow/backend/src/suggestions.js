// Good times to focus, from the AI service. It looks at the same token, so it knows by itself who asks.
import { Router } from "express";
import { Refusal } from "./refusal.js";

export function suggestions({ aiUrl }) {
  const router = Router();

  router.get("/suggestions", async (request, response) => {
    const url = new URL("/suggestions", aiUrl);
    url.searchParams.set("zone", String(request.query.zone ?? "UTC"));
    const headers = { authorization: request.headers.authorization };
    const answer = await fetch(url, { headers, signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
    if (!answer || answer.status >= 500) throw new Refusal(503, "suggestions are away for a moment");
    const told = await answer.json();
    response.status(answer.status).json(answer.ok ? told : { error: told.detail });
  });

  return router;
}
