//! What a server sees of those that ask whether it works.

use std::fs;

use crate::fixture::Fixture;
use crate::machine::until;

const MANIFEST: &str = r#"
app = "fixture"

[services.web]
run = "python3 serve.py"
env = { DATA = "DATA" }
ready = { http = "/health", every = "20ms", within = "60s", timeout = "10s" }
alive = { http = "/health", every = "20ms", timeout = "10s" }

[environments.local]
listen = "LISTEN"
"#;

/// Says its head and, somewhat later, its body; writes down who was there to hear it all.
const SERVE: &str = r#"
import os, socket, threading, time
log = os.path.join(os.environ["DATA"], "asked")
def answer(asker):
    head = b""
    while b"\r\n\r\n" not in head:
        more = asker.recv(4096)
        if not more:
            return
        head += more
    who = "agent" if b"towpath-probe" in head else "gateway"
    try:
        asker.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        time.sleep(0.1)
        asker.sendall(b"the body")
        asker.shutdown(socket.SHUT_WR)
        heard = "whole" if asker.recv(1) == b"" else "more"
    except OSError as error:
        heard = str(error)
    with open(log, "a") as file:
        file.write(who + " " + heard + "\n")
server = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])), backlog=64)
while True:
    threading.Thread(target=answer, args=[server.accept()[0]], daemon=True).start()
"#;

#[test]
fn those_who_ask_hear_a_body_that_comes_late_to_its_end() {
    let mut fixture = Fixture::with(MANIFEST);
    fixture.write("serve.py", SERVE);
    fixture.commit();
    fixture.tow(&["up"]).expect(0);
    let asked = || fs::read_to_string(fixture.data("asked")).unwrap_or_default();
    let count = |who: &str| asked().lines().filter(|line| line.starts_with(who)).count();
    until("both have asked again and again", || {
        (count("agent") >= 4 && count("gateway") >= 4).then_some(())
    });
    let asked = asked();
    let cut = asked.lines().find(|line| !line.ends_with(" whole"));
    assert_eq!(cut, None, "{asked}");
    fixture.down("local");
}
