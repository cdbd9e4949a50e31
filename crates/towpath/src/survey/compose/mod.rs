//! `compose.yaml`: services, databases, what they need and what they are told.
mod part;

use std::collections::BTreeMap;

use super::finding::{Findings, Place};
use super::image::{self, Image};
use super::sketch::{Part, Sketch, Store};
use super::tree::{File, Tree};
use super::value::fill;
use super::words::{self, Words};
use super::yaml::{Key, Kind, Node};
use super::{dotenv, secret};

/// The names that compose looks for, in its order.
pub const FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];

/// What a compose file is read with.
struct Reader<'a> {
    tree: &'a Tree,
    file: &'a File,
    variables: BTreeMap<String, String>,
    sketch: Sketch,
}

/// What the compose file of a project says.
pub fn read(tree: &Tree) -> Option<Sketch> {
    let path = tree.first(".", &FILES).or_else(|| {
        let there = |name: &&str| tree.root().join(name).symlink_metadata().is_ok();
        FILES
            .iter()
            .find(|name| there(name))
            .map(|name| (*name).to_owned())
    })?;
    let file = tree.read(&path)?;
    let root = super::document::yaml(tree, &file)?;
    let mut findings = Findings::default();
    let kept = tree.read(".env");
    let kept = kept.map(|file| dotenv::variables(&file, &mut findings));
    let variables = dotenv::values(tree, ".env");
    let mut reader = Reader {
        tree,
        file: &file,
        variables,
        sketch: Sketch {
            kept: kept.unwrap_or_default(),
            findings,
            ..Sketch::default()
        },
    };
    reader.others();
    reader.root(&root);
    Some(reader.sketch)
}

