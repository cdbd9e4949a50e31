//! How each part runs: as a process that its language builds, or in a container; and with which commands.

use std::collections::BTreeMap;

use super::dockerfile::{self, Docker, is_of_image};
use super::draft::Run;
use super::finding::{Findings, Place};
use super::folder::{self, Folder, Language};
use super::sketch::{Part, Probe, Role, Source};
use super::tree::Tree;
use super::{check, command, secret};

/// What the files of one folder say.
#[derive(Debug, Default)]
pub struct Known {
    /// What its language says.
    pub folder: Option<Folder>,
    /// What its Dockerfile says, by the file's name.
    pub dockers: BTreeMap<String, Docker>,
}

/// A part, and how it runs.
#[derive(Debug)]
pub struct Settled {
    /// The part, with its commands.
    pub part: Part,
    /// The file that named it.
    pub source: Source,
    /// How it runs.
    pub by: Run,
    /// What it is.
    pub role: Role,
}

/// Reads the folders of all parts, once each.
pub fn folders(tree: &Tree, parts: &[(Source, Part)]) -> BTreeMap<String, Known> {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    for (_, part) in parts.iter().filter(|(_, part)| part.is_ours) {
        let name = part.dockerfile.as_deref().unwrap_or("Dockerfile");
        let docker = dockerfile::read(tree, &part.dir, name);
        let by_docker = docker.as_ref().is_some_and(|docker| docker.is_python);
        let is_python = by_docker || part.run.as_deref().is_some_and(command::is_of_python);
        let entry = known.entry(part.dir.clone()).or_insert_with(|| Known {
            folder: folder::read(tree, &part.dir, is_python),
            dockers: BTreeMap::new(),
        });
        if let Some(docker) = docker {
            entry.dockers.entry(name.to_owned()).or_insert(docker);
        }
    }
    known
}

/// Parts that folders make by themselves, where no file names any of ours.
pub fn from_folders(tree: &Tree, findings: &mut Findings) -> Vec<(Source, Part)> {
    let mut parts: Vec<(Source, Part)> = Vec::new();
    let candidates = folder::candidates(tree);
    let lone = candidates.len() == 1;
    let mut silent = None;
    for dir in &candidates {
        let docker = dockerfile::read(tree, dir, "Dockerfile");
        let is_python = docker.as_ref().is_some_and(|docker| docker.is_python);
        let found = folder::read(tree, dir, is_python);
        let runs = found.as_ref().is_some_and(|folder| folder.run.is_some());
        let place = match (&found, &docker) {
            (Some(folder), _) if runs => folder.place.clone(),
            (_, Some(docker)) => Place::new(&docker.path, 0),
            (Some(folder), _) if lone || dir == "." => {
                silent = silent.or(Some(folder.place.clone()));
                continue;
            }
            _ => {
                if let Some((place, build, run)) = folder::other(tree, dir) {
                    findings.decide(
                        &place,
                        "how it is built and run is not known",
                        format!("services.web = {{ build = \"{build}\", run = \"{run}\" }}"),
                    );
                }
                continue;
            }
        };
        let name = match dir.as_str() {
            "." => "web",
            dir => dir.rsplit('/').next().unwrap_or(dir),
        };
        let mut part = Part::new(name, place);
        part.dir = dir.clone();
        part.port = docker.as_ref().and_then(|docker| docker.port);
        part.role = Some(match check::is_worker_name(name) {
            true => Role::Worker,
            false => Role::Web,
        });
        parts.push((Source::Folder, part));
    }
    if let Some(place) = silent.filter(|_| parts.is_empty()) {
        findings.decide(
            &place,
            "it is built, but nothing says what runs",
            "services.web.run = \"...\"",
        );
    }
    parts
}

