// What is answered when it does not go as asked.
import { isAway } from "./database.js";

/** Something that whoever asks can mend. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// PostgreSQL's own: a value that a CHECK refuses, text that is no time or number, one that is there already.
const REFUSED = { 23514: 400, "22P02": 400, 22007: 400, 22008: 400, 22021: 400, 23505: 409 };

// Express knows an error handler by its four parameters.
export function answerError(error, _request, response, _next) {
  const status = error.status ?? REFUSED[error.code] ?? (isAway(error) ? 503 : 500);
  if (status === 503) response.set("Retry-After", "1");
  if (status === 500) console.error(error);
  const told = { 500: "something went wrong here", 503: error.status ? error.message : "the database is away" };
  response.status(status).json({ error: told[status] ?? error.message });
}

/** A text of the body, trimmed, of at most `longest` characters. */
export function text(body, name, longest = 500) {
  const value = body?.[name];
  if (typeof value !== "string" || value.trim() === "") throw new Refusal(400, `${name} is missing`);
  if (value.length > longest) throw new Refusal(400, `${name} is longer than ${longest} characters`);
  return value.trim();
}

/** A time of the body, or null where there is none. */
export function time(body, name) {
  const value = body?.[name] ?? null;
  if (value !== null && (typeof value !== "string" || Number.isNaN(Date.parse(value)))) {
    throw new Refusal(400, `${name} is no time`);
  }
  return value;
}