impl Reader<'_> {
    fn findings(&mut self) -> &mut Findings {
        &mut self.sketch.findings
    }

    /// Files that lie beside the one that is read.
    fn others(&mut self) {
        let is_compose = |name: &String| {
            let end = name.ends_with(".yml") || name.ends_with(".yaml");
            end && (name.starts_with("docker-compose") || name.starts_with("compose."))
        };
        for name in self.tree.names(".").iter().filter(|name| is_compose(name)) {
            if *name != self.file.path {
                let text = format!("only `{}` is read", self.file.path);
                self.findings().leave(&Place::new(name, 0), text);
            }
        }
    }

    fn root(&mut self, root: &Node) {
        self.sketch.app = root.text_of("name").map(|name| self.filled(name));
        for (key, value) in root.entries() {
            let place = self.file.at(key.line);
            match key.text.as_str() {
                "services" => self.services(key, value),
                "name" | "version" | "volumes" => {}
                "networks" => self.findings().leave(
                    &place,
                    "networks: services reach each other by the addresses that `needs` brings",
                ),
                "secrets" | "configs" => self.findings().leave(
                    &place,
                    format!("`{}`: no files are given to services", key.text),
                ),
                "include" => self
                    .findings()
                    .leave(&place, "`include`: what it names is not read"),
                name if name.starts_with("x-") => {}
                name => {
                    let text = format!("`{name}` has no counterpart");
                    self.findings().leave(&place, text);
                }
            }
        }
    }

    fn filled(&self, text: &str) -> String {
        fill(text, &self.variables).text
    }

    /// Part of a command, filled in but for secrets and what nobody says: those are the shell's to fill in, and named.
    fn open(&self, text: &str, open: &mut Vec<String>) -> String {
        let named = fill(text, &self.variables);
        let mut variables = self.variables.clone();
        let is_open = |name: &&String| self.is_secret(name) || named.missing.contains(name);
        for name in named.names.iter().filter(is_open) {
            variables.insert(name.clone(), words::marked(name));
            open.push(name.clone());
        }
        fill(text, &variables).text
    }

    /// Whether a variable that commands are filled in from is a secret, by its name or by its value.
    fn is_secret(&self, name: &str) -> bool {
        let value = self.variables.get(name).map_or("", String::as_str);
        secret::is_secret(name, value)
    }

    /// The words of a command: a list of them, or a text that is split.
    fn words(&self, node: &Node, open: &mut Vec<String>) -> Result<Words, words::Fault> {
        if let Some(text) = node.text() {
            return words::split(&self.open(text, open));
        }
        let items = node.items().iter().filter_map(Node::text);
        Ok(Words {
            words: items.map(|text| self.open(text, open)).collect(),
            script: None,
        })
    }

    /// What is no mapping is no service, and as little does compose take it for one.
    fn services(&mut self, key: &Key, node: &Node) {
        if !matches!(node.kind, Kind::Map(_) | Kind::Null) {
            self.no_mapping(key);
        }
        for (key, node) in node.entries() {
            match node.kind {
                Kind::Map(_) => self.service(key, node),
                _ => self.no_mapping(key),
            }
        }
    }

    fn no_mapping(&self, key: &Key) {
        let fault = format!("has `{}`, which is no mapping", key.text);
        self.tree.refuse(&self.file.path, key.line, &fault);
    }

    fn service(&mut self, key: &Key, node: &Node) {
        let name = key.text.as_str();
        let place = self.file.at(key.line);
        let is_built = node.get("build").is_some();
        let image = node.text_of("image").map(|image| self.filled(image));
        if let (Some(image), Some(at)) = (&image, node.get("image")) {
            let line = self.file.at(at.line);
            if !is_built {
                image::judge(self.findings(), &line, image);
            }
        }
        let class = match &image {
            Some(image) if !is_built => image::classify(image),
            _ => Image::Other,
        };
        match class {
            Image::Store(kind, version) => self.store(name, &place, node, kind, version),
            Image::Elsewhere(what) => self.elsewhere(name, &place, node, what),
            Image::Proxy => {
                let text = format!("`{name}`: the gateway takes its place");
                self.findings().leave(&place, text);
                self.findings().decide(
                    &place,
                    format!("what `{name}` is told about paths and headers is not read"),
                    "say which service serves which path: `services.NAME.route = \"/path\"`",
                );
            }
            Image::Tool(what) => {
                let text = format!("`{name}` is {what}");
                self.findings().leave(&place, text);
            }
            Image::Other => self.part(name, &place, node, image.filter(|_| !is_built)),
        }
    }

    fn store(
        &mut self,
        name: &str,
        place: &Place,
        node: &Node,
        kind: super::sketch::Kind,
        version: Option<u32>,
    ) {
        self.published(name, node);
        self.stored_variables(node);
        for (volume, line) in volumes(node) {
            let at = self.file.at(line);
            if volume.contains("docker-entrypoint-initdb.d") {
                let from = volume.split(':').next().unwrap_or_default().to_owned();
                self.findings().decide(
                    &at,
                    format!("`{from}` filled a new database with what the application expects"),
                    format!(
                        "make it the first migration, `migrations/0001_first.up.sql`, and write `resources.{}.migrate = \"migrations\"`",
                        super::names::resource(name)
                    ),
                );
            }
        }
        if kind == super::sketch::Kind::Postgres {
            self.extension(name, place, node);
        }
        for key in ["command", "configs", "deploy"] {
            if let Some(node) = node.get(key) {
                let at = self.file.at(node.line);
                let text =
                    format!("`{key}` of `{name}`: a server of Towpath's has settings of its own");
                self.findings().leave(&at, text);
                let shown = command_of(node);
                if secret::in_command(&self.filled(&shown)) {
                    self.findings().fault(
                        "plain-secret",
                        &at,
                        format!("the command of `{name}` holds a password in plain text"),
                        "take it out; a server of Towpath's has a password of its own",
                    );
                }
            }
        }
        self.sketch.stores.push(Store {
            name: name.to_owned(),
            place: place.clone(),
            kind,
            version,
            migrate: None,
            hosts: Vec::new(),
        });
    }

    fn extension(&mut self, name: &str, place: &Place, node: &Node) {
        let image = node.text_of("image").unwrap_or_default().to_owned();
        let package = [
            ("postgis", "postgis"),
            ("pgvector", "pgvector"),
            ("timescale", "timescaledb"),
        ];
        if let Some((_, package)) = package.iter().find(|(part, _)| image.contains(part)) {
            self.findings().decide(
                place,
                format!("`{name}` has the extension {package}: the PostgreSQL of each machine needs it"),
                format!("apt-get install postgresql-VERSION-{package}, or `resources.{}.url` of a server that has it", super::names::resource(name)),
            );
        }
    }

    /// The password of a database: only looked at, for Towpath's servers have their own.
    fn stored_variables(&mut self, node: &Node) {
        let mut part = Part::new("", self.file.at(node.line));
        self.environment(&mut part, node);
        let pairs: Vec<_> = part.env.iter().collect();
        let known: Vec<_> = pairs
            .iter()
            .map(|one| {
                let value = one.value.as_deref().unwrap_or_default();
                (one.name.as_str(), value, one.place.clone())
            })
            .collect();
        secret::judge_pairs(&mut self.sketch.findings, &known);
        self.sketch.kept.extend(part.env);
    }

    fn elsewhere(&mut self, name: &str, place: &Place, node: &Node, what: &str) {
        self.published(name, node);
        self.stored_variables(node);
        self.sketch.elsewhere.push(name.to_owned());
        self.findings().leave(
            place,
            format!("`{name}` is {what}: resources are SQLite, PostgreSQL and Redis, and a container's own data ends with it"),
        );
        self.findings().decide(
            place,
            format!(
                "`{name}` has to run somewhere else, and its address has to reach the services"
            ),
            "give it to each of them: `services.NAME.env = { ... }`",
        );
    }

    /// Ports of a database that everybody can reach.
    fn published(&mut self, name: &str, node: &Node) {
        for (_, port, line, everywhere) in self.ports(node) {
            if everywhere {
                let at = self.file.at(line);
                self.findings().fault(
                    "open-database",
                    &at,
                    format!("`{name}` is open to every network on port {port}"),
                    format!("publish it here alone: `\"127.0.0.1:{port}:...\"`; Towpath's own listen on loopback only"),
                );
            }
        }
    }

    /// Port inside, port outside, line, and whether it is for everybody, of each published port.
    fn ports(&self, node: &Node) -> Vec<(u16, u16, usize, bool)> {
        let items = node.get("ports").map(Node::items).unwrap_or_default();
        let port = |item: &Node| -> Option<(u16, u16, usize, bool)> {
            if let Some(text) = item.text() {
                let text = self.filled(text);
                let text = text.split('/').next().unwrap_or_default().to_owned();
                let steps: Vec<_> = text.rsplitn(3, ':').collect();
                let inside = steps.first()?.split('-').next()?.parse().ok()?;
                let outside = steps.get(1)?.split('-').next()?.parse().ok()?;
                let host = steps.get(2).copied().unwrap_or("0.0.0.0");
                let everywhere = matches!(host, "0.0.0.0" | "[::]" | "::");
                return Some((inside, outside, item.line, everywhere));
            }
            let inside = self.filled(item.text_of("target")?).parse().ok()?;
            let outside = item.text_of("published").map(|text| self.filled(text));
            let outside = outside.and_then(|text| text.parse().ok()).unwrap_or(inside);
            let host = item.text_of("host_ip").unwrap_or("0.0.0.0");
            Some((inside, outside, item.line, host == "0.0.0.0"))
        };
        items.iter().filter_map(port).collect()
    }
}

