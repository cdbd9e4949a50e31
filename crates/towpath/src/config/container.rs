//! A service that runs in a container, and what does not go together with that.

use std::path::PathBuf;

use serde::Serialize;

use super::Role;
use super::names::{Named, Names};
use super::sheet::Reader;
use crate::diagnostic::{Diagnostic, Span};

/// Names of variables that engines' clients get of the agent's own.
pub const OF_THE_CLIENT: [&str; 16] = [
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_API_VERSION",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "DBUS_SESSION_BUS_ADDRESS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
];

/// A container that runs a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Where its image comes from.
    pub from: Image,
    /// The port that it listens on, in a network of its own; `None` gives it the machine's network,
    /// and `$PORT` as any service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Where the image of a container comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Image {
    /// It is known by this name.
    Image(String),
    /// It is built from this file below the service's folder.
    Dockerfile(PathBuf),
}

/// The container of a service, if it has one.
pub(super) fn container(
    reader: &Reader<'_>,
    names: &Names<'_>,
    role: Role,
    needs: &[(String, Span)],
) -> Option<Container> {
    let (image, dockerfile) = (reader.at("image"), reader.at("dockerfile"));
    let from = match (image.text(), dockerfile.text()) {
        (Some(_), Some(_)) => {
            conflict(
                &dockerfile,
                "an image is named or built, not both",
                &image,
                "take one of them out",
            );
            return None;
        }
        (Some(name), None) => Image::Image(name.to_owned()),
        (None, Some(path)) => Image::Dockerfile(path.into()),
        (None, None) => {
            without(&reader.at("port"));
            return None;
        }
    };
    let marker = if image.is_absent() { dockerfile } else { image };
    senseless(reader, &from, &marker);
    probes(reader, &marker);
    of_the_client(reader);
    let port = port(reader, names, role, needs);
    Some(Container { from, port })
}

/// Values reach a container by way of the engine's client.
fn of_the_client(reader: &Reader<'_>) {
    for secret in reader.at("secrets").items() {
        let name = secret.text().unwrap_or_default();
        // The second are read by what loads the program that keeps the container.
        if OF_THE_CLIENT.contains(&name) || name.starts_with("LD_") {
            let message = format!("no service in a container can have a secret `{name}`");
            reader.sheet.report(
                Diagnostic::error("config::secret-name", message)
                    .label(
                        secret.span(),
                        "the engine's client would take it for its own",
                    )
                    .help("give it another name, and have the service read that"),
            );
        }
    }
}

fn conflict(at: &Reader<'_>, label: &str, other: &Reader<'_>, help: &str) {
    let message = format!("`{}` does not go with `{}`", at.path, other.path);
    at.sheet.report(
        Diagnostic::error("config::conflict", message)
            .label(at.key.clone(), label.to_owned())
            .label(other.key.clone(), "stands beside it")
            .help(help.to_owned()),
    );
}

fn without(port: &Reader<'_>) {
    if port.is_absent() {
        return;
    }
    let message = format!("`{}` is for a container, and this is none", port.path);
    port.sheet.report(
        Diagnostic::error("config::conflict", message)
            .label(
                port.key.clone(),
                "neither `image` nor `dockerfile` is given",
            )
            .help("take it out, and let the command listen on `$PORT`"),
    );
}

/// Keys that say how something is built or carried that is not: it would be ignored.
fn senseless(reader: &Reader<'_>, image: &Image, marker: &Reader<'_>) {
    let is_built = matches!(image, Image::Dockerfile(_));
    let is_prepared = !reader.at("build").is_absent();
    let keys = [
        (
            "build",
            !is_built,
            "an image that is named was built elsewhere",
        ),
        (
            "build_env",
            !is_prepared,
            "it is for `build`, and there is none",
        ),
        (
            "cache",
            !is_prepared,
            "it is for `build`, and there is none",
        ),
        ("artifact", true, "of a container only its image is carried"),
    ];
    for (key, wrong, label) in keys {
        let key = reader.at(key);
        if wrong && !key.is_absent() {
            conflict(&key, label, marker, "take it out");
        }
    }
}

/// A command beside the container would not see what is in it.
fn probes(reader: &Reader<'_>, marker: &Reader<'_>) {
    for probe in ["ready", "alive"] {
        let exec = reader.at(probe).at("exec");
        if !exec.is_absent() {
            let label = "it would run beside the container, not in it";
            conflict(&exec, label, marker, "ask by `http`, `tcp` or `log`");
        }
    }
}

fn port(
    reader: &Reader<'_>,
    names: &Names<'_>,
    role: Role,
    needs: &[(String, Span)],
) -> Option<u16> {
    let port = reader.at("port");
    if port.is_absent() {
        return None;
    }
    let number = u16::try_from(port.integer(0)).ok()?;
    if role == Role::Worker {
        let message = format!("`{}` is a worker and has a port", reader.path);
        reader.sheet.report(
            Diagnostic::error("config::conflict", message)
                .label(port.key.clone(), "a worker serves no requests")
                .help("take the port out, or make its role `web`"),
        );
    }
    for (name, span) in needs {
        if names.named.get(name).is_some_and(is_on_loopback) {
            unreachable(&port, name, span.clone());
        }
    }
    Some(number)
}

/// Reached by an address; a database that is a file is reached by its path.
fn is_on_loopback(named: &Named) -> bool {
    match named {
        Named::Web => true,
        Named::Worker => false,
        Named::Resource(kind) => kind != "sqlite",
    }
}

fn unreachable(port: &Reader<'_>, name: &str, span: Span) {
    let message = format!("`{}` keeps it from reaching `{name}`", port.path);
    port.sheet.report(
        Diagnostic::error("config::unreachable", message)
            .label(span, format!("`{name}` listens on this machine's loopback"))
            .label(
                port.key.clone(),
                "with it the container has a network of its own",
            )
            .help("take `port` out: it then has the machine's network, and listens on `$PORT`"),
    );
}
