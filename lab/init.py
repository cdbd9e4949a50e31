"""The first process of a server of the lab: its sshd, and what has to run when the machine comes up. Reaps."""

import os
import time

SSHD = ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", "/lab/host", "-o", "UsePAM=no", "-o", "PidFile=none",
        "-o", "PasswordAuthentication=no", "-o", "UseDNS=no", "-o", "MaxStartups=100", "-o", "MaxSessions=100"]
BOOT = ["/usr/local/bin/tow", "--state", "/var/lib/towpath", "server", "run"]


def start(words):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.execv(words[0], words)
    return pid


started = {start(SSHD): SSHD}
# As a line of rc.local would have it, kept running.
if os.path.exists(BOOT[0]):
    started[start(BOOT)] = BOOT
while True:
    pid, _ = os.wait()
    again = started.pop(pid, None)
    if again:
        time.sleep(0.5)
        started[start(again)] = again
