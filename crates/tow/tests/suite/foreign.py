"""An application on SQLite, with migrations of its own: `app.py serve` and `app.py migrate`.

What it is stands in files of its folder. `steps`: its migrations, a line each, every one a transaction. `on-start`:
that it applies them when it starts. `query`: what it asks for `/health`. `insert`: what it does with what is written.
`mode`: a fault. A step that begins with `!` changes nothing: `!wait WHERE FILE` waits as long as FILE is there,
where it is the copy or the live one that is migrated; `!only-live` fails on what is no copy.
"""

import http.server
import os
import signal
import sqlite3
import sys
import time

PATH = os.environ["DATABASE_URL"].removeprefix("sqlite://")


def text(name):
    try:
        with open(name) as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def connect():
    return sqlite3.connect(PATH, timeout=10, isolation_level=None)


def wait(where, path):
    """Waits as long as there is a file, and says beside it that it does."""
    if where != ("copy" if "rehearsal" in PATH else "live"):
        return
    if os.path.exists(path):
        open(path + ".held", "w").close()
    while os.path.exists(path):
        time.sleep(0.01)


def migrate():
    db = connect()
    db.execute("CREATE TABLE IF NOT EXISTS app_migrations (n INTEGER PRIMARY KEY)")
    for number, step in enumerate(text("steps").splitlines(), 1):
        db.execute("BEGIN IMMEDIATE")
        if not db.execute("SELECT 1 FROM app_migrations WHERE n = ?", [number]).fetchone():
            if step == "!only-live" and "rehearsal" not in PATH:
                raise SystemExit("it fails on the database itself")
            if step.startswith("!wait "):
                wait(*step.split()[1:])
            if not step.startswith("!"):
                db.execute(step)
            # Counts how often each is applied.
            db.execute("INSERT INTO app_migrations VALUES (?)", [number])
        db.execute("COMMIT")
    db.close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=""):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self):
        try:
            if self.path == "/version":
                return self.answer(200, text("version"))
            db = connect()
            if self.path == "/health":
                db.execute(text("query")).fetchall()
                return self.answer(200, "well")
            name = self.path.removeprefix("/write/")
            count = db.execute("SELECT count(*) FROM notes WHERE body = ?", [name]).fetchone()[0]
            return self.answer(200 if count else 404, '{"count": %d}' % count)
        except sqlite3.Error as error:
            return self.answer(500, str(error))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        try:
            connect().execute(text("insert"), [body])
            return self.answer(201)
        except sqlite3.Error as error:
            return self.answer(500, str(error))


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def serve():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if text("on-start"):
        migrate()
    if text("mode") == "exits":
        print("no reason is given")
        return
    # Not of the repository, where it would be of all versions.
    Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()


migrate() if sys.argv[1] == "migrate" else serve()
