//! What a project has already, and the manifest that is drawn from it: `tow init`.
//!
//! 1. Each kind of file has a module that reads it into a [`sketch`]: services, databases, and what there is to say.
//!    What cannot be read stops everything: nothing is guessed from half a file.
//! 2. The sketches are put together in the order in which they count ([`merge`]), each part is [`settle`]d as a process
//!    or a container with the help of the files of its language, and gets its final name ([`wire`]).
//! 3. Values are looked at: an address of something that has a name here becomes a reference to it ([`refer`]), the
//!    name of a secret goes under `secrets`, and its value nowhere.
//! 4. What comes of it is drawn, and checked as `tow check` does. What is wrong with it then is for the user to decide.
mod cargo;
mod check;
mod circle;
mod command;
mod compose;
mod dockerfile;
mod document;
mod dotenv;
mod draft;
mod draw;
mod finding;
mod fly;
mod folder;
mod guard;
mod image;
mod ini;
mod kamal;
mod merge;
mod names;
mod package;
mod process_compose;
mod procfile;
mod python;
mod refer;
mod secret;
mod settle;
mod sketch;
mod supervisor;
mod tree;
mod value;
mod wire;
mod words;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use crate::config::{self, RelativeFile};
use crate::diagnostic::Severity;
use crate::manifest::Manifest;
pub use finding::{Finding, Findings, Place};

use draft::Draft;
use guard::Guard;
use merge::Whole;
use refer::Names;
use settle::{Known, Settled};
use sketch::{Kind, Migrate, Sketch, Source, Store};
use tree::Tree;

/// What there is of a project, as a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// The text of `tow.toml`.
    pub manifest: String,
    /// What there is to say.
    #[serde(flatten)]
    pub findings: Findings,
    /// The secrets that services want, each to be set in every environment before anything starts.
    pub secrets: Vec<String>,
    /// The environments beside `local`, in the order in which a release comes to them.
    pub way: Vec<String>,
}

/// Why there is none.
#[derive(Debug)]
pub enum Error {
    /// The folder cannot be read.
    Folder(std::io::Error),
    /// Files of it cannot be understood.
    Unread(Vec<Finding>),
}

/// What this version carries out of what would be written.
#[derive(Debug, Clone, Copy)]
struct Able {
    secrets: bool,
    migrate: bool,
}

impl Able {
    fn find() -> Self {
        let is_right = |text: &str| !config::check_text("tow.toml", text).has_errors();
        Self {
            secrets: is_right("app = \"a\"\nservices.web = { run = \"a\", secrets = [\"A\"] }"),
            migrate: is_right(
                "app = \"a\"\nservices.web = { run = \"a\" }\nresources.db = { kind = \"postgres\", migrate = { run = \"a\" } }",
            ),
        }
    }
}

/// Reads a project and draws its manifest, but for the files `without`.
///
/// # Errors
/// The folder is not there, or a file in it cannot be understood.
pub fn survey(root: &Path, without: &[String]) -> Result<Survey, Error> {
    let tree = Tree::open(root, without).map_err(Error::Folder)?;
    let able = Able::find();
    let (draft, sources, mut findings) = assemble(&tree, able);
    let manifest = draw::draw(&draft, &sources, able);
    summarise(&draft, able, &mut findings);
    if draft.services.is_empty() {
        findings.yours_to_decide.push(
            Finding::general("nothing-runs", "no file here says what runs")
                .help("fill in `services.web.run` in tow.toml"),
        );
    }
    gaps(&manifest, &tree, &draft, &mut findings);
    findings.append(tree.left());
    findings.tidy();
    let mut unread = tree.unread();
    unread.iter_mut().for_each(Finding::clean);
    match unread.is_empty() {
        true => Ok(Survey {
            manifest,
            findings,
            secrets: draft.secrets(),
            way: draft.way().into_iter().map(str::to_owned).collect(),
        }),
        false => Err(Error::Unread(unread)),
    }
}

/// What reads one kind of file, where it is there.
type Read = fn(&Tree) -> Option<Sketch>;

