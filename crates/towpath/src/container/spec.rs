//! What is to run in a container, and the arguments that make it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use towpath_shim::protocol::{MARK, User};

use super::{Error, Running};
use crate::id::{Digest, token};
use crate::state::write_whole;

/// What an engine's client, or what loads it, reads of its environment for itself.
const OF_THE_CLIENT: [&str; 20] = [
    "LD_",
    "GODEBUG",
    "GOGC",
    "GOMAXPROCS",
    "GOMEMLIMIT",
    "GOTRACEBACK",
    "GORACE",
    "GOCOVERDIR",
    "DOCKER_",
    "BUILDKIT_",
    "CONTAINER",
    "PODMAN_",
    "XDG_",
    "SSL_",
    "DBUS_",
    "OTEL_",
    "PATH",
    "HOME",
    "TMPDIR",
    "NOTIFY_",
];

/// A port of this machine's loopback that leads to one of the container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// On 127.0.0.1.
    pub outer: u16,
    /// In the container.
    pub inner: u16,
}

/// A container to run; `container.json` in the folder of its shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The id of its image.
    pub image: String,
    /// Program and arguments; empty where the image says them.
    pub command: Vec<String>,
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// Secrets that it is given, by name, each with the name of its old value while it is being rotated. The values come to
    /// its keeper, and are in no file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Of one with secrets, random: what tells two apart gives no value away to who could guess it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Whom it runs as; the image's own choice when `None`.
    pub user: Option<User>,
    /// The port it is reached by; `None` gives it the network of the machine.
    pub published: Option<Published>,
    /// Folders of the machine that it sees at the same path.
    pub mounts: Vec<PathBuf>,
    /// Name of the application.
    pub app: String,
    /// Name of the environment.
    pub environment: String,
    /// The instance.
    pub instance: String,
    /// What its processes and its label carry.
    pub mark: String,
    /// Signal that asks it to end.
    pub stop_signal: i32,
    /// Time between that and SIGKILL, milliseconds.
    pub grace_ms: u64,
}

impl Spec {
    fn path(dir: &Path) -> PathBuf {
        dir.join("container.json")
    }

