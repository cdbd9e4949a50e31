//! Setting up a server: what is planned from odd facts, and what the script does in a scratch home.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use towpath::id::Digest;
use towpath::setup::{
    Arch, Course, Facts, Found, Layout, Libc, Mode, Plan, Program, Step, Sudo, Wish, act, look,
    plan,
};

const PROGRAM: &[u8] = b"#!/bin/sh\necho tow 1\n";

fn wish() -> Wish {
    Wish {
        app: "notes".to_owned(),
        environment: "staging".to_owned(),
        program: Program {
            digest: Digest::of(PROGRAM),
            size: PROGRAM.len() as u64,
            arch: Arch::X86_64,
            libc: Libc::Gnu(2, 28),
        },
        programs: BTreeSet::new(),
        listen: None,
        user: false,
        start: false,
        system: Layout::system(),
        now_s: 1_800_000_000,
    }
}

/// A fresh Debian, with a user who may become root.
fn fresh() -> Facts {
    let found = Found {
        disk_kib: 40 << 20,
        ..Found::default()
    };
    Facts {
        os: "Linux".to_owned(),
        arch: "x86_64".to_owned(),
        libc: Some(Libc::Gnu(2, 36)),
        user: "deploy".to_owned(),
        uid: 1000,
        home: PathBuf::from("/home/deploy"),
        sudo: Sudo::Free,
        systemd: true,
        user_systemd: true,
        linger: false,
        operators: None,
        packager: "apt-get".to_owned(),
        programs: BTreeSet::new(),
        closed: BTreeMap::new(),
        memory_kib: 4 << 20,
        ports: BTreeSet::new(),
        first_port: 1024,
        clock_s: 1_800_000_001,
        sent: false,
        system: found.clone(),
        own: found,
    }
}

fn keys(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(Step::key).collect()
}

/// What is there once a plan was carried out.
fn after(plan: &Plan, mut facts: Facts) -> Facts {
    let uid = if plan.system { 0 } else { facts.uid };
    let mode = |bits| {
        Some(Mode {
            bits,
            uid,
            gid: uid,
        })
    };
    let found = if plan.system {
        &mut facts.system
    } else {
        &mut facts.own
    };
    for step in &plan.steps {
        match step {
            Step::Group => facts.operators = Some(Vec::new()),
            Step::Operator(user) => facts.operators.as_mut().unwrap().push(user.clone()),
            Step::States(_) => found.states = mode(0o755),
            Step::Environment(_) => found.environment = mode(0o711),
            Step::Program(_, digest) => {
                (found.program, found.program_mode) = (Some(*digest), mode(0o755))
            }
            Step::Unit(_, text) => {
                (found.unit, found.unit_mode) = (Some(Digest::of(text.as_bytes())), mode(0o644));
            }
            Step::Linger(_) => facts.linger = true,
            Step::Enable => (found.enabled, found.active) = (true, true),
            Step::Start => found.boots = true,
        }
    }
    facts
}

#[test]
fn a_fresh_server_gets_everything_and_a_second_time_nothing() {
    let all = [
        "group",
        "operator",
        "states",
        "environment",
        "program",
        "unit",
        "enable",
    ];
    let user = [
        "states",
        "environment",
        "program",
        "unit",
        "linger",
        "enable",
    ];
    let root = |facts: Facts| Facts {
        uid: 0,
        user: "root".to_owned(),
        sudo: Sudo::Missing,
        ..facts
    };
    let bare = |facts: Facts| Facts {
        systemd: false,
        user_systemd: false,
        ..facts
    };
    let start = Wish {
        start: true,
        ..wish()
    };
    let cases = [
        (wish(), fresh(), all.to_vec()),
        (
            wish(),
            Facts {
                sudo: Sudo::Asks,
                ..fresh()
            },
            all.to_vec(),
        ),
        (wish(), root(fresh()), [&all[..1], &all[2..]].concat()),
        (
            wish(),
            Facts {
                sudo: Sudo::Missing,
                ..fresh()
            },
            user.to_vec(),
        ),
        (
            Wish {
                user: true,
                ..wish()
            },
            fresh(),
            user.to_vec(),
        ),
        (wish(), bare(fresh()), all[..5].to_vec()),
        (start, bare(fresh()), [&all[..5], &["start"]].concat()),
    ];
    for (wish, facts, expected) in cases {
        let first = plan(&wish, &facts).unwrap();
        assert_eq!(keys(&first), expected);
        let again = plan(&wish, &after(&first, facts)).unwrap();
        assert_eq!(keys(&again), Vec::<&str>::new());
    }
}

