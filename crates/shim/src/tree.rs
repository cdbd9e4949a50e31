//! Process trees, as `/proc` shows them.
//!
//! Two ways to find one: below a living shim by parentage, and, once the shim is gone and its
//! orphans went to init, by what each of its processes has inherited: the mark in the environment,
//! and a resource limit that nothing in an application's way sets, the CPU time of a real-time
//! process. Its soft limit is the [`tag`] of the mark, a time of more than 100,000 years; it stays
//! through `env -i`, `setsid`, any number of forks and a change of user, and needs no privilege.
//! Out of reach is only what was orphaned, has cleared its environment *and* has set that limit.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, geteuid, getrlimit, setrlimit};

use crate::protocol::MARK;

/// How long [`sweep`] goes on killing before it reports what will not die.
const SWEEP_FOR: Duration = Duration::from_secs(10);
/// How often [`hunt`] looks again on a machine where processes come all the time.
const MOST_LOOKS: usize = 100;
/// How often [`kill_children`] looks; each takes some ten microseconds.
const LOOKS_AT_CHILDREN: usize = 20;

/// Why a tree could not be ended.
#[derive(Debug)]
pub enum Error {
    /// Processes that SIGKILL did not end in ten seconds: blocked in the kernel, or not ours to kill.
    Alive(Vec<u32>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alive(pids) => write!(f, "processes {pids:?} survive SIGKILL"),
        }
    }
}

impl std::error::Error for Error {}

/// What a tree uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of the processes and of those they reaped, milliseconds.
    pub cpu_ms: u64,
    /// Resident memory, bytes; pages that processes share are counted for each.
    pub rss_bytes: u64,
}

/// One process at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    parent: u32,
    /// Clock ticks after boot; with the pid it names a process for good.
    start: u64,
    alive: bool,
    ticks: u64,
    pages: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything; the last parenthesis ends it.
        let name_end = stat.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let state = *fields.first()?;
        Some(Self {
            pid,
            parent: u32::try_from(number(1)?).ok()?,
            start: number(19)?,
            // A leader that ended before its threads looks like a zombie and is none.
            alive: !matches!(state, "Z" | "X" | "x") || number(17)? > 1,
            ticks: (11..=14).filter_map(number).sum(),
            pages: number(21)?,
        })
    }

    /// True for the living, other than the caller, that have inherited the mark or its tag.
    fn carries(&self, mark: &str) -> bool {
        let wanted = |variable: &[u8]| {
            let value = variable.strip_prefix(MARK.as_bytes());
            value.and_then(|value| value.strip_prefix(b"=")) == Some(mark.as_bytes())
        };
        self.alive
            && self.pid != std::process::id()
            && (environment(self.pid).split(|&byte| byte == 0).any(wanted)
                || real_time_limit(self.pid) == Some(tag(mark)) && is_ours(self.pid))
    }

    /// Sends a signal to this very process, never to a later one with its number.
    pub(crate) fn signal(&self, signal: Signal) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return;
        };
        // A process that is gone by now is what was wanted: the results do not matter.
        let _ = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) if start_time(self.pid) == Some(self.start) => {
                rustix::process::pidfd_send_signal(fd, signal)
            }
            Err(Errno::NOSYS) => rustix::process::kill_process(pid, signal),
            _ => Ok(()),
        };
    }
}

/// Start time of a process in clock ticks after boot, `None` when there is none of that number.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    Process::read(pid).map(|process| process.start)
}

/// The living descendants of a process.
#[must_use]
pub fn members(root: u32) -> Vec<u32> {
    pids(&below(root, &[]))
}

/// The living processes that carry a mark, or the tag of it; never the caller.
#[must_use]
pub fn marked(mark: &str) -> Vec<u32> {
    pids(&find_marked(&all(), mark))
}

/// What a mark is as a limit in microseconds: one number out of 2^62, the same in every build, since
/// a tree is swept by later ones (FNV-1a).
pub(crate) fn tag(mark: &str) -> u64 {
    let hash = mark.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    1 << 62 | hash >> 2
}

/// Gives the caller the soft limit that its descendants are found by; `None` takes it off. Where the
/// hard limit stands against it there is none, and the mark alone has to do.
pub(crate) fn set_real_time_limit(tag: Option<u64>) {
    let maximum = getrlimit(Resource::Rttime).maximum;
    let current = tag.or(maximum);
    let _ = setrlimit(Resource::Rttime, Rlimit { current, maximum });
}

/// Anybody may read anybody's limits, and take a tag for his own: only root's sweep looks at other users' processes.
fn is_ours(pid: u32) -> bool {
    let user = geteuid();
    user.is_root()
        || fs::metadata(format!("/proc/{pid}")).is_ok_and(|found| found.uid() == user.as_raw())
}

