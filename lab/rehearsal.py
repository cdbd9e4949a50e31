"""`tow rehearse --servers`, with staging and production on the servers of the lab.

What is rehearsed is FlowScope, in three builds that are made beforehand: no server of the lab has a compiler. It has the
name of the application that is deployed there for real, and the names of its environments: those must not notice.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess

from machine import NET, OPERATOR, run, until

FLOWSCOPE = pathlib.Path(__file__).resolve().parent.parent / "systems/flowscope"
CHANGES = [
    ('app = "flowscope"', 'app = "notes"'),
    ('build = "cargo build --release --locked"', 'build = "true"'),
    ('cache = ["target"]\n', ""),
    ('artifact = ["target/release/flowscope"]', 'artifact = ["flowscope"]'),
    ("./target/release/flowscope", "./flowscope"),
    ("rate = 400", "rate = 100"),
    # Fewer, and longer: at this rate, too, some are under way at every moment.
    ("weight = 8\nget = \"/api/traces/next?app=quiet&timeout_ms=300\"",
     "weight = 4\nget = \"/api/traces/next?app=quiet&timeout_ms=2000\""),
    ("requests = 20000\nwrites = 5000", "requests = 4000\nwrites = 900"),
    # Only one of them: the other is said on the command line. A real environment listens on 8080 already.
    ("[environments.staging]", f'[environments.staging]\nserver = "deploy@{NET}.2"\nlisten = "0.0.0.0:8080"'),
    ("[environments.production]", '[environments.production]\nlisten = "0.0.0.0:8080"'),
]
PRODUCTION = f"production=deploy@{NET}.3"


def build(target):
    """FlowScope's three versions as programs below `target`, from one tree: that is what cargo knows them apart by."""
    place = target / "lab"
    shutil.rmtree(place, ignore_errors=True)
    tree = place / "tree"
    for version in ("first", "v2", "broken"):
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(FLOWSCOPE, tree, ignore=shutil.ignore_patterns("target", ".tow", "overlays", "tests"),
                        copy_function=shutil.copyfile)
        if version != "first":
            shutil.copytree(FLOWSCOPE / "overlays" / version, tree, dirs_exist_ok=True, copy_function=shutil.copyfile)
        words = ["cargo", "build", "--locked", "--manifest-path", tree / "Cargo.toml", "--target-dir", target]
        subprocess.run(list(map(str, words)), check=True)
        shutil.copy(target / "debug/flowscope", place / version)
    return place


class Rehearsal:
    """The tree that is rehearsed, and what is seen of rehearsals on the servers."""

    def __init__(self, lab, tow, programs):
        self.lab, self.tow = lab, tow
        self.tree = lab.dir / "flowscope"
        shutil.copytree(FLOWSCOPE, self.tree, ignore=shutil.ignore_patterns("target", ".tow", "src", "tests", "page"))
        for version, folder in (("first", "."), ("v2", "overlays/v2"), ("broken", "overlays/broken")):
            shutil.copy(programs / version, self.tree / folder / "flowscope")
        manifest = (self.tree / "tow.toml").read_text()
        for old, new in CHANGES:
            assert old in manifest, old
            manifest = manifest.replace(old, new)
        (self.tree / "tow.toml").write_text(manifest)
        # What else is there belongs to the sources of a service that is not built here.
        for left in ("Cargo.toml", "Cargo.lock", "clippy.toml", "README.md", ".gitignore"):
            (self.tree / left).unlink(missing_ok=True)
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "safe.directory=*", "-C", self.tree]
        run(*git, "init", "--quiet")
        run(*git, "add", "--all")
        run(*git, "commit", "--quiet", "--message", "FlowScope")
        run("chown", "-R", f"{OPERATOR}:{OPERATOR}", self.tree)

    def start(self, *words, patience=60):
        whole = self.lab.words("env", f"TOWPATH_PATIENCE={patience}", f"TMPDIR={self.lab.dir}/here", self.tow,
                               "-C", self.tree, "rehearse", *words)
        pipe = subprocess.PIPE
        return subprocess.Popen(whole, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)

    @staticmethod
    def end(child):
        out, err = child.communicate()
        return child.returncode, out, err

    def left(self):
        """Folders and processes of rehearsals, here and on the servers."""
        left = [str(path) for path in (self.lab.dir / "here").glob("towpath-rehearsal-*")]
        for server in self.lab.servers:
            folder = server.root / "home/deploy/.local/state/towpath-rehearsals"
            left += [str(path) for path in folder.glob("*")]
            left += [f"{server.name}: {pid}" for pid in server.pids() if b"towpath-rehearsals" in command(pid)]
        return left

    def serves(self, server):
        """Whether a rehearsal's gateway is up there."""
        folder = server.root / "home/deploy/.local/state/towpath-rehearsals"
        return list(folder.glob("*/notes/*/gateway.json"))