type Change = fn(&mut Facts);

#[test]
fn whatever_is_not_as_it_was_left_is_mended_and_nothing_else() {
    let first = plan(&wish(), &fresh()).unwrap();
    let done = after(&first, fresh());
    let cases: [(Change, &[&str]); 12] = [
        (|facts| facts.operators = None, &["group", "operator"]),
        (
            |facts| facts.operators = Some(vec!["deploy2".to_owned()]),
            &["operator"],
        ),
        (
            |facts| facts.system.states.as_mut().unwrap().bits = 0o777,
            &["states"],
        ),
        (
            |facts| facts.system.environment.as_mut().unwrap().uid = 1000,
            &["environment"],
        ),
        (
            |facts| facts.system.program = Some(Digest::of(b"old")),
            &["program", "enable"],
        ),
        (
            |facts| facts.system.program_mode.as_mut().unwrap().bits = 0o4755,
            &["program", "enable"],
        ),
        (
            |facts| facts.system.program_mode.as_mut().unwrap().uid = 1000,
            &["program", "enable"],
        ),
        (
            |facts| facts.system.unit = Some(Digest::of(b"changed")),
            &["unit", "enable"],
        ),
        (|facts| facts.system.enabled = false, &["enable"]),
        (|facts| facts.system.active = false, &["enable"]),
        (
            |facts| facts.system.unit_mode.as_mut().unwrap().bits = 0o666,
            &["unit", "enable"],
        ),
        (|facts| facts.ports.extend(1..9000), &[]),
    ];
    for (change, expected) in cases {
        let mut facts = done.clone();
        change(&mut facts);
        assert_eq!(keys(&plan(&wish(), &facts).unwrap()), expected);
    }
}

#[test]
fn a_server_that_cannot_be_one_is_refused_before_anything_is_touched() {
    let cases: [(Change, &str); 9] = [
        (|facts| facts.os = "Darwin".to_owned(), "setup::system"),
        (
            |facts| facts.arch = "aarch64".to_owned(),
            "setup::processor",
        ),
        (|facts| facts.arch = String::new(), "setup::processor"),
        (|facts| facts.libc = Some(Libc::Gnu(2, 27)), "setup::libc"),
        (|facts| facts.libc = Some(Libc::Musl), "setup::libc"),
        (|facts| facts.libc = None, "setup::libc"),
        (|facts| facts.system.disk_kib = 1, "setup::disk"),
        (
            |facts| {
                facts.sudo = Sudo::Missing;
                facts.system.environment = Some(Mode::of_root(0o711));
            },
            "setup::already",
        ),
        (|facts| facts.sudo = Sudo::Missing, "setup::port"),
    ];
    for (change, code) in cases {
        let mut wish = wish();
        wish.program.size = 10 << 20;
        wish.listen = Some("0.0.0.0:80".parse().unwrap());
        let mut facts = fresh();
        change(&mut facts);
        let refused = plan(&wish, &facts).unwrap_err();
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(
            refused.help.is_some() && !refused.notes.is_empty(),
            "{refused:?}"
        );
    }
    let gone = Facts {
        arch: "arm64".to_owned(),
        ..fresh()
    };
    let mut wish = wish();
    wish.program.arch = Arch::Aarch64;
    assert!(
        plan(&wish, &gone).is_ok(),
        "another name of the same processor"
    );
}

#[test]
fn what_is_left_to_a_person_is_said_with_the_line_that_mends_it() {
    let mut wish = wish();
    wish.programs = ["node", "python3", "made-up"].map(str::to_owned).into();
    wish.listen = Some("127.0.0.1:8080".parse().unwrap());
    let mut facts = fresh();
    facts.programs.insert("python3".to_owned());
    facts.programs.insert("ruby".to_owned());
    facts.closed.insert("ruby".to_owned(), "/root".into());
    facts.clock_s -= 3600;
    facts.ports.insert(8080);
    facts.memory_kib = 1000;
    facts.system.disk_kib = 1000;
    let found = plan(&wish, &facts).unwrap().findings;
    let line = |part: &str| {
        let found = found.iter().find(|finding| finding.text.contains(part));
        found
            .unwrap_or_else(|| panic!("nothing about {part}"))
            .line
            .clone()
    };
    assert_eq!(line("`node`").as_deref(), Some("apt-get install -y nodejs"));
    assert_eq!(line("`made-up`"), None);
    assert_eq!(line("`ruby`").as_deref(), Some("chmod o+x /root"));
    assert_eq!(
        line("3599 s behind").as_deref(),
        Some("timedatectl set-ntp true")
    );
    assert!(line("port 8080").unwrap().contains("8080"));
    assert_eq!((line("memory"), line("disk")), (None, None));
    assert!(!found.iter().any(|finding| finding.text.contains("python3")));
    let nothing = plan(&self::wish(), &fresh()).unwrap().findings;
    assert_eq!(nothing, [], "on a server with all of it");
    let bare = Facts {
        systemd: false,
        ..fresh()
    };
    let line = plan(&self::wish(), &bare).unwrap().findings[0].line.clone();
    assert_eq!(
        line.as_deref(),
        Some("/usr/local/bin/tow --state /var/lib/towpath server run")
    );
}

