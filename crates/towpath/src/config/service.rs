//! One service of one environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::names::Names;
use super::sheet::{Origin, Reader};
use super::{Part, Restart, RestartPolicy, Role, Route, Service, Template};
use super::{container, edge, file, health, probe};
use crate::diagnostic::{Diagnostic, Span};
use crate::manifest::form::SIGNALS;
use crate::manifest::schedule::Schedule;

/// A service, with the places that later checks point to.
pub(super) struct Draft {
    pub service: Service,
    /// Where each need was written.
    pub needs: BTreeMap<String, Span>,
    /// Where each route was written.
    pub routes: Vec<Span>,
}

/// Reads a service; `lone` is whether no other serves requests.
pub(super) fn read(reader: &Reader<'_>, names: &Names<'_>, lone: bool) -> Draft {
    let role = role(reader);
    let needs = needs(reader, names);
    let mut env = env(reader, names, role);
    given(reader, names, role, &mut env);
    inject(reader, names, &needs, &mut env);
    let secrets = secrets(reader, role, &env);
    let needs = implied(reader, needs, &env);
    let optional = health::optional(reader, &needs);
    let (routes, route_spans) = routes(reader, role, lone);
    let ready = probe::ready(reader, role);
    let release = reader.at("release");
    let contained = ["image", "dockerfile"].map(|key| !reader.at(key).is_absent());
    if contained.contains(&true) && !release.is_absent() {
        only_for(
            &release,
            "services that run as processes",
            "let a service without an image have the command",
        );
    }
    match role {
        Role::Job => job(reader),
        _ => no_job(reader),
    }
    let service = Service {
        role,
        dir: reader.at("dir").path_or("."),
        container: container::container(reader, names, role, &needs),
        build: reader.at("build").text().map(str::to_owned),
        build_env: build_env(reader, names),
        cache: paths(reader, "cache"),
        artifact: paths(reader, "artifact"),
        run: reader.at("run").text().map(str::to_owned),
        dev: reader.at("dev").text().map(str::to_owned),
        release: reader.at("release").text().map(str::to_owned),
        schedule: reader
            .at("schedule")
            .text()
            .and_then(|text| Schedule::parse(text).ok()),
        timeout: Some(reader.at("timeout"))
            .filter(|timeout| !timeout.is_absent())
            .map(|timeout| timeout.duration("0s")),
        routes,
        alive: probe::alive(reader, role, &ready),
        ready,
        needs: needs.iter().map(|(name, _)| name.clone()).collect(),
        optional,
        critical: health::critical_key(&reader.at("critical")),
        env,
        secrets,
        replicas: reader.at("replicas").integer(1),
        overlap: reader.at("overlap").flag(false),
        restart: restart(&reader.at("restart")),
        stop_signal: signal(&reader.at("stop").at("signal")),
        stop_grace: reader.at("stop").at("grace").duration("10s"),
        log_max_bytes: reader.at("log").at("max").size("8MB"),
        log_keep: reader.at("log").at("keep").integer(4),
    };
    Draft {
        service,
        needs: needs.into_iter().collect(),
        routes: route_spans,
    }
}

fn role(reader: &Reader<'_>) -> Role {
    match reader.at("role").text_or("web").as_str() {
        "worker" => Role::Worker,
        "job" => Role::Job,
        _ => Role::Web,
    }
}

/// What an instance that stays would be told means nothing for one that ends.
const STAYING: [&str; 4] = ["ready", "alive", "replicas", "restart"];

fn job(reader: &Reader<'_>) {
    if reader.at("schedule").is_absent() {
        let message = format!("`{}` is a job and has no schedule", reader.path);
        reader.sheet.report(
            Diagnostic::error("config::no-schedule", message)
                .label(reader.at("role").span(), "when would it run?")
                .help("add `schedule = \"0 3 * * *\"`, or `schedule = \"every 15m\"`"),
        );
    }
    for key in STAYING {
        let key = reader.at(key);
        if !key.is_absent() {
            only_for(
                &key,
                "services that stay",
                "a job runs when it is due, and ends",
            );
        }
    }
}

fn no_job(reader: &Reader<'_>) {
    for key in ["schedule", "timeout"] {
        let key = reader.at(key);
        if !key.is_absent() {
            only_for(&key, "jobs", "add `role = \"job\"`, or take it out");
        }
    }
}

fn only_for(key: &Reader<'_>, whom: &str, help: &str) {
    let message = format!("`{}` is for {whom}", key.path);
    key.sheet.report(
        Diagnostic::error("config::wrong-role", message)
            .label(key.key.clone(), "of no use here")
            .help(help),
    );
}

fn needs(reader: &Reader<'_>, names: &Names<'_>) -> Vec<(String, Span)> {
    let needs = reader.at("needs");
    let mut known = needs.texts();
    known.retain(|(name, span)| {
        let is_known = names.named.contains_key(name);
        if !is_known {
            names.unknown(&needs.path, name, span.clone());
        }
        is_known
    });
    known
}

