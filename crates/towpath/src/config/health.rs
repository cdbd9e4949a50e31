//! What the health of an environment is made of, and where it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::Serialize;

use super::sheet::Reader;
use super::{Config, Probe, Role, Service, Tls};
use crate::diagnostic::{Diagnostic, Span};
use crate::manifest::LOCAL;

/// Paths that the gateway answers itself, on any host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HealthPaths {
    /// 200 as long as the gateway lives.
    pub live: Option<String>,
    /// How everything is, and 503 where something critical fails.
    pub ready: Option<String>,
    /// Whether the errors are shown there too.
    pub errors: bool,
}

impl HealthPaths {
    pub(super) fn is_none(&self) -> bool {
        self.live.is_none() && self.ready.is_none()
    }
}

/// Of a service's needs, those that it can do without.
pub(super) fn optional(reader: &Reader<'_>, needs: &[(String, Span)]) -> Vec<String> {
    let optional = reader.at("optional");
    let mut named = match optional.is_absent() {
        true => Vec::new(),
        false => optional.texts(),
    };
    named.retain(|(name, span)| {
        let is_needed = needs.iter().any(|(need, _)| need == name);
        if !is_needed {
            let message = format!("`{}` names `{name}`, which it does not need", optional.path);
            reader.sheet.report(
                Diagnostic::error("config::not-needed", message)
                    .label(span.clone(), "not among its `needs`")
                    .help(format!(
                        "add `{name}` to `{}.needs`, or take it out here",
                        reader.path
                    )),
            );
        }
        is_needed
    });
    named.into_iter().map(|(name, _)| name).collect()
}

/// What a service says of itself.
pub(super) fn critical_key(reader: &Reader<'_>) -> Option<bool> {
    (!reader.is_absent()).then(|| reader.flag(false))
}

/// The paths that the gateway answers itself; none of them is the application's.
pub(super) fn paths(root: &Reader<'_>, services: &BTreeMap<String, Service>) -> HealthPaths {
    let reader = root.at("health");
    if reader.is_absent() {
        return HealthPaths::default();
    }
    let paths = HealthPaths {
        live: reader.at("live").text().map(str::to_owned),
        ready: reader.at("ready").text().map(str::to_owned),
        errors: reader.at("errors").flag(root.sheet.environment == LOCAL),
    };
    for key in ["live", "ready"].map(|key| reader.at(key)) {
        let taken = key.quiet_text().and_then(|path| taken(path, services));
        if let Some(whose) = taken {
            collides(&key, &whose);
        }
    }
    if paths.live.is_some() && paths.live == paths.ready {
        collides(
            &reader.at("ready"),
            "`health.live` says something else there",
        );
    }
    paths
}

fn collides(key: &Reader<'_>, whose: &str) {
    let message = format!("`{}` is a path that is taken", key.path);
    key.sheet.report(
        Diagnostic::error("config::same-route", message)
            .label(key.span(), whose)
            .help("choose a path that the application does not answer: \"/.health/ready\""),
    );
}

/// Who answers `path` already: a route of just that, or a service that is asked there and gets what is below its route.
fn taken(path: &str, services: &BTreeMap<String, Service>) -> Option<String> {
    let is_route = |service: &Service| {
        let mut routes = service.routes.iter();
        routes.any(|route| route.path.trim_end_matches('/') == path.trim_end_matches('/'))
    };
    let is_probe = |service: &Service| {
        let alive = service.alive.as_ref().map(|alive| &alive.probe);
        let mut probes = [Some(&service.ready.probe), alive].into_iter().flatten();
        let mut routes = service.routes.iter().filter(|route| !route.strip);
        let is_routed = routes.any(|route| covers(&route.path, path));
        is_routed && probes.any(|probe| asks(probe, path))
    };
    let mut services = services.iter();
    services.find_map(
        |(name, service)| match (is_route(service), is_probe(service)) {
            (true, _) => Some(format!("`{name}` has that route")),
            (_, true) => Some(format!(
                "`{name}` is asked there, and may be asked there by others"
            )),
            _ => None,
        },
    )
}

