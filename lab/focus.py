"""FocusFlow as the lab asks it: its API, a load on all of it, its database and cache, and what lies in its files."""

import datetime
import http.client
import json
import os
import secrets
import socket
import subprocess
import threading
import time

# The first user of `local`, as its manifest says.
DEMO = ("demo@focusflow.example", "demo-password")


class Api:
    """The API, as one person."""

    def __init__(self, listen):
        self.listen, self.token = listen, None

    def ask(self, method, path, body=None, timeout=30):
        """Status and body; raises where there was no answer."""
        headers = {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        connection = http.client.HTTPConnection(self.listen, timeout=timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def have(self, *asked):
        status, body = self.ask(*asked)
        if status not in (200, 201):
            raise RuntimeError(f"{asked[0]} {asked[1]}: {status} {body[:300]}")
        return json.loads(body)

    def sign_in(self, email, password):
        self.token = self.have("POST", "/api/session", {"email": email, "password": password})["token"]

    def register(self, email, password):
        self.token = self.have("POST", "/api/users", {"email": email, "password": password})["token"]

    def add(self, task, title, **more):
        return self.have("POST", "/api/tasks", {"id": task, "title": title, **more})

    def ids(self, of=None):
        """Tasks that are there: the newest, or those of `of`."""
        if of is None:
            return [task["id"] for task in self.have("GET", "/api/tasks")["tasks"]]
        return [task for task in of if self.ask("GET", f"/api/tasks/{task}")[0] == 200]

    def focus(self):
        """Six weeks of logs, so that there is something to suggest."""
        start = datetime.datetime.now(datetime.timezone.utc).replace(hour=9, minute=0) + datetime.timedelta(days=1)
        for week in range(1, 7):
            begins = start - datetime.timedelta(weeks=week)
            ends = begins + datetime.timedelta(hours=2)
            self.have("POST", "/api/logs", {"id": f"week-{week}-{secrets.token_hex(3)}", "started_at": begins.isoformat(),
                                            "ended_at": ends.isoformat()})


class Load:
    """Requests of each kind, one after the other, each kind on its own: what waits for one holds no other up."""

    EVERY = 0.15

    def __init__(self, api):
        self.api, self.over, self.lock = api, threading.Event(), threading.Lock()
        self.answers, self.written, self.since = [], [], 0.0
        self.kinds = {
            "page": lambda: api.ask("GET", "/")[0],
            "tasks": lambda: api.ask("GET", "/api/tasks")[0],
            "write": self.write,
            "suggestions": lambda: api.ask("GET", "/api/suggestions?zone=UTC")[0],
        }
        self.threads = [threading.Thread(target=self.send, args=pair, daemon=True) for pair in self.kinds.items()]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def write(self):
        task = secrets.token_hex(8)
        status = self.api.ask("POST", "/api/tasks", {"id": task, "title": "Under load"})[0]
        if status in (200, 201):
            self.written.append(task)
        return status

    def send(self, kind, ask):
        while not self.over.wait(self.EVERY):
            began = time.monotonic()
            try:
                good = ask() in (200, 201)
            except (OSError, http.client.HTTPException):
                good = False
            with self.lock:
                self.answers.append((began, kind, good))

    def mark(self):
        """Counts begin here."""
        self.since = time.monotonic()

    def are_answered(self, kinds):
        """Whether the last three of each kind were, of those sent since the mark."""
        with self.lock:
            since = [answer for answer in self.answers if answer[0] >= self.since]
        last = [[good for _, of, good in since if of == kind][-3:] for kind in kinds]
        return all(len(found) == 3 and all(found) for found in last)

    def counts(self):
        """By kind, how many were sent since the mark, and how many of these failed."""
        with self.lock:
            since = [(kind, good) for began, kind, good in self.answers if began >= self.since]
        return {kind: (sum(of == kind for of, _ in since), sum(of == kind and not good for of, good in since))
                for kind in self.kinds}


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat()


def page(listen):
    """The page, as it comes to a browser."""
    connection = http.client.HTTPConnection(listen, timeout=60)
    connection.request("GET", "/")
    return connection.getresponse().read().decode()


def answers(kept):
    """Whether a resource answers where it listens."""
    try:
        with socket.create_connection(("127.0.0.1", kept["port"]), timeout=2):
            pass
        return kept["engine"] != "postgres" or psql(kept)("SELECT 1") == "1"
    except (OSError, RuntimeError):
        return False


def psql(kept, admin=False):
    """Asks the database as the application's role, or as its server's administrator."""
    user, password = ("tow", kept["admin"]) if admin else (kept["name"], kept["password"])

    def ask(statement):
        env = {"PATH": os.environ["PATH"], "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "5"}
        words = ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(kept["port"]), "-U", user,
                 "-d", kept["name"], "-c", statement]
        done = subprocess.run(words, env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    return ask


def search(folder, needles):
    """The files below `folder` that hold one of them, in their contents or name; and how many there are."""
    found, files = [], 0
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            files += 1
            known = path.read_bytes() + os.fsencode(path.relative_to(folder))
            if any(needle in known for needle in needles):
                found.append(path)
    return found, files