fn env(reader: &Reader<'_>, names: &Names<'_>, role: Role) -> BTreeMap<String, Template> {
    let mut env = BTreeMap::new();
    for (name, value) in reader.at("env").entries() {
        if role == Role::Web && matches!(name, "PORT" | "HOST") {
            reserved(&value, name);
            continue;
        }
        // What is wrong is reported; the name is kept so that `needs` does not bring it again.
        let template = names
            .template(&value)
            .unwrap_or(Template { parts: Vec::new() });
        file::check(&value, name, &template, value.span());
        env.insert(name.to_owned(), template);
    }
    env
}

/// The variables that it asks for, by their own names; what `env` says of the same name counts.
fn given(reader: &Reader<'_>, names: &Names<'_>, role: Role, env: &mut BTreeMap<String, Template>) {
    let asked = reader.at("variables");
    for item in asked.items() {
        let Some(name) = item.quiet_text() else {
            continue;
        };
        if role == Role::Web && matches!(name, "PORT" | "HOST") {
            reserved(&item, name);
            continue;
        }
        let Some(variable) = names.variables.get(name) else {
            names.undeclared(&item, name);
            continue;
        };
        let value = variable.value.as_ref().filter(|_| !env.contains_key(name));
        if let Some(value) = value {
            let template = Template {
                parts: vec![Part::Text(value.clone())],
            };
            let path = reader.at("env").at(name).path;
            let origin = reader.sheet.injected(&item.span());
            reader.sheet.explain(path, format!("{value:?}"), origin);
            file::check(&item, name, &template, item.span());
            env.insert(name.to_owned(), template);
        }
    }
}

/// The secrets that it asks for. Each is an environment variable, and in no command: arguments are for everybody to
/// read.
fn secrets(reader: &Reader<'_>, role: Role, env: &BTreeMap<String, Template>) -> Vec<String> {
    let asked = reader.at("secrets");
    if asked.is_absent() {
        return Vec::new();
    }
    let names = asked.texts();
    for item in asked.items() {
        let Some(name) = item.quiet_text() else {
            continue;
        };
        if role == Role::Web && matches!(name, "PORT" | "HOST") {
            reserved(&item, name);
        }
        if env.contains_key(name) {
            let message = format!("`{}` gives `{name}` twice", reader.path);
            let other = reader.at("env").at(name);
            let other = if other.is_absent() {
                reader.at("variables")
            } else {
                other
            };
            // The other's line is not shown: the value stands in it.
            let line = reader.sheet.manifest.line(&other.key);
            reader.sheet.report(
                Diagnostic::error("config::ambiguous-variable", message)
                    .label(item.span(), "as a secret")
                    .note(format!("and in plain text, on line {line}"))
                    .help("take it out of one of them"),
            );
        }
        for key in ["run", "dev", "release"] {
            in_command(&reader.at(key), name);
        }
    }
    names.into_iter().map(|(name, _)| name).collect()
}

fn in_command(command: &Reader<'_>, name: &str) {
    let Some(text) = command.quiet_text() else {
        return;
    };
    let named = text.split('$').skip(1).any(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let after = rest.strip_prefix(name);
        after.is_some_and(|after| {
            !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        })
    });
    if named {
        let message = format!(
            "`{}` puts the secret `{name}` into an argument",
            command.path
        );
        command.sheet.report(
            Diagnostic::error("config::secret-in-command", message)
                .label(
                    command.span(),
                    "every user of the machine can read arguments",
                )
                .help("let the program read it from its environment"),
        );
    }
}

fn reserved(value: &Reader<'_>, name: &str) {
    let message = format!("`{}` sets `{name}`, which is given", value.path);
    value.sheet.report(
        Diagnostic::error("config::reserved-variable", message)
            .label(value.key.clone(), "each instance gets its own")
            .help(format!("take it out, and let the command use `${name}`")),
    );
}

/// Needing something brings the variable that the ecosystem knows it by.
fn inject(
    reader: &Reader<'_>,
    names: &Names<'_>,
    needs: &[(String, Span)],
    env: &mut BTreeMap<String, Template>,
) {
    let mut brought: BTreeMap<String, &(String, Span)> = BTreeMap::new();
    for need in needs {
        let (name, span) = need;
        let Some(variable) = names.named.get(name).and_then(|named| named.variable(name)) else {
            continue;
        };
        if let Some(first) = brought.get(&variable) {
            ambiguous(reader, &variable, first, need);
            continue;
        }
        if env.contains_key(&variable) {
            continue;
        }
        let attribute = Part::Attribute {
            name: name.clone(),
            attribute: "url".to_owned(),
        };
        let template = Template {
            parts: vec![attribute],
        };
        let path = reader.at("env").at(&variable).path;
        reader.sheet.explain(
            path,
            format!("{:?}", template.to_string()),
            reader.sheet.injected(span),
        );
        env.insert(variable.clone(), template);
        brought.insert(variable, need);
    }
}