fn covers(route: &str, path: &str) -> bool {
    let rest = path.strip_prefix(route.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn asks(probe: &Probe, path: &str) -> bool {
    matches!(probe, Probe::Http(asked) if asked.split('?').next() == Some(path))
}

/// Where the metrics are given.
pub(super) fn metrics(
    root: &Reader<'_>,
    listen: Option<SocketAddr>,
    tls: Option<&Tls>,
) -> Option<SocketAddr> {
    let reader = root.at("metrics");
    let metrics: SocketAddr = reader.text()?.parse().ok()?;
    if listen == Some(metrics) || tls.is_some_and(|tls| tls.listen == metrics) {
        root.sheet.report(
            Diagnostic::error(
                "config::same-address",
                "`metrics` has the gateway's address",
            )
            .label(reader.span(), "requests are served there")
            .help("give it another port"),
        );
    }
    Some(metrics)
}

impl Config {
    /// Services and resources that the environment is unhealthy without: what serves requests, and what that needs
    /// and cannot do without. Where nothing serves requests, it is every service that stays.
    #[must_use]
    pub fn critical(&self) -> BTreeSet<&str> {
        let stays = |service: &Service| service.role != Role::Job;
        let serves = |service: &Service| service.critical.unwrap_or(!service.routes.is_empty());
        let of = |chosen: &dyn Fn(&Service) -> bool| {
            let services = self.services.iter();
            let chosen = services.filter(|(_, service)| stays(service) && chosen(service));
            chosen.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
        };
        let mut open = of(&serves);
        if open.is_empty() {
            open = of(&|service| service.critical != Some(false));
        }
        let mut found = BTreeSet::new();
        while let Some(name) = open.pop() {
            if !found.insert(name) {
                continue;
            }
            let Some(service) = self.services.get(name) else {
                continue;
            };
            let needs = service.needs.iter().map(String::as_str);
            open.extend(needs.filter(|need| {
                let is_waived = self.services.get(*need).and_then(|other| other.critical);
                !service.optional.iter().any(|name| name == need) && is_waived != Some(false)
            }));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use crate::config::resolve;
    use crate::manifest::Manifest;

    #[test]
    fn what_serves_is_critical_and_what_that_cannot_do_without() {
        let critical = |text: &str| {
            let manifest = Manifest::parse("tow.toml", text).expect("a manifest");
            let config = resolve(&manifest, "local").expect("a configuration");
            let names = config.critical().into_iter().map(str::to_owned);
            names.collect::<Vec<_>>().join(" ")
        };
        let services = |api: &str, reminders: &str| {
            format!(
                r#"
                app = "focus"
                services.web = {{ run = "w", route = "/", needs = ["api"] }}
                services.api = {{ run = "a", needs = ["db", "cache", "ai"] {api} }}
                services.ai = {{ run = "i", needs = ["models"] }}
                services.reminders = {{ run = "r", role = "worker", needs = ["db", "queue"] {reminders} }}
                resources.db = {{ kind = "sqlite" }}
                resources.cache = {{ kind = "redis" }}
                resources.queue = {{ kind = "redis" }}
                resources.models = {{ kind = "storage" }}
                "#
            )
        };
        assert_eq!(critical(&services("", "")), "ai api cache db models web");
        let optional = ", optional = [\"cache\", \"ai\"]";
        assert_eq!(critical(&services(optional, "")), "api db web");
        let waived = ", critical = false";
        assert_eq!(
            critical(&services(waived, ", critical = true")),
            "db queue reminders web"
        );
        assert_eq!(
            critical("app = \"w\"\nservices.w = { run = \"w\", role = \"worker\" }"),
            "w"
        );
    }
}
