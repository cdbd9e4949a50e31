// PostgreSQL. Nothing of anybody's is asked outside a transaction that says who asks: row level security needs it.
import pg from "pg";

// A day is a day, whatever the zone of the machine.
pg.types.setTypeParser(pg.types.builtins.DATE, (text) => text);

/** Codes of errors that mean: the database is away, not that the question was wrong. */
const AWAY = /^(ECONN|EPIPE|ETIMEDOUT|ENOENT|08|57P0|53300)/;

export class Database {
  constructor(url, max = 10) {
    this.pool = new pg.Pool({ connectionString: url, max, connectionTimeoutMillis: 2_000, query_timeout: 10_000 });
    // An idle connection that ends is no more than that; the next question makes another one.
    this.pool.on("error", (error) => console.error(`database: ${error.message}`));
  }

  /** Runs `work` in a transaction as `who`: `{ user }`, `{ email }` while nobody is known yet, or `{ worker }`. */
  async as(who, work) {
    const client = await this.pool.connect();
    let failed;
    try {
      await client.query("BEGIN");
      await client.query(
        "SELECT set_config('app.user_id', $1, true), set_config('app.email', $2, true), set_config('app.worker', $3, true)",
        [who.user ?? "", who.email ?? "", who.worker ?? ""],
      );
      const done = await work(client);
      await client.query("COMMIT");
      return done;
    } catch (error) {
      failed = error;
      await client.query("ROLLBACK").catch(() => {});
      throw error;
    } finally {
      client.release(failed && isAway(failed));
    }
  }

  /** Whether it answers, and as a role that row level security holds for. Throws what is wrong. */
  async check() {
    const asked = "SELECT rolsuper OR rolbypassrls AS above FROM pg_roles WHERE rolname = current_user";
    const { rows } = await this.pool.query(asked);
    if (rows[0].above) throw new Error("its role is above row level security: everybody would see everything");
  }

  close() {
    return this.pool.end();
  }
}

/** Whether the error says that the database cannot be reached. */
export function isAway(error) {
  return AWAY.test(error.code ?? "") || /timeout|terminated|Connection ended/i.test(error.message);
}
