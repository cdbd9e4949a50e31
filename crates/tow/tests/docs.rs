//! The documents speak of commands and flags that exist, and `docs/commands.md` of every one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The documents for people: those at the root, those of `docs`, and those of the applications.
fn documents() -> Vec<PathBuf> {
    let folders = [
        root(),
        root().join("docs"),
        root().join("systems/flowscope"),
    ];
    let entries = folders.into_iter().flat_map(|folder| {
        let entries = std::fs::read_dir(folder).expect("a folder of documents");
        entries.map(|entry| entry.expect("an entry").path())
    });
    entries
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a readable document")
}

/// What stands between backticks, and the lines of blocks; each with its line.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut block = false;
    for (at, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            block = !block;
        } else if block {
            found.push((at + 1, line));
        } else {
            found.extend(
                line.split('`')
                    .skip(1)
                    .step_by(2)
                    .map(|code| (at + 1, code)),
            );
        }
    }
    found
}

/// The words after `tow` of a command, up to a comment or whatever else the shell would take for an end.
fn arguments(code: &str) -> Option<Vec<&str>> {
    let mut words = code.trim_start_matches("$ ").split_whitespace();
    let program = words.next()?;
    let is_ours = program == "tow" || program.ends_with("release/tow");
    let ends = ["#", "->", "|", "&&", ">", "&", "(", "COMMAND"];
    let words: Vec<_> = words
        .take_while(|word| !ends.iter().any(|end| word.starts_with(end)))
        .collect();
    (is_ours && !words.is_empty()).then_some(words)
}

