"""Flowise as somebody uses it from outside, chat flows posted at a rate, and what processes listen on."""

import base64
import concurrent.futures
import http.client
import json
import os
import pathlib
import threading
import time
import uuid

PORT = int(os.environ.get("FLOWSTACK_PORT", "3000"))
USER = "demo", "demo-password"
# What a credential holds that Flowise shows again: what is a password it does not.
KIND, SHOWN, WORD = "azureOpenAIApi", "azureOpenAIApiInstanceName", "a word nobody guesses"


class Flowise:
    """Through the gateway."""

    def __init__(self, key=None):
        self.key = key

    def ask(self, method, path, body=None, basic=False):
        """Status and body; raises where there was no answer."""
        headers = {"content-type": "application/json"}
        if basic:
            word = base64.b64encode(":".join(USER).encode()).decode()
            headers |= {"authorization": f"Basic {word}", "x-request-from": "internal"}
        elif self.key:
            headers["authorization"] = f"Bearer {self.key}"
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        try:
            connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def have(self, *asked, **more):
        status, body = self.ask(*asked, **more)
        if status not in (200, 201):
            raise RuntimeError(f"{asked[0]} {asked[1]}: {status} {body[:300]}")
        return json.loads(body) if body else None

    def ping(self):
        try:
            return self.ask("GET", "/ping") == (200, b"pong")
        except OSError:
            return False

    def make_key(self):
        made = self.have("POST", "/apikey", {"keyName": "load"}, basic=True)
        return next(one["apiKey"] for one in made if one["keyName"] == "load")

    def make_credential(self):
        holds = {"azureOpenAIApiKey": "secret", SHOWN: WORD, "azureOpenAIApiDeploymentName": "a", "azureOpenAIApiVersion": "b"}
        body = {"name": "kept", "credentialName": KIND, "plainDataObj": holds}
        return self.have("POST", "/credentials", body, basic=True)["id"]

    def credential(self, name):
        """Whether it can be opened."""
        status, body = self.ask("GET", f"/credentials/{name}")
        return status == 200 and json.loads(body).get("plainDataObj", {}).get(SHOWN) == WORD

    def post(self, name):
        body = {"id": name, "name": name[:8], "flowData": '{"nodes":[],"edges":[]}', "type": "CHATFLOW"}
        return self.ask("POST", "/chatflows", body)

    def drop(self, name):
        self.ask("DELETE", f"/chatflows/{name}")

    def ids(self):
        return [one["id"] for one in self.have("GET", "/chatflows")]


class Traffic:
    """As many chat flows a second, and as many pings, each on a connection of its own, until it is left."""

    def __init__(self, flowise, rate):
        self.flowise, self.rate = flowise, rate
        self.sent = self.failed = 0
        self.acknowledged, self.failures, self.longest = [], {}, 0.0
        self.lock, self.over = threading.Lock(), threading.Event()
        self.pool = concurrent.futures.ThreadPoolExecutor(64)
        self.pace = threading.Thread(target=self.go)

    def __enter__(self):
        self.began = time.monotonic()
        self.pace.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.pace.join()
        self.pool.shutdown()
        self.took = time.monotonic() - self.began

    def go(self):
        turn = 0
        while not self.over.wait(max(0.0, self.began + turn / self.rate - time.monotonic())):
            turn += 1
            self.pool.submit(self.one, str(uuid.uuid4()))
            self.pool.submit(self.one, None)

    def one(self, name):
        began = time.monotonic()
        try:
            status, body = self.flowise.post(name) if name else self.flowise.ask("GET", "/ping")
            why = None if status == 200 else f"{status} {body[:80]}"
        except (OSError, http.client.HTTPException) as error:
            why = repr(error)[:120]
        why = why and f"{'POST' if name else 'GET'} {why}"
        with self.lock:
            self.sent += 1
            self.longest = max(self.longest, time.monotonic() - began)
            if why:
                self.failed += 1
                self.failures[why] = self.failures.get(why, 0) + 1
            elif name:
                self.acknowledged.append(name)

    def told(self):
        rate = len(self.acknowledged) / self.took
        failures = f"; {self.failures}" if self.failures else ""
        return (f"{len(self.acknowledged)} chat flows acknowledged in {self.took:.0f} s, {rate:.1f} a second; "
                f"{self.failed} of {self.sent} requests failed, the longest took {self.longest:.1f} s{failures}")


def is_promise(line):
    """Whether a line is about going back, or about the schema: not one of the table of steps."""
    words = ("goes back", "rows written", "db: ", "schema")
    return not line[:1].isdigit() and any(word in line for word in words)


def sockets():
    """Listening sockets of the machine: address as the kernel writes it, and port, by inode."""
    found = {}
    for name in ("tcp", "tcp6"):
        for line in pathlib.Path("/proc/net", name).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                address, port = words[1].rsplit(":", 1)
                found[words[9]] = address, int(port, 16)
    return found


def of(pid, all_sockets):
    try:
        links = [os.readlink(path) for path in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []
    return [all_sockets[link[8:-1]] for link in links if link.startswith("socket:[") and link[8:-1] in all_sockets]


def listeners(pids):
    """Ports that processes listen on: for anybody, and on loopback only."""
    all_sockets, outside, inside = sockets(), set(), set()
    for pid in pids:
        for address, port in of(pid, all_sockets):
            loopback = address.endswith("7F") and len(address) == 8 or address == "0" * 24 + "01000000"
            (inside if loopback else outside).add(port)
    return outside, inside
