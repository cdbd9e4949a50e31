//! `Dockerfile`: what its image runs, where that listens, what it installs, and what is wrong in it.

use super::finding::{Findings, Place};
use super::sketch::{Ready, Variable};
use super::tree::{File, Tree, join};
use super::{check, command, image, secret};

/// What a Dockerfile says of its image.
#[derive(Debug, Default)]
pub struct Docker {
    /// The file.
    pub path: String,
    /// What it runs, as a line for the shell, and where that stands.
    pub run: Option<(String, Place)>,
    /// The port that it names.
    pub port: Option<u16>,
    /// When it is ready.
    pub ready: Option<Ready>,
    /// Whether a program of the image is what the command is given to.
    pub is_wrapped: bool,
    /// Whether it runs Python.
    pub is_python: bool,
    /// Whether it only passes requests on.
    pub is_proxy: bool,
    /// Lines that install packages of the system.
    pub packages: Vec<Place>,
    /// Plain variables of the last stage.
    pub env: Vec<Variable>,
    /// What is wrong.
    pub findings: Findings,
}

/// An instruction: its word in capitals, the rest, its line.
struct Instruction {
    word: String,
    rest: String,
    line: usize,
}

/// A stage: its name, and where only what production needs was installed.
#[derive(Debug, Clone, Default)]
struct Stage {
    name: String,
    lean: Option<usize>,
}

/// What the Dockerfile of a folder says, if there is one.
pub fn read(tree: &Tree, dir: &str, name: &str) -> Option<Docker> {
    let file = tree.read(&join(dir, name))?;
    let mut docker = Docker {
        path: file.path.clone(),
        ..Docker::default()
    };
    let instructions = instructions(&file.text);
    if !instructions.iter().any(|one| one.word == "FROM") {
        tree.refuse(&file.path, 0, "has no `FROM`: it is no Dockerfile");
        return None;
    }
    let has_dev = has_dev_dependencies(tree, dir);
    stages(&mut docker, &file, &instructions, has_dev);
    last_stage(&mut docker, &file, &instructions);
    Some(docker)
}

/// Whether the packages that only a build needs are told apart; where that cannot be seen, they may be.
fn has_dev_dependencies(tree: &Tree, dir: &str) -> bool {
    let Some(file) = tree.read(&join(dir, "package.json")) else {
        return true;
    };
    let package: Option<serde_json::Value> = serde_json::from_str(&file.text).ok();
    package.is_none_or(|package| {
        let found = package["devDependencies"].as_object();
        found.is_some_and(|found| !found.is_empty())
    })
}

fn instructions(text: &str) -> Vec<Instruction> {
    let mut found: Vec<Instruction> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut whole = line.to_owned();
        while let Some(start) = whole.strip_suffix('\\') {
            whole = start.trim_end().to_owned();
            let next = lines.find(|(_, line)| !line.trim_start().starts_with('#'));
            match next {
                Some((_, line)) => whole += &format!(" {}", line.trim()),
                None => break,
            }
        }
        let (word, rest) = whole.split_once([' ', '\t']).unwrap_or((&whole, ""));
        let mut rest = rest.trim().to_owned();
        if matches!(word.to_uppercase().as_str(), "RUN" | "COPY")
            && let Some(end) = heredoc(&rest)
        {
            for (_, line) in lines.by_ref() {
                if line.trim() == end {
                    break;
                }
                rest += &format!(" && {}", line.trim());
            }
        }
        found.push(Instruction {
            word: word.to_uppercase(),
            rest,
            line: at + 1,
        });
    }
    found
}

/// The word that ends a text that follows.
fn heredoc(rest: &str) -> Option<String> {
    let (_, after) = rest.split_once("<<")?;
    let word = after
        .trim_start_matches('-')
        .trim_start_matches(['"', '\'']);
    let end = word.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let word = &word[..end.unwrap_or(word.len())];
    (!word.is_empty()).then(|| word.to_owned())
}

/// Goes through all stages, for what is wrong in any of them.
fn stages(docker: &mut Docker, file: &File, instructions: &[Instruction], has_dev: bool) {
    let mut stages: Vec<Stage> = Vec::new();
    for one in instructions {
        let place = file.at(one.line);
        match one.word.as_str() {
            "FROM" => {
                let (base, name) = from(&one.rest);
                let before = stages
                    .iter()
                    .find(|stage| !stage.name.is_empty() && stage.name == base);
                let lean = before.and_then(|stage| stage.lean);
                if before.is_none() && !base.contains('$') {
                    image::judge(&mut docker.findings, &place, base);
                }
                stages.push(Stage {
                    name: name.to_owned(),
                    lean,
                });
            }
            "ARG" => {
                for name in one.rest.split_whitespace() {
                    let name = name.split('=').next().unwrap_or_default();
                    argument(docker, &place, name);
                }
            }
            "ENV" => env(docker, &place, &one.rest),
            "RUN" => {
                run(docker, file, one);
                lean(docker, file, one, &mut stages, has_dev);
            }
            "COPY" | "ADD" => copy(docker, file, one, &mut stages),
            _ => {}
        }
    }
}

