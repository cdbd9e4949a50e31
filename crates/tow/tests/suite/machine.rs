//! Processes of this machine, and the one way to wait.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// Nothing here takes a fraction of it on an idle machine; two cores that all tests share are not idle.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// Polls until there is a value; fails the test when none comes.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look)
}

/// `until`, for what takes longer than anything else.
pub fn until_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    until_ok_within(patience, || look().ok_or_else(|| what.to_owned()))
        .unwrap_or_else(|what| panic!("did not happen: {what}"))
}

/// Polls until it is right; gives the last that was wrong when it never is.
pub fn until_ok<T, E>(look: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    until_ok_within(PATIENCE, look)
}

/// `until_ok`, for what takes longer than anything else.
pub fn until_ok_within<T, E>(
    patience: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let deadline = Instant::now() + patience;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(why) if Instant::now() > deadline => return Err(why),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Whether a process of that number runs; one that only waits to be reaped does not. A leader may
/// have ended before its threads, which still hold its files.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let threads = fields
        .get(17)
        .and_then(|count| count.parse().ok())
        .unwrap_or(0);
    fields
        .first()
        .is_some_and(|state| !matches!(*state, "Z" | "X") || threads > 1)
}

/// Children of a process that have ended, and that it has not waited for.
pub fn ended_children(parent: u32) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(&parent.to_string())
    };
    pids().into_iter().filter(is_one).collect()
}

/// SIGKILL.
pub fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // One that is gone by now is what was wanted.
    let _ = pid.map(|pid| rustix::process::kill_process(pid, Signal::KILL));
}

fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The parts of a file of `/proc` that end with a zero byte.
fn parts(pid: u32, file: &str) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let parts = bytes.split(|byte| *byte == 0);
    parts
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

/// Processes of instances of the environment in `state`, by instance.
pub fn members(state: &Path) -> BTreeMap<String, Vec<u32>> {
    let digest = towpath::id::Digest::of(state.as_os_str().as_encoded_bytes()).short();
    let prefix = format!("TOWPATH_MARK={digest}/");
    let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for pid in pids().into_iter().filter(|pid| is_alive(*pid)) {
        let environment = parts(pid, "environ");
        let mark = environment
            .iter()
            .find_map(|variable| variable.strip_prefix(&prefix));
        if let Some(id) = mark {
            found.entry(id.to_owned()).or_default().push(pid);
        }
    }
    found
}

/// Shims of the environment in `state`, by instance.
pub fn shims(state: &Path) -> BTreeMap<String, Vec<u32>> {
    let runs = state.join("run");
    let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for pid in pids() {
        let arguments = parts(pid, "cmdline");
        let [_, shim, dir, ..] = arguments.as_slice() else {
            continue;
        };
        if shim == "shim"
            && let Ok(id) = Path::new(dir).strip_prefix(&runs)
        {
            let id = id.display().to_string();
            found.entry(id).or_default().push(pid);
        }
    }
    found
}

/// Agents of states below `states`.
pub fn agents(states: &Path) -> BTreeSet<u32> {
    let states = states.display().to_string();
    let is_agent = |pid: &u32| {
        let arguments = parts(*pid, "cmdline");
        arguments.get(1).is_some_and(|word| word == "agent")
            && arguments.iter().any(|word| word.starts_with(&states))
    };
    pids().into_iter().filter(is_agent).collect()
}

/// Everything of the environment in `state` but its agent.
pub fn everything(state: &Path) -> Vec<u32> {
    let groups = shims(state)
        .into_values()
        .chain(members(state).into_values());
    groups.flatten().collect()
}

/// Ends what a test that failed has left.
pub fn sweep(states: &Path, state: &Path) {
    agents(states).into_iter().for_each(kill);
    for _ in 0..100 {
        // Shims first: they would start their children again.
        shims(state).into_values().flatten().for_each(kill);
        members(state).into_values().flatten().for_each(kill);
        if everything(state).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that does not outlive the test.
pub struct Reaped(pub Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
