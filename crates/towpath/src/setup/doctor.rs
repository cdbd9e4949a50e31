//! What this machine lacks for an environment. It is only looked at: nobody is asked, and nothing is changed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use towpath_shim::protocol::User;

use super::needs::{install_line, missing};
use super::plan::{memory, room, taken};
use super::{Finding, programs};
use crate::config::Config;

/// What installs packages; the first that is there.
const PACKAGERS: [&str; 6] = ["apt-get", "dnf", "yum", "apk", "pacman", "zypper"];

/// A clock may be this much behind what was written by another, seconds.
const BEHIND_S: u64 = 60;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// What.
    pub what: String,
    /// Whether it is as it has to be.
    pub ok: bool,
    /// What is there, or what is the matter.
    pub text: String,
    /// The line that mends it, for root.
    pub line: Option<String>,
}

impl Looked {
    /// Something that is as it has to be.
    #[must_use]
    pub fn right(what: &str, text: impl Into<String>) -> Looked {
        Looked {
            what: what.to_owned(),
            ok: true,
            text: text.into(),
            line: None,
        }
    }

    /// Something that is not.
    #[must_use]
    pub fn wrong(what: &str, finding: Finding) -> Looked {
        Looked {
            what: what.to_owned(),
            ok: false,
            text: finding.text,
            line: finding.line,
        }
    }

    fn of(what: &str, finding: Option<Finding>, right: String) -> Looked {
        match finding {
            Some(finding) => Looked::wrong(what, finding),
            None => Looked::right(what, right),
        }
    }
}

/// Whom services run as, and what says whether that user can reach a program.
#[derive(Debug, Clone, Copy)]
pub struct Runs {
    /// Whom.
    pub user: User,
    /// Whether a user can reach a file.
    pub reaches: fn(&Path, User) -> bool,
}

/// This machine.
#[derive(Debug, Clone)]
pub struct Machine {
    path: Vec<PathBuf>,
    packager: &'static str,
    /// Who runs them, where that is somebody else.
    user: Option<Runs>,
}

impl Machine {
    /// As it is, with the programs in the folders of `path`.
    #[must_use]
    pub fn new(path: &str) -> Machine {
        let mut machine = Machine {
            path: std::env::split_paths(path).collect(),
            packager: "",
            user: None,
        };
        let there = |name: &&str| machine.finds(name).is_some();
        machine.packager = PACKAGERS.into_iter().find(there).unwrap_or_default();
        machine
    }

    /// The same as services find it, by the search path that they have and as `user`.
    #[must_use]
    pub fn of_services(&self, path: &str, user: Option<Runs>) -> Machine {
        Machine {
            path: std::env::split_paths(path).collect(),
            user,
            ..self.clone()
        }
    }

    /// The line that installs a program here, for root; `postgres-15` is the server of a version.
    #[must_use]
    pub fn line(&self, program: &str) -> Option<String> {
        install_line(program, self.packager)
    }

    fn finds(&self, program: &str) -> Option<PathBuf> {
        let mut places = self.path.iter().map(|folder| folder.join(program));
        places.find(|place| {
            let is_program = std::fs::metadata(place)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
            is_program
                && self
                    .user
                    .is_none_or(|runs| (runs.reaches)(place, runs.user))
        })
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let other = || (name == "docker").then(|| self.finds("podman")).flatten();
        self.finds(name).or_else(other)
    }

    fn tool(&self, name: &str, what_for: &str) -> Looked {
        match self.finds(name) {
            Some(place) => Looked::right(name, place.display().to_string()),
            None => Looked::wrong(
                name,
                Finding {
                    text: format!("`{name}` is missing, by which {what_for}"),
                    line: self.line(name),
                },
            ),
        }
    }
}

/// What `services` would run for `name`, and what `machine` has in its place for whoever looks.
fn program(name: &str, services: &Machine, machine: &Machine) -> Looked {
    let whose = match services.user {
        Some(runs) => format!("user {} of the services", runs.user.uid),
        None => "services".to_owned(),
    };
    match (services.program(name), machine.program(name)) {
        (Some(place), own) => {
            let own = own.filter(|own| *own != place);
            let own = own.map(|own| {
                format!(
                    ", by the search path of {whose}; by yours {}",
                    own.display()
                )
            });
            Looked::right(
                name,
                format!("{}{}", place.display(), own.unwrap_or_default()),
            )
        }
        (None, Some(own)) => {
            let finding = missing(name, machine.packager);
            let text = format!("{} is not found by {whose}", own.display());
            Looked::wrong(name, Finding { text, ..finding })
        }
        (None, None) => Looked::wrong(name, missing(name, machine.packager)),
    }
}

