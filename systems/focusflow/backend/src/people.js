// Registering, signing in, staying signed in, signing out.
import { randomUUID } from "node:crypto";
import { Router } from "express";
import { hash, matches } from "./passwords.js";
import { Refusal, text } from "./refusal.js";
import { ACCESS_SECONDS, REFRESH_SECONDS } from "./tokens.js";

const COOKIE = "refresh";

export function people({ database, tokens }) {
  const router = Router();

  /** Answers with both tokens. */
  async function welcome(request, response, user, refresh) {
    const token = await tokens.refresh.issue(user.id, refresh);
    response.cookie(COOKIE, token, { ...cookie(request), maxAge: REFRESH_SECONDS * 1000 });
    response.json({ token: await tokens.access.issue(user.id), seconds: ACCESS_SECONDS, user: { email: user.email } });
  }

  async function signIn(request, response, user) {
    const session = { id: randomUUID(), token: randomUUID() };
    await database.as({ user: user.id }, async (db) => {
      await db.query("DELETE FROM sessions WHERE expires_at < now()");
      await db.query(
        "INSERT INTO sessions (id, token, expires_at) VALUES ($1, $2, now() + $3 * interval '1 second')",
        [session.id, session.token, REFRESH_SECONDS],
      );
    });
    await welcome(request, response, user, { session: session.id, jti: session.token });
  }

  router.post("/users", async (request, response) => {
    const { email, password } = credentials(request.body);
    if (password.length < 8) throw new Refusal(400, "password is shorter than 8 characters");
    const user = await register(database, email, password);
    if (!user) throw new Refusal(409, "this address is registered already");
    await signIn(request, response.status(201), user);
  });

  router.post("/session", async (request, response) => {
    const { email, password } = credentials(request.body);
    const { rows } = await database.as({ email }, (db) => db.query("SELECT * FROM users WHERE email = $1", [email]));
    if (!(await matches(password, rows[0]?.password))) throw new Refusal(401, "address or password is wrong");
    await signIn(request, response, rows[0]);
  });

  router.post("/session/refresh", async (request, response) => {
    const claims = await tokens.refresh.read(cookieOf(request));
    const turned = claims && (await database.as({ user: claims.sub }, (db) => turn(db, claims)));
    if (!turned) {
      response.clearCookie(COOKIE, cookie(request));
      throw new Refusal(401, "sign in again");
    }
    await welcome(request, response, turned, { session: claims.session, jti: turned.token });
  });

  router.delete("/session", async (request, response) => {
    const claims = await tokens.refresh.read(cookieOf(request));
    if (claims) {
      await database.as({ user: claims.sub }, (db) => db.query("DELETE FROM sessions WHERE id = $1", [claims.session]));
    }
    response.clearCookie(COOKIE, cookie(request)).status(204).end();
  });

  return router;
}

/** The user that was made, or undefined where the address is taken. */
export async function register(database, email, password) {
  const hashed = await hash(password);
  const { rows } = await database.as({ email }, (db) =>
    db.query("INSERT INTO users (email, password) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id, email", [email, hashed]),
  );
  return rows[0];
}

/** Turns a session's token over. One that is older than the last two was stolen, or used twice: the session ends. */
async function turn(db, { session, jti }) {
  const asked = `SELECT sessions.*, email FROM sessions JOIN users ON users.id = user_id
    WHERE sessions.id = $1 AND expires_at > now() FOR UPDATE OF sessions`;
  const found = (await db.query(asked, [session])).rows[0];
  if (!found) return undefined;
  const user = { id: found.user_id, email: found.email };
  if (found.token === jti) {
    const token = randomUUID();
    await db.query("UPDATE sessions SET token = $2, before = token, turned_at = now() WHERE id = $1", [session, token]);
    return { ...user, token };
  }
  // Another window was first, a moment ago.
  if (found.before === jti && Date.now() - found.turned_at < 30_000) return { ...user, token: found.token };
  await db.query("DELETE FROM sessions WHERE id = $1", [session]);
  return undefined;
}

function credentials(body) {
  const email = text(body, "email", 200).toLowerCase();
  if (!/^[^\s@]+@[^\s@]+$/.test(email)) throw new Refusal(400, "email is no address");
  text(body, "password", 200);
  return { email, password: body.password };
}

// A page of another site neither sees it nor has it sent.
function cookie(request) {
  return { httpOnly: true, sameSite: "strict", secure: request.secure, path: "/api/session" };
}

function cookieOf(request) {
  const pairs = (request.headers.cookie ?? "").split("; ").map((pair) => pair.split("="));
  return pairs.find(([name]) => name === COOKIE)?.[1];
}
