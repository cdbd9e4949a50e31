//! What a build takes in of an environment, so that what it makes is that environment's only.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::sheet::Reader;
use super::{Config, Service};
use crate::diagnostic::Diagnostic;

/// Beginnings of names whose values bundlers put into the files that they make.
const AT_BUILD: [&str; 5] = [
    "NEXT_PUBLIC_",
    "VITE_",
    "REACT_APP_",
    "EXPO_PUBLIC_",
    "GATSBY_",
];

/// Services of `there` that have to be built for it, because their builds are given something else than `here`, or
/// because they share a folder with one of those.
#[must_use]
pub fn baked(here: &Config, there: &Config) -> BTreeSet<String> {
    let differs = |name: &str, service: &Service| {
        let own = here.services.get(name).map(given);
        own.map_or(service.build.is_some(), |own| own != given(service))
    };
    let processes = there.services.iter();
    let processes = processes.filter(|(_, service)| service.container.is_none());
    let (mut found, mut rest): (Vec<_>, Vec<_>) =
        processes.partition(|(name, service)| differs(name, service));
    let mut from = 0;
    while let Some((_, service)) = found.get(from) {
        let dir = plain(&service.dir);
        let shares = |(_, other): &(&String, &Service)| overlap(&dir, &plain(&other.dir));
        let (more, others) = rest.into_iter().partition(shares);
        rest = others;
        found.extend::<Vec<_>>(more);
        from += 1;
    }
    found.into_iter().map(|(name, _)| name.clone()).collect()
}

/// What a build is given besides the tree.
fn given(service: &Service) -> impl PartialEq + use<'_> {
    (&service.build, &service.build_env, plain(&service.dir))
}

fn plain(dir: &Path) -> PathBuf {
    let parts = dir.components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Warns of what is given to a running service, and would be read by its build only.
pub(super) fn check(root: &Reader<'_>) {
    for (name, service) in root.at("services").entries() {
        if service.at("build").is_absent() {
            continue;
        }
        for (key, value) in service.at("env").entries() {
            warn(name, key, &value);
        }
        let named = service.at("variables");
        for item in named.items() {
            warn(name, item.quiet_text().unwrap_or_default(), &item);
        }
    }
}

fn warn(service: &str, key: &str, value: &Reader<'_>) {
    if !AT_BUILD.iter().any(|start| key.starts_with(start)) {
        return;
    }
    let message =
        format!("`{key}` is read when `{service}` is built, and is given to it when it runs");
    value.sheet.report(
        Diagnostic::warning("config::baked", message)
            .label(value.span(), "what was built knows nothing of it")
            .help(format!(
                "put it into `services.{service}.build_env`: where it differs between environments, each gets an artifact of its own"
            )),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve;
    use crate::manifest::Manifest;

    fn between(services: &str, production: &str) -> Vec<String> {
        let text = format!(
            "app = \"a\"\n{services}\n[environments.staging]\n[environments.production]\n{production}"
        );
        let manifest = Manifest::parse("tow.toml", &text).unwrap();
        let [here, there] = ["staging", "production"].map(|name| resolve(&manifest, name).unwrap());
        baked(&here, &there).into_iter().collect()
    }

    const THREE: &str = r#"
        [services]
        web = { dir = "web", build = "make", build_env = { A = "${A}" }, run = "./web", route = "/" }
        mail = { dir = "./web/mail", role = "worker", run = "./mail" }
        api = { dir = "webs", build = "make", build_env = { A = "1" }, run = "./api", route = "/api" }
        [variables]
        A = "1"
    "#;

    #[test]
    fn nothing_is_baked_where_builds_are_given_the_same() {
        assert!(between(THREE, "services.web.env.B = '1'").is_empty());
        assert!(between(THREE, "services.web.build_env.A = '1'").is_empty());
    }

    #[test]
    fn what_a_build_is_given_counts_and_who_shares_its_folder() {
        for differs in [
            "variables.A = '2'",
            "services.web.build_env.A = '2'",
            "services.web.build = 'make all'",
        ] {
            assert_eq!(between(THREE, differs), ["mail", "web"], "{differs}");
        }
        assert_eq!(between(THREE, "services.api.build_env.B = '1'"), ["api"]);
    }

    #[test]
    fn a_service_of_one_environment_only_is_built_for_it() {
        let extra =
            "services.extra = { dir = 'extra', build = 'make', run = './extra', route = '/x' }";
        assert_eq!(between(THREE, extra), ["extra"]);
    }
}
