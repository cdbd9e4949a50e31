//! The programs that an application's commands begin with, and how a machine gets them.

use std::collections::BTreeSet;

use super::Finding;
use crate::config::{Config, Service};
use crate::manifest::LOCAL;

/// What the shell brings itself, or every machine has.
const COMMON: &[&str] = &[
    ".", ":", "[", "cat", "cd", "chmod", "command", "cp", "echo", "env", "eval", "exec", "exit",
    "export", "false", "if", "kill", "ln", "ls", "mkdir", "mv", "printf", "pwd", "read", "rm",
    "sed", "set", "sh", "shift", "sleep", "test", "then", "trap", "true", "ulimit", "umask",
    "unset", "wait", "while", "for", "do", "done", "else", "fi", "case", "esac", "{", "}", "(",
    ")", "!",
];

/// What comes before a command and is none.
const BEFORE: &[&str] = &[
    "exec", "env", "command", "nice", "!", "then", "do", "else", "{", "(",
];

/// The programs that the environment's commands begin with: those that run, and with `builds` those
/// that build.
#[must_use]
pub fn programs(config: &Config, builds: bool) -> BTreeSet<String> {
    let services = config.services.values();
    let dev = |service: &Service| service.dev.clone().filter(|_| config.environment == LOCAL);
    let is_contained = |service: &Service| service.container.is_some() && dev(service).is_none();
    let commands = services.flat_map(|service| {
        let build = service.build.clone().filter(|_| builds);
        let run = service.run.clone().filter(|_| !is_contained(service));
        [dev(service).or(run), build]
    });
    let commands: Vec<String> = commands.flatten().collect();
    let mut found: BTreeSet<String> = commands.iter().flat_map(|line| first_words(line)).collect();
    if config.services.values().any(is_contained) {
        found.insert("docker".to_owned());
    }
    // What these call themselves.
    for (one, other) in [
        ("cargo", "cc"),
        ("npm", "node"),
        ("npx", "node"),
        ("pip", "python3"),
    ] {
        if found.contains(one) {
            found.insert(other.to_owned());
        }
    }
    found
}

/// The first words of the commands in a line of shell, where they are names of programs.
#[must_use]
pub fn first_words(line: &str) -> Vec<String> {
    let parts = line.split(['&', '|', ';', '\n']);
    let firsts = parts.filter_map(|part| {
        let mut words = part.split_whitespace();
        words.find(|word| !is_assignment(word) && !BEFORE.contains(word))
    });
    let is_name = |word: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        !COMMON.contains(word) && !word.starts_with('-') && word.chars().all(plain)
    };
    firsts.filter(is_name).map(str::to_owned).collect()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// A program that the application's commands begin with, and that is not there.
pub(super) fn missing(name: &str, packager: &str) -> Finding {
    Finding {
        text: match name {
            "docker" => format!("`{name}` is missing, or `podman`: services run in containers"),
            _ => format!("`{name}` is missing, which the application's commands begin with"),
        },
        line: install_line(name, packager),
    }
}

/// The line, for root, that installs `program` by the packager of that name; `postgres-15` is the server of a version.
pub(super) fn install_line(program: &str, packager: &str) -> Option<String> {
    if ["cargo", "rustc"].contains(&program) {
        let line =
            "curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal";
        return Some(line.to_owned());
    }
    let version = program.strip_prefix("postgres-");
    if let Some(version) = version.filter(|_| packager == "apt-get") {
        return Some(format!("apt-get install -y postgresql-{version}"));
    }
    let begin = match packager {
        "apt-get" => "apt-get install -y",
        "dnf" => "dnf install -y",
        "yum" => "yum install -y",
        "apk" => "apk add",
        "pacman" => "pacman -S --noconfirm",
        "zypper" => "zypper install -y",
        _ => return None,
    };
    Some(format!("{begin} {}", package(program, packager)?))
}

fn package(program: &str, packager: &str) -> Option<&'static str> {
    Some(match (program, packager) {
        ("git", _) => "git",
        ("cc" | "gcc", "apt-get") => "gcc libc6-dev",
        ("cc" | "gcc", "apk") => "gcc musl-dev",
        ("cc" | "gcc", _) => "gcc",
        ("docker", "apt-get") => "docker.io",
        ("docker", "dnf" | "yum") => "podman",
        ("docker", _) => "docker",
        ("make", _) => "make",
        ("node", "dnf" | "yum" | "apk" | "pacman" | "apt-get") => "nodejs",
        ("npm" | "npx", "apt-get" | "apk" | "pacman") => "npm",
        ("npm" | "npx", "dnf" | "yum") => "nodejs-npm",
        ("python", "apt-get") => "python-is-python3",
        ("python3", "pacman") => "python",
        ("python3", _) => "python3",
        ("pip" | "pip3", "apk") => "py3-pip",
        ("pip" | "pip3", "pacman") => "python-pip",
        ("pip" | "pip3", _) => "python3-pip",
        ("java", "apt-get") => "default-jre-headless",
        ("go", "apt-get") => "golang-go",
        ("go", _) => "go",
        ("ruby", _) => "ruby",
        ("php", "apt-get") => "php-cli",
        ("php", _) => "php",
        ("ssh", "apt-get") => "openssh-client",
        ("ssh", "dnf" | "yum") => "openssh-clients",
        ("ssh", "apk" | "pacman" | "zypper") => "openssh",
        ("postgres", "dnf" | "yum" | "zypper") => "postgresql-server",
        ("postgres", _) => "postgresql",
        ("pg_dump", "apt-get" | "apk") => "postgresql-client",
        ("pg_dump", _) => "postgresql",
        ("redis-server", "apt-get") => "redis-server",
        ("redis-server", _) => "redis",
        ("bash", _) => "bash",
        ("curl", _) => "curl",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{first_words, install_line};

    #[test]
    fn the_words_that_commands_begin_with() {
        for (line, expected) in [
            ("npm ci && npm run build", vec!["npm", "npm"]),
            ("./target/release/notes --x", vec![]),
            ("exec python3 worker.py", vec!["python3"]),
            ("PORT=1 A= node dist/main.js | tee x", vec!["node", "tee"]),
            ("cd x; cargo build --release", vec!["cargo"]),
            ("$PROGRAM x", vec![]),
            ("env A=b uvicorn main:app", vec!["uvicorn"]),
            ("'od d' x; `id`", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(first_words(line), expected, "{line}");
        }
    }

    #[test]
    fn the_line_is_that_of_the_machines_packager() {
        let line = |program, packager| install_line(program, packager).unwrap_or_default();
        assert_eq!(line("cc", "apt-get"), "apt-get install -y gcc libc6-dev");
        assert_eq!(line("python3", "apk"), "apk add python3");
        assert_eq!(line("made-up", "apt-get"), "", "nothing is made up");
        assert_eq!(line("git", "unknown"), "");
        let server = "apt-get install -y postgresql-15";
        assert_eq!(line("postgres-15", "apt-get"), server);
        assert_eq!(
            line("postgres-15", "apk"),
            "",
            "another may be another version"
        );
    }
}