fn help(command: &[&str]) -> Option<String> {
    let mut tow = Command::new(env!("CARGO_BIN_EXE_tow"));
    let output = tow
        .args(command)
        .arg("--help")
        .output()
        .expect("a program that runs");
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The flags that a help text lists.
fn flags(help: &str) -> BTreeSet<String> {
    let listed = help
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'));
    let words = listed.flat_map(|line| {
        line.split("  ")
            .next()
            .unwrap_or_default()
            .split_whitespace()
    });
    let words = words.map(|word| word.trim_end_matches(','));
    words
        .filter(|word| word.starts_with('-'))
        .map(str::to_owned)
        .collect()
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = lines.take_while(|line| !line.is_empty());
    let listed = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    listed
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Every command there is to see, with its flags; a command of commands is left to those.
fn visible() -> BTreeMap<String, BTreeSet<String>> {
    let mut visible = BTreeMap::new();
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let help = help(&words).expect("a help text");
        let below = commands(&help);
        if below.is_empty() {
            visible.insert(path.join(" "), flags(&help));
        }
        open.extend(
            below
                .into_iter()
                .map(|name| [path.clone(), vec![name]].concat()),
        );
    }
    visible
}

/// What is wrong with the words after `tow`.
fn wrong(words: &[&str]) -> Option<String> {
    let globals = ["-C", "--dir", "--state"];
    let mut rest = words;
    while let [flag, _, after @ ..] = rest {
        match globals.contains(flag) {
            true => rest = after,
            false => break,
        }
    }
    let is_name = |word: &&&str| word.starts_with(|first: char| first.is_ascii_lowercase());
    let named: Vec<&str> = rest.iter().take_while(is_name).copied().collect();
    // Each may be the name of a command below the one before; else it is an argument.
    let is_below = |at: &usize| {
        let below = help(&named[..*at]).map(|help| commands(&help));
        below.is_some_and(|below| below.iter().any(|name| *name == named[*at]))
    };
    let deep = (1..named.len()).take_while(is_below).count() + 1;
    let command = &named[..named.len().min(deep)];
    let Some(help) = help(command) else {
        return Some(format!("there is no command `{}`", command.join(" ")));
    };
    let known = flags(&help);
    let unknown = words
        .iter()
        .filter(|word| word.starts_with('-') && !known.contains(**word));
    let unknown: Vec<_> = unknown.collect();
    (!unknown.is_empty()).then(|| format!("`{}` has no {unknown:?}", command.join(" ")))
}

#[test]
fn every_command_of_the_documents_exists() {
    let mut looked_at = BTreeSet::new();
    for path in documents() {
        let text = read(&path);
        for (line, code) in code(&text) {
            let Some(words) = arguments(code) else {
                continue;
            };
            if looked_at.insert(words.join(" ")) {
                let wrong = wrong(&words);
                assert!(
                    wrong.is_none(),
                    "{}:{line}: {code}: {wrong:?}",
                    path.display()
                );
            }
        }
    }
    assert!(looked_at.len() > 20, "only {looked_at:?} were found");
}

#[test]
fn every_command_and_every_flag_is_described() {
    let text = read(&root().join("docs/commands.md"));
    let code = code(&text);
    let visible = visible();
    assert!(visible.len() > 14, "only {:?} are there", visible.keys());
    for (command, flags) in visible {
        let is_named = |words: &str| words == command || words.starts_with(&format!("{command} "));
        let described = code
            .iter()
            .filter_map(|(_, code)| code.strip_prefix("tow "))
            .any(is_named);
        assert!(
            described,
            "docs/commands.md says nothing of `tow {command}`"
        );
        for flag in flags.iter().filter(|flag| flag.starts_with("--")) {
            let is_it = |code: &str| code.split_whitespace().any(|word| word == flag);
            let given = ["--help", "--version"].contains(&flag.as_str());
            let described = given || code.iter().any(|(_, code)| is_it(code));
            assert!(
                described,
                "docs/commands.md says nothing of {flag} of `tow {command}`"
            );
        }
    }
}

/// The files of a document's example, by the line that names each, and the other blocks by what they are marked as.
fn example(text: &str) -> (Vec<(String, String)>, BTreeMap<String, String>) {
    let (mut files, mut blocks) = (Vec::new(), BTreeMap::new());
    for block in text.split("\n```").skip(1).step_by(2) {
        let (mark, body) = block.split_once('\n').expect("a marked block");
        let (first, rest) = body.split_once('\n').unwrap_or((body, ""));
        match first.split_once(" file: ") {
            Some((_, path)) => files.push((path.to_owned(), format!("{rest}\n"))),
            None => {
                blocks.insert(mark.to_owned(), format!("{body}\n"));
            }
        }
    }
    (files, blocks)
}

#[test]
fn the_example_of_init_is_what_comes_of_it() {
    let (files, blocks) = example(&read(&root().join("docs/init.md")));
    let above = std::env::temp_dir().join(format!("tow-docs-{}", std::process::id()));
    let project = above.join("notes");
    std::fs::create_dir_all(&project).expect("a folder");
    for (path, text) in &files {
        std::fs::write(project.join(path), text).expect("a file");
    }
    let mut tow = Command::new(env!("CARGO_BIN_EXE_tow"));
    let said = tow.arg("init").current_dir(&project).output();
    let said = said.expect("a program that runs");
    let manifest = std::fs::read_to_string(project.join("tow.toml")).unwrap_or_default();
    std::fs::remove_dir_all(&above).expect("a folder to remove");
    let said = format!("$ tow init\n{}", String::from_utf8_lossy(&said.stdout));
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(said.trim_end(), blocks["console"].trim_end());
    assert_eq!(manifest, blocks["toml"]);
}

#[test]
fn what_does_not_exist_is_found() {
    let absent = [
        "frobnicate",
        "deploy --frobnicate",
        "-C x deploy -e y --frobnicate",
        "server frobnicate --now",
        "server key frobnicate --name y",
    ];
    for line in absent {
        let words: Vec<_> = line.split(' ').collect();
        assert!(wrong(&words).is_some(), "{line}");
    }
    for line in [
        "-C x deploy -e staging --dry-run",
        "logs web --follow",
        "server upgrade -e x",
        "server key add -e x --name y",
        "--version",
    ] {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(wrong(&words), None, "{line}");
    }
    assert_eq!(
        arguments("$ tow ps -e x | less"),
        Some(vec!["ps", "-e", "x"])
    );
    assert_eq!(arguments("tow.toml"), None);
}
