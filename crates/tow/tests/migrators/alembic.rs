//! Alembic, on SQLite and on PostgreSQL.

use towpath::resource::{kept, postgres, url};

use crate::fixture::{Fixture, STAGING};
use crate::{Migrator, fetched, holds};

const MANIFEST: &str = r#"
app = "fixture"

[services.web]
run = "exec python3 app.py"
needs = ["db"]
env = { PYTHONPATH = "MODULES" }
ready = { http = "/health", every = "50ms", within = "20s", timeout = "10s" }
restart = { backoff = "50ms" }

[resources]
db = { kind = "KIND", migrate = { run = "python3 -m alembic upgrade head" } }

[environments.local]
[environments.staging]
window = "1h"
"#;

const URL: &str = r#"
import os

def url():
    given = os.environ["DATABASE_URL"]
    given = given.replace("sqlite://", "sqlite:///", 1)
    return given.replace("postgres://", "postgresql+pg8000://", 1)
"#;

const APP: &str = r#"
import http.server, os, signal, sys
from sqlalchemy import create_engine, text
from place import url

engine = create_engine(url())

def read(name):
    with open(name) as file:
        return file.read().strip()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        try:
            status, body = 200, read("version")
            if self.path == "/health":
                with engine.connect() as connection:
                    connection.execute(text(read("query"))).fetchall()
        except Exception as error:
            status, body = 500, str(error).splitlines()[0]
        self.send_response(status)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const ENV: &str = r#"
import os, sys
sys.path.insert(0, os.getcwd())
from alembic import context
from sqlalchemy import create_engine
from place import url

with create_engine(url()).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"#;

fn fixture(kind: &str) -> Fixture {
    let fixture = Fixture::with(
        &MANIFEST
            .replace("KIND", "sqlite")
            .replace("PYTHONPATH = \"MODULES\"", ""),
    );
    let modules = fetched(&fixture, "python");
    let manifest = MANIFEST.replace("KIND", kind);
    fixture.manifest(&manifest.replace("MODULES", &modules.display().to_string()));
    std::fs::create_dir_all(fixture.repo().join("alembic/versions")).unwrap();
    fixture.write("alembic.ini", "[alembic]\nscript_location = alembic\n");
    fixture.write("alembic/env.py", ENV);
    fixture.write("place.py", URL);
    fixture.write("app.py", APP);
    let create = "op.create_table('notes', sa.Column('id', sa.Integer, primary_key=True), sa.Column('body', sa.Text))";
    revision(&fixture, 1, create);
    fixture
}

fn revision(fixture: &Fixture, number: u32, work: &str) {
    let before = match number {
        1 => "None".to_owned(),
        _ => format!("'{:04}'", number - 1),
    };
    let text = format!(
        "import sqlalchemy as sa\nfrom alembic import op\n\nrevision = '{number:04}'\ndown_revision = {before}\n\n\ndef upgrade():\n    {work}\n"
    );
    fixture.write(&format!("alembic/versions/{number:04}.py"), &text);
}

fn title(fixture: &Fixture) {
    revision(
        fixture,
        2,
        "op.add_column('notes', sa.Column('title', sa.Text))",
    );
}

fn rename(fixture: &Fixture) {
    revision(
        fixture,
        3,
        "op.alter_column('notes', 'body', new_column_name='text')",
    );
}

fn fails(fixture: &Fixture) {
    revision(
        fixture,
        3,
        "op.create_table('more', sa.Column('id', sa.Integer))",
    );
    revision(fixture, 4, "op.execute('SELECT * FROM nowhere')");
}

fn sqlite(fixture: &Fixture, query: &str) -> Vec<String> {
    let db = rusqlite::Connection::open(fixture.state(STAGING).join("data/db.db")).unwrap();
    let mut query = db.prepare(query).unwrap();
    let rows = query.query_map((), |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

pub fn server(fixture: &Fixture, query: &str) -> Vec<String> {
    let kept = kept::read(&fixture.state(STAGING), "db").unwrap().unwrap();
    let mut client = postgres::connect(&url::of_kept(&kept)["url"], "test").unwrap();
    let rows = client.query(query, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

pub fn columns(fixture: &Fixture) -> String {
    let query = "SELECT string_agg(column_name::text, ' ' ORDER BY column_name) FROM information_schema.columns WHERE table_name = 'notes'";
    server(fixture, query).concat()
}

const APPLIED: &str = "SELECT version_num FROM alembic_version";

#[test]
fn alembic_on_sqlite() {
    let migrator = Migrator {
        name: "Alembic on SQLite",
        title,
        // A column that is renamed there is a table made anew.
        rename: |fixture| {
            revision(
                fixture,
                3,
                "op.execute('ALTER TABLE notes RENAME COLUMN body TO text')",
            )
        },
        fails,
        applied: |fixture| sqlite(fixture, APPLIED),
        columns: |fixture| {
            let query = "SELECT name FROM pragma_table_info('notes') ORDER BY name";
            sqlite(fixture, query).join(" ")
        },
    };
    holds(fixture("sqlite"), &migrator);
}

#[test]
fn alembic_on_postgresql() {
    let migrator = Migrator {
        name: "Alembic on PostgreSQL",
        title,
        rename,
        fails,
        applied: |fixture| server(fixture, APPLIED),
        columns,
    };
    holds(fixture("postgres"), &migrator);
}
