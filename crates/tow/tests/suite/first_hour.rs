//! `docs/first-hour.md`, typed as it stands: what comes of each line is what the document shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use towpath::agent::socket;

use crate::fixture::tow;
use crate::machine;

/// The folder that everything is in, gone with all that runs when it is dropped.
struct Desk(PathBuf);

impl Desk {
    fn new() -> Desk {
        let name = format!("tow-first-hour-{}", std::process::id());
        let desk = Desk(std::env::temp_dir().join(name));
        fs::create_dir_all(desk.app()).unwrap();
        desk
    }

    fn app(&self) -> PathBuf {
        self.0.join("guestbook")
    }

    fn states(&self) -> PathBuf {
        self.0.join("states")
    }

    /// What a shell says to a line, on both outputs, and how it ends.
    fn types(&self, line: &str) -> (String, Option<i32>) {
        let tow = tow();
        let mut path = tow
            .parent()
            .unwrap_or(Path::new("/"))
            .as_os_str()
            .to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1; {line}")])
            .current_dir(self.app())
            .env("PATH", path)
            .env("HOME", &self.0)
            .env("TOWPATH_STATE", self.states())
            .env_remove("XDG_CONFIG_HOME")
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Ana")))
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "ana@localhost")))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (said, output.status.code())
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for environment in ["local", "staging", "production"] {
            let state = self.states().join("guestbook").join(environment);
            machine::sweep(&self.states(), &state);
            if let Some(runtime) = socket(&state).parent() {
                let _ = fs::remove_dir_all(runtime);
            }
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

const HERE: &str = "http://127.0.0.1:";

/// A line without what differs each time: lengths of time, and ports.
fn plain(line: &str) -> String {
    let is_number = |word: &str| {
        word.bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    let words = line.split_whitespace().map(|word| {
        let bare = word.trim_end_matches([':', ',']);
        match bare {
            "ms" | "s" | "min" => word.replace(bare, "T"),
            _ if word.starts_with(HERE) => HERE.to_owned(),
            _ if is_number(word) => "N".to_owned(),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn port(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(HERE)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()
}

/// Whether what was said is what is shown. `...` stands for any lines, and at the end of a line for its rest. The ports
/// of the document are learnt on the way.
fn fits(shown: &[&str], said: &[&str], ports: &mut BTreeMap<String, String>) -> bool {
    let Some((first, shown)) = shown.split_first() else {
        return said.is_empty();
    };
    if *first == "..." {
        return (0..=said.len()).any(|at| fits(shown, &said[at..], ports));
    }
    let Some((line, said)) = said.split_first() else {
        return false;
    };
    let is_same = match first.strip_suffix("...") {
        Some(start) => plain(line).starts_with(&plain(start)),
        None => plain(first) == plain(line),
    };
    if let (true, Some(there), Some(here)) = (is_same, port(first), port(line)) {
        ports.insert(there.to_owned(), here.to_owned());
    }
    is_same && fits(shown, said, ports)
}

#[test]
fn the_first_hour_is_as_it_is_described() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/first-hour.md");
    let text = fs::read_to_string(document).unwrap();
    let has_curl = Command::new("curl").arg("--version").output().is_ok();
    let desk = Desk::new();
    let (mut ports, mut typed) = (BTreeMap::new(), 0);
    for block in text.split("\n```").skip(1).step_by(2) {
        let (mark, body) = block.split_once('\n').unwrap();
        let (first, rest) = body.split_once('\n').unwrap_or((body, ""));
        if let Some((_, path)) = first.split_once(" file: ") {
            let path = desk.app().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{rest}\n")).unwrap();
        } else if mark == "toml" {
            let written = fs::read_to_string(desk.app().join("tow.toml")).unwrap();
            assert_eq!(written.trim_end(), body.trim_end());
        }
        let commands = format!("\n{body}");
        for command in commands.split("\n$ ").skip(1).filter(|_| mark == "console") {
            let (line, shown) = command.split_once('\n').unwrap_or((command, ""));
            if line.starts_with("curl") && !has_curl {
                println!("skipped, there is no curl: {line}");
                continue;
            }
            let here = ports.iter().fold(line.to_owned(), |line, (there, here)| {
                line.replace(&format!("{HERE}{there}"), &format!("{HERE}{here}"))
            });
            let (said, code) = desk.types(&here);
            let (wanted, found): (Vec<_>, Vec<_>) =
                (shown.trim_end().lines().collect(), said.lines().collect());
            assert!(fits(&wanted, &found, &mut ports), "$ {line}\n{said}");
            let expected = match (shown.contains("error["), line) {
                (false, _) => 0,
                (true, "tow check") => 3,
                (true, _) => 5,
            };
            assert_eq!(code, Some(expected), "$ {line}\n{said}");
            typed += 1;
        }
    }
    assert!(typed >= 16, "only {typed} lines were typed");
}
