//! What is to run, and where its files are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use towpath_shim::protocol::{Log, Restart, Spec, Stop, User};

use crate::config::{Alive, Ready};
use crate::container;
use crate::id::{Digest, InstanceId};

/// Folders of one environment, and the program that shims are started from.
#[derive(Debug, Clone)]
pub struct Places {
    /// The state directory.
    pub state: PathBuf,
    /// Folder for sockets; its path is short.
    pub runtime: PathBuf,
    /// The `tow` binary.
    pub tow: PathBuf,
}

impl Places {
    /// The folder of all instances' folders.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.state.join("run")
    }

    /// The folder of one instance's shim.
    #[must_use]
    pub fn run(&self, id: &InstanceId) -> PathBuf {
        self.runs().join(&id.0)
    }

    /// The control socket of one instance's shim. Named by a digest, so that a long name fits.
    #[must_use]
    pub fn socket(&self, id: &InstanceId) -> PathBuf {
        self.runtime.join(format!(
            "{}.shim",
            &Digest::of(id.0.as_bytes()).short()[..10]
        ))
    }

    /// The log of one instance.
    #[must_use]
    pub fn log(&self, service: &str, id: &InstanceId) -> PathBuf {
        self.state
            .join("logs")
            .join(service)
            .join(format!("{id}.log"))
    }

    /// What every process of an instance carries in its environment.
    #[must_use]
    pub fn mark(&self, id: &InstanceId) -> String {
        let here = Digest::of(self.state.as_os_str().as_encoded_bytes()).short();
        format!("{here}/{id}")
    }

    /// The runtime folder for the state directory `state`: in `/run` for root, else in the user's
    /// own, else in the temporary folder.
    #[must_use]
    pub fn runtime_of(state: &Path) -> PathBuf {
        let uid = rustix::process::geteuid().as_raw();
        let mut possible = Places::runtimes_of(state, uid);
        possible.swap_remove(0)
    }

    /// Where the runtime folder may be when the state is the user `uid`'s, the likeliest first: a
    /// boot unit may have no `XDG_RUNTIME_DIR` where a session has one, or the other way round.
    #[must_use]
    pub fn runtimes_of(state: &Path, uid: u32) -> Vec<PathBuf> {
        let folder = Digest::of(state.as_os_str().as_encoded_bytes()).short();
        if uid == 0 {
            return vec![Path::new("/run/towpath").join(folder)];
        }
        let session = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| dir.len() < 60);
        let bases = session
            .map(|dir| PathBuf::from(dir).join("towpath"))
            .into_iter()
            .chain([
                PathBuf::from(format!("/tmp/towpath-{uid}")),
                PathBuf::from(format!("/run/user/{uid}/towpath")),
            ]);
        bases.map(|base| base.join(&folder)).collect()
    }
}

/// One process to run under a shim.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Its id.
    pub id: InstanceId,
    /// The service it is a copy of, or `gateway`, `build`.
    pub service: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Secrets that it is given, by name: their values are in none of these fields.
    pub secrets: Vec<String>,
    /// Its folder.
    pub cwd: PathBuf,
    /// Whom it runs as.
    pub user: Option<User>,
    /// Addresses that its shim listens on for it.
    pub listen: Vec<String>,
    /// The port it was given, when it serves one.
    pub port: Option<u16>,
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub stop: Stop,
    /// Size at which its log rotates, and rotated logs kept.
    pub log: (u64, u32),
    /// When it is ready; `None` for one that only has to run.
    pub ready: Option<Ready>,
    /// Whether it works, later on.
    pub alive: Option<Alive>,
    /// The container that it keeps, when it keeps one.
    pub container: Option<container::Spec>,
}

impl Process {
    pub(super) fn spec(&self, places: &Places) -> Spec {
        Spec {
            mark: places.mark(&self.id),
            argv: self.argv.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            user: self.user,
            listen: self.listen.clone(),
            restart: self.restart.clone(),
            stop: self.stop.clone(),
            log: Log {
                path: places.log(&self.service, &self.id),
                max_bytes: self.log.0,
                keep: self.log.1,
            },
            socket: places.socket(&self.id),
            handed: !self.secrets.is_empty(),
        }
    }
}
