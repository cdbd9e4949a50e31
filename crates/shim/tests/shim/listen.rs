//! Listeners outlive the children that serve them.
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use towpath_shim::protocol::{Policy, Reply, Request, State};

use crate::harness::{HOUR_MS, PATIENCE, Shim, alive, signal, until};

/// Answers `count` connections with its name and pid, then ends.
const SERVER: &str = "import os, socket, sys
listener = socket.socket(fileno=3)
for _ in range(int(sys.argv[2])):
    connection, _ = listener.accept()
    connection.sendall(f'{sys.argv[1]} {os.getpid()}'.encode())
    connection.close()";

fn argv(name: &str, count: u32) -> Vec<String> {
    let count = count.to_string();
    ["python3", "-S", "-c", SERVER, name, &count]
        .map(str::to_owned)
        .to_vec()
}

fn server(name: &str, count: u32) -> Shim {
    Shim::new(&[]).with(|spec| {
        spec.argv = argv(name, count);
        spec.listen = vec!["127.0.0.1:0".into()];
        spec.restart.policy = Policy::Always;
        spec.restart.limit = u32::MAX;
    })
}

/// Where the shim's first listener listens, found by the socket on its descriptor 3.
pub fn address(shim: &Shim) -> SocketAddr {
    let link = fs::read_link(format!("/proc/{}/fd/3", shim.pid())).unwrap();
    let inode = link
        .to_str()
        .unwrap()
        .trim_matches(|c: char| !c.is_ascii_digit())
        .to_owned();
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let row = table
        .lines()
        .find(|row| row.split_whitespace().nth(9) == Some(&inode))
        .unwrap();
    let port = row
        .split_whitespace()
        .nth(1)
        .unwrap()
        .split_once(':')
        .unwrap()
        .1;
    ([127, 0, 0, 1], u16::from_str_radix(port, 16).unwrap()).into()
}

/// Kills a server; a connection that it accepted while dying would be lost.
fn kill(pid: u32) {
    signal(pid, Signal::KILL);
    until("it is dead", || (!alive(pid)).then_some(()));
}

fn ask(address: SocketAddr) -> (String, u32) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (name, pid) = text.split_once(' ').unwrap();
    (name.to_owned(), pid.parse().unwrap())
}

#[test]
fn clients_wait_while_the_child_is_started_again() {
    let mut shim = server("one", 1).start();
    let address = address(&shim);
    let pids: BTreeSet<u32> = (0..20).map(|_| ask(address).1).collect();
    assert_eq!(pids.len(), 20);
    until("the last restart", || {
        (shim.status().restarts >= 20).then_some(())
    });
    shim.stop(HOUR_MS);
    shim.end();
    println!("{} connections served by {} children", 20, pids.len());
}

#[test]
fn a_replacement_serves_beside_the_first_and_is_what_is_restarted() {
    let mut shim = server("old", 1_000_000).start();
    let address = address(&shim);
    let (name, old) = ask(address);
    assert_eq!(name, "old");
    let Reply::Replaced { pid: new } = shim
        .try_ask(&Request::Replace {
            argv: argv("new", 1_000_000),
        })
        .unwrap()
    else {
        panic!("not replaced")
    };
    let mut seen = BTreeSet::new();
    until("both answer", || {
        seen.insert(ask(address));
        (seen.len() == 2).then_some(())
    });
    assert_eq!(
        seen,
        [("old".to_owned(), old), ("new".to_owned(), new)].into()
    );
    let now = shim.status();
    assert!(matches!(now.state, State::Running { pid, .. } if pid == new));
    assert_eq!(now.pids[0], new);
    assert!(now.pids.contains(&old));

    kill(old);
    until("the first is gone", || {
        (shim.status().pids == [new]).then_some(())
    });
    assert_eq!((shim.status().restarts, shim.status().last_exit), (0, None));

    kill(new);
    let again = until("another one", || {
        Some(ask(address)).filter(|(_, pid)| *pid != new)
    });
    assert_eq!(again.0, "new");
    assert_eq!(shim.status().restarts, 1);
    assert!(!alive(old));
    shim.stop(HOUR_MS);
    shim.end();
}

#[test]
fn a_replacement_that_cannot_start_changes_nothing() {
    let mut shim = server("old", 1_000_000).start();
    let address = address(&shim);
    let reply = shim
        .try_ask(&Request::Replace {
            argv: vec!["/no/such".into()],
        })
        .unwrap();
    assert!(
        matches!(&reply, Reply::Refused { why } if why.contains("/no/such")),
        "{reply:?}"
    );
    let (_, old) = ask(address);
    kill(old);
    until("it is started again", || {
        (ask(address).1 != old).then_some(())
    });
    shim.stop(HOUR_MS);
    shim.end();
}

#[test]
fn a_replacement_that_ends_leaves_the_first_alone() {
    let mut shim = server("old", 1_000_000)
        .with(|spec| spec.restart.policy = Policy::Never)
        .start();
    let address = address(&shim);
    let (_, old) = ask(address);
    shim.try_ask(&Request::Replace {
        argv: vec!["false".into()],
    })
    .unwrap();
    until("the new one ended", || {
        (shim.status().state == State::Ended).then_some(())
    });
    assert_eq!(ask(address), ("old".to_owned(), old));
    assert_eq!(shim.status().pids, [old]);
    signal(old, Signal::TERM);
    assert_eq!(shim.end_of_child().code, Some(1));
}