    /// Whether the instance whose shim has this folder is a container.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        Spec::path(dir).is_file()
    }

    /// Reads what stands in the folder of a shim.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(dir: &Path) -> Result<Spec, Error> {
        let path = Spec::path(dir);
        let text = std::fs::read(&path).map_err(|error| Error::Io(path.clone(), error))?;
        serde_json::from_slice(&text).map_err(|error| Error::Io(path, error.into()))
    }

    /// Writes it, and removes what was known of the one before.
    ///
    /// # Errors
    /// From the file system.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        let nonce = (!self.secrets.is_empty()).then(token).flatten();
        let text = serde_json::to_vec_pretty(&Spec {
            nonce,
            ..self.clone()
        })?;
        Running::forget(dir);
        write_whole(&Spec::path(dir), &text)
    }

    /// The same with the values of its secrets among its variables, as `value_of` has them by name, and with the old ones
    /// of those that are being rotated; not to be written anywhere.
    ///
    /// # Errors
    /// [`Error::Secret`] when one is not there.
    pub fn with_secrets(
        mut self,
        value_of: impl Fn(&str) -> Option<String>,
    ) -> Result<Spec, Error> {
        for (name, previous) in &self.secrets {
            let value = value_of(name).ok_or_else(|| Error::Secret(name.clone()))?;
            self.env.insert(name.clone(), value);
            if let Some(value) = value_of(previous) {
                self.env.insert(previous.clone(), value);
            }
        }
        Ok(self)
    }

    /// What two containers must have in common to be the same.
    #[must_use]
    pub fn digest(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        Digest::of(&text).short()
    }

    /// Arguments for the engine that make the container; its variables come on standard input. Of
    /// those that do not fit a line the client takes the value from its environment.
    ///
    /// # Errors
    /// [`Error::Variable`] when the client would take such a one for its own.
    pub fn create(&self) -> Result<Vec<String>, Error> {
        let mut argv: Vec<String> = [
            "create",
            "--pull=never",
            "--env-file=/dev/stdin",
            "--log-driver=none",
        ]
        .map(str::to_owned)
        .into();
        let labels = [
            ("app", &self.app),
            ("environment", &self.environment),
            ("instance", &self.instance),
            ("mark", &self.mark),
            ("spec", &self.digest()),
        ];
        argv.extend(labels.map(|(name, value)| format!("--label=towpath.{name}={value}")));
        argv.push(format!("--stop-signal={}", self.stop_signal));
        argv.extend(self.network());
        if let Some(User { uid, gid }) = self.user {
            argv.push(format!("--user={uid}:{gid}"));
            argv.push("--security-opt=no-new-privileges".to_owned());
        }
        for mount in &self.mounts {
            let path = mount.display();
            argv.push(format!("--mount=type=bind,source={path},target={path}"));
        }
        for name in self.long().keys() {
            if OF_THE_CLIENT.iter().any(|begin| name.starts_with(begin)) {
                return Err(Error::Variable((*name).clone()));
            }
            argv.push(format!("--env={name}"));
        }
        argv.extend(
            self.command
                .first()
                .map(|program| format!("--entrypoint={program}")),
        );
        argv.push(self.image.clone());
        argv.extend(self.command.iter().skip(1).cloned());
        Ok(argv)
    }

    fn network(&self) -> Vec<String> {
        let Some(Published { outer, inner }) = self.published else {
            return vec!["--network=host".to_owned()];
        };
        vec![
            format!("--publish=127.0.0.1:{outer}:{inner}"),
            "--add-host=host.docker.internal:host-gateway".to_owned(),
        ]
    }

    /// Variables that do not fit a line of a file.
    pub(super) fn long(&self) -> BTreeMap<&String, &String> {
        let is_long = |value: &str| value.contains(['\n', '\r']) || value.len() > 60_000;
        let all = self.env.iter();
        all.filter(|(_, value)| is_long(value)).collect()
    }

    /// The others, as a file of the form that engines read; every process of the container has the
    /// mark too.
    pub(super) fn lines(&self) -> String {
        let long = self.long();
        let mut text = String::new();
        let short = self.env.iter().filter(|(name, _)| !long.contains_key(name));
        for (name, value) in short {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}={value}");
        }
        let _ = writeln!(text, "{MARK}={}", self.mark);
        text
    }
}

