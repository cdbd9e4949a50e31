//! Names, routes, needs and variables of all services: what refers to what.

use std::collections::BTreeSet;

use super::check;
use super::circle::{cycles, referred};
use super::draft::{Draft, Resource, Run, Service};
use super::finding::{Findings, Place};
use super::names;
use super::refer::{Meaning, Names, Owner, What};
use super::secret;
use super::settle::Settled;
use super::sketch::{Kind, Role, Source, Store, Variable};

/// Said of a cache's host alone.
const CACHE: &str =
    "a Redis of Towpath's wants a password, which only its URL brings: let it read `REDIS_URL`";

/// Everything by its final name, without variables yet.
pub fn name(settled: &[Settled], stores: &[Store], names: &mut Names) -> Draft {
    let mut draft = Draft::default();
    for store in stores {
        let name = names.given.give(&store.name, names::resource(&store.name));
        names.what.insert(name.clone(), What::Store(store.kind));
        for host in &store.hosts {
            names.given.also(host, &name);
        }
        draft.resources.push(Resource {
            name,
            place: store.place.clone(),
            kind: store.kind,
            version: store.version,
            migrate: store.migrate.clone(),
        });
    }
    for one in settled {
        let name = names
            .given
            .give(&one.part.name, names::service(&one.part.name));
        let what = match one.role {
            Role::Web => What::Web,
            _ => What::Silent,
        };
        names.what.insert(name.clone(), what);
        for port in one.part.published.iter().chain(&one.part.port) {
            names.ports.entry(*port).or_insert_with(|| name.clone());
        }
        draft.services.push(service(one, name));
    }
    draft
}

fn service(one: &Settled, name: String) -> Service {
    let part = &one.part;
    Service {
        name,
        place: part.place.clone(),
        by: one.by.clone(),
        role: one.role,
        dir: part.dir.clone(),
        port: part.port,
        ports: part.published.clone(),
        is_public: one.source != Source::Compose || !part.published.is_empty(),
        is_front: part.is_front,
        build: part.build.clone(),
        build_env: Vec::new(),
        run: part.run.clone(),
        dev: part
            .dev
            .clone()
            .filter(|dev| Some(dev) != part.run.as_ref()),
        release: part.release.clone(),
        schedule: part.schedule.clone(),
        route: None,
        ready: part.ready.clone(),
        needs: Vec::new(),
        env: Vec::new(),
        secrets: Vec::new(),
        replicas: part.replicas.filter(|count| (2..=64).contains(count)),
        restart: part.restart,
        signal: part.signal.clone(),
        grace: part.grace.filter(|seconds| *seconds > 0),
        cache: part.cache.clone(),
        artifact: part.artifact.clone(),
        remarks: part.remarks.clone(),
    }
}

/// Gives each public service its path. One that is alone has `/` without saying so.
pub fn route(draft: &mut Draft, settled: &[Settled], names: &mut Names, findings: &mut Findings) {
    let reached = reached(settled, names);
    let is_web = |service: &Service| service.role == Role::Web;
    let webs = draft
        .services
        .iter()
        .filter(|service| is_web(service))
        .count();
    if webs == 1 {
        let lone = draft.services.iter().find(|service| is_web(service));
        names
            .routes
            .extend(lone.map(|service| (service.name.clone(), "/".to_owned())));
        return;
    }
    if !draft
        .services
        .iter()
        .any(|one| is_web(one) && one.is_public)
    {
        for service in draft
            .services
            .iter_mut()
            .filter(|one| one.role == Role::Web)
        {
            service.is_public = true;
        }
    }
    let front = front(&draft.services);
    for (at, service) in draft.services.iter_mut().enumerate() {
        let is_inner =
            reached.servers.contains(&service.name) && !reached.browsers.contains(&service.name);
        if service.is_public && is_inner && front != Some(at) && service.role == Role::Web {
            service.is_public = false;
            findings.decide(
                &service.place,
                format!(
                    "`{}` is reached by other services alone: it has no path at the gateway",
                    service.name
                ),
                format!("services.{}.route = \"/{}\"", service.name, service.name),
            );
        }
    }
    for (at, service) in draft.services.iter_mut().enumerate() {
        if service.role != Role::Web || !service.is_public {
            continue;
        }
        let path = match front == Some(at) {
            true => "/".to_owned(),
            false => format!("/{}", service.name),
        };
        names.routes.insert(service.name.clone(), path.clone());
        if path != "/" {
            let ports = service
                .ports
                .first()
                .map_or("a host or port of its own".to_owned(), |port| {
                    format!("port {port}")
                });
            findings.decide(
                &service.place,
                format!("`{}` had {ports}; at the gateway it has the path `{path}`, which is taken off", service.name),
                format!("another path: `services.{}.route = \"/path\"`; a host: `route = {{ path = \"/\", host = \"...\" }}`", service.name),
            );
        }
        service.route = Some((path.clone(), path != "/"));
    }
}

