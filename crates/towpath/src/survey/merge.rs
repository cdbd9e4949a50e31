//! What several files say of one service, put together: the first that says something wins, field by field.

use super::command;
use super::finding::Findings;
use super::names;
use super::secret;
use super::sketch::{Kind, Part, Role, Sketch, Source, Store, Target, Variable};

/// What all files say, before it is known what runs how.
#[derive(Debug, Default)]
pub struct Whole {
    /// The application's name.
    pub app: Option<String>,
    /// What runs, with the file that named it first.
    pub parts: Vec<(Source, Part)>,
    /// Databases and caches.
    pub stores: Vec<Store>,
    /// What is elsewhere.
    pub elsewhere: Vec<String>,
    /// Variables that no service of ours has: their values are to stand nowhere either.
    pub kept: Vec<Variable>,
    /// Places.
    pub environments: Vec<Target>,
    /// What there is to say.
    pub findings: Findings,
}

/// Puts together what the files say, in the order in which they count.
pub fn merge(sketches: Vec<(Source, Sketch)>) -> Whole {
    let mut whole = Whole::default();
    for (source, sketch) in sketches {
        whole.app = whole.app.or(sketch.app);
        whole.findings.append(sketch.findings);
        whole.elsewhere.extend(sketch.elsewhere);
        whole.kept.extend(sketch.kept);
        whole.environments.extend(sketch.environments);
        let lone = lone(&sketch.parts);
        for (at, part) in sketch.parts.into_iter().enumerate() {
            take(&mut whole, source, part, lone == Some(at));
        }
        for store in sketch.stores {
            take_store(&mut whole, store);
        }
    }
    share(&mut whole);
    whole
}

/// The processes of one `Procfile` have one environment, and so have the programs of one container.
fn share(whole: &mut Whole) {
    for source in [Source::Procfile, Source::Supervisor] {
        share_among(whole, source);
    }
}

fn share_among(whole: &mut Whole, source: Source) {
    let of_procfile = |one: &Source| *one == source;
    let parts = whole.parts.iter().filter(|(source, _)| of_procfile(source));
    let parts: Vec<Part> = parts.map(|(_, part)| part.clone()).collect();
    let started = whole
        .stores
        .iter()
        .filter(|store| store.place.file == "Procfile");
    let started: Vec<_> = started.map(|store| store.name.clone()).collect();
    let stores: Vec<_> = whole
        .stores
        .iter()
        .map(|store| store.name.clone())
        .collect();
    for (_, part) in whole
        .parts
        .iter_mut()
        .filter(|(source, _)| of_procfile(source))
    {
        for other in parts.iter().filter(|other| other.dir == part.dir) {
            let needs = other.needs.iter().filter(|need| stores.contains(need));
            for need in needs.chain(&started) {
                if !part.needs.contains(need) {
                    part.needs.push(need.clone());
                }
            }
            // What one program alone is told stays with it.
            let shared = |file: &str| source == Source::Procfile || file != other.place.file;
            for variable in other.env.iter().filter(|one| shared(&one.place.file)) {
                if part.env.iter().all(|known| known.name != variable.name) {
                    part.env.push(variable.clone());
                }
            }
        }
    }
}

/// The one part of the project, or the one that serves requests, if it is alone in that.
fn lone(parts: &[Part]) -> Option<usize> {
    let is_web = |part: &Part| {
        part.is_ours
            && (part.role == Some(Role::Web) || (part.role.is_none() && part.port.is_some()))
    };
    let mut ours = parts.iter().enumerate().filter(|(_, part)| part.is_ours);
    if let (Some((at, _)), None) = (ours.next(), ours.next()) {
        return Some(at);
    }
    let mut webs = parts.iter().enumerate().filter(|(_, part)| is_web(part));
    match (webs.next(), webs.next()) {
        (Some((at, _)), None) => Some(at),
        _ => None,
    }
}

/// Programs that keep data, where a file starts them as a process.
fn server(part: &Part) -> Option<Kind> {
    let run = part.run.as_deref().or(part.dev.as_deref())?;
    let mut programs = command::programs(run).into_iter();
    programs.find_map(|program| match program {
        "redis-server" | "valkey-server" => Some(Kind::Redis),
        "postgres" | "pg_ctl" | "pg_ctlcluster" | "postmaster" => Some(Kind::Postgres),
        _ => None,
    })
}

