//! Requests and writes that go on all the while.

use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::runtime::Runtime;
use towpath::load::{Load, Report};
use towpath::{config, manifest::Manifest};

use crate::fixture::Fixture;
use crate::machine::until;

/// The traffic that the fixture's manifest declares.
pub struct Traffic {
    runtime: Runtime,
    load: Load,
}

impl Traffic {
    /// Begins to send to `listen`, and returns when requests are answered.
    pub fn start(fixture: &Fixture, listen: &str) -> Traffic {
        let text = std::fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
        let manifest = Manifest::parse("tow.toml", &text).unwrap();
        let traffic = config::resolve(&manifest, "staging")
            .unwrap()
            .traffic
            .unwrap();
        let addr: SocketAddr = listen.parse().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let load = runtime.block_on(Load::start(addr, None, traffic)).unwrap();
        let traffic = Traffic { runtime, load };
        traffic.more();
        traffic
    }

    /// Requests that failed until now.
    pub fn failed(&self) -> u64 {
        self.load.progress().failed
    }

    /// Requests that finished until now.
    pub fn total(&self) -> u64 {
        self.load.progress().total
    }

    /// Returns when twenty requests more have finished.
    pub fn more(&self) {
        let goal = self.total() + 20;
        until("requests go on", || (self.total() >= goal).then_some(()));
    }

    /// Ends it.
    pub fn stop(self) -> Report {
        self.runtime.block_on(self.load.stop())
    }
}

/// Acknowledged writes that are not there, and those that are there twice.
pub fn lost_and_doubled(fixture: &Fixture, report: &Report) -> (usize, usize) {
    let folders = ["data", "data-production"].map(|folder| fixture.dir.join(folder));
    let text = folders
        .map(|folder| std::fs::read_to_string(folder.join("writes")).unwrap_or_default())
        .concat();
    let mut found: HashMap<&str, usize> = HashMap::new();
    text.lines()
        .for_each(|id| *found.entry(id).or_default() += 1);
    let lost = report
        .writes
        .iter()
        .filter(|id| !found.contains_key(id.as_str()))
        .count();
    (lost, found.values().filter(|count| **count > 1).count())
}
