// The HTTP side: what is asked where, and who may.
import express from "express";
import { habits } from "./habits.js";
import { logs } from "./logs.js";
import { people } from "./people.js";
import { Refusal, answerError } from "./refusal.js";
import { suggestions } from "./suggestions.js";
import { tasks } from "./tasks.js";

/** `parts`: database, updates, tokens, aiUrl. */
export function app(parts) {
  const app = express();
  app.disable("x-powered-by");
  // The gateway stands before it, and says whether the browser came by https.
  app.set("trust proxy", "loopback");

  // It lives: asked all the time, and no matter of the database.
  app.get("/livez", (_request, response) => void response.json({ status: "healthy" }));
  // It can work: asked before it gets its first request.
  app.get("/readyz", async (_request, response) => {
    const why = await parts.database.check().then(() => undefined, (error) => error.message);
    response.status(why ? 503 : 200).json(why ? { status: "unhealthy", database: why } : { status: "healthy" });
  });

  app.use("/api", express.json({ limit: "64kb" }), people(parts), signedIn(parts.tokens));
  app.use("/api", tasks(parts), habits(parts), logs(parts), suggestions(parts));
  app.use((_request, _response) => {
    throw new Refusal(404, "nothing here");
  });
  app.use(answerError);
  return app;
}

/** Sets `request.user`, from the token; nobody else comes further. */
function signedIn({ access }) {
  return async (request, _response, next) => {
    const [scheme, token] = (request.headers.authorization ?? "").split(" ");
    const claims = scheme === "Bearer" ? await access.read(token) : undefined;
    if (!claims) throw new Refusal(401, "sign in");
    request.user = claims.sub;
    next();
  };
}
