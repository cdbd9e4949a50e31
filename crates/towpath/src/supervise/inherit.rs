//! Children of the program that this process was before it became this one.
//!
//! After an upgrade in place the shims started before are still children of the agent, but nobody
//! in the new program waits for them: once ended, they would stay in the process table.

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// Reaps the children that are there now, as they end. Must be called before any is started.
pub fn reap_inherited() {
    let mut children = children();
    if children.is_empty() {
        return;
    }
    let Ok(mut ended) = signal(SignalKind::child()) else {
        return;
    };
    tokio::spawn(async move {
        loop {
            children.retain(|pid| is_child(*pid));
            if children.is_empty() || ended.recv().await.is_none() {
                return;
            }
        }
    });
}

fn is_child(pid: Pid) -> bool {
    matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None))
}

fn children() -> Vec<Pid> {
    let threads = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")));
    let text: String = lists.map(Result::unwrap_or_default).collect();
    text.split_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}
