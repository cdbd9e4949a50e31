//! A manifest from what a project has: what is written, what is not, and how the command ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::fixture::{Said, tow};
use crate::snapshot::check_shape;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A project on disk, gone when it is dropped.
struct Project(PathBuf);

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tow-init-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(&root).unwrap();
        for (path, text) in files {
            fs::write(root.join(path), text).unwrap();
        }
        Self(root)
    }

    fn tow(&self, arguments: &[&str]) -> Said {
        let output = Command::new(tow())
            .arg("-C")
            .arg(&self.0)
            .args(arguments)
            .output()
            .unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Names and contents of everything in it.
    fn all(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(&self.0).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut all: Vec<_> = paths
            .map(|path| {
                let text = fs::read(&path).unwrap_or_default();
                (path, text)
            })
            .collect();
        all.sort();
        all
    }

    fn manifest(&self) -> String {
        fs::read_to_string(self.0.join("tow.toml")).unwrap()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const PROCFILE: (&str, &str) = ("Procfile", "web: node main.js\nworker: node worker.js\n");

#[test]
fn what_is_written_passes_the_check() {
    let project = Project::new(&[PROCFILE]);
    let said = project.tow(&["init"]).expect(0);
    assert!(said.out.contains("Procfile:1: `web`, web"), "{}", said.out);
    project.tow(&["check"]).expect(0);
    assert_eq!(project.all().len(), 2, "{:?}", project.all());
}

#[test]
fn a_manifest_is_never_written_over() {
    let project = Project::new(&[PROCFILE, ("tow.toml", "mine")]);
    let before = project.all();
    let said = project.tow(&["init"]).expect(4);
    assert!(said.err.contains("init::exists"), "{}", said.err);
    assert_eq!(project.all(), before);
    // Nor where a link only leads to one.
    fs::remove_file(project.0.join("tow.toml")).unwrap();
    std::os::unix::fs::symlink("elsewhere", project.0.join("tow.toml")).unwrap();
    project.tow(&["init"]).expect(4);
    assert!(!project.0.join("elsewhere").exists());
}

#[test]
fn two_at_once_write_one() {
    let project = Project::new(&[PROCFILE]);
    let start = || {
        let mut command = Command::new(tow());
        command.arg("-C").arg(&project.0).arg("init");
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let running: Vec<_> = (0..6).map(|_| start()).collect();
    let codes = running
        .into_iter()
        .map(|mut child| child.wait().unwrap().code());
    let mut codes: Vec<_> = codes.flatten().collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 4, 4, 4, 4, 4]);
    assert_eq!(project.all().len(), 2, "{:?}", project.all());
    assert!(project.manifest().contains("[services.worker]"));
}

#[test]
fn what_comes_next_can_be_typed_as_it_stands() {
    let project = Project::new(&[PROCFILE, (".env", "B_TOKEN=canary-b\nA_TOKEN=canary-a\n")]);
    let said = project.tow(&["init"]).expect(0).out;
    let next = said.lines().last().unwrap_or_default();
    let commands: Vec<_> = next.split('`').skip(1).step_by(2).collect();
    let set = "tow secrets set A_TOKEN -e local";
    assert_eq!(commands, [set, "tow check", "tow up"], "{next}");
    assert!(next.contains("B_TOKEN"), "{next}");
    let checked = project.tow(&["check"]).expect(3);
    assert!(
        checked.err.contains("missing in local: A_TOKEN"),
        "{}",
        checked.err
    );
    for place in ["staging", "production"] {
        assert!(
            project
                .manifest()
                .contains(&format!("[environments.{place}]"))
        );
    }
}

#[test]
fn looking_writes_nothing() {
    let project = Project::new(&[PROCFILE]);
    let before = project.all();
    let printed = project.tow(&["init", "--print"]).expect(0).out;
    let looked = project.tow(&["init", "--dry-run"]).expect(0).out;
    assert!(looked.starts_with("would write"), "{looked}");
    let said: Value = project
        .tow(&["init", "--dry-run", "--json"])
        .expect(0)
        .json();
    assert_eq!(said["is_written"], false);
    assert_eq!(said["manifest"], printed.as_str());
    assert_eq!(project.all(), before);
    project.tow(&["init"]).expect(0);
    assert_eq!(project.manifest(), printed);
    // What is printed may be compared with what is there.
    assert_eq!(project.tow(&["init", "--print"]).expect(0).out, printed);
}

#[test]
fn json_keeps_its_keys_and_types() {
    let compose = "services: { web: { image: 'x', ports: ['80:80'], privileged: true, environment: { A_TOKEN: } } }";
    let project = Project::new(&[("compose.yaml", compose)]);
    let said: Value = project.tow(&["init", "--json"]).expect(0).json();
    assert_eq!(said["is_written"], true);
    check_shape("init", &said);
}

#[test]
fn an_empty_folder_gets_what_is_to_be_filled_in() {
    let project = Project::new(&[]);
    let said = project.tow(&["init"]).expect(0);
    assert!(said.out.contains("services.web.run"), "{}", said.out);
    let checked = project.tow(&["check"]).expect(3);
    assert!(checked.err.contains("services.web.run"), "{}", checked.err);
    let filled = project.manifest().replace("run = \"\"", "run = \"serve\"");
    fs::write(project.0.join("tow.toml"), filled).unwrap();
    project.tow(&["check"]).expect(0);
}

#[test]
fn a_file_that_cannot_be_read_stops_it() {
    let project = Project::new(&[PROCFILE, ("compose.yaml", "services: [")]);
    let before = project.all();
    let said = project.tow(&["init"]).expect(3);
    assert!(said.err.contains("compose.yaml:"), "{}", said.err);
    assert!(said.err.contains("--without compose.yaml"), "{}", said.err);
    assert_eq!(project.all(), before);
    project
        .tow(&["init", "--without", "compose.yaml"])
        .expect(0);
    project.tow(&["check"]).expect(0);
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let project = Project::new(&[PROCFILE]);
    let before = project.all();
    // No file may grow beyond nothing: the disk is full, as far as the command can see.
    let said = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 0; exec \"$0\" -C \"$1\" init",
        ])
        .args([tow().as_path(), Path::new(&project.0)])
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert_eq!(project.all(), before);
}

#[test]
fn a_folder_that_is_not_there_is_wrong_usage() {
    let project = Project::new(&[]);
    let gone = project.0.join("gone");
    let said = Command::new(tow())
        .arg("-C")
        .arg(&gone)
        .arg("init")
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    assert!(!gone.exists());
}
