"""A link of 200 ms and 1 % loss, also where the kernel has no netem.

The server's own device is taken out of use, and a TAP device has its address instead. Between that and another one on
the bridge, a relay of ours carries each frame: late by half of the time there and back, or, one in a hundred, never.
What is slow and lossy is so for every packet of TCP, whose own affair it is to send it again.
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time

from machine import run, until

ROUND_TRIP = 0.2
LOSS = 0.01
TUNSETIFF, TAP_WITHOUT_HEADER = 0x400454CA, 0x0002 | 0x1000
NET_NAMESPACE = 0x40000000


def tap(space, name):
    """A TAP device in a network namespace. A thread of its own goes there, and ends."""
    opened = []

    def enter():
        with open(f"/run/netns/{space}") as place:
            if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), NET_NAMESPACE):
                opened.append(OSError(ctypes.get_errno(), f"setns {space}"))
                return
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), TAP_WITHOUT_HEADER))
        opened.append(device)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(opened[0], OSError):
        raise opened[0]
    return opened[0]


class Slow:
    """A server whose link is slow and lossy, as long as this is entered."""

    def __init__(self, server):
        self.server, self.lab = server, server.lab
        self.carried = self.lost = 0
        self.over = threading.Event()

    def __enter__(self):
        server, lab = self.server, self.lab
        # The same every time.
        self.dice = random.Random(1)
        self.here, self.there = tap(lab.space, "slow"), tap(server.space, "slow")
        run("ip", "-n", lab.space, "link", "set", "slow", "master", "bridge", "up")
        run("ip", "-n", server.space, "link", "set", "eth0", "down")
        run("ip", "-n", server.space, "address", "del", f"{server.address}/24", "dev", "eth0")
        run("ip", "-n", server.space, "address", "add", f"{server.address}/24", "dev", "slow")
        run("ip", "-n", server.space, "link", "set", "slow", "up")
        run("ip", "-n", lab.space, "neigh", "flush", "dev", "bridge")
        self.thread = threading.Thread(target=self.relay, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        # A device ends with its descriptor.
        os.close(self.here)
        os.close(self.there)
        server = self.server
        run("ip", "-n", server.space, "address", "add", f"{server.address}/24", "dev", "eth0")
        run("ip", "-n", server.space, "link", "set", "eth0", "up")
        run("ip", "-n", self.lab.space, "neigh", "flush", "dev", "bridge")

    def relay(self):
        other, waiting, order = {self.here: self.there, self.there: self.here}, [], 0
        while not self.over.is_set():
            pause = max(0, waiting[0][0] - time.monotonic()) if waiting else 0.1
            ready, _, _ = select.select(list(other), [], [], min(pause, 0.1))
            for device in ready:
                frame = os.read(device, 65536)
                self.carried += 1
                if self.dice.random() < LOSS:
                    self.lost += 1
                    continue
                order += 1
                heapq.heappush(waiting, (time.monotonic() + ROUND_TRIP / 2, order, other[device], frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, device, frame = heapq.heappop(waiting)
                try:
                    os.write(device, frame)
                except BlockingIOError:
                    self.lost += 1


def slow(operator, lab, proof):
    print(f"a link of {ROUND_TRIP * 1000:.0f} ms and {LOSS:.0%} loss, there and back")
    done = 0
    for server, verbs in zip(lab.servers, (("deploy",), ("promote", "rollback"))):
        version = operator.commit(ballast=1 << 20) if server.name == "staging" else f"v{operator.version}"
        with Slow(server) as link:
            began = time.monotonic()
            lab.ssh(server, "true")
            took = time.monotonic() - began
            before = operator.answers(server)
            for verb in verbs:
                began = time.monotonic()
                operator.do(verb, "-e", server.name)
                print(f"         {verb} took {time.monotonic() - began:.1f} s; a log-in over ssh {took:.1f} s")
                expected = version if verb != "rollback" else before
                done += operator.is_whole(server, expected)
            print(f"         {link.carried} packets, {link.lost} of them lost")
        until(f"{server.name} is reached again", lambda: operator.answers(server))
        slow_enough = took > 3 * ROUND_TRIP
        proof.count(f"{server.name}: the link was slow and lossy", int(slow_enough and link.lost > 0), 1)
    proof.count("deploy, promote and roll-back over it", done, 3)
