"""Two "servers" and the place of an operator, on this machine: network namespaces on one bridge.

A server has its own addresses, root file system (an overlay on this machine's), users, processes, `/run` and `/tmp`,
and its own sshd. Its first process is `init.py`; when that is killed, the kernel kills all others with it, which is the
reboot. Nothing is changed outside a scratch folder and the namespaces, and all of it is gone at the end.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import uuid

HERE = pathlib.Path(__file__).resolve().parent
OPERATOR = 65534
NET = "10.213.77"


def run(*words, **more):
    """Runs a command that has to succeed; gives what it says."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def until(what, look, patience=60):
    """Polls until there is something."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise RuntimeError(f"did not happen within {patience} s: {what}")


class Server:
    """One server."""

    def __init__(self, lab, name, number):
        self.lab, self.name, self.address = lab, name, f"{NET}.{number}"
        self.space = f"tow-{name}-{os.getpid()}"
        self.link = f"tl{number}-{os.getpid() % 100000}"
        self.dir = lab.dir / name
        self.root = self.dir / "root"
        self.first = None

    def make(self):
        for part in ("upper", "work", "root"):
            (self.dir / part).mkdir(parents=True)
        layers = f"lowerdir=/,upperdir={self.dir}/upper,workdir={self.dir}/work"
        run("mount", "-t", "overlay", "overlay", "-o", layers, self.root)
        self.lab.undo.append(lambda: run("umount", "-l", self.root))
        for left in ("var/lib/towpath", "usr/local/bin/tow", "etc/systemd/system/towpath.service"):
            path = self.root / left
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        # The operators' group is what set-up makes.
        subprocess.run(["chroot", self.root, "groupdel", "towpath"], capture_output=True)
        for user in ("deploy", "eve"):
            run("chroot", self.root, "useradd", "--create-home", "--shell", "/bin/sh", user)
            run("chroot", self.root, "usermod", "--password", "*", user)
            keys = self.root / "home" / user / ".ssh"
            keys.mkdir(mode=0o700)
            shutil.copy(self.lab.dir / "key.pub", keys / "authorized_keys")
            run("chroot", self.root, "chown", "-R", f"{user}:", f"/home/{user}/.ssh")
        sudoers = self.root / "etc/sudoers.d/deploy"
        sudoers.write_text("deploy ALL=(ALL) NOPASSWD: ALL\n")
        sudoers.chmod(0o440)
        shared = self.root / "srv/app"
        shared.mkdir(parents=True)
        shared.chmod(0o777)
        (self.root / "lab").mkdir()
        shutil.copy(HERE / "init.py", self.root / "lab/init.py")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.root / "lab/host")
        self.network()

    def network(self):
        run("ip", "netns", "add", self.space)
        self.lab.undo.append(lambda: run("ip", "netns", "del", self.space))
        run("ip", "-n", self.lab.space, "link", "add", self.link, "type", "veth",
            "peer", "name", "eth0", "netns", self.space)
        run("ip", "-n", self.lab.space, "link", "set", self.link, "master", "bridge", "up")
        run("ip", "-n", self.space, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run("ip", "-n", self.space, "link", "set", device, "up")

    def boot(self):
        """Starts its first process, and waits until its sshd answers."""
        boot_id = self.dir / "boot-id"
        boot_id.write_text(f"{uuid.uuid4()}\n")
        script = """
            set -eu
            mount --make-rprivate /
            root=$1
            mount -t proc proc "$root/proc"
            mount --bind "$2" "$root/proc/sys/kernel/random/boot_id"
            mount -t tmpfs tmpfs "$root/run"
            mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
            mount --rbind /dev "$root/dev"
            mkdir -p "$root/run/sshd"
            exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
                chroot "$root" /usr/bin/python3 /lab/init.py
        """
        words = ["ip", "netns", "exec", self.space, "unshare", "--mount", "--pid", "--fork", "--kill-child",
                 "sh", "-c", script, "boot", str(self.root), str(boot_id)]
        log = open(self.dir / "console", "a")
        self.first = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(f"{self.name} comes up", lambda: self.lab.ssh(self, "true").returncode == 0)

    def kill(self):
        """The power is cut."""
        if self.first:
            # Killing whoever made its namespace kills its first process, and that kills all others.
            self.first.kill()
            self.first.wait()
            self.first = None
            until(f"everything in {self.name} is dead", lambda: not self.pids())

    def reboot(self):
        self.kill()
        self.boot()

    def pids(self):
        """Processes in its network."""
        done = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True)
        return done.stdout.split()

    def cut(self):
        run("ip", "-n", self.lab.space, "link", "set", self.link, "down")

    def mend(self):
        run("ip", "-n", self.lab.space, "link", "set", self.link, "up")

    def narrow(self):
        """What goes there takes its time."""
        run("tc", "-n", self.lab.space, "qdisc", "replace", "dev", self.link, "root", "tbf",
            "rate", "40mbit", "burst", "64kb", "latency", "300ms")

    def widen(self):
        subprocess.run(["tc", "-n", self.lab.space, "qdisc", "del", "dev", self.link, "root"], capture_output=True)


class Lab:
    """All of it; a context, so that it is gone however it ends."""

    def __init__(self):
        self.undo, self.servers = [], []
        self.space = f"tow-here-{os.getpid()}"
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="tow-servers-"))
        self.runtime = pathlib.Path(tempfile.mkdtemp(prefix="tr-"))

    def __enter__(self):
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def make(self):
        self.dir.chmod(0o755)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir / "key")
        (self.dir / "ssh_config").write_text(
            f"IdentityFile {self.dir}/key\nIdentitiesOnly yes\nUserKnownHostsFile {self.dir}/known_hosts\n"
            "StrictHostKeyChecking accept-new\n")
        ssh = self.dir / "ssh"
        ssh.write_text(f"#!/bin/sh\nexec ssh -F {self.dir}/ssh_config \"$@\"\n")
        ssh.chmod(0o755)
        (self.dir / "here").mkdir()
        run("ip", "netns", "add", self.space)
        self.undo.append(lambda: run("ip", "netns", "del", self.space))
        run("ip", "-n", self.space, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", self.space, "address", "add", f"{NET}.1/24", "dev", "bridge")
        for device in ("lo", "bridge"):
            run("ip", "-n", self.space, "link", "set", device, "up")
        self.servers = [Server(self, "staging", 2), Server(self, "production", 3)]
        for server in self.servers:
            server.make()
        for path in (self.dir, self.dir / "key", self.dir / "here", self.runtime):
            os.chown(path, OPERATOR, OPERATOR)
        for server in self.servers:
            server.boot()

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "pids", self.space], capture_output=True)
        for server in self.servers:
            self.attempt(server.kill)
        done = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True)
        for pid in done.stdout.split():
            self.attempt(lambda: os.kill(int(pid), signal.SIGKILL))
        for undo in reversed(self.undo):
            self.attempt(undo)
        shutil.rmtree(self.runtime, ignore_errors=True)
        shutil.rmtree(self.dir, ignore_errors=True)

    @staticmethod
    def attempt(act):
        try:
            act()
        except (OSError, RuntimeError) as error:
            print(f"while cleaning up: {error}")

    def words(self, *words):
        """A command as the operator, who is nobody in particular, types it."""
        return ["ip", "netns", "exec", self.space, "setpriv", f"--reuid={OPERATOR}", f"--regid={OPERATOR}",
                "--clear-groups", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"HOME={self.dir}/here",
                f"XDG_RUNTIME_DIR={self.runtime}", f"TOWPATH_SSH={self.dir}/ssh", "TOWPATH_PATIENCE=60",
                f"TOWPATH_STATE={self.dir}/here/states", "TOWPATH_ACTOR=operator", "NO_COLOR=1", *map(str, words)]

    def kill_ssh(self):
        """Ends every ssh of the operator, those that others share among them."""
        for pid in run("ip", "netns", "pids", self.space).split():
            try:
                if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "ssh":
                    os.kill(int(pid), signal.SIGKILL)
            except OSError:
                pass

    def ssh(self, server, command, user="deploy"):
        words = self.words(self.dir / "ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5",
                           f"{user}@{server.address}", command)
        return subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
