//! node-pg-migrate, on PostgreSQL.

use crate::alembic::{columns, server};
use crate::fixture::Fixture;
use crate::{Migrator, fetched, holds};

const MANIFEST: &str = r#"
app = "fixture"

[services.web]
run = "exec node app.cjs"
needs = ["db"]
env = { NODE_PATH = "MODULES" }
ready = { http = "/health", every = "50ms", within = "20s", timeout = "10s" }
restart = { backoff = "50ms" }

[resources]
db = { kind = "postgres", migrate = { run = "node MODULES/node-pg-migrate/bin/node-pg-migrate.js up --migration-filename-format index" } }

[environments.local]
[environments.staging]
window = "1h"
"#;

const APP: &str = r#"
const { readFileSync } = require("node:fs");
const { Pool } = require("pg");
const pool = new Pool({ connectionString: process.env.DATABASE_URL });
// An idle connection that the server cuts off is none of anybody's requests.
pool.on("error", () => {});
const read = (name) => readFileSync(name, "utf8").trim();
require("node:http").createServer(async (request, response) => {
  try {
    if (request.url === "/health") await pool.query(read("query"));
    response.end(read("version"));
  } catch (error) {
    response.writeHead(500).end(error.message);
  }
}).listen(process.env.PORT, "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));
"#;

fn fixture() -> Fixture {
    let fixture = Fixture::with(&MANIFEST.replace("MODULES", "/nowhere"));
    let modules = fetched(&fixture, "node").join("node_modules");
    fixture.manifest(&MANIFEST.replace("MODULES", &modules.display().to_string()));
    fixture.write("app.cjs", APP);
    std::fs::remove_file(fixture.repo().join("migrations/.gitkeep")).unwrap();
    migration(
        &fixture,
        "1_notes",
        "pgm.createTable('notes', { id: 'id', body: 'text' })",
    );
    fixture
}

fn migration(fixture: &Fixture, name: &str, work: &str) {
    let text = format!("exports.up = (pgm) => {{ {work}; }};\nexports.down = () => {{}};\n");
    fixture.write(&format!("migrations/{name}.cjs"), &text);
}

#[test]
fn node_pg_migrate() {
    let migrator = Migrator {
        name: "node-pg-migrate",
        title: |fixture| {
            migration(
                fixture,
                "2_title",
                "pgm.addColumn('notes', { title: 'text' })",
            )
        },
        rename: |fixture| {
            migration(
                fixture,
                "3_more",
                "pgm.renameColumn('notes', 'body', 'text')",
            )
        },
        fails: |fixture| {
            migration(fixture, "3_more", "pgm.createTable('more', { id: 'id' })");
            migration(fixture, "4_fails", "pgm.sql('SELECT * FROM nowhere')");
        },
        applied: |fixture| server(fixture, "SELECT name::text FROM pgmigrations ORDER BY 1"),
        columns,
    };
    holds(fixture(), &migrator);
}
