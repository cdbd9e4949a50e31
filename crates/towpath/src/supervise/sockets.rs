//! Who listens on a port.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use super::listening::{Listening, listening};

/// The ports that instances get.
pub const PORTS: Range<u16> = 20_000..32_000;

/// Who listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Nobody.
    Nobody,
    /// One of the processes asked about.
    Own,
    /// Another process, `(pid, name)` when they can be seen.
    Other(Option<(u32, String)>),
}

/// Who listens on `port`, seen from the tree of processes `pids`.
#[must_use]
pub fn owner(port: u16, pids: &[u32]) -> Owner {
    let found: Vec<Listening> = own().into_iter().filter(|one| one.port == port).collect();
    let inodes: BTreeSet<u64> = found.iter().map(|one| one.inode).collect();
    if inodes.is_empty() {
        return Owner::Nobody;
    }
    if pids.iter().any(|pid| holds(*pid, &inodes)) {
        return Owner::Own;
    }
    let everyone = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let other = everyone
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| holds(*pid, &inodes))
        .map(|pid| (pid, name(pid)));
    match other {
        None if found.iter().any(|one| is_of_closed(one.uid, pids)) => Owner::Own,
        other => Owner::Other(other),
    }
}

/// Whether one of the processes is of that user, and may not be looked into. A container of another
/// user's engine is such a one: then it is taken for the owner where nobody else is seen to be.
fn is_of_closed(uid: u32, pids: &[u32]) -> bool {
    pids.iter().any(|pid| {
        let closed = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        closed && std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|found| found.uid() == uid)
    })
}

/// Whether anything listens on `port` in the network of one of the processes `pids`, other than the
/// caller's own; true where that cannot be seen.
#[must_use]
pub(super) fn listens_inside(port: u16, pids: &[u32]) -> bool {
    let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let own = network("self");
    let mut seen = BTreeSet::new();
    for pid in pids {
        let theirs = network(&pid.to_string());
        if theirs.is_none() || theirs == own || !seen.insert(theirs) {
            continue;
        }
        let tables = ["tcp", "tcp6"].map(|name| format!("/proc/{pid}/net/{name}"));
        if entries(tables).any(|one| one.port == port) {
            return true;
        }
    }
    seen.is_empty()
}

/// The ports that the processes `pids` listen on.
#[must_use]
pub fn ports_of(pids: &[u32]) -> Vec<u16> {
    let inodes: BTreeSet<u64> = pids.iter().flat_map(|pid| sockets(*pid)).collect();
    let mut ports: Vec<u16> = own()
        .iter()
        .filter(|one| inodes.contains(&one.inode))
        .map(|one| one.port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// A port that nobody listens on and `taken` does not hold, searched from `start` on.
#[must_use]
pub fn free_port(start: u64, taken: &BTreeSet<u16>) -> Option<u16> {
    let span = u64::from(PORTS.end - PORTS.start);
    (0..span)
        .filter_map(|step| u16::try_from((start + step) % span).ok())
        .map(|offset| PORTS.start + offset)
        .find(|port| {
            !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
        })
}

/// Those of the caller's own network; from the tables where the kernel does not tell otherwise.
fn own() -> Vec<Listening> {
    listening().unwrap_or_else(|_| entries(["/proc/net/tcp", "/proc/net/tcp6"]).collect())
}

/// Every listening TCP socket of these tables; the columns are those of proc(5).
fn entries(tables: [impl AsRef<std::path::Path>; 2]) -> impl Iterator<Item = Listening> {
    let tables = tables.map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let lines: Vec<Listening> = tables
        .iter()
        .flat_map(|table| table.lines().filter_map(entry))
        .collect();
    lines.into_iter()
}

/// Most lines are connections, and there may be tens of thousands: they are told apart before anything is parsed.
fn entry(line: &str) -> Option<Listening> {
    if !line.contains(" 0A ") {
        return None;
    }
    let mut fields = line.split_ascii_whitespace().skip(1);
    let port = u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok()?;
    let is_listening = fields.nth(1)? == "0A";
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    is_listening.then_some(Listening { port, uid, inode })
}

fn holds(pid: u32, inodes: &BTreeSet<u64>) -> bool {
    sockets(pid).any(|inode| inodes.contains(&inode))
}

fn sockets(pid: u32) -> impl Iterator<Item = u64> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    descriptors.filter_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        target
            .to_str()?
            .strip_prefix("socket:[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    })
}

fn name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel and its tables tell the same of sockets that listen, and nothing of one that is connected.
    #[test]
    fn the_kernel_tells_what_its_tables_hold() {
        let addresses = ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"];
        let open = addresses.map(|address| TcpListener::bind(address).ok());
        let here: Vec<&TcpListener> = open.iter().flatten().collect();
        let client = std::net::TcpStream::connect(here[0].local_addr().unwrap()).unwrap();
        let inode =
            |socket: &dyn std::os::fd::AsFd| rustix::fs::fstat(socket.as_fd()).unwrap().st_ino;
        let expected: BTreeSet<(u16, u64)> = here
            .iter()
            .map(|one| (one.local_addr().unwrap().port(), inode(one)))
            .collect();
        let connected = inode(&client);
        let of_mine = |found: Vec<Listening>| -> BTreeSet<Listening> {
            let mine = expected.iter().map(|(_, inode)| *inode);
            let mine: BTreeSet<u64> = mine.chain([connected]).collect();
            let found = found.into_iter();
            found.filter(|one| mine.contains(&one.inode)).collect()
        };
        let told = of_mine(listening().unwrap());
        let pairs = told.iter().map(|one| (one.port, one.inode));
        assert_eq!(pairs.collect::<BTreeSet<_>>(), expected);
        let uid = rustix::process::getuid().as_raw();
        assert!(told.iter().all(|one| one.uid == uid));
        let tables = entries(["/proc/net/tcp", "/proc/net/tcp6"]).collect();
        assert_eq!(told, of_mine(tables));
    }
}
