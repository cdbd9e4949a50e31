//! How https comes to an environment: its own certificates, or a proxy before it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::Service;
use super::sheet::Reader;
use crate::diagnostic::Diagnostic;
use crate::manifest::LOCAL;

/// https at the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// Where it is served.
    pub listen: SocketAddr,
    /// Host names, each with a certificate of its own.
    pub hosts: Vec<String>,
    /// Who issues certificates; `None` where somebody puts them into the folder.
    pub acme: Option<Acme>,
}

/// An issuer of certificates, by ACME.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acme {
    /// URL of its directory.
    pub directory: String,
    /// PEM file of who signs for that URL, on the environment's machine; the public ones when `None`.
    pub ca: Option<PathBuf>,
    /// Mail address for its warnings.
    pub contact: Option<String>,
}

/// Let's Encrypt.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Where https is served and how it is paid for; none where somebody else does it, or nobody.
pub(super) fn tls(root: &Reader<'_>, domain: Option<&str>) -> Option<Tls> {
    let local = root.sheet.environment == LOCAL;
    let how = match domain {
        Some(_) if !local => root.at("tls").text_or("acme"),
        _ => root.at("tls").text_or("off"),
    };
    if how == "off" {
        unused(root, "listen_tls", "is for https");
        unused(root, "acme", "is for https");
        return None;
    }
    if domain.is_none() {
        root.sheet.report(
            Diagnostic::error(
                "config::no-domain",
                format!("`tls = \"{how}\"` without `domain`"),
            )
            .label(root.at("tls").span(), "a certificate is for a host name")
            .help("set `domain` of the environment"),
        );
    }
    let listen = root.at("listen_tls").text_or("0.0.0.0:443");
    let listen: SocketAddr = listen.parse().ok()?;
    let acme = match how.as_str() {
        "acme" => Some(acme(&root.at("acme"))),
        _ => {
            unused(root, "acme", "is for `tls = \"acme\"`");
            None
        }
    };
    Some(Tls {
        listen,
        hosts: Vec::new(),
        acme,
    })
}

fn unused(root: &Reader<'_>, key: &str, why: &str) {
    let reader = root.at(key);
    if !reader.is_absent() {
        root.sheet.report(
            Diagnostic::error("config::no-tls", format!("`{key}` {why}"))
                .label(reader.key.clone(), "not used here")
                .help(format!("set `domain` and `tls`, or take `{key}` out")),
        );
    }
}

fn acme(reader: &Reader<'_>) -> Acme {
    Acme {
        directory: reader.at("directory").text_or(DIRECTORY),
        ca: reader.at("ca").text().map(Into::into),
        contact: reader.at("contact").text().map(str::to_owned),
    }
}

/// The host names that need a certificate: the domain, and those that routes name.
pub(super) fn hosts<'a>(
    domain: Option<&str>,
    services: impl Iterator<Item = &'a Service>,
) -> Vec<String> {
    let named = services.flat_map(|service| &service.routes);
    let named = named.filter_map(|route| route.host.clone());
    let all: BTreeSet<String> = named.chain(domain.map(str::to_owned)).collect();
    all.into_iter().collect()
}

/// Where plain requests are answered, when nothing is said: where clients look, if they come straight here.
pub(super) fn listen(root: &Reader<'_>, tls: Option<&Tls>) -> Option<SocketAddr> {
    let listen = root.at("listen");
    let listen: Option<SocketAddr> = match (root.sheet.environment, tls) {
        (LOCAL, _) => listen.text_or("127.0.0.1:8080").parse().ok(),
        (_, Some(_)) => listen.text_or("0.0.0.0:80").parse().ok(),
        _ => listen.text()?.parse().ok(),
    };
    if let (Some(plain), Some(tls)) = (listen, tls)
        && plain == tls.listen
    {
        root.sheet.report(
            Diagnostic::error(
                "config::same-address",
                "`listen` and `listen_tls` are the same address",
            )
            .label(root.at("listen").span(), "https is served there")
            .help("give one of them another port"),
        );
    }
    listen
}
