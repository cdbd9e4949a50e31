//! Manifest and environment become a typed configuration.
//!
//! What the environment says is laid over the shared tables ([`merge`]); what is then missing, or not carried out by
//! this version, is found by the table of keys ([`audit`]); the rest is read into [`Config`], and the origin of every
//! value written down on the way ([`sheet`]). Last come the checks that need all services at once. Everything wrong is
//! gathered before anything is said.
mod application;
mod audit;
mod baked;
mod container;
mod edge;
mod file;
mod foreign;
mod health;
mod inline;
mod load;
mod merge;
mod names;
mod order;
mod output;
mod probe;
mod purpose;
mod resource;
mod secret;
mod service;
mod sheet;
mod template;
mod tls;
mod tree;
mod variable;

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Report, Span, closest};
use crate::manifest::value::Value;
use crate::manifest::{LOCAL, Manifest, keys};

pub use application::{Config, Restart, RestartPolicy, Role, Route, Server, Service};
pub use baked::baked;
pub use container::{Container, Image, OF_THE_CLIENT};
pub use edge::{Edge, Passing};
pub use file::RelativeFile;
pub use foreign::{Foreign, Migrate, Migrator};
pub use health::HealthPaths;
pub use inline::weak;
pub use load::{Rehearse, SignIn, Traffic, TrafficRequest, TrafficWrite, TrafficZero, Version};
use names::Names;
pub use probe::{Alive, Probe, Ready, Steady};
pub use purpose::Purpose;
pub use resource::{Address, Backup, Resource, ResourceKind, VERIFY, is_plain};
pub use secret::{Generate, KEY_BYTES, Secret, SecretKind};
use service::Draft;
pub use sheet::{Explained, Origin, Overridden};
use sheet::{Reader, Sheet};
pub use template::{Part, Template};
pub use tls::{Acme, Tls};
pub use tree::{check_secrets, check_tree};
pub use variable::{Variable, VariableKind};

/// What a manifest means in an environment.
///
/// # Errors
/// An environment that is not there, and everything that is wrong with what the manifest says for it.
pub fn resolve(manifest: &Manifest, environment: &str) -> Result<Config, Report> {
    resolve_for(manifest, environment, Purpose::Real)
}

/// What a manifest means in an environment, or in a rehearsal of it.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_for(
    manifest: &Manifest,
    environment: &str,
    purpose: Purpose,
) -> Result<Config, Report> {
    if let Some(diagnostic) = unknown_environment(manifest, environment) {
        return Err(Report::new(
            manifest.name(),
            manifest.text(),
            vec![diagnostic],
        ));
    }
    let sheet = Sheet {
        purpose,
        ..Sheet::new(manifest, environment)
    };
    let config = read(&sheet);
    let diagnostics = sheet.diagnostics.into_inner();
    let report = Report::new(manifest.name(), manifest.text(), diagnostics);
    // What is only warned of is told by `check`.
    match report.has_errors() {
        false => Ok(config),
        true => Err(report),
    }
}

/// Every value of an environment with its origin, in the order of the types; what is wrong is left out.
pub fn explain(manifest: &Manifest, environment: &str) -> Vec<Explained> {
    if unknown_environment(manifest, environment).is_some() {
        return Vec::new();
    }
    let sheet = Sheet::new(manifest, environment);
    read(&sheet);
    sheet.explained.into_inner()
}

/// What is wrong with a manifest in any of its environments; what is wrong in several is said once.
pub fn check(manifest: &Manifest) -> Report {
    let mut diagnostics = Vec::new();
    for environment in manifest.environments() {
        let sheet = Sheet::new(manifest, environment);
        let config = read(&sheet);
        if config
            .promote
            .last()
            .is_some_and(|last| last == environment)
        {
            diagnostics.extend(resource::plain(&sheet));
        }
        diagnostics.extend(sheet.diagnostics.into_inner());
    }
    Report::new(manifest.name(), manifest.text(), diagnostics)
}

/// What is wrong with the text of a manifest: syntax, keys and values, and then its meaning in each environment.
pub fn check_text(name: &str, text: &str) -> Report {
    let (manifest, diagnostics) = Manifest::read(name, text);
    let mut report = match manifest {
        Some(manifest) => check(&manifest),
        None => Manifest::parse(name, text).err().unwrap_or_default(),
    };
    report.extend(diagnostics);
    report
}

fn unknown_environment(manifest: &Manifest, environment: &str) -> Option<Diagnostic> {
    let known = manifest.environments();
    if known.contains(&environment) {
        return None;
    }
    let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    let help = match closest(environment, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("add `[environments.{environment}]` to {}", manifest.name()),
    };
    let message = format!("there is no environment `{environment}`");
    let note = format!("{} has {}", manifest.name(), names.join(", "));
    Some(
        Diagnostic::error("config::unknown-environment", message)
            .note(note)
            .help(help),
    )
}

