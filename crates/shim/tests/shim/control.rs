//! Clients of every kind.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use towpath_shim::client::{Error, ask};
use towpath_shim::protocol::{Reply, Request, State};

use crate::harness::{HOUR_MS, PATIENCE, Shim, until};

fn sleeper() -> Shim {
    Shim::sh("exec sleep 1000").start()
}

fn connect(shim: &Shim) -> UnixStream {
    let stream = UnixStream::connect(&shim.spec.socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn replies(stream: &UnixStream) -> impl Iterator<Item = Reply> {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    lines
        .map_while(Result::ok)
        .map(|line| serde_json::from_str(&line).unwrap())
}

#[test]
fn only_the_owner_may_ask() {
    let shim = sleeper();
    let mode = shim.spec.socket.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn requests_in_sequence_are_answered_in_order() {
    let mut shim = sleeper();
    let mut stream = connect(&shim);
    let requests =
        b"{\"ask\":\"status\"}\nrubbish\n\n{\"ask\":\"status\",\"more\":1}\n{\"ask\":\"fly\"}\n";
    stream.write_all(requests).unwrap();
    // Half closed: it is answered all the same.
    stream
        .write_all(b"{\"ask\":\"stop\",\"grace_ms\":null}\n{\"ask\":\"status\"}\n")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let replies: Vec<Reply> = replies(&stream).collect();
    let kinds: String = replies
        .iter()
        .map(|reply| match reply {
            Reply::Status(status) if status.state == State::Ended => 'E',
            Reply::Status(_) => 's',
            Reply::Refused { .. } => 'r',
            Reply::Replaced { .. } => '?',
        })
        .collect();
    assert_eq!(kinds, "srrsrE");
    shim.end();
}

#[test]
fn a_request_without_end_is_refused_and_closed() {
    let shim = sleeper();
    let mut stream = connect(&shim);
    // The shim stops reading long before the end, and may close while this is being written.
    let _ = stream.write_all(&vec![b'{'; 1 << 20]);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(
        answer.is_empty() || answer.contains("at most 65536 bytes"),
        "{answer}"
    );
    until("it is closed", || {
        stream.write_all(b"x").is_err().then_some(())
    });
    shim.status();
}

#[test]
fn many_silent_clients_lock_nobody_out() {
    let shim = sleeper();
    let silent: Vec<UnixStream> = (0..200).map(|_| connect(&shim)).collect();
    for _ in 0..100 {
        shim.status();
    }
    drop(silent);
}

#[test]
fn a_client_that_reads_nothing_harms_nobody() {
    let mut shim = sleeper();
    let mut greedy = connect(&shim);
    greedy.set_nonblocking(true).unwrap();
    let mut written = 0;
    // Until the shim takes no more of it.
    for _ in 0..200 {
        while let Ok(size) = greedy.write(&b"{\"ask\":\"status\"}\n".repeat(100)) {
            written += size;
        }
        shim.status();
    }
    assert!(written > 0);
    let memory = std::fs::read_to_string(format!("/proc/{}/statm", shim.pid())).unwrap();
    let pages: usize = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(pages < 4096, "{pages} pages");
    shim.stop(HOUR_MS);
    shim.end();
}

#[test]
fn who_asks_for_a_stop_need_not_stay() {
    let mut shim = sleeper();
    shim.main();
    connect(&shim)
        .write_all(b"{\"ask\":\"stop\",\"grace_ms\":null}\n")
        .unwrap();
    assert_eq!(shim.end_of_child().signal, Some(15));
}

#[test]
fn everybody_who_waits_is_told_the_end() {
    let mut shim = Shim::sh("while [ ! -e go ]; do sleep 0.01; done; exit 6").start();
    let mut waiting: Vec<UnixStream> = (0..30).map(|_| connect(&shim)).collect();
    for stream in &mut waiting {
        stream.write_all(b"{\"ask\":\"wait\"}\n").unwrap();
    }
    shim.status();
    std::fs::write(shim.path("go"), "").unwrap();
    for stream in &waiting {
        let Some(Reply::Status(end)) = replies(stream).next() else {
            panic!("no answer")
        };
        assert_eq!(end.last_exit.unwrap().code, Some(6));
    }
    shim.end();
}

#[test]
fn the_client_says_what_is_wrong() {
    let mut shim = sleeper();
    let late = ask(
        &shim.spec.socket,
        &Request::Wait,
        std::time::Duration::from_millis(20),
    );
    assert!(matches!(late, Err(Error::Late)), "{late:?}");
    // A child between fork and exec would hold the socket for a moment longer.
    shim.main();
    shim.kill();
    // The socket is still there, and nobody behind it.
    assert!(matches!(
        shim.try_ask(&Request::Status),
        Err(Error::Absent(_))
    ));
    std::fs::remove_file(&shim.spec.socket).unwrap();
    assert!(matches!(
        shim.try_ask(&Request::Status),
        Err(Error::Absent(_))
    ));
}
