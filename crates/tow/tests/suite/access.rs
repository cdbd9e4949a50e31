//! Who may talk to an agent.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::Mode;
use towpath::agent::socket;

use crate::fixture::{Fixture, STAGING, tow};
use crate::machine::until;

/// A user that nobody is.
const NOBODY: u32 = 65_534;
/// Says how a connection went: what was answered, or the error's number.
const ASK: &str = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
    s.sendall(b'GET /v1/status HTTP/1.1\\r\\nhost: a\\r\\nconnection: close\\r\\n\\r\\n')
    print('answered', s.recv(15))
except OSError as error:
    print('refused', error.errno)
";

fn ask(socket: &Path, uid: u32) -> String {
    let mut command = Command::new("python3");
    command.arg("-c").arg(ASK).arg(socket).current_dir("/");
    command.uid(uid).gid(uid).stdin(Stdio::null());
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The command, started by somebody whose umask keeps nothing back.
fn careless(fixture: &Fixture, arguments: &[&str]) {
    let mut command = fixture.command(&tow(), arguments);
    // SAFETY: umask is a plain system call, allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            rustix::process::umask(Mode::empty());
            Ok(())
        });
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Files below `dir` that others than their owner, or a group that was let in, could change.
fn open_files(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kept = entry.metadata().unwrap();
        let is_link = kept.file_type().is_symlink();
        if !is_link && kept.mode() & 0o022 != 0 {
            found.push(format!("{} {:o}", entry.path().display(), kept.mode()));
        }
        if kept.is_dir() {
            open_files(&entry.path(), found);
        }
    }
}

#[test]
fn under_umask_000_another_user_is_refused() {
    let fixture = Fixture::new();
    careless(&fixture, &["deploy", "-e", STAGING]);
    let state = fixture.state(STAGING);
    let (socket, runtime) = (socket(&state), socket(&state).parent().unwrap().to_owned());
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    // Where this machine has operators, the group of that name is let in as well.
    let (dir, file) = match mode(&runtime) {
        0o750 => (0o750, 0o660),
        _ => (0o700, 0o600),
    };
    assert_eq!((mode(&runtime), mode(&socket)), (dir, file));
    let mut open = Vec::new();
    for entry in fs::read_dir(&state).unwrap().flatten() {
        // What the application itself makes is the application's own.
        let own =
            ["builds", "data", "cache", "home"].contains(&entry.file_name().to_str().unwrap());
        if !own && entry.metadata().unwrap().is_dir() {
            open_files(&entry.path(), &mut open);
        }
    }
    assert_eq!(open, Vec::<String>::new());
    if rustix::process::geteuid().is_root() {
        refused(&socket, &runtime);
    } else {
        println!("not root: the attempts of another user are left out");
    }
    fixture.down(STAGING);
}

fn refused(socket: &Path, runtime: &Path) {
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let answered = "answered b'HTTP/1.1 200 OK'";
    assert_eq!(ask(socket, 0), answered, "the agent answers at all");
    assert_eq!(
        ask(socket, NOBODY),
        "refused 13",
        "the folder keeps them out"
    );
    // Each of the locks holds without the other.
    open(runtime, 0o755);
    assert_eq!(ask(socket, NOBODY), "refused 13", "the socket's mode does");
    open(socket, 0o666);
    let said = until("an end of the talk", || {
        let said = ask(socket, NOBODY);
        (!said.is_empty()).then_some(said)
    });
    assert!(
        ["answered b''", "refused 104", "refused 32"].contains(&said.as_str()),
        "a stranger was answered: {said}"
    );
    println!("access: 3 of 3 attempts of another user refused");
}
