"""An application with everything it knows in its database, a SQLite file or a PostgreSQL: notes that come in and are found."""
import contextlib
import http.server
import json
import os
import sqlite3
import subprocess

URL = os.environ["DATABASE_URL"]
VERSION = open("version").read().strip()


def query(statement):
    """The first column; it is committed when it is answered."""
    if URL.startswith("sqlite://"):
        with contextlib.closing(sqlite3.connect(URL.removeprefix("sqlite://"), timeout=30)) as db, db:
            return [str(row[0]) for row in db.execute(statement)]
    words = [os.environ["PSQL"], "-XqAt", "--set=ON_ERROR_STOP=1", "-c", statement, URL]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, what):
        body = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/health":
            query("SELECT count(*) FROM notes")
            return self.answer(503 if VERSION == "broken" else 200, VERSION)
        if self.path == "/notes":
            whole, each = query("SELECT count(*) FROM notes UNION ALL SELECT count(DISTINCT id) FROM notes")
            return self.answer(200, {"twice": int(whole) - int(each), "all": int(whole)})
        found = int(query(f"SELECT count(*) FROM notes WHERE id = '{name(self.path.split('/')[-1])}'")[0])
        return self.answer(200 if found else 404, {"count": found})

    def do_POST(self):
        note = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        query(f"INSERT INTO notes VALUES ('{name(note['id'])}')")
        return self.answer(201, {})

    def log_message(self, *_):
        pass


def name(text):
    assert text.replace("-", "").isalnum(), text
    return text


http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
