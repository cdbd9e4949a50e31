// What the environment says, all of it checked before anything starts. Names as Towpath gives them.

const REQUIRED = {
  api: ["PORT", "DATABASE_URL", "REDIS_URL", "AI_URL", "JWT_SECRET", "JWT_REFRESH_SECRET"],
  reminders: ["DATABASE_URL", "REDIS_URL"],
  "first-user": ["DATABASE_URL"],
};

/** The settings of one of the programs; throws one error that names everything that is missing. */
export function settings(program, env = process.env) {
  const missing = REQUIRED[program].filter((name) => !env[name]);
  if (missing.length > 0) throw new Error(`not set: ${missing.join(", ")}`);
  return {
    host: env.HOST ?? "127.0.0.1",
    port: Number(env.PORT ?? 0),
    databaseUrl: env.DATABASE_URL,
    redisUrl: env.REDIS_URL,
    aiUrl: env.AI_URL,
    accessKeys: keys(env, "JWT_SECRET"),
    refreshKeys: keys(env, "JWT_REFRESH_SECRET"),
  };
}

// The first one signs. While a key is rotated, what the one before has signed is still accepted.
function keys(env, name) {
  const found = [env[name], env[`${name}_PREVIOUS`]].filter(Boolean);
  return found.map((text) => new TextEncoder().encode(text));
}
