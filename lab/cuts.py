"""The link cut at every step of a deployment and of a promotion, and at every sixth of a transfer.

The steps are the rows of the journal, which is read where it lies. At a step's row the operator's ssh is killed and the
link is down for a while, so that whatever was connected breaks, and the first attempts to connect again fail.
"""

import os
import sqlite3
import threading
import time

from machine import until

# How long the link is down, seconds.
DOWN = 1.5
BALLAST = 6 << 20


class Journal:
    """What stands in the journal of an environment on a server."""

    def __init__(self, server):
        self.state = server.root / "var/lib/towpath/notes" / server.name

    def rows(self, run):
        """Step and kind of the rows of this run and later ones; of all of them, from 0."""
        db = sqlite3.connect(f"file:{self.state}/state.db?mode=ro", uri=True, timeout=10)
        try:
            return db.execute("SELECT run, step, kind FROM journal WHERE run >= ? ORDER BY seq", (run,)).fetchall()
        finally:
            db.close()

    def last(self):
        return max(row[0] for row in self.rows(0))

    def arrived(self):
        """Bytes of a blob that has not come whole."""
        parts = (self.state / "blobs/partial").glob("*")
        return max((part.stat().st_size for part in parts if part.is_file()), default=0)


class Cut(threading.Thread):
    """Cuts the link of a server once `look` says so, and mends it after a while."""

    def __init__(self, operator, server, look):
        super().__init__(daemon=True)
        self.operator, self.server, self.look = operator, server, look
        self.done, self.over = False, threading.Event()

    def run(self):
        while not self.over.is_set():
            try:
                if self.look():
                    break
            except (OSError, sqlite3.Error):
                pass
            time.sleep(0.002)
        else:
            return
        self.server.cut()
        self.operator.lab.kill_ssh()
        self.done = True
        time.sleep(DOWN)
        self.server.mend()

    def end(self):
        self.over.set()
        self.join()
        return self.done


def at_row(journal, run, step, kind):
    return lambda: (run, step, kind) in journal.rows(run)


def cuts(operator, lab, proof):
    print("the link cut: at every step of a deployment and of a promotion")
    staging, production = lab.servers
    at_steps(operator, proof, (staging, production))
    print("the link cut: at every sixth of what is transferred")
    at_bytes(operator, proof, (staging, production))
    print("the link cut: at every step of going back")
    going_back(operator, proof, staging)
    print("the link cut for longer than the command is patient")
    for_good(operator, proof, staging)


def attempt(operator, server, verb, look, expected, version):
    """One command with one cut; what went wrong, if anything did."""
    journal = Journal(server)
    before = journal.last()
    cut = Cut(operator, server, look(journal, before + 1))
    cut.start()
    code, _, err = operator.try_(verb, "-e", server.name)
    wrong = [] if cut.end() else ["nothing was cut"]
    if code != expected:
        wrong.append(f"exit code {code}, not {expected}\n{err}")
    try:
        until("whole", lambda: operator.is_whole(server, version), patience=30)
    except RuntimeError:
        wrong.append(f"not whole: {operator.answers(server)!r}, not {version}")
    if journal.last() != before + 1:
        wrong.append(f"{journal.last() - before} runs, not one")
    return wrong


def told(wrong, where):
    if wrong:
        print(f"         {where}: {'; '.join(wrong)}")
    return not wrong


def at_steps(operator, proof, servers):
    """Each round is one deployment and its promotion; the steps are those of the round before."""
    operator.commit(ballast=1 << 16)
    steps = []
    for verb, server in zip(("deploy", "promote"), servers):
        operator.do(verb, "-e", server.name)
        journal = Journal(server)
        rows = journal.rows(journal.last())
        # The run's own first row, then each step.
        steps.append([row[1] for row in rows if row[2] == "intent"])
    good = [0, 0]
    for number in range(max(map(len, steps))):
        version = operator.commit(ballast=1 << 16)
        for place, (verb, server) in enumerate(zip(("deploy", "promote"), servers)):
            if number >= len(steps[place]):
                if verb == "deploy":
                    operator.do(verb, "-e", server.name)
                continue
            step = steps[place][number]
            wrong = attempt(operator, server, verb, lambda journal, run: at_row(journal, run, step, "intent"), 0, version)
            good[place] += told(wrong, f"{verb}, cut at {step}")
    for verb, count, all in zip(("deploy", "promote"), good, steps):
        proof.count(f"{verb}: cut at a step ({' '.join(all)}), gone on with, nothing half done", count, len(all))


