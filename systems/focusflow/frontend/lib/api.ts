// What the API is asked, as whoever is signed in. The short token lives here, in memory; the long one in a cookie that no
// script sees.

export type Task = { id: string; title: string; done_at: string | null; remind_at: string | null; created_at: string };
export type Habit = { id: string; name: string; days: string[] };
export type Log = { id: string; note: string; started_at: string; ended_at: string };
export type Suggestion = { starts_at: string; ends_at: string; share: number; weeks: number; of: number };
export type Me = { email: string };

/** An answer that is none of those hoped for. */
export class Failed extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

let token: string | undefined;
let refreshing: Promise<Me> | undefined;

/** The short token, for the WebSocket. */
export function currentToken(): string | undefined {
  return token;
}

async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(`/api${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (answer.ok) return (answer.status === 204 ? undefined : await answer.json()) as T;
  const told = (await answer.json().catch(() => ({}))) as { error?: string };
  throw new Failed(answer.status, told.error ?? `the server answers ${answer.status}`);
}

/** Asks, with a new token where the one there is has become too old. */
export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  try {
    return await ask<T>(method, path, body);
  } catch (error) {
    if (!(error instanceof Failed) || error.status !== 401) throw error;
    await refresh();
    return ask<T>(method, path, body);
  }
}

async function enter(method: string, path: string, body?: unknown): Promise<Me> {
  const answer = await ask<{ token: string; user: Me }>(method, path, body);
  token = answer.token;
  return answer.user;
}

/** A new token for the cookie there is; fails with 401 where nobody is signed in. */
export function refresh(): Promise<Me> {
  refreshing ??= enter("POST", "/session/refresh").finally(() => (refreshing = undefined));
  return refreshing;
}

export const signIn = (email: string, password: string) => enter("POST", "/session", { email, password });
export const register = (email: string, password: string) => enter("POST", "/users", { email, password });

export async function signOut(): Promise<void> {
  await ask("DELETE", "/session");
  token = undefined;
}