/// Who sets up where the tests are root's, who would do it for the whole machine.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn own(dir: &Path) {
    if is_root() {
        std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// A home of its own, with a systemd that only notes what it is told.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Home {
        let dir = std::env::temp_dir().join(format!("tow-setup-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("bin")).unwrap();
        own(&dir);
        let home = Home(dir);
        let systemctl = "#!/bin/sh
test \"$1\" = --user || exit 1
case $2 in
  show-environment | daemon-reload) ;;
  is-enabled | is-active) test -e \"$HOME/$2\" ;;
  enable) touch \"$HOME/is-enabled\" ;;
  restart) touch \"$HOME/is-active\" ;;
  *) exit 1 ;;
esac
";
        home.program("systemctl", systemctl);
        home.program("loginctl", "#!/bin/sh\nexit 1\n");
        home.program("sudo", "#!/bin/sh\nexit 1\n");
        home
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.0.join("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn sh(&self, script: &str) -> Output {
        let mut sh = Command::new("sh");
        let path = format!(
            "{}:{}",
            self.0.join("bin").display(),
            std::env::var("PATH").unwrap()
        );
        sh.arg("-c")
            .arg(script)
            .env("HOME", &self.0)
            .env("PATH", path);
        if is_root() {
            sh.uid(NOBODY).gid(NOBODY);
        }
        sh.output().unwrap()
    }

    fn facts(&self, wish: &Wish) -> Facts {
        let names = (wish.app.as_str(), wish.environment.as_str());
        let script = look(&wish.system, names, &wish.programs, &wish.program.digest);
        let text = String::from_utf8(self.sh(&script).stdout).unwrap();
        Facts::parse(&text).unwrap_or_else(|| panic!("{text}"))
    }

    /// What the wish means on this very machine.
    fn wish(&self) -> (Wish, Facts) {
        let mut wish = Wish {
            user: true,
            ..wish()
        };
        wish.system.states = self.0.join("nowhere");
        let facts = self.facts(&wish);
        wish.program.arch = Arch::of_machine(&facts.arch).unwrap();
        wish.program.libc = Libc::Static;
        wish.now_s = facts.clock_s;
        (wish, facts)
    }

    fn send(&self, bytes: &[u8]) {
        let dir = self.0.join(".cache/towpath");
        fs::create_dir_all(&dir).unwrap();
        [self.0.join(".cache"), dir.clone()]
            .iter()
            .for_each(|dir| own(dir));
        fs::write(dir.join(format!("tow-{}", Digest::of(PROGRAM))), bytes).unwrap();
    }

    fn act(&self, plan: &Plan) -> (Course, Output) {
        let output = self.sh(&act(plan, &self.0));
        (
            Course::parse(&String::from_utf8_lossy(&output.stdout)),
            output,
        )
    }

    /// Every file and folder, with its mode, its time and what is in it.
    fn everything(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![self.0.clone()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).unwrap().flatten() {
                let (path, kept) = (entry.path(), entry.metadata().unwrap());
                let text = if kept.is_file() {
                    fs::read(&path).unwrap()
                } else {
                    Vec::new()
                };
                let digest = Digest::of(&text).short();
                found.insert(format!(
                    "{} {:o} {} {digest}",
                    path.display(),
                    kept.mode(),
                    kept.mtime_nsec()
                ));
                if kept.is_dir() {
                    open.push(path);
                }
            }
        }
        found
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn the_script_sets_up_and_a_second_run_changes_nothing() {
    let home = Home::new("whole");
    let (wish, facts) = home.wish();
    let first = plan(&wish, &facts).unwrap();
    home.send(PROGRAM);
    let (course, output) = home.act(&first);
    assert!(course.whole && output.status.success(), "{output:?}");
    assert_eq!(course.done, keys(&first));
    let layout = Layout::user(&home.0);
    assert_eq!(fs::read(&layout.program).unwrap(), PROGRAM);
    assert_eq!(mode(&layout.program), 0o755);
    assert_eq!(mode(&layout.states.join("notes/staging")), 0o711);
    let unit = fs::read_to_string(layout.unit()).unwrap();
    assert!(
        unit.contains(&layout.boot_line()) && unit.contains("KillMode=process"),
        "{unit}"
    );
    let before = home.everything();
    let second = plan(&wish, &home.facts(&wish)).unwrap();
    // Lingering was refused, so it is tried and said again.
    assert_eq!(keys(&second), ["linger"]);
    assert!(
        second
            .findings
            .iter()
            .any(|finding| finding.text.contains("logout"))
    );
    home.act(&second);
    assert_eq!(
        home.everything(),
        before,
        "looking, and what is done already, changed something"
    );
}