fn read(sheet: &Sheet<'_>) -> Config {
    let manifest = sheet.manifest;
    let mut merged = merge::merge(
        manifest.root(),
        manifest.environment(sheet.environment),
        &keys::ENVIRONMENT,
    );
    purpose::lay(&mut merged, sheet.purpose);
    audit_both(sheet, &merged);
    let root = Reader::root(sheet, &merged);
    let app = root.at("app").text().unwrap_or_default().to_owned();
    let promote = promote(&root);
    let domain = root.at("domain").text().map(str::to_owned);
    let server = server(&root);
    let tls = tls::tls(&root, domain.as_deref());
    let listen = tls::listen(&root, tls.as_ref());
    let trust = root.at("trust").texts();
    let window = root
        .at("window")
        .duration(default_window(sheet.environment));
    let keep = root.at("keep").integer(5);
    let variables = variable::read(&root);
    let secrets = secret::read(&root);
    let (drafts, order) = services(&root, domain.as_deref(), &variables);
    let services: BTreeMap<String, Service> = drafts
        .into_iter()
        .map(|(name, draft)| (name, draft.service))
        .collect();
    let resources = resource::read(&root, (&services, &order));
    secret::check(&root, &secrets, &services, &resources);
    inline::check(&root, &promote);
    baked::check(&root);
    let health = health::paths(&root, &services);
    let metrics = health::metrics(&root, listen, tls.as_ref());
    let hosts = tls::hosts(domain.as_deref(), services.values());
    Config {
        app,
        environment: sheet.environment.to_owned(),
        promote,
        listen,
        domain,
        server,
        tls: tls.map(|tls| Tls { hosts, ..tls }),
        trust: trust.into_iter().map(|(network, _)| network).collect(),
        edge: edge::edge(&root.at("edge")),
        window,
        keep,
        variables,
        secrets,
        services,
        order,
        resources,
        health,
        metrics,
        traffic: load::traffic(&root.at("traffic")),
        rehearse: load::rehearse(&root.at("rehearse")),
    }
}

/// The merged tables hold the keys of the root and those of an environment.
fn audit_both(sheet: &Sheet<'_>, merged: &Value) {
    let mut found: Vec<Diagnostic> = Vec::new();
    let both = [&keys::ROOT, &keys::ENVIRONMENT];
    for diagnostic in both
        .into_iter()
        .flat_map(|shape| audit::audit(merged, shape))
    {
        if !found.contains(&diagnostic) {
            found.push(diagnostic);
        }
    }
    found
        .into_iter()
        .for_each(|diagnostic| sheet.report(diagnostic));
}

/// The services and the order of their start.
fn services(
    root: &Reader<'_>,
    domain: Option<&str>,
    variables: &BTreeMap<String, Variable>,
) -> (BTreeMap<String, Draft>, Vec<String>) {
    let names = Names::read(root, variables);
    let declared = root.at("services").entries();
    if declared.is_empty() {
        no_services(root);
    }
    let is_web = |name: &str| names.named.get(name) == Some(&names::Named::Web);
    let webs = declared.iter().filter(|(name, _)| is_web(name)).count();
    let draft = |(name, reader): &(&str, Reader<'_>)| {
        let lone = webs == 1 && is_web(name);
        ((*name).to_owned(), service::read(reader, &names, lone))
    };
    let drafts = declared.iter().map(draft).collect();
    let declared: Vec<_> = declared.iter().map(|(name, _)| *name).collect();
    same_routes(root.sheet, &drafts, &declared, domain);
    let (order, cycles) = order::order(&drafts, &declared);
    for cycle in cycles {
        root.sheet.report(cycle);
    }
    (drafts, order)
}

fn no_services(root: &Reader<'_>) {
    root.sheet.report(
        Diagnostic::error("config::missing", "the manifest has no service")
            .label(root.at("services").key, "nothing would run")
            .help("add `[services.web]` with `run = \"...\"`"),
    );
}

/// No two services may answer the same prefix on the same host.
fn same_routes(
    sheet: &Sheet<'_>,
    drafts: &BTreeMap<String, Draft>,
    declared: &[&str],
    domain: Option<&str>,
) {
    let mut taken: BTreeMap<(Option<&str>, &str), (&str, Span)> = BTreeMap::new();
    for (name, draft) in declared
        .iter()
        .filter_map(|name| drafts.get_key_value(*name))
    {
        for (route, span) in draft.service.routes.iter().zip(&draft.routes) {
            let place = (route.host.as_deref().or(domain), route.path.as_str());
            match taken.get(&place) {
                Some(first) => sheet.report(same_route(place, first, name, span)),
                None => {
                    taken.insert(place, (name, span.clone()));
                }
            }
        }
    }
}

fn same_route(
    place: (Option<&str>, &str),
    first: &(&str, Span),
    name: &str,
    span: &Span,
) -> Diagnostic {
    let (host, path) = place;
    let place = format!("{}{path}", host.unwrap_or_default());
    let message = match first.0 == name {
        true => format!("`{name}` has the route `{place}` twice"),
        false => format!("`{}` and `{name}` have the same route `{place}`", first.0),
    };
    Diagnostic::error("config::same-route", message)
        .label(span.clone(), format!("`{name}` here"))
        .label(first.1.clone(), format!("`{}` here", first.0))
        .help("give one of them another path or another host")
}

fn promote(root: &Reader<'_>) -> Vec<String> {
    let known = root.sheet.manifest.environments();
    let promote = root.at("promote").texts();
    for (name, span) in &promote {
        if !known.contains(&name.as_str()) {
            let help = match closest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `[environments.{name}]`; it may be empty"),
            };
            root.sheet.report(
                Diagnostic::error(
                    "config::unknown-environment",
                    format!("`promote` names `{name}`, which is no environment"),
                )
                .label(span.clone(), "not known here")
                .help(help),
            );
        }
    }
    promote.into_iter().map(|(name, _)| name).collect()
}

/// The source tree runs where it lies.
fn server(root: &Reader<'_>) -> Option<Server> {
    let server = root.at("server");
    let text = server.text()?;
    if root.sheet.environment == LOCAL {
        root.sheet.report(
            Diagnostic::error("config::local-server", "`local` is on this machine")
                .label(server.key.clone(), "not for `local`")
                .help("give another environment a server"),
        );
    }
    Server::parse(text)
}

/// Nobody waits for a roll-back of the source tree.
fn default_window(environment: &str) -> &'static str {
    match environment {
        LOCAL => "0s",
        _ => "10m",
    }
}