/// Settles one part; `None` where nothing says what runs, which is said.
pub fn settle(
    tree: &Tree,
    source: Source,
    mut part: Part,
    known: &BTreeMap<String, Known>,
    findings: &mut Findings,
) -> Option<Settled> {
    if part.is_left && part.run.is_none() {
        unsaid(&part, findings);
        return None;
    }
    let here = known.get(&part.dir);
    let file = part
        .dockerfile
        .clone()
        .unwrap_or_else(|| "Dockerfile".to_owned());
    let docker = here.and_then(|here| here.dockers.get(&file));
    let folder = here.and_then(|here| here.folder.as_ref());
    if let Some(docker) = docker.filter(|_| part.is_ours) {
        from_docker(&mut part, docker);
    }
    let role = role(&part, folder);
    let by = match docker {
        _ if !part.is_ours => of_image(&part, findings)?,
        _ if speaks(source, &mut part, folder, docker, role, findings) => Run::Process,
        Some(docker) if docker.is_proxy => return replaced(&part, findings),
        Some(_) => of_docker(&mut part, file, findings),
        None => plain(tree, &mut part, role, findings)?,
    };
    Some(Settled {
        part,
        source,
        by,
        role,
    })
}

/// What is not ours runs from its image.
fn of_image(part: &Part, findings: &mut Findings) -> Option<Run> {
    if part.image.is_none() {
        silent(part, findings);
    }
    part.image.clone().map(Run::Image)
}

/// Whether its language says how it runs; its commands are settled then.
fn speaks(
    source: Source,
    part: &mut Part,
    folder: Option<&Folder>,
    docker: Option<&Docker>,
    role: Role,
    findings: &mut Findings,
) -> bool {
    // What compose says is given to that program then, and is no command by itself.
    let is_wrapped = docker.is_some_and(|docker| docker.is_wrapped)
        && source == Source::Compose
        && part.run.is_some();
    let Some(folder) = folder.filter(|_| !is_wrapped) else {
        return false;
    };
    commands(part, folder, docker, role, findings);
    if part.run.is_some() {
        packages(docker, findings);
    }
    part.run.is_some()
}

/// A proxy is no part of what is deployed.
fn replaced(part: &Part, findings: &mut Findings) -> Option<Settled> {
    findings.leave(
        &part.place,
        format!(
            "`{}` passes requests on: the gateway takes its place",
            part.name
        ),
    );
    findings.decide(
        &part.place,
        format!(
            "what `{}` is told about paths and headers is not read",
            part.name
        ),
        "say which service serves which path: `services.NAME.route = \"/path\"`",
    );
    None
}

/// What has a Dockerfile alone runs in the container that comes of it.
fn of_docker(part: &mut Part, file: String, findings: &mut Findings) -> Run {
    if let Some(ready) = part.ready.take() {
        part.ready = matches!(ready.probe, Probe::Http(_)).then_some(ready);
    }
    part.build = None;
    part.release_left(findings);
    Run::Dockerfile(file)
}

fn silent(part: &Part, findings: &mut Findings) {
    findings.decide(
        &part.place,
        format!("nothing says what `{}` runs", part.name),
        run_help(part),
    );
}

/// What it runs otherwise is not what was meant.
fn unsaid(part: &Part, findings: &mut Findings) {
    findings.decide(
        &part.place,
        format!(
            "`{}` is left out: its command cannot be carried over",
            part.name
        ),
        run_help(part),
    );
}

fn run_help(part: &Part) -> String {
    format!(
        "services.{}.run = \"...\"",
        super::names::service(&part.name)
    )
}

/// Nothing is known of its language: its command alone.
fn plain(tree: &Tree, part: &mut Part, role: Role, findings: &mut Findings) -> Option<Run> {
    if part.run.is_none() {
        part.run = part.dev.take();
    }
    let Some(run) = part.run.take() else {
        silent(part, findings);
        return None;
    };
    part.run = Some(for_role(&run, role));
    if let Some((place, build, _)) = folder::other(tree, &part.dir) {
        findings.decide(
            &place,
            format!("how `{}` is built is not known", part.name),
            format!(
                "services.{}.build = \"{build}\"",
                super::names::service(&part.name)
            ),
        );
    }
    Some(Run::Process)
}

impl Part {
    /// A container has no command that runs before it.
    fn release_left(&mut self, findings: &mut Findings) {
        if let Some(line) = self.release.take() {
            findings.decide(
                &self.place,
                format!("`{line}` ran before `{}`; a service in a container has no `release`", self.name),
                "run it when the container starts, or give it to a service without an image: `services.NAME.release`",
            );
        }
    }
}