/// Who reaches which services by an address.
#[derive(Default)]
struct Reached {
    browsers: BTreeSet<String>,
    servers: BTreeSet<String>,
}

fn reached(settled: &[Settled], names: &Names) -> Reached {
    let mut reached = Reached::default();
    for one in settled {
        let own = names.given.of(&one.part.name);
        for variable in &one.part.env {
            let found = names.web(variable.value.as_deref().unwrap_or_default());
            let Some(found) = found.filter(|found| Some(*found) != own) else {
                continue;
            };
            match secret::is_for_browsers(&variable.name) {
                true => reached.browsers.insert(found.to_owned()),
                false => reached.servers.insert(found.to_owned()),
            };
        }
    }
    reached
}

/// What people look at first.
fn front(services: &[Service]) -> Option<usize> {
    const NAMES: [&str; 9] = [
        "web", "frontend", "app", "ui", "client", "www", "site", "website", "server",
    ];
    let rank = |service: &Service| {
        let by_name = NAMES.iter().position(|name| {
            service.name == *name || service.name.split('-').any(|part| part == *name)
        });
        let by_port = !service
            .ports
            .iter()
            .any(|port| matches!(port, 80 | 443 | 3000 | 8080));
        (!service.is_front, by_name.unwrap_or(NAMES.len()), by_port)
    };
    let webs = services.iter().enumerate();
    let webs = webs.filter(|(_, one)| one.role == Role::Web && one.is_public);
    webs.min_by_key(|(_, one)| rank(one)).map(|(at, _)| at)
}

/// Needs and variables of each service.
pub fn connect(draft: &mut Draft, settled: &[Settled], names: &Names, findings: &mut Findings) {
    for (service, one) in draft.services.iter_mut().zip(settled) {
        for need in &one.part.needs {
            let Some(name) = names.given.of(need) else {
                continue;
            };
            if name != service.name && !service.needs.iter().any(|known| known == name) {
                service.needs.push(name.to_owned());
            }
        }
        unseen(service, one, names, findings);
        variables(service, one, names, findings);
        for (secret, _) in &one.part.secrets {
            secretly(service, secret, names);
        }
    }
    ambiguous(draft);
    cycles(draft, findings);
    for service in &mut draft.services {
        match service.by {
            Run::Process => given_port(service, findings),
            _ => container_port(service, names, findings),
        }
    }
    unneeded(draft, findings);
    unheard(draft, settled, findings);
}

/// A command that does not say where to listen.
fn given_port(service: &Service, findings: &mut Findings) {
    let run = service.run.as_deref().unwrap_or_default();
    let is_told = run.contains("$PORT") || service.place.file == "Procfile" || service.is_front;
    if service.role == Role::Web && !is_told {
        findings.decide(
            &service.place,
            format!(
                "the command of `{}` names no port: it has to listen on `$PORT` by itself",
                service.name
            ),
            format!("services.{}.run = \"... --port $PORT\"", service.name),
        );
    }
}

/// A database that nothing reaches.
fn unneeded(draft: &Draft, findings: &mut Findings) {
    for resource in &draft.resources {
        let is_needed = draft.services.iter().any(|service| {
            service.needs.contains(&resource.name)
                || service
                    .env
                    .iter()
                    .any(|(_, value)| referred(value).contains(&resource.name.as_str()))
        });
        if !is_needed && !draft.services.is_empty() {
            findings.decide(
                &resource.place,
                format!("nothing that was read says who needs `{}`", resource.name),
                format!(
                    "services.NAME.needs = [\"{}\"]; it brings `{}`",
                    resource.name,
                    resource.kind.variable()
                ),
            );
        }
    }
}

/// An image of somebody's that others need, and whose port is not known.
fn unheard(draft: &Draft, settled: &[Settled], findings: &mut Findings) {
    for (service, one) in draft.services.iter().zip(settled) {
        let is_needed = draft
            .services
            .iter()
            .any(|other| other.needs.contains(&service.name));
        if !one.part.is_ours && one.role == Role::Worker && is_needed {
            findings.decide(
                &service.place,
                format!("others need `{}`, and no port of it is named: as a worker it is reached by nobody", service.name),
                format!("services.{0}.role = \"web\" and services.{0}.port = ...", service.name),
            );
        }
    }
}