#[test]
fn a_program_that_arrived_otherwise_or_does_not_run_is_not_installed() {
    let home = Home::new("torn");
    let (wish, facts) = home.wish();
    let steps = plan(&wish, &facts).unwrap();
    let program = Layout::user(&home.0).program;
    for (sent, why) in [
        (&PROGRAM[..9], "not what was sent"),
        (b"", "not what was sent"),
    ] {
        home.send(sent);
        let (course, output) = home.act(&steps);
        assert!(!course.whole && !output.status.success());
        assert_eq!(course.at.as_deref(), Some("program"));
        assert_eq!(course.done, ["states", "environment"]);
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(why),
            "{output:?}"
        );
        assert!(!program.exists());
    }
    let mut broken = wish.clone();
    let text = b"#!/bin/sh\nexit 1\n";
    broken.program.digest = Digest::of(text);
    let steps = plan(&broken, &home.facts(&broken)).unwrap();
    let dir = home.0.join(".cache/towpath");
    fs::write(dir.join(format!("tow-{}", Digest::of(text))), text).unwrap();
    assert_eq!(home.act(&steps).0.at.as_deref(), Some("program"));
    assert_eq!(fs::read_dir(program.parent().unwrap()).unwrap().count(), 0);
    // Run again with what should have come, it goes through.
    home.send(PROGRAM);
    let (course, _) = home.act(&plan(&wish, &home.facts(&wish)).unwrap());
    assert!(course.whole);
}

#[test]
fn a_script_killed_at_any_step_is_run_again() {
    let home = Home::new("cut");
    let (wish, facts) = home.wish();
    let count = plan(&wish, &facts).unwrap().steps.len();
    for cut in 0..count {
        for left in home.everything() {
            let path = left.split(' ').next().unwrap();
            if !path.starts_with(&home.0.join("bin").display().to_string()) {
                let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_file(path));
            }
        }
        home.send(PROGRAM);
        let steps = plan(&wish, &home.facts(&wish)).unwrap();
        let key = steps.steps[cut].key();
        let script = act(&steps, &home.0);
        let killed = script.replace(&format!("echo 'done {key}'"), "kill -9 $$");
        assert_ne!(killed, script);
        assert!(!home.sh(&killed).status.success());
        home.send(PROGRAM);
        let (course, output) = home.act(&plan(&wish, &home.facts(&wish)).unwrap());
        assert!(course.whole, "cut at {key}: {output:?}");
        assert_eq!(keys(&plan(&wish, &home.facts(&wish)).unwrap()), ["linger"]);
    }
    println!("setup: killed at {count} of {count} steps, set up by the next run each time");
}

#[test]
fn hostile_words_in_a_plan_are_not_run() {
    let home = Home::new("hostile");
    let mark = home.0.join("ran");
    let attack = format!("x'; touch {0}; $(touch {0}) `touch {0}`", mark.display());
    let plan = Plan {
        system: false,
        layout: Layout::user(&home.0),
        steps: vec![
            Step::Environment(home.0.join(&attack).join(&attack)),
            Step::Linger(attack.clone()),
            Step::Unit(home.0.join("u").join(&attack), attack.clone()),
        ],
        findings: Vec::new(),
    };
    home.act(&plan);
    assert!(!mark.exists());
}
