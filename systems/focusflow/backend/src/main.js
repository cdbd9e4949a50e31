// The API.
import { createServer } from "node:http";
import { app } from "./app.js";
import { Database } from "./database.js";
import { Live } from "./live.js";
import { settings } from "./settings.js";
import { tokens } from "./tokens.js";
import { Updates } from "./updates.js";

const set = settings("api");
const parts = {
  database: new Database(set.databaseUrl),
  updates: new Updates(set.redisUrl),
  tokens: tokens(set),
  aiUrl: set.aiUrl,
};
const server = createServer(app(parts));
const live = new Live(server, parts.tokens);
parts.updates.listen(set.redisUrl, (user, update) => live.tell(user, update), () => live.again());
server.listen(set.port, set.host, () => console.log(`the API listens on http://${set.host}:${set.port}`));

// Requests are answered to their end; then nothing is left to keep the process.
process.once("SIGTERM", () => {
  live.close();
  parts.updates.close();
  server.close(() => parts.database.close());
});