/// What all files say, as one draft, with the files that it was taken from.
fn assemble(tree: &Tree, able: Able) -> (Draft, Vec<String>, Findings) {
    let readers: [(Source, Read); 6] = [
        (Source::Procfile, procfile::read),
        (Source::ProcessCompose, process_compose::read),
        (Source::Supervisor, supervisor::read),
        (Source::Fly, fly::read),
        (Source::Kamal, kamal::read),
        (Source::Compose, compose::read),
    ];
    let read = readers.iter();
    let sketches = read.filter_map(|(source, read)| Some((*source, read(tree)?)));
    let mut sketches: Vec<_> = sketches.collect();
    own_images(tree, &mut sketches);
    let mut whole = merge::merge(sketches);
    let mut findings = std::mem::take(&mut whole.findings);
    if !whole.parts.iter().any(|(_, part)| part.is_ours) {
        let found = settle::from_folders(tree, &mut findings);
        whole.parts.extend(found);
    }
    environment(tree, &mut whole, &mut findings);
    let known = settle::folders(tree, &whole.parts);
    let mut sources = sources(&whole);
    stores(tree, &mut whole, &known, &mut findings);
    let mut settled: Vec<Settled> = Vec::new();
    for (source, part) in std::mem::take(&mut whole.parts) {
        settled.extend(settle::settle(tree, source, part, &known, &mut findings));
    }
    once(&mut settled, &mut findings);
    let root = known
        .get(".")
        .and_then(|known| known.folder.as_ref()?.name.clone());
    let root = root.or_else(|| folder::read(tree, ".", false)?.name);
    let mut names = Names {
        elsewhere: whole.elsewhere.clone(),
        file: file(&settled),
        ..Names::default()
    };
    let mut draft = wire::name(&settled, &whole.stores, &mut names);
    draft.app = merge::app(&whole, root.as_deref(), &tree.name());
    draft.environments = std::mem::take(&mut whole.environments);
    wire::route(&mut draft, &settled, &mut names, &mut findings);
    wire::connect(&mut draft, &settled, &names, &mut findings);
    let mut guard = Guard::default();
    let read = settled.iter().flat_map(|one| &one.part.env);
    read.chain(&whole.kept).for_each(|one| guard.learn(one));
    migrations(&mut draft, &known, able, &mut findings);
    for known in known.into_values() {
        if let Some(folder) = known.folder {
            sources.insert(folder.place.file);
            findings.append(folder.findings);
        }
        for docker in known.dockers.into_values() {
            sources.insert(docker.path);
            findings.append(docker.findings);
        }
    }
    guard.clear(&mut draft, &mut findings);
    for list in findings.lists() {
        list.iter_mut().for_each(|one| guard.blot(one));
    }
    (draft, sources.into_iter().collect(), findings)
}

/// An image that is named like the project, and that the project builds, is built here.
fn own_images(tree: &Tree, sketches: &mut [(Source, Sketch)]) {
    if !tree.is_file("Dockerfile") {
        return;
    }
    let package = package::read(tree, ".").and_then(|folder| folder.name);
    let apps = sketches.iter().filter_map(|(_, sketch)| sketch.app.clone());
    let names = apps.chain(package).chain([tree.name()]);
    let names: Vec<_> = names.map(|name| names::plain(&name)).collect();
    for (source, sketch) in sketches {
        for part in sketch.parts.iter_mut().filter(|part| !part.is_ours) {
            let image = part.image.clone().unwrap_or_default();
            let short = names::plain(image::parts(&image).0);
            if *source != Source::Fly && !names.contains(&short) {
                continue;
            }
            sketch.findings.leave(
                &part.place,
                format!(
                    "image `{image}`: it is built here, from the project's Dockerfile or language"
                ),
            );
            part.is_ours = true;
            part.image = None;
            part.dockerfile = Some("Dockerfile".to_owned());
        }
    }
}

fn sources(whole: &Whole) -> BTreeSet<String> {
    let parts = whole.parts.iter().map(|(_, part)| &part.place.file);
    let stores = whole.stores.iter().map(|store| &store.place.file);
    let parts_env = whole.parts.iter().flat_map(|(_, part)| &part.env);
    let variables = parts_env.map(|variable| &variable.place.file);
    parts.chain(stores).chain(variables).cloned().collect()
}

/// What `.env` and its examples say to the services of their folder. Compose has its own way of reading them.
fn environment(tree: &Tree, whole: &mut Whole, findings: &mut Findings) {
    let mut read: BTreeMap<String, Vec<sketch::Variable>> = BTreeMap::new();
    let by_compose = whole
        .parts
        .iter()
        .any(|(source, _)| *source == Source::Compose);
    for (_, part) in whole.parts.iter_mut().filter(|(_, part)| part.is_ours) {
        let dir = part.dir.clone();
        let variables = read
            .entry(dir.clone())
            .or_insert_with(|| dotenv::of(tree, &dir, findings));
        if dir == "." && by_compose {
            continue;
        }
        for variable in variables {
            if part.env.iter().all(|known| known.name != variable.name) {
                part.env.push(variable.clone());
            }
        }
    }
    if by_compose && !read.contains_key(".") {
        dotenv::of(tree, ".", findings);
    }
}