fn take(whole: &mut Whole, source: Source, part: Part, is_lone: bool) {
    if let Some(kind) = server(&part) {
        let store = Store {
            name: part.name,
            place: part.place,
            kind,
            version: None,
            hosts: Vec::new(),
            migrate: None,
        };
        return take_store(whole, store);
    }
    let by_name = whole
        .parts
        .iter()
        .position(|(_, known)| names::plain(&known.name) == names::plain(&part.name));
    let by_role = || {
        let known: Vec<_> = whole.parts.iter().map(|(_, part)| part.clone()).collect();
        let at = lone(&known)?;
        let (known_source, known) = &whole.parts[at];
        (is_lone && *known_source != source && known.dir == part.dir).then_some(at)
    };
    // Programs of one container are what that container runs.
    let programs = || {
        let of_container =
            |(from, known): &(Source, Part)| *from == Source::Supervisor && known.dir == part.dir;
        let is_web = |(_, known): &(Source, Part)| known.role == Some(Role::Web);
        let first = whole.parts.iter().position(of_container);
        let web = whole
            .parts
            .iter()
            .position(|one| of_container(one) && is_web(one));
        web.or(first).filter(|_| is_lone && part.is_ours)
    };
    match by_name.or_else(by_role).or_else(programs) {
        Some(at) => {
            let findings = &mut whole.findings;
            lay_under(&mut whole.parts[at].1, part, findings);
        }
        None => whole.parts.push((source, part)),
    }
}

/// Fills in what is not said yet, and says what is said otherwise.
fn lay_under(known: &mut Part, part: Part, findings: &mut Findings) {
    if known.name != part.name {
        findings.leave(
            &part.place,
            format!(
                "`{}` is taken for `{}` of {}",
                part.name, known.name, known.place
            ),
        );
    }
    let shown = |line: &str| match secret::in_command(line) {
        true => "another command".to_owned(),
        false => format!("`{line}`"),
    };
    let fields = [
        ("run", &mut known.run, part.run),
        ("dev", &mut known.dev, part.dev),
        ("release", &mut known.release, part.release),
        ("build", &mut known.build, part.build),
    ];
    for (what, field, other) in fields {
        match (field.as_ref(), other) {
            (Some(first), Some(other)) if *first != other => findings.leave(
                &part.place,
                format!(
                    "`{what}` of `{}` is {} here; {} counts",
                    part.name,
                    shown(&other),
                    known.place
                ),
            ),
            (None, Some(other)) => *field = Some(other),
            _ => {}
        }
    }
    if known.dir == "." {
        known.dir = part.dir;
    }
    known.is_left |= part.is_left;
    known.role = known.role.or(part.role);
    known.image = known.image.take().or(part.image);
    known.dockerfile = known.dockerfile.take().or(part.dockerfile);
    known.port = known.port.or(part.port);
    known.published.extend(part.published);
    known.ready = known.ready.take().or(part.ready);
    known.replicas = known.replicas.or(part.replicas);
    known.restart = known.restart.or(part.restart);
    known.signal = known.signal.take().or(part.signal);
    known.grace = known.grace.or(part.grace);
    for need in part.needs {
        if !known.needs.contains(&need) {
            known.needs.push(need);
        }
    }
    for variable in part.env {
        if known.env.iter().all(|one| one.name != variable.name) {
            known.env.push(variable);
        }
    }
    known.secrets.extend(part.secrets);
}

/// Two files that name a database of the same kind mean the same one.
fn take_store(whole: &mut Whole, store: Store) {
    let same_file = |known: &Store| known.place.file == store.place.file;
    let known = whole
        .stores
        .iter_mut()
        .find(|known| known.name == store.name || (known.kind == store.kind && !same_file(known)));
    match known {
        Some(known) => {
            known.version = known.version.or(store.version);
            known.hosts.push(store.name);
            known.hosts.extend(store.hosts);
        }
        None => whole.stores.push(store),
    }
}

/// The application's name: what a file calls it, or its folder.
pub fn app(whole: &Whole, package: Option<&str>, folder: &str) -> String {
    let name = whole.app.as_deref().filter(|name| !name.trim().is_empty());
    names::plain(name.or(package).unwrap_or(folder))
}