def at_bytes(operator, proof, servers):
    offsets = [1] + [BALLAST * sixth // 6 for sixth in range(1, 6)] + [BALLAST - 4096]
    good = [0, 0]
    for server in servers:
        server.narrow()
    for offset in offsets:
        version = operator.commit(ballast=BALLAST)
        for place, (verb, server) in enumerate(zip(("deploy", "promote"), servers)):
            def look(journal, _):
                return lambda: journal.arrived() >= offset
            wrong = attempt(operator, server, verb, look, 0, version)
            good[place] += told(wrong, f"{verb}, cut after {offset} bytes")
    for server in servers:
        server.widen()
    for verb, count in zip(("deploy", "promote"), good):
        proof.count(f"{verb}: cut after {', '.join(map(str, offsets))} bytes, gone on with", count, len(offsets))


def going_back(operator, proof, server):
    """A version that never becomes ready: each undo of it, cut."""
    good, undone = operator.deployed(server), []
    (operator.tree / "mode").write_text("never-ready")
    manifest = (operator.tree / "tow.toml").read_text()
    (operator.tree / "tow.toml").write_text(manifest.replace('within = "60s"', 'within = "1s"'))
    operator.commit(ballast=1 << 16)
    operator.try_("deploy", "-e", server.name)
    journal = Journal(server)
    undone = [row[1] for row in journal.rows(journal.last()) if row[2] == "undo_intent"]
    right = 0
    for step in undone:
        operator.commit(ballast=1 << 16)
        wrong = attempt(operator, server, "deploy",
                        lambda journal, run: at_row(journal, run, step, "undo_intent"), 5, good)
        right += told(wrong, f"undo of {step}")
    proof.count(f"cut at an undo ({' '.join(undone)}), undone, exit code 5", right, max(len(undone), 1))
    (operator.tree / "mode").unlink()
    (operator.tree / "tow.toml").write_text(manifest)


def for_good(operator, proof, server):
    """The command gives up: what had begun goes on without it, what had not has left nothing."""
    right, cases = 0, ("transfer", "launch:web", "switch")
    for case in cases:
        before = operator.deployed(server)
        ballast = BALLAST if case == "transfer" else 1 << 16
        version, journal = operator.commit(ballast=ballast), Journal(server)
        last = journal.last()
        looks = {"transfer": lambda: journal.arrived() > BALLAST // 2}
        if case == "transfer":
            server.narrow()
        child = operator.start("deploy", "-e", server.name, patience=2)
        look = looks.get(case, at_row(journal, last + 1, case, "intent"))
        until(f"{case} is reached", lambda: look() or child.poll() is not None)
        server.cut()
        operator.lab.kill_ssh()
        _, err = child.communicate()
        server.mend()
        server.widen()
        wrong = [] if child.returncode == 1 and "error[link::" in err else [f"exit code {child.returncode}\n{err}"]
        begun = case != "transfer"
        try:
            until("whole", lambda: operator.is_whole(server, version if begun else before), patience=30)
        except RuntimeError:
            wrong.append(f"not whole: {operator.answers(server)!r}")
        if journal.last() - last != int(begun):
            wrong.append(f"{journal.last() - last} runs")
        if not begun:
            operator.do("deploy", "-e", server.name)
            if not operator.is_whole(server, version):
                wrong.append("the next attempt did not bring it in")
        right += told(wrong, f"given up at {case}")
    proof.count(f"given up at {', '.join(cases)}: exit code 1, and nothing half done", right, len(cases))