fn argument(docker: &mut Docker, place: &Place, name: &str) {
    if secret::is_name(name) {
        docker.findings.fault(
            "secret-in-build",
            place,
            format!("`{name}` is an argument of the build: the image's history shows it"),
            "mount it: `RUN --mount=type=secret,id=...`",
        );
    }
}

fn env(docker: &mut Docker, place: &Place, rest: &str) {
    let pairs: Vec<(String, String)> = match rest.split_whitespace().next() {
        Some(first) if first.contains('=') => words(rest)
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
            .collect(),
        Some(name) => {
            let value = rest[name.len()..].trim().trim_matches(['"', '\'']);
            vec![(name.to_owned(), value.to_owned())]
        }
        None => Vec::new(),
    };
    for (name, value) in pairs {
        secret::judge(&mut docker.findings, place, &name, &value);
        let mut variable = Variable::new(&name, Some(&value), place);
        variable.is_open = value.contains('$');
        docker.env.retain(|known| known.name != name);
        docker.env.push(variable);
    }
}

/// Words, with what is quoted kept together.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in text.chars() {
        match (letter, quote) {
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            (letter, None) if letter.is_whitespace() => words.push(String::new()),
            (letter, _) => {
                if let Some(word) = words.last_mut() {
                    word.push(letter);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn run(docker: &mut Docker, file: &File, one: &Instruction) {
    let place = file.at(one.line);
    legacy_peers(&mut docker.findings, &place, &one.rest);
    let installs = [
        "apt-get install",
        "apt install",
        "apk add",
        "yum install",
        "dnf install",
    ];
    if installs.iter().any(|line| one.rest.contains(line)) {
        docker.packages.push(place.clone());
    }
    if secret::in_command(&one.rest) && secret::is_value(&one.rest) {
        docker.findings.fault(
            "plain-secret",
            &place,
            "a command holds a secret in plain text: the image's history shows it",
            "mount it: `RUN --mount=type=secret,id=...`",
        );
    }
}

/// Says that conflicts between packages are passed over.
pub fn legacy_peers(findings: &mut Findings, place: &Place, line: &str) {
    if line.contains("--legacy-peer-deps") {
        findings.fault(
            "legacy-peer-deps",
            place,
            "`--legacy-peer-deps` installs packages that say they do not go together",
            "mend the versions that `npm ls` complains of, and take it out",
        );
    }
}

/// Whether a line installs only what production needs, or everything.
fn installs(line: &str) -> Option<bool> {
    let installs = [
        "npm ci",
        "npm install",
        "npm i ",
        "yarn install",
        "pnpm install",
        "pnpm i ",
        "yarn --",
    ];
    if !installs.iter().any(|start| line.contains(start)) {
        return None;
    }
    let lean = [
        "--only=production",
        "--only=prod",
        "--omit=dev",
        "--production",
        "--prod",
        "--omit dev",
        "--only production",
    ];
    Some(lean.iter().any(|flag| line.contains(flag)))
}

fn builds(line: &str) -> bool {
    let marks = [
        "npm run build",
        "yarn build",
        "yarn run build",
        "pnpm build",
        "pnpm run build",
        "next build",
        "npx tsc",
        "vite build",
        "nest build",
        "webpack",
    ];
    marks.iter().any(|mark| line.contains(mark))
}

/// A build after an install that left out what builds need.
fn lean(docker: &mut Docker, file: &File, one: &Instruction, stages: &mut [Stage], has_dev: bool) {
    let Some(stage) = stages.last_mut() else {
        return;
    };
    for line in one.rest.split("&&") {
        match installs(line) {
            Some(true) => stage.lean = Some(one.line),
            Some(false) => stage.lean = None,
            None => {}
        }
        if let Some(at) = stage.lean
            && builds(line)
            && has_dev
        {
            docker.findings.fault(
                "build-without-dev-dependencies",
                &file.at(at),
                format!("only what production needs is installed, and line {} builds with it: compilers and bundlers are development dependencies", one.line),
                "install everything before the build, `npm ci`, and prune afterwards: `npm prune --omit=dev`",
            );
            stage.lean = None;
        }
    }
}

fn copy(docker: &mut Docker, file: &File, one: &Instruction, stages: &mut [Stage]) {
    let from = one
        .rest
        .split_whitespace()
        .find_map(|word| word.strip_prefix("--from="));
    if let Some(from) = from {
        let number: Option<usize> = from.parse().ok();
        let found = stages
            .iter()
            .enumerate()
            .find(|(at, stage)| stage.name == from || Some(*at) == number);
        let lean = found.and_then(|(_, stage)| stage.lean);
        if let Some(stage) = stages.last_mut()
            && one.rest.contains("node_modules")
            && lean.is_some()
        {
            stage.lean = lean;
        }
        return;
    }
    let takes_env =
        |word: &str| matches!(word.rsplit('/').next(), Some(".env" | ".env.production"));
    let words: Vec<_> = one.rest.split_whitespace().collect();
    if words.iter().rev().skip(1).any(|word| takes_env(word)) {
        docker.findings.fault(
            "env-in-image",
            &file.at(one.line),
            "a `.env` is put into the image: whoever has the image has its values",
            "give the values when it runs",
        );
    }
}

/// What a stage runs; one that is begun from another has what that has.
#[derive(Debug, Clone, Default)]
struct Runs {
    name: String,
    base: String,
    entry: Option<(String, Place)>,
    given: Option<(String, Place)>,
    port: Option<u16>,
    ready: Option<Ready>,
    takes_files: bool,
}

/// What the last stage runs, and where that listens.
fn last_stage(docker: &mut Docker, file: &File, instructions: &[Instruction]) {
    let mut stages: Vec<Runs> = Vec::new();
    for one in instructions {
        if one.word == "FROM" {
            let (base, name) = from(&one.rest);
            let before = stages
                .iter()
                .find(|stage| !stage.name.is_empty() && stage.name == base);
            let mut stage = before.cloned().unwrap_or_else(|| Runs {
                base: base.to_owned(),
                ..Runs::default()
            });
            stage.name = name.to_owned();
            stages.push(stage);
        } else if let Some(stage) = stages.last_mut() {
            step(stage, file.at(one.line), one);
        }
    }
    let Some(last) = stages.pop() else { return };
    docker.port = last.port;
    docker.ready = last.ready;
    docker.is_proxy = image::classify(&last.base) == image::Image::Proxy && !last.takes_files;
    let entry = last.entry.as_ref().map(|(line, _)| line.as_str());
    docker.is_wrapped = entry.is_some_and(is_of_image);
    docker.is_python = image::parts(&last.base).0.ends_with("python");
    let run = match (last.entry, last.given) {
        (Some((entry, place)), Some((given, _))) => Some((format!("{entry} {given}"), place)),
        (one, other) => one.or(other),
    };
    docker.run = run.filter(|(line, _)| !secret::in_command(line));
    docker.is_python |= docker
        .run
        .as_ref()
        .is_some_and(|(line, _)| command::is_of_python(line));
    if let Some(value) = docker.env.iter().find(|one| one.name == "PORT") {
        let port = value.value.as_deref().and_then(|text| text.parse().ok());
        docker.port = docker.port.or(port);
    }
}

fn step(stage: &mut Runs, place: Place, one: &Instruction) {
    match one.word.as_str() {
        "CMD" => stage.given = Some((shell(&one.rest), place)),
        "ENTRYPOINT" => stage.entry = Some((shell(&one.rest), place)),
        "EXPOSE" => {
            let port = one.rest.split_whitespace().next().unwrap_or_default();
            let port = port.split('/').next().unwrap_or_default();
            stage.port = port.parse().ok().or(stage.port);
        }
        "HEALTHCHECK" => stage.ready = healthcheck(&one.rest),
        "COPY" => stage.takes_files |= one.rest.contains("--from=") || one.rest.contains("html"),
        _ => {}
    }
}

/// A command that only the image has: a script at its root, an interpreter of it.
pub fn is_of_image(line: &str) -> bool {
    let program = line.split_whitespace().next().unwrap_or_default();
    program.starts_with('/')
        || line.contains("entrypoint")
        || line.contains(" /app/")
        || program == "nginx"
        || line.starts_with("tail ")
        || line.starts_with("sleep ")
}

/// The base and the name of a stage.
fn from(rest: &str) -> (&str, &str) {
    let words = rest
        .split_whitespace()
        .filter(|word| !word.starts_with("--"));
    let words: Vec<&str> = words.collect();
    let base = words.first().copied().unwrap_or_default();
    match words.as_slice() {
        [_, word, name, ..] if word.eq_ignore_ascii_case("as") => (base, name),
        _ => (base, ""),
    }
}

fn shell(rest: &str) -> String {
    match serde_json::from_str::<Vec<String>>(rest) {
        Ok(words) => {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            command::line(&words)
        }
        Err(_) => rest.to_owned(),
    }
}

fn healthcheck(rest: &str) -> Option<Ready> {
    let (_, test) = rest.split_once("CMD")?;
    let line = shell(test.trim());
    match check::probe(&line) {
        probe @ super::sketch::Probe::Http(_) => Some(Ready {
            probe,
            within: None,
        }),
        super::sketch::Probe::Exec(_) => None,
    }
}