def command(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def whole(rehearsal, operator, proof):
    """The whole of it, with every fault planted, beside the real environments."""
    before = [real(operator, name) for name in ("staging", "production")]
    code, out, err = rehearsal.end(rehearsal.start("--servers", PRODUCTION, "--prove", "--json"))
    if code:
        print(err)
    report = json.loads(out) if out.startswith("{") else {}
    requests, writes = report.get("requests") or {}, report.get("writes") or {}
    total, acknowledged = requests.get("total", 0), writes.get("acknowledged", 0)
    proof.count("requests answered", total - requests.get("failed", 0), max(total, 4000))
    kept = acknowledged - sum(writes.get(name, 0) for name in ("lost", "doubled", "unreadable"))
    proof.count("acknowledged writes found, once each", kept, max(acknowledged, 900))
    zeros = report.get("zeros") or []
    proof.count("counts of the application that are zero of something",
                sum(zero["value"] == 0 and zero["of"] > 0 for zero in zeros), max(len(zeros), 1))
    refused = report.get("refused") or {}
    proof.count("third version refused, with no failed request",
                int(refused.get("outcome") == "undone" and refused.get("failed") == 0), 1)
    found = [fault["fault"] for fault in report.get("faults", []) if fault["found"]]
    proof.count(f"planted faults found ({', '.join(found)})", len(found), 4)
    hosts = [(host["environment"], host["server"], host["load"]) for host in report.get("hosts", [])]
    expected = [(server.name, f"deploy@{server.address}", "through ssh") for server in rehearsal.lab.servers]
    proof.count("environments on their servers, with the load through ssh", sum(one in hosts for one in expected), 2)
    print(f"         way back: {report.get('rollback_ms')} ms; {report.get('problems')}")
    proof.count("passed", int(code == 0 and report.get("passed") is True), 1)
    after = [real(operator, name) for name in ("staging", "production")]
    proof.count("real environments that did not notice", sum(one == other for one, other in zip(before, after)), 2)
    try:
        # Agents that have ended still remove what they put out of the way.
        until("nothing is left", lambda: not rehearsal.left(), patience=20)
    except RuntimeError:
        pass
    left = rehearsal.left()
    proof.count("nothing is left" + (f" but {left}" if left else ""), int(not left), 1)


def real(operator, environment):
    status = operator.status(environment)
    names = ("live", "warm", "listen", "agent_pid", "ended")
    release = [status[name]["release"] if isinstance(status[name], dict) else status[name] for name in names]
    return json.dumps(release, sort_keys=True, default=str)


def cut_short(rehearsal, proof):
    """Rehearsals that do not come to their end, and what is left of them."""
    gone = right = 0
    cases = ("Ctrl-C", "killed", "link cut")
    for case in cases:
        child = rehearsal.start("--servers", PRODUCTION, "--skip-local", patience=10)
        staging, production = rehearsal.lab.servers
        until("the rehearsal serves in production", lambda: rehearsal.serves(production) or child.poll() is not None,
              patience=600)
        if case == "Ctrl-C":
            child.send_signal(signal.SIGINT)
        elif case == "killed":
            child.kill()
        else:
            for server in (staging, production):
                server.cut()
        code, _, err = rehearsal.end(child)
        if case == "killed":
            shutil.rmtree(*(rehearsal.lab.dir / "here").glob("towpath-rehearsal-*"))
            is_right = code == -signal.SIGKILL
        elif case == "Ctrl-C":
            is_right = code == 1 and "everything it started is stopped" in err
        else:
            is_right = code == 1 and err.count("could not be taken down now") == 2
        right += is_right
        if not is_right:
            print(f"         {case}: exit code {code}, {rehearsal.left()}\n{err}")
        for server in (staging, production):
            server.mend()
        try:
            until("nothing is left", lambda: not rehearsal.left(), patience=120)
            gone += 1
        except RuntimeError:
            print(f"         {case}: {rehearsal.left()}")
    proof.count("rehearsals cut short (Ctrl-C, killed, link cut) that say what is true", right, len(cases))
    proof.count("of which nothing is left a while later", gone, len(cases))


def asked_wrong(rehearsal, operator, lab, proof):
    """What has to be refused, and touches nothing."""
    before = real(operator, "production")
    refused = 0
    words = (["--servers", "nowhere=deploy@x"], ["--servers", "production"], ["--servers", "local=deploy@x"])
    for case in words:
        code, _, _ = rehearsal.end(rehearsal.start(*case))
        refused += code == 2
    socket = lab.ssh(lab.servers[1], "ls /run/towpath/*/agent.sock").stdout.strip()
    for fault in ("early-kill", "put-back"):
        body = json.dumps({"what": {"operation": "rollback", "to": None}, "actor": "x", "sabotage": fault})
        ask = f"curl -s --unix-socket {socket} -X POST -d '{body}' http://a/v1/runs"
        refused += "faults are planted in rehearsals only" in lab.ssh(lab.servers[1], ask).stdout
    same = real(operator, "production") == before and not rehearsal.left()
    proof.count("wrong servers, and faults for a real environment, refused", refused if same else 0, len(words) + 2)


def rehearse(operator, lab, proof, tow, programs):
    print("a rehearsal on both servers, from the third")
    rehearsal = Rehearsal(lab, tow, programs)
    asked_wrong(rehearsal, operator, lab, proof)
    whole(rehearsal, operator, proof)
    cut_short(rehearsal, proof)
