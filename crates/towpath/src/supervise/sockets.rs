//! Who listens on a port, from `/proc`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

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
    let inodes = listening(port);
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
    Owner::Other(other)
}

/// The ports that the processes `pids` listen on.
#[must_use]
pub fn ports_of(pids: &[u32]) -> Vec<u16> {
    let own: BTreeSet<u64> = pids.iter().flat_map(|pid| sockets(*pid)).collect();
    let mut ports: Vec<u16> = entries()
        .filter(|(_, inode)| own.contains(inode))
        .map(|(port, _)| port)
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

fn listening(port: u16) -> BTreeSet<u64> {
    entries()
        .filter(|(found, _)| port == *found)
        .map(|(_, inode)| inode)
        .collect()
}

/// `(port, inode)` of every listening TCP socket; the columns are those of proc(5).
fn entries() -> impl Iterator<Item = (u16, u64)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let lines: Vec<(u16, u64)> = tables
        .iter()
        .flat_map(|table| table.lines().filter_map(entry))
        .collect();
    lines.into_iter()
}

/// Most lines are connections, and there may be tens of thousands: they are told apart before anything is parsed.
fn entry(line: &str) -> Option<(u16, u64)> {
    if !line.contains(" 0A ") {
        return None;
    }
    let mut fields = line.split_ascii_whitespace().skip(1);
    let port = u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok()?;
    let is_listening = fields.nth(1)? == "0A";
    is_listening.then(|| Some((port, fields.nth(5)?.parse().ok()?)))?
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
