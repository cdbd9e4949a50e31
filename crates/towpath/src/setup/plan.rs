//! What has to be done on a server, from what there is.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Layout;
use super::facts::{Facts, Found, Mode, Sudo};
use super::needs;
use super::program::{Arch, Program};
use crate::diagnostic::Diagnostic;
use crate::id::Digest;

/// Clocks further apart make logs and certificates wrong.
const CLOCK_S: i64 = 5;
/// Less room does not hold a few releases.
const DISK_KIB: u64 = 1 << 20;
/// Less memory holds agent and gateway, and little more.
const MEMORY_KIB: u64 = 256 << 10;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Name of the application.
    pub app: String,
    /// Name of the environment.
    pub environment: String,
    /// The program to be there.
    pub program: Program,
    /// Programs that the application's commands begin with.
    pub programs: BTreeSet<String>,
    /// Where the gateway is to listen, when that is said.
    pub listen: Option<SocketAddr>,
    /// For this user only, even where root's rights are to be had.
    pub user: bool,
    /// Where no systemd runs, start the boot process.
    pub start: bool,
    /// Where things lie when they are for the whole machine.
    pub system: Layout,
    /// The wall clock here, Unix seconds.
    pub now_s: i64,
}

/// One thing to do; each bears being done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the group of the operators.
    Group,
    /// Add the user to it.
    Operator(String),
    /// Make the state root.
    States(PathBuf),
    /// Make the environment's state directory.
    Environment(PathBuf),
    /// Put the program in its place.
    Program(PathBuf, Digest),
    /// Write the boot unit.
    Unit(PathBuf, String),
    /// Have what systemd runs for the user stay when the user is gone.
    Linger(String),
    /// Start the boot unit, now and with the machine.
    Enable,
    /// Start the boot process, now.
    Start,
}

impl Step {
    /// Its name, for the course.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Step::Group => "group",
            Step::Operator(_) => "operator",
            Step::States(_) => "states",
            Step::Environment(_) => "environment",
            Step::Program(..) => "program",
            Step::Unit(..) => "unit",
            Step::Linger(_) => "linger",
            Step::Enable => "enable",
            Step::Start => "start",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Group => write!(f, "make the system group `towpath`, whose members operate"),
            Step::Operator(user) => write!(f, "add the user `{user}` to it"),
            Step::States(path) => write!(f, "make {}, for states", path.display()),
            Step::Environment(path) => write!(f, "make {}", path.display()),
            Step::Program(path, digest) => {
                write!(
                    f,
                    "install this program as {} (sha256 {})",
                    path.display(),
                    digest.short()
                )
            }
            Step::Unit(path, _) => write!(f, "write the boot unit {}", path.display()),
            Step::Linger(user) => write!(f, "have what runs for `{user}` stay after logout"),
            Step::Enable => write!(f, "start the boot unit, now and with the machine"),
            Step::Start => write!(f, "start `tow server run`, now"),
        }
    }
}

/// Something that setup leaves to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is the matter.
    pub text: String,
    /// The line that mends it.
    pub line: Option<String>,
}

/// What is to be done, and what is left to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whether it is for the whole machine.
    pub system: bool,
    /// Where things lie.
    pub layout: Layout,
    /// What to do, in this order; nothing when all is done.
    pub steps: Vec<Step>,
    /// What is left to a person.
    pub findings: Vec<Finding>,
}

pub(super) fn room(free_kib: u64) -> Option<Finding> {
    (free_kib < DISK_KIB).then(|| Finding {
        text: format!("only {} MiB of disk are free", free_kib / 1024),
        line: None,
    })
}

pub(super) fn memory(all_kib: u64) -> Option<Finding> {
    (all_kib < MEMORY_KIB).then(|| Finding {
        text: format!("it has only {} MiB of memory", all_kib / 1024),
        line: None,
    })
}

pub(super) fn taken(port: u16, ports: &BTreeSet<u16>) -> Option<Finding> {
    ports.contains(&port).then(|| Finding {
        text: format!("somebody listens on port {port} already, which the gateway is to have"),
        line: Some(format!("ss -ltnp 'sport = :{port}'")),
    })
}

