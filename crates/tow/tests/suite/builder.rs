//! Whom builds run as where the agent is root, and what they can lead it to.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fixture::{Fixture, MANIFEST, PRODUCTION, STAGING};

const DEPLOY: [&str; 3] = ["deploy", "-e", STAGING];

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("not root: builds have no user of their own, and this is left out");
    }
    root
}

fn builds(line: &str) -> Fixture {
    let build = format!("build = {line:?}");
    Fixture::with(&MANIFEST.replace(r#"build = "true""#, &build))
}

fn tree(fixture: &Fixture) -> Option<PathBuf> {
    let entries = fs::read_dir(fixture.state(STAGING).join("builds")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.next()
}

/// Everything below `dir` that is not root's, or that others could change.
fn others(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kept = entry.metadata().unwrap();
        let is_link = kept.file_type().is_symlink();
        if kept.uid() != 0 || (!is_link && kept.mode() & 0o022 != 0) {
            found.push(entry.path());
        }
        if kept.is_dir() {
            others(&entry.path(), found);
        }
    }
}

#[test]
fn a_build_has_the_user_of_the_services_and_leaves_it_nothing_to_change() {
    if !is_root() {
        return;
    }
    let fixture = builds("id -u > who; id -G > groups; echo $HOME > home; mkdir -m 777 made");
    fixture.tow(&DEPLOY).expect(0);
    let state = fixture.state(STAGING);
    let owner = fs::metadata(state.join("data")).unwrap().uid();
    let tree = tree(&fixture).unwrap();
    let read = |name: &str| {
        fs::read_to_string(tree.join(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_ne!(owner, 0);
    assert_eq!(
        [read("who"), read("groups")],
        [owner.to_string(), owner.to_string()]
    );
    assert_eq!(read("home"), state.join("home").display().to_string());
    let mut found = Vec::new();
    others(&tree, &mut found);
    assert_eq!(found, Vec::<PathBuf>::new());
    for attempt in ["echo x >> who", "touch new", "touch made/new"] {
        let mut sh = Command::new("sh");
        sh.args(["-c", attempt]).current_dir(&tree);
        let done = sh.uid(owner).gid(owner).stderr(Stdio::null()).status();
        assert!(!done.unwrap().success(), "{attempt}");
    }
    fixture.down(STAGING);
}

#[test]
fn a_toolchain_out_of_reach_is_named_before_anything_is_touched() {
    if !is_root() {
        return;
    }
    let mut fixture = builds("PLAIN=1 my-compiler --all && true");
    let home = fixture.dir.join("home");
    fs::create_dir(&home).unwrap();
    let tool = home.join("my-compiler");
    fs::copy("/bin/true", &tool).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", home.display());
    fixture.env.push(("PATH", path.into()));
    let said = fixture.tow(&DEPLOY).expect(1);
    let closed = format!("`{}` is closed", home.display());
    for part in [
        "build::out-of-reach",
        "nothing was touched",
        &closed,
        &tool.display().to_string(),
    ] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    assert_eq!(tree(&fixture), None);
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    fixture.tow(&DEPLOY).expect(0);
    fixture.down(STAGING);
}

#[test]
fn what_a_build_puts_in_the_place_of_a_file_is_not_told() {
    if !is_root() {
        return;
    }
    for (name, first) in [("migrations/0002_add.up.sql", 5), ("tow.toml", 0)] {
        let fixture = {
            let mut fixture = builds("ln -sf SECRET NAME");
            let secret = fixture.dir.join("secret");
            fs::write(&secret, "HUSH HUSH").unwrap();
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
            let text = fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
            let text = text.replace("SECRET", &secret.display().to_string());
            fixture.write("tow.toml", &text.replace("NAME", name));
            fixture.migration();
            fixture.commit();
            fixture
        };
        let said = fixture.tow(&DEPLOY).expect(first);
        assert!(!said.err.contains("HUSH"), "{}", said.err);
        if first == 0 {
            let said = fixture.tow(&DEPLOY).expect(3);
            assert!(said.err.contains("leads out of the tree"), "{}", said.err);
            assert!(!said.err.contains("HUSH"), "{}", said.err);
        }
        fixture.down(STAGING);
    }
}

#[test]
fn where_a_promoted_release_serves_nothing_is_built_whatever_the_manifest_says() {
    let mut fixture = Fixture::new();
    fixture.bring(PRODUCTION).expect(0);
    let before = fixture.status(PRODUCTION);
    let text = fs::read_to_string(fixture.repo().join("tow.toml")).unwrap();
    for way in ["promote = [\"production\"]\n", ""] {
        let sent = text.replace("promote = [\"staging\", \"production\"]\n", way);
        assert_ne!(sent, text);
        fixture.write("tow.toml", &sent);
        fixture.commit();
        for operation in ["deploy", "up"] {
            let said = fixture.tow(&[operation, "-e", PRODUCTION]).expect(4);
            for part in ["deploy::not-the-way", "tow down -e production"] {
                assert!(said.err.contains(part), "{part}: {}", said.err);
            }
        }
    }
    let after = fixture.status(PRODUCTION);
    assert_eq!(after.agent_pid, before.agent_pid);
    assert_eq!(
        fs::read_dir(fixture.state(PRODUCTION).join("builds"))
            .unwrap()
            .count(),
        1
    );
    fixture.down(PRODUCTION);
    fixture.tow(&["deploy", "-e", PRODUCTION]).expect(0);
    // Now it is its own.
    fixture.commit();
    fixture.tow(&["deploy", "-e", PRODUCTION]).expect(0);
    fixture.down(PRODUCTION);
    fixture.down(STAGING);
}
