//! Secrets that stand where everybody reads them, and values that everybody knows.

use super::resource::has_password;
use super::sheet::Reader;
use crate::diagnostic::Diagnostic;

/// Endings of names whose values are secret.
const NAMES: [&str; 14] = [
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "TOKEN",
    "APIKEY",
    "API_KEY",
    "PRIVATE_KEY",
    "SECRET_KEY",
    "ACCESS_KEY",
    "ENCRYPTION_KEY",
    "SIGNING_KEY",
    "AUTH_KEY",
    "PASSPHRASE",
    "CREDENTIALS",
];

/// Values that come with examples and images.
const KNOWN: [&str; 24] = [
    "password",
    "passw0rd",
    "postgres",
    "root",
    "admin",
    "administrator",
    "secret",
    "changeme",
    "change-me",
    "change_me",
    "default",
    "example",
    "test",
    "guest",
    "letmein",
    "welcome",
    "qwerty",
    "123456",
    "12345678",
    "123456789",
    "dev-secret-key",
    "your-super-secret-jwt-key",
    "your-super-secret-refresh-key",
    "minioadmin",
];

/// Refuses secrets in plain text where the way of a release ends.
pub(super) fn check(root: &Reader<'_>, promote: &[String]) {
    let environment = root.sheet.environment;
    let last = promote.last().map_or("production", String::as_str);
    if environment != last && environment != "production" {
        return;
    }
    let tried = root.at("traffic").at("sign_in").at("body");
    let tried = tried.quiet_text().unwrap_or_default();
    for (name, variable) in root.at("variables").entries() {
        plain(&variable.at("default"), &variable, name, tried);
    }
    for (_, service) in root.at("services").entries() {
        for table in ["env", "build_env"] {
            for (name, value) in service.at(table).entries() {
                plain(&value, &value, name, tried);
            }
        }
    }
}

/// What is typed is not shown, and neither is its line: it may be a secret. What the load of a rehearsal signs in with
/// (`tried`) is in the manifest for that, and no more than warned of.
fn plain(value: &Reader<'_>, named: &Reader<'_>, name: &str, tried: &str) {
    // What a reference stands for is looked at where it is typed.
    let Some(text) = value.quiet_text().filter(|text| !text.contains("${")) else {
        return;
    };
    let why = match () {
        () if is_secret(name) && weak(text) == Some(KNOWN_DEFAULT) => {
            "is a secret in plain text, and one that everybody knows"
        }
        () if is_secret(name) && !text.is_empty() => "is a secret in plain text",
        () if text.contains("://") && has_password(text) => "holds a password in plain text",
        () => return,
    };
    let environment = named.sheet.environment;
    let line = named.sheet.manifest.line(&value.span());
    let file = named.sheet.manifest.name();
    let text_of = format!("`{}` {why}", named.path);
    let is_tried = weak(text).is_none() && tried.contains(text);
    named.sheet.report(
        match is_tried {
            true => Diagnostic::warning("config::secret-in-plain", text_of)
                .note("the load of a rehearsal signs in with it, as everybody who reads this can"),
            false => Diagnostic::error("config::secret-in-plain", text_of),
        }
            .note(format!("it stands at {file}:{line}, and {environment} is where it counts"))
            .help(format!(
                "take it out, run `tow secrets set {name} -e {environment}`, and write `secrets = [\"{name}\"]`"
            )),
    );
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    NAMES.iter().any(|end| {
        let rest = name.strip_suffix(end);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
    })
}

const KNOWN_DEFAULT: &str = "is a known default";

/// What is wrong with a value for production: everybody knows it, or it is soon guessed.
#[must_use]
pub fn weak(value: &str) -> Option<&'static str> {
    let small = value.to_ascii_lowercase();
    let is_known = KNOWN.contains(&small.as_str());
    let is_sample = small.starts_with("your-") || small.starts_with("<");
    match () {
        () if is_known || is_sample => Some(KNOWN_DEFAULT),
        () if value.len() < 8 => Some("has fewer than 8 characters"),
        () => None,
    }
}