fn real_time_limit(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max realtime timeout"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// What a process and its descendants use together.
#[must_use]
pub fn usage(root: u32) -> Usage {
    sum(Process::read(root).iter().chain(&below(root, &[])))
}

/// Ends everything that carries the mark or its tag, and the descendants of it: SIGKILL until none is left.
/// Returns how many processes were killed. Blocks for as long as that takes, usually milliseconds.
///
/// # Errors
/// When some are left after ten seconds.
pub fn sweep(mark: &str) -> Result<usize, Error> {
    let deadline = Instant::now() + SWEEP_FOR;
    let mut killed = BTreeSet::new();
    let mut empty_rounds = 0;
    while empty_rounds < 2 {
        // Parents and children first, as long as the one leads to the other.
        let mut found = with_descendants(mark);
        kill_all(&found);
        found.extend(hunt(mark));
        killed.extend(found.iter().map(|process| (process.pid, process.start)));
        let dying = killed.iter().any(|&(pid, start)| is_alive(pid, start));
        if found.is_empty() && !dying {
            empty_rounds += 1;
            continue;
        }
        empty_rounds = 0;
        if Instant::now() >= deadline {
            return Err(Error::Alive(pids(&found)));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(killed.len())
}

/// Kills what carries it as soon as it is seen, and looks again as long as anything new shows
/// up: a process may fork and end between being listed and being read, but then its child is new.
fn hunt(mark: &str) -> Vec<Process> {
    let mut seen = BTreeSet::new();
    let mut killed = Vec::new();
    for _ in 0..MOST_LOOKS {
        let new: Vec<u32> = numbers("/proc")
            .into_iter()
            .filter(|&pid| seen.insert(pid))
            .collect();
        if new.is_empty() {
            break;
        }
        for process in new.into_iter().rev().filter_map(Process::read) {
            if process.carries(mark) {
                process.signal(Signal::KILL);
                killed.push(process);
            }
        }
    }
    killed
}

/// SIGKILL, the newest first: the end of a chain of forks is what would slip away.
pub(crate) fn kill_all(processes: &[Process]) {
    for process in processes.iter().rev() {
        process.signal(Signal::KILL);
    }
}

/// SIGKILL to the caller's own children, read again and again: the only way to be faster than a
/// chain of forks, whose last link is always an orphan and so a child of the subreaper. None of the
/// numbers can be another process's by now, since only the caller could reap it.
pub(crate) fn kill_children() {
    let own = std::process::id();
    for _ in 0..LOOKS_AT_CHILDREN {
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let children = children.unwrap_or_default();
        for pid in children
            .split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// The living descendants of `root`, oldest number first, leaving out `except` and what is below.
pub(crate) fn below(root: u32, except: &[u32]) -> Vec<Process> {
    descendants(&all(), &[root], except)
}

/// As [`below`], by the kernel's own lists of children: what it costs goes with the size of the tree, and not with that
/// of the machine. A process that ends while it is read may hide some, so nothing is decided by it; and where the
/// kernel keeps no such lists, all processes are looked at.
pub(crate) fn glimpse(root: u32) -> Vec<Process> {
    if !std::path::Path::new("/proc/self/task")
        .join(std::process::id().to_string())
        .join("children")
        .exists()
    {
        return below(root, &[]);
    }
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for child in children(parent).into_iter().filter_map(Process::read) {
            open.push(child.pid);
            found.push(child);
        }
    }
    found.retain(|process| process.alive);
    found.sort_by_key(|process| process.pid);
    found
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = format!("/proc/{pid}/task");
    let of_thread = |tid| fs::read_to_string(format!("{tasks}/{tid}/children")).unwrap_or_default();
    let lists: Vec<String> = numbers(&tasks).into_iter().map(of_thread).collect();
    let words = lists.iter().flat_map(|list| list.split_whitespace());
    words.filter_map(|pid| pid.parse().ok()).collect()
}

/// Sums what processes use.
pub(crate) fn sum<'a>(processes: impl Iterator<Item = &'a Process>) -> Usage {
    let (ticks, pages) = processes.fold((0, 0), |(ticks, pages), process| {
        (ticks + process.ticks, pages + process.pages)
    });
    Usage {
        cpu_ms: ticks * 1000 / rustix::param::clock_ticks_per_second(),
        rss_bytes: pages * rustix::param::page_size() as u64,
    }
}

fn pids(processes: &[Process]) -> Vec<u32> {
    processes.iter().map(|process| process.pid).collect()
}

fn is_alive(pid: u32, start: u64) -> bool {
    Process::read(pid).is_some_and(|process| process.start == start && process.alive)
}

fn all() -> Vec<Process> {
    numbers("/proc")
        .into_iter()
        .filter_map(Process::read)
        .collect()
}

fn numbers(dir: &str) -> Vec<u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn descendants(all: &[Process], roots: &[u32], except: &[u32]) -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<&Process>> = BTreeMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut open = roots.to_vec();
    while let Some(parent) = open.pop() {
        // Taking the entry out also ends the walk where one root is below another.
        for &child in &children.remove(&parent).unwrap_or_default() {
            if !except.contains(&child.pid) {
                open.push(child.pid);
                found.push(child.clone());
            }
        }
    }
    found.retain(|process| process.alive);
    found.sort_by_key(|process| process.pid);
    found
}

fn find_marked(all: &[Process], mark: &str) -> Vec<Process> {
    let carries = |process: &&Process| process.carries(mark);
    all.iter().filter(carries).cloned().collect()
}

fn environment(pid: u32) -> Vec<u8> {
    let whole = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    if !whole.is_empty() {
        return whole;
    }
    // The leader may have ended before its threads; they still show it.
    let tasks = format!("/proc/{pid}/task");
    let of_thread = |tid| fs::read(format!("{tasks}/{tid}/environ")).unwrap_or_default();
    let mut threads = numbers(&tasks).into_iter().map(of_thread);
    threads.find(|text| !text.is_empty()).unwrap_or_default()
}

fn with_descendants(mark: &str) -> Vec<Process> {
    let all = all();
    let mut found = find_marked(&all, mark);
    let roots = pids(&found);
    found.extend(descendants(&all, &roots, &[std::process::id()]));
    found.sort_by_key(|process| process.pid);
    found.dedup_by_key(|process| process.pid);
    found
}