/// Plans the set-up.
///
/// # Errors
/// When the server cannot be one: another system or processor, too old a C library, no room, or
/// what is there stands in the way. Nothing was touched.
pub fn plan(wish: &Wish, facts: &Facts) -> Result<Plan, Diagnostic> {
    runs_there(wish, facts)?;
    let system = !wish.user && (facts.uid == 0 || facts.sudo != Sudo::Missing);
    let (layout, found) = match system {
        true => (wish.system.clone(), &facts.system),
        false => (Layout::user(&facts.home), &facts.own),
    };
    in_the_way(wish, facts, system, found)?;
    let planning = Planning {
        wish,
        facts,
        system,
        layout: &layout,
        found,
    };
    let (steps, findings) = (planning.steps(), planning.findings());
    Ok(Plan {
        system,
        layout,
        steps,
        findings,
    })
}

fn refused(code: &'static str, text: String) -> Diagnostic {
    Diagnostic::error(code, text).note("nothing was touched")
}

/// Whether the program can run there at all.
fn runs_there(wish: &Wish, facts: &Facts) -> Result<(), Diagnostic> {
    let Program { arch, libc, .. } = wish.program;
    let other = "build tow for it, and name the program with --binary";
    if facts.os != "Linux" {
        let text = format!("the server runs {}, and tow runs on Linux", facts.os);
        return Err(refused("setup::system", text).help("choose another server"));
    }
    if Arch::of_machine(&facts.arch) != Some(arch) {
        let text = format!(
            "the server is {}, and this program is for {arch}",
            facts.arch
        );
        return Err(refused("setup::processor", text).help(other));
    }
    if !libc.runs_on(facts.libc) {
        let there = facts
            .libc
            .map_or("an unknown C library".to_owned(), |libc| libc.to_string());
        let text = format!("the server has {there}, and this program needs {libc}");
        return Err(refused("setup::libc", text).help(other));
    }
    Ok(())
}

fn in_the_way(wish: &Wish, facts: &Facts, system: bool, found: &Found) -> Result<(), Diagnostic> {
    let Wish {
        app, environment, ..
    } = wish;
    if !system && facts.uid == 0 {
        let text = "root sets up for the whole machine".to_owned();
        return Err(
            refused("setup::root", text).help("leave out --user, or come in as another user")
        );
    }
    if !system && facts.system.environment.is_some() {
        let text = format!("{app}/{environment} is set up there for the whole machine");
        return Err(refused("setup::already", text).help("leave out --user, or remove it first"));
    }
    let needed = wish.program.size / 1024 * 3;
    if found.program != Some(wish.program.digest) && found.disk_kib < needed {
        let text = format!(
            "{} KiB are free, and the program alone needs {needed}",
            found.disk_kib
        );
        return Err(refused("setup::disk", text).help("make room on the server"));
    }
    let port = wish
        .listen
        .map(|listen| listen.port())
        .filter(|port| *port < facts.first_port);
    if let Some(port) = port.filter(|_| !system && facts.uid != 0) {
        let text = format!("`{}` may not listen on port {port} there", facts.user);
        let line = format!("sysctl -w net.ipv4.ip_unprivileged_port_start={port}");
        return Err(refused("setup::port", text).help(format!(
            "set `listen` of {environment} to a port from {} on, or as root there: {line}",
            facts.first_port
        )));
    }
    Ok(())
}

struct Planning<'a> {
    wish: &'a Wish,
    facts: &'a Facts,
    system: bool,
    layout: &'a Layout,
    found: &'a Found,
}