/// Databases that only a variable or a schema names.
fn stores(
    tree: &Tree,
    whole: &mut Whole,
    known: &BTreeMap<String, Known>,
    findings: &mut Findings,
) {
    for known in known.values() {
        let folder = known.folder.as_ref();
        if let Some((kind, place)) = folder.and_then(|folder| folder.store.as_ref()) {
            add_store(whole, *kind, place);
        }
    }
    let variables: Vec<_> = whole
        .parts
        .iter()
        .flat_map(|(_, part)| part.env.clone())
        .collect();
    let secrets = whole
        .parts
        .iter()
        .flat_map(|(_, part)| part.secrets.clone());
    let named: Vec<_> = secrets.collect();
    for variable in &variables {
        let value = variable.value.as_deref().unwrap_or_default();
        let scheme = value.split(':').next().unwrap_or_default();
        let is_file = RelativeFile::of(value).is_some();
        let kind = match scheme {
            "postgres" | "postgresql" => Some(Kind::Postgres),
            "redis" | "rediss" => Some(Kind::Redis),
            "sqlite" | "sqlite3" => Some(Kind::Sqlite),
            _ if is_file => Some(Kind::Sqlite),
            _ => None,
        };
        let host = value::url(value).map(|parts| parts.host.to_owned());
        let is_here = host.is_none_or(|host| {
            matches!(
                host.as_str(),
                "localhost" | "127.0.0.1" | "" | "host" | "HOST" | "host.docker.internal"
            )
        });
        if let Some(kind) = kind.filter(|_| is_here) {
            add_store(whole, kind, &variable.place);
        }
    }
    for (name, place) in named {
        if name == "DATABASE_URL" && whole.stores.iter().all(|store| store.kind == Kind::Redis) {
            findings.decide(
                &place,
                "`DATABASE_URL` is a secret of the place that it runs at: its database is not named here",
                "resources.db = { kind = \"postgres\" }, and `needs = [\"db\"]`",
            );
        }
    }
    own_migrations(tree, whole, findings);
}

/// The file of its own that the project keeps its database in, of several the first.
fn file(settled: &[Settled]) -> Option<String> {
    let mut variables = settled.iter().flat_map(|one| &one.part.env);
    let found = variables.find_map(|one| RelativeFile::of(one.value.as_deref()?));
    found.map(|file| tree::tidy(file.path))
}

fn add_store(whole: &mut Whole, kind: Kind, place: &Place) {
    let is_database = |kind: Kind| kind != Kind::Redis;
    let has = whole
        .stores
        .iter()
        .any(|store| is_database(store.kind) == is_database(kind));
    if !has {
        whole.stores.push(Store {
            name: if kind == Kind::Redis { "cache" } else { "db" }.to_owned(),
            place: place.clone(),
            kind,
            version: None,
            hosts: Vec::new(),
            migrate: None,
        });
    }
}

/// A folder of migrations in our own form: `0001_name.up.sql`, for all engines or below a folder of one.
fn own_migrations(tree: &Tree, whole: &mut Whole, findings: &mut Findings) {
    let is_ours = |name: &String| {
        let number = name.split_once('_').map_or("", |(number, _)| number);
        let is_numbered = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        is_numbered && name.ends_with(".up.sql")
    };
    let below = ["", "/sqlite", "/postgres"];
    let folders = ["migrations", "db/migrations"].into_iter();
    let found = folders.flat_map(|folder| below.map(|below| (folder, format!("{folder}{below}"))));
    let mut found = found.filter_map(|(folder, path)| {
        let file = tree.names(&path).into_iter().find(is_ours)?;
        Some((folder, Place::new(&tree::join(&path, &file), 0)))
    });
    let Some((folder, place)) = found.next() else {
        return;
    };
    let mut stores = whole.stores.iter_mut();
    match stores.find(|store| store.kind != Kind::Redis) {
        Some(store) => {
            findings.write(
                &place,
                format!("`{folder}` holds the migrations of `{}`", store.name),
            );
            store.migrate = Some(Migrate::Folder(folder.to_owned()));
        }
        None => findings.decide(
            &place,
            format!("`{folder}` holds migrations, and nothing that was read says of which database"),
            format!("resources.db = {{ kind = \"sqlite\", migrate = \"{folder}\" }}, and `needs = [\"db\"]`"),
        ),
    }
}

/// What runs once becomes a command before the service that waits for it.
fn once(settled: &mut Vec<Settled>, findings: &mut Findings) {
    let found: Vec<usize> = (0..settled.len())
        .filter(|at| wire::is_once(&settled[*at]))
        .collect();
    for at in found.into_iter().rev() {
        let one = settled.remove(at);
        let part = one.part;
        for other in settled.iter_mut() {
            other.part.needs.retain(|need| *need != part.name);
        }
        let line = part.run.clone().filter(|_| one.by == draft::Run::Process);
        let host = settled.iter_mut().find(|other| {
            other.by == draft::Run::Process
                && other.part.dir == part.dir
                && other.part.release.is_none()
        });
        match (line, host) {
            (Some(line), Some(host)) => {
                findings.write(
                    &part.place,
                    format!(
                        "`{}` runs once: it is `release` of `{}`",
                        part.name, host.part.name
                    ),
                );
                host.part.release = Some(line);
            }
            (line, _) => findings.decide(
                &part.place,
                format!("`{}` runs once, before the others", part.name),
                format!(
                    "services.NAME.release = {}",
                    draw::quoted(&line.unwrap_or_else(|| "...".to_owned()))
                ),
            ),
        }
    }
}