/// Looks at what an environment with its state at `state` needs of this machine, besides databases. `machine` is what
/// whoever looks finds, `services` what its services and builds find.
#[must_use]
pub fn look_here(
    (machine, services): (&Machine, &Machine),
    config: &Config,
    manifest: &Path,
    state: &Path,
) -> Vec<Looked> {
    let is_local = config.environment == crate::manifest::LOCAL;
    let mut found = Vec::new();
    if !is_local {
        found.push(machine.tool("git", "the committed tree is read"));
    }
    if config.server.is_some() {
        found.push(machine.tool("ssh", "servers are reached"));
        return found;
    }
    let commands = programs(config, true);
    let others = commands.iter().filter(|name| is_local || *name != "git");
    found.extend(others.map(|name| program(name, services, machine)));
    let free_kib = free_kib(state);
    found.push(Looked::of(
        "disk",
        room(free_kib),
        format!("{} MiB free", free_kib / 1024),
    ));
    let all_kib = memory_kib();
    found.push(Looked::of(
        "memory",
        memory(all_kib),
        format!("{} MiB", all_kib / 1024),
    ));
    let listens = config.listen.into_iter();
    let listens = listens.chain(config.tls.as_ref().map(|tls| tls.listen));
    found.extend(listens.map(|listen| port(listen, state)));
    found.push(clock(&[manifest, &state.join("state.db")]));
    found
}

/// Of the nearest folder that is there.
fn free_kib(place: &Path) -> u64 {
    let disks = place
        .ancestors()
        .filter_map(|dir| rustix::fs::statvfs(dir).ok());
    disks
        .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) / 1024)
        .next()
        .unwrap_or_default()
}

fn memory_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(u64::MAX)
}

/// Ports that somebody listens on, by what the kernel tells everybody.
fn ports() -> BTreeSet<u16> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let texts = tables.map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.filter_map(listening).collect()
}

/// Of a line such as `0: 0100007F:1F90 00000000:0000 0A ...`.
fn listening(line: &str) -> Option<u16> {
    let mut words = line.split_whitespace().skip(1);
    let own = words.next()?;
    let state = words.nth(1)?;
    let port = own.rsplit(':').next()?;
    (state == "0A").then(|| u16::from_str_radix(port, 16).ok())?
}

fn port(listen: SocketAddr, state: &Path) -> Looked {
    let port = listen.port();
    // Once the environment is there, it is the gateway's own.
    let is_own = state.join("gateway.json").exists();
    let taken = taken(port, &ports()).filter(|_| !is_own);
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: u16 = first
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024);
    let is_closed = port < first && port != 0 && !rustix::process::geteuid().is_root();
    let closed = is_closed.then(|| Finding {
        text: format!("only root may listen on port {port}"),
        line: Some(format!(
            "sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
        )),
    });
    Looked::of(
        &format!("port {port}"),
        closed.or(taken),
        format!("{listen} is to be had"),
    )
}

/// A clock that was set back puts what comes now before what was.
fn clock(written: &[&Path]) -> Looked {
    let now = SystemTime::now();
    let behind = |file: &&Path| {
        let at = std::fs::metadata(file).ok()?.modified().ok()?;
        at.duration_since(now)
            .ok()
            .filter(|behind| behind.as_secs() > BEHIND_S)
    };
    let behind = written.iter().filter_map(behind).max();
    let finding = behind.map(|behind| Finding {
        text: format!(
            "it is {} s behind what was written here already",
            behind.as_secs()
        ),
        line: Some("timedatectl set-ntp true".to_owned()),
    });
    Looked::of(
        "clock",
        finding,
        "not behind what was written here".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_that_are_listened_on() {
        let line =
            |state| format!("  0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:0");
        assert_eq!(listening(&line("0A")), Some(8080));
        assert_eq!(listening(&line("01")), None);
        assert_eq!(listening("sl local_address rem_address st"), None);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let nowhere = Path::new("/nowhere");
        assert!(!port(address, nowhere).ok);
        drop(listener);
        assert!(port(address, nowhere).ok);
    }

    #[test]
    fn a_program_that_the_services_user_cannot_reach_is_none_of_theirs() {
        let own = Machine::new("/bin");
        let user = User {
            uid: 61_200,
            gid: 61_200,
        };
        let reaches = |program: &Path, _: User| !program.ends_with("sh");
        let services = own.of_services("/bin", Some(Runs { user, reaches }));
        let there = program("ls", &services, &own);
        assert_eq!((there.ok, there.text.as_str()), (true, "/bin/ls"));
        let closed = program("sh", &services, &own);
        assert!(
            !closed.ok && closed.text.contains("user 61200"),
            "{closed:?}"
        );
        assert!(!program("no-such-program", &services, &own).ok);
    }

    #[test]
    fn a_clock_that_was_set_back_is_seen() {
        let file = std::env::temp_dir().join(format!("towpath-clock-{}", std::process::id()));
        let written = std::fs::File::create(&file).unwrap();
        assert!(clock(&[&file]).ok);
        let later = SystemTime::now() + std::time::Duration::from_secs(3_600);
        written.set_modified(later).unwrap();
        let said = clock(&[&file]);
        std::fs::remove_file(&file).unwrap();
        assert!(!said.ok && said.text.contains("behind"), "{said:?}");
    }
}