fn ambiguous(reader: &Reader<'_>, variable: &str, first: &(String, Span), second: &(String, Span)) {
    let (first, second) = (first.clone(), second.clone());
    let message = format!(
        "`{}` and `{}` would both be `{variable}`",
        first.0, second.0
    );
    reader.sheet.report(
        Diagnostic::error("config::ambiguous-variable", message)
            .label(second.1, format!("brings `{variable}` again"))
            .label(first.1, format!("brings `{variable}`"))
            .help(format!(
                "set it: `env.{variable} = \"${{{}.url}}\"`",
                first.0
            )),
    );
}

/// `${db.url}` in `env` is a need as well; it brings no variable of its own.
fn implied(
    reader: &Reader<'_>,
    mut needs: Vec<(String, Span)>,
    env: &BTreeMap<String, Template>,
) -> Vec<(String, Span)> {
    for (variable, template) in env {
        for part in &template.parts {
            let Part::Attribute { name, .. } = part else {
                continue;
            };
            if needs.iter().any(|(known, _)| known == name) {
                continue;
            }
            let span = reader.at("env").at(variable).span();
            let path = format!("{}.needs[{}]", reader.path, needs.len());
            let origin = reader.sheet.injected(&span);
            reader.sheet.explain(path, format!("{name:?}"), origin);
            needs.push((name.clone(), span));
        }
    }
    needs
}

/// A build may be told of variables, and what it makes is an environment's own where they differ. Addresses are known
/// only when something is started.
fn build_env(reader: &Reader<'_>, names: &Names<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, value) in reader.at("build_env").entries() {
        let Some(template) = names.template(&value) else {
            continue;
        };
        let is_address = |part: &Part| matches!(part, Part::Attribute { .. });
        if template.parts.iter().any(is_address) {
            let message = format!("`{}` refers to an address", value.path);
            reader.sheet.report(
                Diagnostic::error("config::address-at-build", message)
                    .label(value.span(), "not known before it is started")
                    .help(
                        "refer to a variable, or let the service read it from `env` when it runs",
                    ),
            );
        }
        env.insert(name.to_owned(), template.to_string());
    }
    env
}

fn routes(reader: &Reader<'_>, role: Role, lone: bool) -> (Vec<Route>, Vec<Span>) {
    let routes = reader.at("routes");
    if routes.is_absent() && lone {
        reader.sheet.explain(
            format!("{}.routes[0].path", reader.path),
            "\"/\"".to_owned(),
            Origin::Default,
        );
        return (vec![plain_route("/")], vec![reader.key.clone()]);
    }
    let items = routes.items();
    if role != Role::Web && !items.is_empty() {
        let what = if role == Role::Job { "job" } else { "worker" };
        let message = format!("`{}` is a {what} and has a route", reader.path);
        reader.sheet.report(
            Diagnostic::error("config::routed-worker", message)
                .label(routes.key.clone(), format!("a {what} serves no requests"))
                .help("take the route out, or make its role `web`"),
        );
    }
    let spans = items.iter().map(Reader::span).collect();
    (items.iter().map(route).collect(), spans)
}

fn plain_route(path: &str) -> Route {
    Route {
        host: None,
        path: path.to_owned(),
        strip: false,
        stream: false,
        idempotency_key: false,
        limit: None,
        unlimited: false,
        cache: None,
    }
}

fn route(reader: &Reader<'_>) -> Route {
    let limit = reader.at("limit");
    Route {
        host: reader.at("host").text().map(str::to_owned),
        path: reader.at("path").text_or("/"),
        strip: reader.at("strip").flag(false),
        stream: reader.at("stream").flag(false),
        idempotency_key: reader.at("idempotency_key").flag(false),
        limit: edge::limit(&limit),
        unlimited: limit.is_false(),
        cache: edge::cache(&reader.at("cache")),
    }
}

fn restart(reader: &Reader<'_>) -> Restart {
    let policy = match reader.at("policy").text_or("always").as_str() {
        "never" => RestartPolicy::Never,
        "on-failure" => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    };
    let restart = Restart {
        policy,
        backoff: reader.at("backoff").duration("200ms"),
        backoff_max: reader.at("backoff_max").duration("10s"),
        limit: reader.at("limit").integer(5),
        within: reader.at("within").duration("60s"),
    };
    if restart.backoff > restart.backoff_max {
        let message = format!(
            "`{}` starts with a pause longer than its longest",
            reader.path
        );
        reader.sheet.report(
            Diagnostic::error("config::bad-bounds", message)
                .label(reader.span(), "`backoff` is longer than `backoff_max`"),
        );
    }
    restart
}

fn signal(reader: &Reader<'_>) -> i32 {
    let name = reader.text_or("TERM");
    let known = SIGNALS.iter().find(|(signal, _)| *signal == name);
    known.map_or(15, |(_, number)| *number)
}

fn paths(reader: &Reader, key: &str) -> Vec<PathBuf> {
    let texts = reader.at(key).texts().into_iter();
    texts.map(|(path, _)| PathBuf::from(path)).collect()
}
