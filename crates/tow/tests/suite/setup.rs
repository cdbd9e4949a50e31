//! `tow setup` and what comes after it, in a scratch home behind what stands in for ssh: the scripts,
//! the boot process and the agents are the real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;
use towpath::agent::api::Status;

use crate::fixture::{Fixture, MANIFEST, STAGING, Said, example};
use crate::machine::{self, members, until};

/// Whoever the agents are when the tests are root's: nobody in particular.
const NOBODY: u32 = 65_534;

/// Runs the remote command in the scratch home; for root's tests as another user.
const SSH: &str = r#"#!/bin/sh
until test "$1" = --; do if test $# -eq 0; then exit 0; fi; shift; done
test "$2" = staging.test || exit 255
unset TOWPATH_STATE XDG_RUNTIME_DIR XDG_STATE_HOME TOWPATH_ACTOR
HOME=SCRATCH PATH=SCRATCH/bin:$PATH
export HOME PATH
cd "$HOME" || exit 255
test "$(id -u)" = 0 || exec sh -c "$3"
exec python3 -c 'import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.execvp("sh", ["sh", "-c", sys.argv[1]])' "$3"
"#;

struct Far {
    fixture: Fixture,
    home: PathBuf,
}

impl Far {
    fn new() -> Far {
        // Not the name of anything that this machine may have for all its users.
        let manifest = MANIFEST
            .replace("app = \"fixture\"", "app = \"set-up-by-a-test\"")
            .replace(
                "[environments.staging]",
                "[environments.staging]\nserver = \"me@staging.test\"",
            );
        let mut fixture = Fixture::with(&manifest);
        let home = fixture.dir.join("home");
        fs::create_dir_all(home.join("bin")).unwrap();
        let ssh = fixture.dir.join("ssh");
        let text = SSH.replace("SCRATCH", &home.display().to_string());
        let refuses = "#!/bin/sh\nexit 1\n".to_owned();
        let others =
            ["sudo", "systemctl", "loginctl"].map(|name| (home.join("bin").join(name), &refuses));
        for (path, text) in others.into_iter().chain([(ssh.clone(), &text)]) {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fixture.env = vec![
            ("TOWPATH_SSH", ssh),
            ("TOWPATH_STATE", fixture.dir.join("here")),
            ("TOWPATH_PATIENCE", "20".into()),
        ];
        Far { fixture, home }
    }

    fn setup(&self, flags: &[&str]) -> Said {
        self.fixture
            .tow(&[&["setup", "-e", STAGING], flags].concat())
    }

    fn states(&self) -> PathBuf {
        self.home.join(".local/state/towpath")
    }

    fn state(&self) -> PathBuf {
        self.states().join("set-up-by-a-test").join(STAGING)
    }

    fn boot(&self) -> Option<u32> {
        let text = fs::read_to_string(self.states().join("boot.lock")).ok()?;
        text.trim().parse().ok()
    }

    fn status(&self) -> Status {
        let status = self.fixture.tow(&["status", "-e", STAGING, "--json"]);
        status.expect(0).json()
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.boot().into_iter().for_each(machine::kill);
        machine::sweep(&self.states(), &self.state());
        let uid = match rustix::process::geteuid() {
            uid if uid.is_root() => NOBODY,
            uid => uid.as_raw(),
        };
        for runtime in towpath::supervise::Places::runtimes_of(&self.state(), uid) {
            let _ = fs::remove_dir_all(runtime);
        }
    }
}

/// Files of the home that are not an agent's.
fn installed(far: &Far) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![far.home.clone()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let (path, kept) = (entry.path(), entry.metadata().unwrap());
            if path == far.state() || path.starts_with(far.states()) && kept.is_file() {
                continue;
            }
            found.push(format!(
                "{} {:?} {:?}",
                path.display(),
                kept.permissions(),
                kept.modified()
            ));
            if kept.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_server_is_set_up_and_deployed_to_and_upgraded() {
    let far = Far::new();
    let fresh = installed(&far);
    let planned: Value = far
        .setup(&["--user", "--start", "--dry-run", "--json"])
        .expect(0)
        .json();
    let steps: Vec<&str> = planned["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(steps, ["states", "environment", "program", "start"]);
    let said = far.setup(&["--user", "--start"]).expect(4);
    assert!(said.err.contains("setup::not-agreed"), "{}", said.err);
    assert_eq!(
        installed(&far),
        fresh,
        "something was done before it was agreed to"
    );

    far.setup(&["--user", "--start", "--yes"]).expect(0);
    let (done, boot) = (installed(&far), far.boot());
    let said = far.setup(&["--user", "--start", "--yes"]).expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
    assert_eq!((installed(&far), far.boot()), (done, boot));

    far.fixture.tow(&["deploy", "-e", STAGING]).expect(0);
    let before = far.status();
    assert_eq!(before.verdict, "serving");
    let next = example("next").display().to_string();
    far.fixture
        .tow(&["server", "upgrade", "-e", STAGING, "--binary", &next])
        .expect(0);
    let after = far.status();
    assert_eq!(
        (after.version.as_str(), after.agent_pid),
        ("next", before.agent_pid)
    );
    assert_eq!(
        fs::read(far.home.join(".local/bin/tow")).unwrap(),
        fs::read(next).unwrap()
    );

    // The boot process looks after what is there now.
    machine::kill(after.agent_pid);
    until("another agent", || {
        (far.status().agent_pid != after.agent_pid).then_some(())
    });
    far.fixture.tow(&["down", "-e", STAGING]).expect(0);
    assert!(members(&far.state()).is_empty());
}

#[test]
fn what_stands_in_the_way_is_named_and_nothing_is_touched() {
    let far = Far::new();
    let fresh = installed(&far);
    fs::write(far.fixture.dir.join("text"), "#!/bin/sh\n").unwrap();
    let text = far.fixture.dir.join("text").display().to_string();
    let said = far.setup(&["--user", "--yes", "--binary", &text]).expect(3);
    assert!(said.err.contains("setup::program"), "{}", said.err);
    let said = far
        .fixture
        .tow(&["setup", "-e", "production", "--yes"])
        .expect(3);
    assert!(said.err.contains("setup::no-server"), "{}", said.err);
    let mut program = fs::read(example("next")).unwrap();
    // Of another processor: 64-bit ARM, or x86 on that.
    program[18] = if program[18] == 183 { 62 } else { 183 };
    fs::write(far.fixture.dir.join("other"), program).unwrap();
    let other = far.fixture.dir.join("other").display().to_string();
    let said = far
        .setup(&["--user", "--yes", "--binary", &other])
        .expect(4);
    assert!(said.err.contains("setup::processor"), "{}", said.err);
    // Without --user root's rights are wanted, sudo asks, and nobody is there.
    let said = far.setup(&["--yes"]).expect(4);
    assert!(said.err.contains("setup::sudo"), "{}", said.err);
    assert_eq!(installed(&far), fresh);
    let ssh = far.fixture.dir.join("ssh");
    fs::write(&ssh, "#!/bin/sh\necho 'Connection refused' >&2\nexit 255\n").unwrap();
    let said = far.setup(&["--yes"]).expect(1);
    assert!(
        said.err.contains("setup::unreachable") && said.err.contains("refused"),
        "{}",
        said.err
    );
    fs::write(
        &ssh,
        "#!/bin/sh\ncat > /dev/null\necho 'This account is not available.'\n",
    )
    .unwrap();
    let said = far.setup(&["--yes"]).expect(1);
    assert!(said.err.contains("setup::not-understood"), "{}", said.err);
}