/// A database that a service needs, and that no variable leads to: its code may name the host itself.
fn unseen(service: &Service, one: &Settled, names: &Names, findings: &mut Findings) {
    for need in &service.needs {
        let Some(What::Store(kind @ (Kind::Postgres | Kind::Redis))) = names.what.get(need) else {
            continue;
        };
        let variables = &one.part.env;
        let is_led = variables.iter().any(|one| {
            let value = one.value.as_deref().unwrap_or_default();
            one.name == kind.variable() || names.store(value, *kind).is_some()
        });
        if !is_led {
            findings.decide(
                &service.place,
                format!("`{}` needs `{need}`, and no variable says where that is: its code may name the host", service.name),
                format!("let it read `{}`, or name the variables that it reads: `services.{}.env`", kind.variable(), service.name),
            );
        }
    }
}

/// A secret of a database that Towpath runs is not the user's.
fn secretly(service: &mut Service, secret: &str, names: &Names) {
    for kind in [Kind::Postgres, Kind::Redis] {
        if secret == kind.variable()
            && let Some(store) = names.only(kind)
        {
            if !service.needs.iter().any(|known| known == store) {
                service.needs.push(store.to_owned());
            }
            return;
        }
    }
    if !service.secrets.iter().any(|known| known == secret)
        && service.env.iter().all(|(name, _)| name != secret)
    {
        service.secrets.push(secret.to_owned());
    }
}

/// The resource of a kind that a service needs, or that one of its variables leads to.
fn needed(service: &Service, one: &Settled, names: &Names, kind: Kind) -> Option<String> {
    let is_kind = |name: &&String| names.what.get(*name) == Some(&What::Store(kind));
    let needs = service.needs.iter().find(is_kind).cloned();
    let mut values = one.part.env.iter().filter_map(|one| one.value.as_deref());
    needs.or_else(|| {
        let found = values.find_map(|value| names.store(value, kind));
        found.map(str::to_owned)
    })
}

