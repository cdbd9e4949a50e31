//! The certificates there are, by host name. Their folder is the truth: it is read at the start and when told to.
//!
//! A file that cannot be used concerns its own host alone. What was served for that host before is served on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::api::CertificateState;
use crate::certificate::{self, Certificate};

/// What is known of one host.
#[derive(Debug, Clone)]
struct Entry {
    usable: bool,
    certificate: Option<Arc<Certificate>>,
    /// What is wrong with its file.
    problem: Option<String>,
}

type Hosts = BTreeMap<String, Entry>;

/// Certificates by host name, shared by all threads.
#[derive(Debug)]
pub(crate) struct Keyring {
    folder: Option<PathBuf>,
    hosts: ArcSwap<Hosts>,
    /// What is wrong with the folder itself.
    problem: ArcSwap<Option<String>>,
}

impl Keyring {
    /// What is in the folder; nothing where there is none.
    pub(crate) fn open(folder: Option<PathBuf>) -> Self {
        let keyring = Self {
            folder,
            hosts: ArcSwap::default(),
            problem: ArcSwap::default(),
        };
        keyring.reload();
        keyring
    }

    /// Read the folder again. A folder that cannot be read changes nothing. Only the control thread calls this.
    pub(crate) fn reload(&self) {
        let Some(folder) = &self.folder else { return };
        let read = read(folder, &self.hosts.load());
        let problem = read.as_ref().err().map(ToString::to_string);
        if let Ok(hosts) = read {
            self.hosts.store(Arc::new(hosts));
        }
        self.problem.store(Arc::new(problem));
    }

    /// The certificate for who asks for a host; for who names none, the only one there is.
    pub(crate) fn find(&self, host: Option<&str>) -> Option<Arc<Certificate>> {
        let hosts = self.hosts.load();
        let entry = match host {
            Some(host) => hosts.get(host.trim_end_matches('.').to_ascii_lowercase().as_str()),
            None if hosts.len() == 1 => hosts.values().next(),
            None => None,
        };
        entry?.certificate.clone()
    }

    /// Every host with a file, and what is wrong with the folder.
    pub(crate) fn state(&self) -> (BTreeMap<String, CertificateState>, Option<String>) {
        let hosts = self.hosts.load();
        let shown = hosts
            .iter()
            .map(|(host, entry)| (host.clone(), entry.state()));
        (shown.collect(), self.problem.load().as_ref().clone())
    }
}

impl Entry {
    fn state(&self) -> CertificateState {
        let out = self.certificate.as_ref().and_then(|one| one.out_of_time());
        let valid = self.certificate.as_ref().map(|one| one.validity);
        CertificateState {
            usable: self.usable,
            served: self.certificate.is_some(),
            not_before: valid.map(|valid| valid.not_before),
            not_after: valid.map(|valid| valid.not_after),
            problem: self.problem.clone().or_else(|| out.map(str::to_owned)),
        }
    }
}

fn read(folder: &Path, before: &Hosts) -> std::io::Result<Hosts> {
    let mut hosts = Hosts::new();
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if let Some(host) = certificate::host_of(&path) {
            hosts.insert(host.to_owned(), entry(&path, host, before.get(host)));
        }
    }
    Ok(hosts)
}

fn entry(path: &Path, host: &str, before: Option<&Entry>) -> Entry {
    match certificate::load(path, host) {
        Ok((certificate, open)) => Entry {
            usable: true,
            certificate: Some(Arc::new(certificate)),
            problem: open.then(|| "others than its owner can read the file".to_owned()),
        },
        Err(error) => Entry {
            usable: false,
            certificate: before.and_then(|entry| entry.certificate.clone()),
            problem: Some(error.to_string()),
        },
    }
}