/// Program and arguments of a command as typed: words where it is nothing but words, so that an
/// image without a shell can run it.
#[must_use]
pub fn command(typed: &str) -> Vec<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " _-./:=,+@%".contains(c);
    let first = typed.split(' ').find(|word| !word.is_empty());
    let is_plain = typed.chars().all(plain)
        && first.is_some_and(|word| !word.contains('=') && !["exec", "cd"].contains(&word));
    match is_plain {
        true => {
            let words = typed.split(' ').filter(|word| !word.is_empty());
            words.map(str::to_owned).collect()
        }
        false => ["/bin/sh", "-c", typed].map(str::to_owned).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            image: "sha256:0f".to_owned(),
            command: Vec::new(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            nonce: None,
            user: None,
            published: None,
            mounts: Vec::new(),
            app: "notes".to_owned(),
            environment: "staging".to_owned(),
            instance: "web-1-d1".to_owned(),
            mark: "0011/web-1-d1".to_owned(),
            stop_signal: 15,
            grace_ms: 10_000,
        }
    }

    #[test]
    fn it_is_on_the_machines_network_or_on_one_port_of_its_loopback() {
        let mut spec = spec();
        let argv = spec.create().unwrap();
        assert!(argv.contains(&"--network=host".to_owned()));
        assert!(!argv.iter().any(|word| word.starts_with("--publish")));
        spec.published = Some(Published {
            outer: 20_001,
            inner: 80,
        });
        let argv = spec.create().unwrap();
        let published: Vec<_> = argv
            .iter()
            .filter(|word| word.starts_with("--publish"))
            .collect();
        assert_eq!(published, ["--publish=127.0.0.1:20001:80"]);
        assert!(!argv.contains(&"--network=host".to_owned()));
    }

    #[test]
    fn what_runs_comes_behind_the_image() {
        let mut spec = spec();
        assert_eq!(spec.create().unwrap().last().unwrap(), "sha256:0f");
        spec.command = command("/app web --fast");
        let argv = spec.create().unwrap();
        let at = argv.iter().position(|word| word == "sha256:0f").unwrap();
        assert_eq!(argv[at - 1], "--entrypoint=/app");
        assert_eq!(argv[at + 1..], ["web", "--fast"]);
    }

    #[test]
    fn a_command_of_words_needs_no_shell() {
        assert_eq!(command("/app  web "), ["/app", "web"]);
        for typed in [
            "a | b",
            "serve --port $PORT",
            "A=1 b",
            "exec a",
            "say 'a b'",
            "a; b",
        ] {
            assert_eq!(command(typed), ["/bin/sh", "-c", typed]);
        }
    }

    #[test]
    fn no_variable_is_in_the_arguments_nor_in_the_clients_environment() {
        let mut spec = spec();
        let env = [
            ("KEY", "hunter2"),
            ("LD_PRELOAD", "/evil.so"),
            ("DOCKER_HOST", "tcp://evil"),
            ("PATH", "/evil"),
            ("EMPTY", ""),
            ("PEM", "-----\nhunter3\n-----"),
        ];
        spec.env = env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let argv = spec.create().unwrap().join(" ");
        for secret in ["hunter", "evil"] {
            assert!(!argv.contains(secret), "{argv}");
        }
        assert!(argv.contains("--env=PEM"), "{argv}");
        let lines = spec.lines();
        let expected = "DOCKER_HOST=tcp://evil\nEMPTY=\nKEY=hunter2\nLD_PRELOAD=/evil.so\nPATH=/evil\n\
                        TOWPATH_MARK=0011/web-1-d1\n";
        assert_eq!(lines, expected);
        assert_eq!(spec.long().len(), 1);
        for name in ["LD_PRELOAD", "DOCKER_HOST", "PATH", "GODEBUG"] {
            let mut spec = spec.clone();
            spec.env.insert(name.to_owned(), "a\nb".to_owned());
            let refused = spec.create();
            assert!(matches!(refused, Err(Error::Variable(_))), "{name}");
        }
    }

    #[test]
    fn secrets_come_from_elsewhere_and_tell_two_containers_apart() {
        let mut spec = spec();
        spec.secrets = [("KEY".to_owned(), "KEY_PREVIOUS".to_owned())].into();
        let with = |pairs: &[(&str, &str)]| {
            let value_of = |name: &str| {
                let found = pairs.iter().find(|(one, _)| *one == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            spec.clone().with_secrets(value_of)
        };
        let old = with(&[("KEY", "old"), ("OTHER", "-")]).unwrap();
        let both = with(&[("KEY", "new"), ("KEY_PREVIOUS", "old")]).unwrap();
        let new = with(&[("KEY", "new")]).unwrap();
        let lines = [&old, &both, &new].map(|spec| spec.lines().replace('\n', " "));
        let mark = "TOWPATH_MARK=0011/web-1-d1 ";
        let expected = ["KEY=old ", "KEY=new KEY_PREVIOUS=old ", "KEY=new "];
        assert_eq!(lines, expected.map(|begin| format!("{begin}{mark}")));
        assert_ne!(old.digest(), both.digest());
        assert_ne!(both.digest(), new.digest());
        assert!(matches!(with(&[]), Err(Error::Secret(name)) if name == "KEY"));
        assert!(!both.create().unwrap().join(" ").contains("old"));
    }

    #[test]
    fn two_that_differ_are_not_the_same() {
        let one = spec();
        let mut other = spec();
        assert_eq!(one.digest(), other.digest());
        other.env.insert("A".to_owned(), "1".to_owned());
        assert_ne!(one.digest(), other.digest());
    }
}