impl Planning<'_> {
    /// Whether a file there is as it has to be: exactly, where it is root's.
    fn is(&self, mode: Option<Mode>, bits: u32) -> bool {
        mode.is_some_and(|mode| match self.system {
            true => mode == Mode::of_root(bits),
            false => mode.uid == self.facts.uid && mode.bits & 0o022 == 0,
        })
    }

    fn steps(&self) -> Vec<Step> {
        let Planning {
            wish,
            facts,
            layout,
            found,
            ..
        } = self;
        let mut steps = self.people();
        let mut unless = |is: bool, step: Step| steps.extend((!is).then_some(step));
        unless(
            self.is(found.states, 0o755),
            Step::States(layout.states.clone()),
        );
        let state = layout.states.join(&wish.app).join(&wish.environment);
        unless(self.is(found.environment, 0o711), Step::Environment(state));
        let digest = wish.program.digest;
        let installed = found.program == Some(digest) && self.is(found.program_mode, 0o755);
        unless(installed, Step::Program(layout.program.clone(), digest));
        if self.has_systemd() {
            let text = self.unit();
            let written = found.unit == Some(Digest::of(text.as_bytes()));
            let written = written && self.is(found.unit_mode, 0o644);
            unless(written, Step::Unit(layout.unit(), text));
            unless(
                self.system || facts.linger,
                Step::Linger(facts.user.clone()),
            );
            let runs = found.enabled && found.active && written && installed;
            unless(runs, Step::Enable);
        } else {
            unless(found.boots || !wish.start, Step::Start);
        }
        steps
    }

    fn people(&self) -> Vec<Step> {
        let Facts {
            operators,
            user,
            uid,
            ..
        } = self.facts;
        let is_member = operators.as_ref().is_some_and(|names| names.contains(user));
        let group = (self.system && operators.is_none()).then_some(Step::Group);
        let member = self.system && *uid != 0 && !is_member;
        let member = member.then(|| Step::Operator(user.clone()));
        group.into_iter().chain(member).collect()
    }

    fn has_systemd(&self) -> bool {
        if self.system {
            self.facts.systemd
        } else {
            self.facts.user_systemd
        }
    }

    /// Agents and services outlive the boot process (`KillMode`), have control groups of their own
    /// (`Delegate`), and one that runs out of memory does not take the others with it.
    fn unit(&self) -> String {
        let target = if self.system {
            "multi-user.target"
        } else {
            "default.target"
        };
        let network = if self.system {
            "Wants=network-online.target\nAfter=network-online.target\n"
        } else {
            ""
        };
        let command = self.layout.boot_line();
        format!(
            "[Unit]\nDescription=Towpath: environments of this machine\nStartLimitIntervalSec=0\n{network}\n\
             [Service]\nExecStart={command}\nRestart=always\nRestartSec=1\nKillMode=process\n\
             Delegate=yes\nOOMPolicy=continue\nTasksMax=infinity\nLimitNOFILE=524288\n\n\
             [Install]\nWantedBy={target}\n"
        )
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = self.machine();
        findings.extend(self.missing());
        findings.extend(self.closed());
        if !self.has_systemd() {
            let text =
                "no systemd runs there: this has to run when the machine comes up".to_owned();
            let line = Some(self.layout.boot_line());
            findings.push(Finding { text, line });
        }
        findings.extend(self.ends_with_logout());
        findings
    }

    fn missing(&self) -> impl Iterator<Item = Finding> + '_ {
        let missing = self.wish.programs.difference(&self.facts.programs);
        missing.map(|name| needs::missing(name, &self.facts.packager))
    }

    /// Services and builds have a user of their own there, who is nobody else.
    fn closed(&self) -> impl Iterator<Item = Finding> + '_ {
        let closed = self.facts.closed.iter().filter(|_| self.system);
        closed.map(|(name, place)| Finding {
            text: format!(
                "`{name}` is out of reach for the user that services and builds run as: `{}` is closed to others; install it below /usr/local, or open that",
                place.display()
            ),
            line: Some(format!("chmod o+x {}", place.display())),
        })
    }

    fn machine(&self) -> Vec<Finding> {
        let Planning {
            wish, facts, found, ..
        } = self;
        let mut findings = Vec::new();
        let mut find = |text: String, line: Option<&str>| {
            findings.push(Finding {
                text,
                line: line.map(str::to_owned),
            });
        };
        let apart = facts.clock_s - wish.now_s;
        if apart.abs() > CLOCK_S {
            let side = if apart > 0 { "ahead of" } else { "behind" };
            let line = facts.systemd.then_some("timedatectl set-ntp true");
            find(
                format!("its clock is {} s {side} this one", apart.abs()),
                line,
            );
        }
        findings.extend(room(found.disk_kib));
        findings.extend(memory(facts.memory_kib));
        let port = wish.listen.map(|listen| listen.port());
        // Once the environment is there, it is the gateway's own.
        let port = port.filter(|_| found.environment.is_none());
        findings.extend(port.and_then(|port| taken(port, &facts.ports)));
        findings
    }

    fn ends_with_logout(&self) -> Option<Finding> {
        let Facts {
            user,
            user_systemd,
            linger,
            ..
        } = self.facts;
        (!self.system && *user_systemd && !linger).then(|| Finding {
            text: format!(
                "where this is refused, what runs for `{user}` ends with the last logout"
            ),
            line: Some(format!("loginctl enable-linger {user}")),
        })
    }
}