/// How tables are made, where another tool does it.
fn migrations(
    draft: &mut Draft,
    known: &BTreeMap<String, Known>,
    able: Able,
    findings: &mut Findings,
) {
    for known in known.values() {
        let Some(folder) = known.folder.as_ref() else {
            continue;
        };
        let Some((line, place)) = &folder.migrate else {
            continue;
        };
        let line = &match folder.base == folder.dir {
            true => line.clone(),
            false => format!("cd {} && {line}", folder.dir),
        };
        let resource = draft
            .resources
            .iter_mut()
            .find(|one| one.kind != Kind::Redis);
        if resource.as_ref().is_some_and(|one| one.migrate.is_some()) {
            continue;
        }
        if able.migrate
            && folder.base == "."
            && let Some(resource) = resource
        {
            resource.migrate = Some(Migrate::Run(line.clone(), folder.base.clone()));
            continue;
        }
        let owner = draft.services.iter_mut().find(|service| {
            service.dir == folder.base
                && service.by == draft::Run::Process
                && service.role == sketch::Role::Web
        });
        match owner {
            Some(service) if service.release.is_none() => {
                findings.write(place, format!("`release` of `{}`: `{line}`", service.name));
                service.release = Some(line.clone());
            }
            Some(_) => {}
            None => findings.decide(
                place,
                format!("`{line}` makes the tables, and no service runs it"),
                format!("services.NAME.release = {}", draw::quoted(line)),
            ),
        }
    }
}

/// What the manifest has, in a line for each part of it.
fn summarise(draft: &Draft, able: Able, findings: &mut Findings) {
    let mut lines: Vec<Finding> = Vec::new();
    for service in &draft.services {
        let how = match &service.by {
            draft::Run::Process => "as a process".to_owned(),
            draft::Run::Image(image) => format!("in a container of `{image}`"),
            draft::Run::Dockerfile(path) => format!("in a container built from `{path}`"),
        };
        let role = match service.role {
            sketch::Role::Web => "web",
            sketch::Role::Worker => "worker",
            sketch::Role::Job => "job",
        };
        let text = format!("`{}`, {role}, {how}", service.name);
        lines.push(Finding::at("service", &service.place, text));
        if !service.secrets.is_empty() {
            findings.yours_to_decide.push(
                Finding::at(
                    "secrets",
                    &service.place,
                    format!("`{}` wants the secrets {}", service.name, service.secrets.join(", ")),
                )
                .help(match able.secrets {
                    true => format!(
                        "give each its value: `tow secrets set {} -e local`, and for {}",
                        service.secrets[0],
                        draft.way().join(", "),
                    ),
                    false => "this version gives services none: let it read a file outside of the project, named in `env`".to_owned(),
                }),
            );
        }
    }
    for resource in &draft.resources {
        let text = format!(
            "`{}`, {}, a server of its own for each environment",
            resource.name,
            resource.kind.word()
        );
        let text = match resource.kind {
            Kind::Sqlite => format!(
                "`{}`, sqlite, a file of its own for each environment",
                resource.name
            ),
            _ => text,
        };
        lines.push(Finding::at("resource", &resource.place, text));
    }
    for target in &draft.environments {
        let text = format!("environment `{}`", target.name);
        lines.push(Finding::at("environment", &target.place, text));
    }
    lines.append(&mut findings.written);
    findings.written = lines;
}

/// What `tow check` says of the manifest.
fn gaps(text: &str, tree: &Tree, draft: &Draft, findings: &mut Findings) {
    let mut report = config::check_text("tow.toml", text);
    if let (Some(manifest), _) = Manifest::read("tow.toml", text) {
        let environments = manifest.environments();
        report.extend(config::check_tree(&manifest, &environments, tree.root()).diagnostics);
    }
    // The line that is to be filled in is named already.
    let known = draft.services.is_empty();
    for one in report.diagnostics.iter().filter(|_| !known) {
        let line = one
            .labels
            .first()
            .map_or(0, |label| report.position(label.span.start).0);
        let place = Place::new("tow.toml", line);
        let what = match one.severity {
            Severity::Error => "`tow check` refuses it",
            Severity::Warning => "`tow check` warns",
        };
        let help = one
            .help
            .clone()
            .unwrap_or_else(|| "run `tow check`".to_owned());
        findings.decide(&place, format!("{}: {what}", one.message), help);
    }
}