fn variables(service: &mut Service, one: &Settled, names: &Names, findings: &mut Findings) {
    let database = needed(service, one, names, Kind::Postgres);
    let cache = needed(service, one, names, Kind::Redis);
    let own = service.name.clone();
    let owner = Owner {
        name: &own,
        role: one.role,
        contained: one.by != Run::Process,
        database: database.as_deref(),
        cache: cache.as_deref(),
    };
    let mut open: Vec<(&'static str, Vec<&str>)> = Vec::new();
    let mut examples = Vec::new();
    for variable in &one.part.env {
        let name = variable.name.as_str();
        if service.env.iter().any(|(known, _)| known == name) {
            continue;
        }
        match names.meaning(variable, owner) {
            Meaning::Dropped => {}
            Meaning::Need(store) => {
                if !service.needs.contains(&store) {
                    service.needs.push(store);
                }
            }
            Meaning::Env(value) if is_example(&variable.place) && !value.contains("${") => {
                examples.push((name, value, &variable.place));
            }
            Meaning::Env(value) => service.env.push((name.to_owned(), value)),
            Meaning::File(value, store) => {
                findings.write(&variable.place, in_store(variable, service, &value, &store));
                service.env.push((name.to_owned(), value));
            }
            Meaning::Build(value, is_address) if service.build.is_some() && !owner.contained => {
                if is_address {
                    findings.decide(
                        &variable.place,
                        format!("`{name}` is built into what browsers load; it is `{value}` now, at the same host"),
                        format!("services.{}.build_env.{name} = \"...\"", service.name),
                    );
                }
                service.build_env.push((name.to_owned(), value));
            }
            Meaning::Build(..) => open_up(
                &mut open,
                "a build by a Dockerfile is given no variables",
                name,
            ),
            Meaning::Cache(store) => {
                open_up(&mut open, CACHE, name);
                if !service.needs.contains(&store) {
                    service.needs.push(store);
                }
            }
            Meaning::Secret => service.secrets.push(name.to_owned()),
            Meaning::Left(why) => findings.leave(
                &variable.place,
                format!("`{name}` of `{}`: {why}", service.name),
            ),
            Meaning::Open(why) => open_up(&mut open, why, name),
        }
    }
    few_examples(service, examples, findings);
    service.secrets.sort();
    service.secrets.dedup();
    say_open(service, one, open, findings);
}

fn in_store(variable: &Variable, service: &Service, value: &str, store: &str) -> String {
    format!(
        "`{}` of `{}` is `{value}`, the file of `{store}`: it was `{}`, in the tree, and each release has a tree of its own",
        variable.name,
        service.name,
        variable.value.as_deref().unwrap_or_default(),
    )
}

/// Says what somebody has to give a value, in one line for each reason.
fn say_open(
    service: &Service,
    one: &Settled,
    open: Vec<(&'static str, Vec<&str>)>,
    findings: &mut Findings,
) {
    for (why, names) in open {
        let place = one.part.env.iter().find(|one| one.name == names[0]);
        let place = place.map_or(&service.place, |one| &one.place);
        let quoted: Vec<_> = names
            .iter()
            .take(8)
            .map(|name| format!("`{name}`"))
            .collect();
        let more = names.len().saturating_sub(8);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        findings.decide(
            place,
            format!("{}{more} of `{}`: {why}", quoted.join(", "), service.name),
            format!("services.{}.env.{} = \"...\"", service.name, names[0]),
        );
    }
}

/// Most values of examples that are taken over: more of them are a list of all that could be said.
const MOST_EXAMPLES: usize = 12;

fn is_example(place: &Place) -> bool {
    place.file.contains(".env") || place.file.ends_with("env.example")
}

fn few_examples(
    service: &mut Service,
    examples: Vec<(&str, String, &Place)>,
    findings: &mut Findings,
) {
    let Some((first, _, place)) = examples.first().filter(|_| examples.len() > MOST_EXAMPLES)
    else {
        let few = examples.into_iter();
        service
            .env
            .extend(few.map(|(name, value, _)| (name.to_owned(), value)));
        return;
    };
    findings.decide(
        place,
        format!(
            "`{}` has plain values for {} variables of `{}`: too many to be all of use, and none is taken over",
            place.file,
            examples.len(),
            service.name
        ),
        format!("those that differ from what the code takes anyhow: `services.{}.env.{first} = \"...\"`", service.name),
    );
}

fn open_up<'a>(open: &mut Vec<(&'static str, Vec<&'a str>)>, why: &'static str, name: &'a str) {
    match open.iter_mut().find(|(known, _)| *known == why) {
        Some((_, names)) => names.push(name),
        None => open.push((why, vec![name])),
    }
}

/// Two databases would bring the same variable.
fn ambiguous(draft: &mut Draft) {
    let variable = |name: &str| {
        let found = draft.resources.iter().find(|one| one.name == name);
        found.map(|one| one.kind.variable())
    };
    for service in &mut draft.services {
        let brought: Vec<_> = service
            .needs
            .iter()
            .filter_map(|need| Some((variable(need)?, need.clone())))
            .collect();
        for (at, (name, first)) in brought.iter().enumerate() {
            let again = brought[at + 1..].iter().any(|(other, _)| other == name);
            if again && service.env.iter().all(|(known, _)| known != name) {
                service
                    .env
                    .push(((*name).to_owned(), format!("${{{first}.url}}")));
            }
        }
    }
}

/// A container with a port of its own cannot reach what listens on the machine's loopback.
fn container_port(service: &mut Service, names: &Names, findings: &mut Findings) {
    let referred: Vec<String> = service
        .env
        .iter()
        .flat_map(|(_, value)| referred(value))
        .map(str::to_owned)
        .collect();
    let reaches = service.needs.iter().chain(&referred).any(|name| {
        matches!(
            names.what.get(name),
            Some(What::Web | What::Store(Kind::Postgres | Kind::Redis))
        )
    });
    if service.role != Role::Web {
        service.port = None;
        return;
    }
    if reaches && let Some(port) = service.port.take() {
        findings.decide(
            &service.place,
            format!("`{}` listens on {port} in its container; it reaches what it needs only with the machine's network, and has to listen on `$PORT` there", service.name),
            format!("let it read `$PORT`, or give it the name that it knows: `services.{}.run = \"... --port $PORT\"`", service.name),
        );
    }
}

/// What runs once before others start: a command before the service that waits for it, and no service.
pub fn is_once(one: &Settled) -> bool {
    let part = &one.part;
    let words = [
        "migrate",
        "migration",
        "migrations",
        "migrator",
        "init",
        "setup",
        "seed",
        "install",
    ];
    let by_name = part
        .name
        .split(['-', '_', '.'])
        .any(|word| words.contains(&word));
    let silent = part.port.is_none() && part.published.is_empty() && one.role != Role::Web;
    silent && !check::is_worker_name(&part.name) && (part.restart == Some("never") || by_name)
}