fn from_docker(part: &mut Part, docker: &Docker) {
    part.port = part.port.or(docker.port);
    if part.ready.is_none() {
        part.ready = docker.ready.clone();
    }
}

fn role(part: &Part, folder: Option<&Folder>) -> Role {
    let is_front = folder.is_some_and(|folder| folder.is_front);
    match check::role_of(part) {
        Role::Worker if part.role.is_none() && is_front && part.run.is_none() => Role::Web,
        role => role,
    }
}

fn for_role(run: &str, role: Role) -> String {
    match role {
        Role::Web => command::on_given_port(run),
        _ => run.to_owned(),
    }
}

/// The commands of a part whose language is known.
fn commands(
    part: &mut Part,
    folder: &Folder,
    docker: Option<&Docker>,
    role: Role,
    findings: &mut Findings,
) {
    part.is_front = folder.is_front;
    if folder.language == Language::Python {
        for line in [&mut part.run, &mut part.dev, &mut part.release]
            .into_iter()
            .flatten()
        {
            *line = command::by_python(line);
        }
    }
    let of_language = folder.run.clone();
    let of_docker = docker.and_then(|docker| docker.run.clone());
    let of_docker = of_docker.map(|(line, place)| match folder.language {
        Language::Python => (command::by_python(&line), place),
        _ => (line, place),
    });
    let of_docker = of_docker.filter(|(line, _)| !is_of_image(line));
    if let Some(line) = part.run.take_if(|line| is_of_image(line)) {
        findings.leave(&part.place, format!("`{line}` runs in the image alone"));
    }
    // A worker without a command of its own is not what the folder serves with.
    let is_served = role == Role::Web || folder.language == Language::Rust || folder.dir != ".";
    let of_language = of_language.filter(|_| is_served);
    let found = match folder.language {
        Language::Python => of_docker.or(of_language),
        Language::Node | Language::Rust => of_language.or(of_docker),
    };
    if part.run.is_none() && part.dev.is_some() && found.is_none() {
        part.run = part.dev.clone();
        findings.decide(
            &part.place,
            format!("`{}` is only started for development", part.name),
            run_help(part),
        );
    }
    let chosen = part.run.take().or(found.map(|(line, _)| line));
    let chosen = chosen.filter(|line| !secret::in_command(line));
    part.run = chosen.map(|line| for_role(&line, role));
    if part.run.is_none() {
        return;
    }
    match folder.language {
        // What the language says of development listens where it is told to.
        Language::Node if role == Role::Web => part.dev = folder.dev.clone(),
        _ => part.dev = part.dev.take().map(|line| for_role(&line, role)),
    }
    part.build = part.build.take().or(folder.build.clone());
    part.dir.clone_from(&folder.base);
    part.cache.clone_from(&folder.cache);
    let is_program = part
        .run
        .as_deref()
        .is_some_and(|run| run.starts_with("./target/"));
    if is_program {
        part.artifact.clone_from(&folder.artifact);
    }
    for (name, value) in &folder.env {
        // What an image has elsewhere is of no use here.
        part.env.retain(|known| {
            known.name != *name || !known.value.as_deref().unwrap_or("/").starts_with('/')
        });
        if part.env.iter().all(|known| known.name != *name) {
            let variable = super::sketch::Variable::new(name, Some(value), &folder.place);
            part.env.push(variable);
        }
    }
}

/// Says what of a Dockerfile a process does without.
fn packages(docker: Option<&Docker>, findings: &mut Findings) {
    let Some(docker) = docker else { return };
    for place in &docker.packages {
        findings.leave(
            place,
            "packages of the system: what runs as a process wants them on its machine",
        );
    }
    let name = docker.path.rsplit('/').next().unwrap_or_default();
    findings.leave(
        &Place::new(&docker.path, 0),
        format!("its language says how it is built; for a container instead of `build` and `run`: `dockerfile = \"{name}\"`"),
    );
}
