//! One service of a compose file that is the application's own, or an image that it runs.

use std::collections::BTreeMap;

use super::super::check;
use super::super::finding::Place;
use super::super::sketch::{Part, Probe, Ready, Variable};
use super::super::tree::{is_inside, join};
use super::super::value::fill;
use super::super::yaml::{Kind, Node};
use super::super::{command, dotenv, names, secret, words};
use super::{Reader, pairs};

impl Reader<'_> {
    pub(super) fn part(&mut self, name: &str, place: &Place, node: &Node, image: Option<String>) {
        let mut part = Part::new(name, place.clone());
        part.is_ours = image.is_none();
        part.image = image;
        self.build(&mut part, node);
        self.environment(&mut part, node);
        self.command(&mut part, node);
        let ports = self.ports(node);
        part.port = ports.first().map(|(inside, ..)| *inside);
        part.published = ports.iter().map(|(_, outside, ..)| *outside).collect();
        if part.port.is_none() {
            let exposed = node.get("expose").map(Node::texts).unwrap_or_default();
            part.port = exposed.first().and_then(|(text, _)| text.parse().ok());
        }
        self.labels(&mut part, node);
        self.needs(&mut part, node);
        if let Some(check) = node.get("healthcheck") {
            self.healthcheck(&mut part, check);
        }
        part.restart = match node.text_of("restart") {
            Some("no") => Some("never"),
            Some(policy) if policy.starts_with("on-failure") => Some("on-failure"),
            _ => None,
        };
        part.signal = node
            .text_of("stop_signal")
            .map(|signal| signal.trim_start_matches("SIG").to_owned());
        part.grace = node.text_of("stop_grace_period").and_then(check::seconds);
        let replicas = node.at(&["deploy", "replicas"]).or(node.get("scale"));
        part.replicas = replicas
            .and_then(Node::text)
            .and_then(|text| self.filled(text).parse().ok());
        self.rest(&part.name.clone(), node);
        self.sketch.parts.push(part);
    }

    /// A proxy is told by labels which port it leads to.
    fn labels(&mut self, part: &mut Part, node: &Node) {
        for (name, value, _) in node.get("labels").map(pairs).unwrap_or_default() {
            let port = value.and_then(|value| self.filled(&value).parse().ok());
            if let Some(port) = port.filter(|_| name.ends_with("loadbalancer.server.port")) {
                part.port = Some(port);
                part.published.push(port);
            }
        }
    }

    fn build(&mut self, part: &mut Part, node: &Node) {
        let Some(build) = node.get("build") else {
            return;
        };
        let context = build.text().or(build.text_of("context")).unwrap_or(".");
        let dir = join(".", &self.filled(context));
        if !is_inside(&dir) || context.contains("://") || context.starts_with('/') {
            let at = self.file.at(build.line);
            let text = format!(
                "`{}` is built from `{context}`, outside the project",
                part.name
            );
            self.findings().leave(&at, text);
            part.is_ours = false;
            return;
        }
        part.dir = dir;
        let file = build.text_of("dockerfile").map(|file| self.filled(file));
        part.dockerfile = Some(file.unwrap_or_else(|| "Dockerfile".to_owned()));
        if let Some(inline) = build.get("dockerfile_inline") {
            let at = self.file.at(inline.line);
            self.findings()
                .leave(&at, "`dockerfile_inline`: put it into a file of its own");
            part.dockerfile = None;
        }
        if let Some(target) = build.get("target") {
            let at = self.file.at(target.line);
            self.findings().leave(
                &at,
                "`target`: the last stage of a Dockerfile is what is built",
            );
        }
        self.arguments(build);
    }

    /// Arguments of a build stand in the image's history.
    fn arguments(&mut self, build: &Node) {
        let Some(args) = build.get("args") else {
            return;
        };
        for (name, _, line) in pairs(args) {
            let at = self.file.at(line);
            if secret::is_name(&name) {
                self.findings().fault(
                    "secret-in-build",
                    &at,
                    format!("`{name}` is an argument of a build: the image's history shows it"),
                    "mount it: `RUN --mount=type=secret,id=...`",
                );
            }
            let text = format!("argument `{name}`: a build by a Dockerfile gets none");
            self.findings().leave(&at, text);
        }
    }

    pub(super) fn environment(&mut self, part: &mut Part, node: &Node) {
        if let Some(env) = node.get("environment") {
            for (name, value, line) in pairs(env) {
                self.variable(part, &name, value.as_deref(), line);
            }
        }
        let Some(files) = node.get("env_file") else {
            return;
        };
        let lone = std::slice::from_ref(files);
        let items = match &files.kind {
            Kind::List(items) => items.as_slice(),
            _ => lone,
        };
        for item in items {
            let Some(path) = item.text().or(item.text_of("path")) else {
                continue;
            };
            let path = self.filled(path);
            let inside = join(".", &path);
            match is_inside(&inside) && !path.starts_with('/') {
                true => self.env_file(part, &inside, item.line),
                false => self.untold(part, &path, "outside the project", item.line),
            }
        }
    }

    /// Says that a file of variables is not read.
    fn untold(&mut self, part: &Part, path: &str, why: &str, line: usize) {
        let at = self.file.at(line);
        self.findings().decide(
            &at,
            format!(
                "`{path}` is {why}: what `{}` is told by it is not known",
                part.name
            ),
            format!("services.{}.env = {{ ... }}", names::service(&part.name)),
        );
    }

    fn env_file(&mut self, part: &mut Part, path: &str, line: usize) {
        let Some(file) = self.tree.read(path) else {
            self.untold(part, path, "not here", line);
            return;
        };
        for variable in dotenv::variables(&file, self.findings()) {
            if !part.env.iter().any(|known| known.name == variable.name) {
                part.env.push(variable);
            }
        }
    }

    fn variable(&mut self, part: &mut Part, name: &str, value: Option<&str>, line: usize) {
        let place = self.file.at(line);
        let Some(value) = value else {
            // It is handed through from whoever starts compose.
            let known = self.variables.get(name).cloned();
            let mut variable = Variable::new(name, known.as_deref(), &place);
            variable.is_open = known.is_none();
            part.env.push(variable);
            return;
        };
        let alone = fill(value, &BTreeMap::new());
        secret::judge(&mut self.sketch.findings, &place, name, &alone.text);
        let filled = fill(value, &self.variables);
        let mut variable = Variable::new(name, Some(&filled.text), &place);
        variable.is_secret |= filled.names.iter().any(|name| secret::is_name(name));
        variable.is_open = !filled.missing.is_empty();
        part.env.push(variable);
    }

    fn command(&mut self, part: &mut Part, node: &Node) {
        let at = node.get("command").or(node.get("entrypoint"));
        let place = at.map_or(part.place.clone(), |node| self.file.at(node.line));
        let mut open = Vec::new();
        let given = ["entrypoint", "command"].map(|key| node.get(key));
        let given = given.iter().flatten();
        let words: Result<Vec<_>, _> = given.map(|node| self.words(node, &mut open)).collect();
        let line = match words.and_then(|words| words::line(&words)) {
            Ok(line) if line.is_empty() => return,
            Ok(line) => line,
            Err(why) => return part.leave(self.findings(), &place, why),
        };
        if secret::in_command(&line) {
            self.findings().fault(
                "plain-secret",
                &place,
                format!(
                    "the command of `{}` holds a secret in plain text",
                    part.name
                ),
                "give it as a variable, and use that: `$NAME`",
            );
            return;
        }
        open.retain(|name| self.is_secret(name));
        for name in open {
            part.secrets.push((name, place.clone()));
        }
        match command::is_dev(&line) {
            true => part.dev = Some(line),
            false => part.run = Some(line),
        }
    }

    fn needs(&mut self, part: &mut Part, node: &Node) {
        let depends = node.get("depends_on");
        if let Some(depends) = depends {
            match &depends.kind {
                Kind::Map(entries) => part
                    .needs
                    .extend(entries.iter().map(|(key, _)| key.text.clone())),
                _ => part
                    .needs
                    .extend(depends.texts().iter().map(|(name, _)| (*name).to_owned())),
            }
        }
        let links = node.get("links").map(Node::texts).unwrap_or_default();
        let links = links
            .iter()
            .map(|(name, _)| name.split(':').next().unwrap_or_default());
        part.needs.extend(links.map(str::to_owned));
    }

    fn healthcheck(&mut self, part: &mut Part, check: &Node) {
        let Some(test) = check.get("test") else {
            return;
        };
        let line = match &test.kind {
            Kind::List(items) => {
                let words: Vec<_> = items.iter().filter_map(Node::text).collect();
                match words.split_first() {
                    Some((&"CMD", rest)) => command::line(rest),
                    Some((&"CMD-SHELL", rest)) => rest.join(" "),
                    _ => return,
                }
            }
            _ => test.text().unwrap_or_default().to_owned(),
        };
        let number = |key: &str| check.text_of(key).and_then(check::seconds);
        let every = number("interval").unwrap_or(30);
        let tries = check
            .text_of("retries")
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(3);
        let start = number("start_period").unwrap_or(0);
        let within = start.saturating_add(every.saturating_mul(tries));
        let line = self.filled(&line);
        let probe = check::probe(&line);
        if matches!(probe, Probe::Exec(_)) && secret::in_command(&line) {
            return;
        }
        part.ready = Some(Ready {
            probe,
            within: (within > 30).then_some(within),
        });
    }

    /// Says what is left of a service.
    fn rest(&mut self, name: &str, node: &Node) {
        for (key, value) in node.entries() {
            let at = self.file.at(key.line);
            let why = match key.text.as_str() {
                "volumes" => {
                    self.volumes(name, value);
                    continue;
                }
                "deploy" if value.get("resources").is_some() => {
                    "limits on CPU and memory are not set"
                }
                "networks" => "services reach each other by the addresses that `needs` brings",
                "labels" => "labels mean something to other programs; routes stand in the manifest",
                "network_mode" => {
                    "a process has the machine's network; a container too, without `port`"
                }
                "profiles" => "what is in the manifest always runs",
                "extends" => "what it extends is not read",
                "logging" => "logs are Towpath's: `tow logs`, and `log` for their size",
                "secrets" | "configs" => "no files are given to services",
                "user" => "services run as a user of their environment",
                "privileged" | "cap_add" | "cap_drop" | "security_opt" | "devices" | "ulimits"
                | "sysctls" | "shm_size" | "tmpfs" | "extra_hosts" | "dns" | "pid" | "ipc"
                | "mem_limit" | "cpus" | "read_only" | "userns_mode" | "runtime" | "gpus" => {
                    "there is no key for it"
                }
                "platform" => "it is built for the machine that it runs on",
                "working_dir" => "commands run in the service's `dir`",
                _ => continue,
            };
            let text = format!("`{}` of `{name}`: {why}", key.text);
            self.findings().leave(&at, text);
        }
    }

    fn volumes(&mut self, name: &str, node: &Node) {
        let (mut left, mut kept) = (Vec::new(), Vec::new());
        for item in node.items() {
            let (from, to) = match item.text() {
                Some(text) => text.split_once(':').unwrap_or((text, "")),
                None => (
                    item.text_of("source").unwrap_or_default(),
                    item.text_of("target").unwrap_or_default(),
                ),
            };
            let at = self.file.at(item.line);
            if from.contains("docker.sock") {
                self.findings().fault(
                    "engine-socket",
                    &at,
                    format!(
                        "`{name}` is given the container engine: it can become root of this machine"
                    ),
                    "leave it out unless that is what it is for",
                );
            }
            let is_source = from.starts_with(['.', '/', '~']) || from.is_empty() || to.is_empty();
            let made = [
                "node_modules",
                "target",
                "venv",
                "cache",
                ".next",
                "vendor",
                "dist",
            ];
            match is_source || made.iter().any(|part| to.contains(part)) {
                true => left.push((from.to_owned(), at)),
                false => kept.push((from.to_owned(), at)),
            }
        }
        if let Some((_, at)) = left.first().cloned() {
            let volumes: Vec<_> = left.iter().map(|(from, _)| format!("`{from}`")).collect();
            let text = format!(
                "volumes {} of `{name}`: files are where the service's `dir` is",
                volumes.join(", ")
            );
            self.findings().leave(&at, text);
        }
        for (volume, at) in kept {
            self.findings().decide(
                &at,
                format!("`{name}` keeps files in the volume `{volume}`: with the next version they would be gone"),
                format!(
                    "keep them in a database or an object store, or at an absolute path outside of Towpath: `services.{}.env`",
                    names::service(name)
                ),
            );
        }
    }
}