fn volumes(node: &Node) -> Vec<(String, usize)> {
    let items = node.get("volumes").map(Node::items).unwrap_or_default();
    let volume = |item: &Node| match item.text() {
        Some(text) => Some((text.to_owned(), item.line)),
        None => {
            let (from, to) = (item.text_of("source")?, item.text_of("target")?);
            Some((format!("{from}:{to}"), item.line))
        }
    };
    items.iter().filter_map(volume).collect()
}

/// Name, value and line of each, of a mapping or of a list of `NAME=value`.
fn pairs(node: &Node) -> Vec<(String, Option<String>, usize)> {
    match &node.kind {
        Kind::Map(entries) => {
            let pair = |(key, value): &(Key, Node)| {
                let text = value.text().map(str::to_owned);
                (key.text.clone(), text, key.line)
            };
            entries.iter().map(pair).collect()
        }
        _ => {
            let pair = |(text, line): &(&str, usize)| match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned()), *line),
                None => ((*text).to_owned(), None, *line),
            };
            node.texts().iter().map(pair).collect()
        }
    }
}

/// A command as it stands there, to be looked at.
fn command_of(node: &Node) -> String {
    let words = node.texts().into_iter().map(|(word, _)| word);
    words.collect::<Vec<_>>().join(" ")
}
