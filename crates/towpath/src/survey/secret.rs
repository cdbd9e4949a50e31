//! Which values are secrets, and which of them everybody knows.
//!
//! Both are judged from the name and from the value; in doubt a value counts as a secret, because a name too many under
//! `secrets` costs a question, and a secret in a manifest costs the secret.

use super::finding::{Findings, Place};

/// Parts of the names of secrets.
const NAMES: [&str; 16] = [
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "TOKEN",
    "API_KEY",
    "APIKEY",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "CREDENTIAL",
    "ENCRYPTION_KEY",
    "SIGNING_KEY",
    "MASTER_KEY",
    "SALT",
    "PEPPER",
    "WEBHOOK_URL",
];

/// Ends of the names of secrets.
const ENDS: [&str; 7] = ["_KEY", "_PASS", "_PWD", "_DSN", "_PAT", "_AUTH", "_CERT"];

/// What looks like one of those and is none.
const OPEN: [&str; 19] = [
    "PUBLIC_KEY",
    "PUBLISHABLE",
    "TOKEN_EXPIR",
    "TOKEN_TTL",
    "TOKEN_LIFETIME",
    "SALT_ROUNDS",
    "SALTROUNDS",
    "PASSWORD_MIN",
    "PASSWORD_LENGTH",
    "SECRET_NAME",
    "TOKEN_URL",
    "_FILE",
    "ACCESS_KEY_ID_HEADER",
    "TOKEN_LIMIT",
    "MAX_TOKENS",
    "TOKENS",
    "ALLOW_EMPTY_PASSWORD",
    "TOKEN_ENDPOINT",
    "TOKEN_EXP",
];

/// Beginnings of tokens of well-known issuers.
const TOKENS: [&str; 28] = [
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "whsec_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "AIza",
    "SG.",
    "sk-",
    "eyJhbGci",
    "rk_test_",
    "ghu_",
    "ghr_",
    "xoxa-",
    "xoxr-",
    "xoxs-",
    "xapp-",
    "glrt-",
    "ASIA",
    "dop_v1_",
    "shpat_",
    "ya29.",
];

/// The same, where words that are none begin so too: `npm_config_registry`.
const MIXED_TOKENS: [&str; 4] = ["npm_", "hf_", "gsk_", "pypi-"];

/// Addresses behind which nothing but what they end in keeps others from writing.
const HOOKS: [&str; 7] = [
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "hooks.slack.com/triggers/",
    "hooks.zapier.com/hooks/",
    ".webhook.office.com/",
];

/// Keys of connection strings whose values are secrets.
const PAIRS: [&str; 6] = [
    "password",
    "pwd",
    "passwd",
    "accountkey",
    "sharedaccesskey",
    "sharedaccesssignature",
];

/// Passwords that everybody knows.
const KNOWN: [&str; 45] = [
    "password",
    "passwd",
    "pass",
    "postgres",
    "postgresql",
    "root",
    "admin",
    "administrator",
    "secret",
    "changeme",
    "changeit",
    "default",
    "test",
    "guest",
    "example",
    "mysecretpassword",
    "toor",
    "qwerty",
    "letmein",
    "minioadmin",
    "rootpassword",
    "rootpass",
    "mysql",
    "redis",
    "user",
    "demo",
    "1234",
    "12345",
    "123456",
    "1234567",
    "12345678",
    "123456789",
    "supersecret",
    "secretkey",
    "dev",
    "local",
    "docker",
    "mongo",
    "rabbitmq",
    "myuser",
    "mypassword",
    "user_password",
    "dbpassword",
    "jwtsecret",
    "secret123",
];

/// Beginnings and parts of values that were meant to be replaced.
const PLACEHOLDERS: [&str; 20] = [
    "change_me",
    "change-me",
    "changeme",
    "changethis",
    "change this",
    "change_this",
    "change-this",
    "replace_me",
    "replace-me",
    "replaceme",
    "your-",
    "your_",
    "super-secret",
    "super_secret",
    "dev-secret",
    "dev_secret",
    "insecure",
    "not-so-secret",
    "django-insecure",
    "notsecure",
];

/// Whether a variable of this name holds a secret.
pub fn is_name(name: &str) -> bool {
    let name = name.to_uppercase();
    if OPEN.iter().any(|part| name.contains(part)) || is_for_browsers(&name) {
        return false;
    }
    NAMES.iter().any(|part| name.contains(part))
        || ENDS.iter().any(|end| name.ends_with(end))
        || matches!(name.as_str(), "PGPASS" | "DSN" | "KEY" | "PASS")
}

/// Whether a bundler puts the value into what browsers load: it is no secret then, or is none any more.
pub fn is_for_browsers(name: &str) -> bool {
    const PUBLIC: [&str; 6] = [
        "NEXT_PUBLIC_",
        "VITE_",
        "REACT_APP_",
        "NUXT_PUBLIC_",
        "EXPO_PUBLIC_",
        "PUBLIC_",
    ];
    PUBLIC.iter().any(|start| name.starts_with(start))
}

/// Whether a value gives itself away: a password in a URL or beside its name, a key, a token, or many random letters.
pub fn is_value(value: &str) -> bool {
    let value = value.trim();
    has_password(value)
        || has_pair(value)
        || has_header(value)
        || value.contains("-----BEGIN")
        || HOOKS.iter().any(|hook| is_hook(value, hook))
        || value
            .split(|c: char| c.is_whitespace() || "\"'=,;".contains(c))
            .any(|word| is_token(word) || is_random(word) || word.split('/').any(is_bot))
}

/// Whether something holds a private key, which is a secret whatever it is called.
fn is_private_key(value: &str) -> bool {
    let mut starts = value.match_indices("-----BEGIN");
    starts.any(|(at, _)| {
        let line = value[at..].lines().next().unwrap_or_default();
        line.contains("PRIVATE KEY")
    })
}

fn is_hook(value: &str, hook: &str) -> bool {
    let rest = value.split_once(hook).map_or("", |(_, rest)| rest);
    !rest.is_empty() && !is_reference(rest)
}

/// The token of a bot of Telegram's: its number, a colon, and at least thirty letters.
fn is_bot(word: &str) -> bool {
    let word = word.strip_prefix("bot").unwrap_or(word);
    word.split_once(':').is_some_and(|(number, key)| {
        let is_number = number.len() >= 6 && number.bytes().all(|b| b.is_ascii_digit());
        let is_letter = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        is_number && key.len() >= 30 && key.chars().all(is_letter)
    })
}

/// `Server=h;Password=x`, `host=h password=x`, `?user=a&password=x`.
fn has_pair(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_edge = |c: char| c.is_whitespace() || ";&?\"'".contains(c);
    PAIRS.iter().any(|key| {
        lower.match_indices(key).any(|(at, _)| {
            let is_whole = at == 0 || lower[..at].ends_with(is_edge);
            let value = text[at + key.len()..].trim_start().strip_prefix('=');
            let value = value.unwrap_or_default().trim_start();
            let value = value
                .split([';', '&', ' ', '\n'])
                .next()
                .unwrap_or_default();
            is_whole && !value.is_empty() && !is_reference(value.trim_matches(['"', '\'']))
        })
    })
}

/// `Basic dTpw`, `Authorization: Bearer abc`; but not in a sentence about such a thing.
fn has_header(text: &str) -> bool {
    let split = text.split(|c: char| c.is_whitespace() || "\"'".contains(c));
    let words: Vec<_> = split.filter(|word| !word.is_empty()).collect();
    let lone = matches!(words.as_slice(), [_, _] | ["Authorization:", _, _]);
    words.windows(2).any(|pair| {
        let is_scheme = ["basic", "bearer"].contains(&pair[0].to_ascii_lowercase().as_str());
        let is_odd = |c: char| c.is_ascii_digit() || c.is_ascii_uppercase() || c == '=';
        let is_odd = pair[1].chars().skip(1).any(is_odd);
        is_scheme && pair[1].len() >= 6 && !is_reference(pair[1]) && (lone || is_odd)
    })
}

/// Whether a URL in a text holds a password.
pub fn has_password(text: &str) -> bool {
    let after = text.match_indices("://").map(|(at, _)| &text[at + 3..]);
    after.into_iter().any(|rest| {
        let end = rest.find(|c: char| c.is_whitespace() || "\"'<>".contains(c));
        let place = &rest[..end.unwrap_or(rest.len())];
        let user = place.rsplit_once('@').map(|(user, _)| user);
        let password = user.and_then(|user| user.split_once(':'));
        password.is_some_and(|(_, password)| !password.is_empty() && !is_reference(password))
    })
}

/// Whether it is filled in from somewhere else.
fn is_reference(value: &str) -> bool {
    let whole = value.starts_with("${") && value.find('}') == Some(value.len() - 1);
    let bare = value.strip_prefix('$').is_some_and(|name| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    let erb = value.starts_with("<%=") && value.ends_with("%>");
    (whole && !value.contains(":-")) || bare || erb
}

fn is_token(word: &str) -> bool {
    let is_mixed = word.contains(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase());
    let starts = |known: &[&str]| known.iter().any(|start| word.starts_with(start));
    word.len() >= 16 && (starts(&TOKENS) || (is_mixed && starts(&MIXED_TOKENS)))
}

/// Letters and digits without sense: hexadecimal of 32 or more, or base64 of 40 and more with all kinds of letters.
fn is_random(word: &str) -> bool {
    let hex = word.len() >= 32 && word.chars().all(|c| c.is_ascii_hexdigit());
    let has = |kind: fn(&char) -> bool| word.chars().filter(kind).count() >= 4;
    let base64 = word.len() >= 40
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+/=_-".contains(c))
        && has(char::is_ascii_digit)
        && has(char::is_ascii_uppercase)
        && has(char::is_ascii_lowercase);
    let differs = word
        .chars()
        .collect::<std::collections::BTreeSet<_>>()
        .len()
        >= 10;
    (hex || base64) && differs && !word.contains("//")
}

/// Whether a value belongs under `secrets`.
pub fn is_secret(name: &str, value: &str) -> bool {
    is_name(name) || is_private_key(value) || (!is_for_browsers(name) && is_value(value))
}

/// Whether a command shows a secret: in an argument, or in an address.
pub fn in_command(command: &str) -> bool {
    let mut words = command.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let (flag, value) = word.split_once('=').unwrap_or((word, ""));
        let names_one = is_name(&flag.trim_start_matches('-').replace('-', "_"))
            || matches!(flag, "--requirepass" | "--pass" | "--masterauth");
        let next = words.peek().copied().unwrap_or_default();
        let value = match value.is_empty() && flag.starts_with('-') {
            true => next,
            false => value,
        };
        let is_plain =
            !value.is_empty() && !value.starts_with(['-', '$']) && !value.starts_with("\"$");
        if names_one && is_plain {
            return true;
        }
    }
    is_value(command)
}

/// Whether everybody knows a password, or it was meant to be replaced.
pub fn is_known(value: &str) -> bool {
    let value = value.trim().to_lowercase();
    KNOWN.contains(&value.as_str())
        || PLACEHOLDERS.iter().any(|part| value.contains(part))
        || (value.starts_with('<') && value.ends_with('>'))
        || (value.starts_with("password") && value.len() <= 14)
        || (value.starts_with("admin") && value.len() <= 9)
        || (!value.is_empty() && value.chars().all(|c| "x*.".contains(c)))
}

/// Whether a value only stands for one that somebody is to write there.
pub fn is_to_be_replaced(value: &str) -> bool {
    let value = value.trim().to_lowercase();
    let bracketed = [('<', '>'), ('{', '}'), ('[', ']')];
    let is_in = |(open, close): &(char, char)| value.starts_with(*open) && value.ends_with(*close);
    PLACEHOLDERS.iter().any(|part| value.starts_with(part))
        || bracketed.iter().any(is_in)
        || value.contains("://your")
        || value.starts_with("/path/to")
}

/// Whether it is a password that is in use all over the world, and not only a place for one.
pub fn is_common(value: &str) -> bool {
    KNOWN.contains(&value.trim().to_lowercase().as_str())
}

/// Whether the password of a URL is one that everybody knows, or its user's name.
fn is_known_in_url(value: &str) -> bool {
    let rest = value.split_once("://").map_or("", |(_, rest)| rest);
    let user = rest.rsplit_once('@').map(|(user, _)| user);
    let pair = user.and_then(|user| user.split_once(':'));
    pair.is_some_and(|(user, password)| is_known(password) || user == password)
}

/// Whether something is only named here, or filled in from elsewhere.
fn is_empty(value: &str) -> bool {
    let value = value.trim();
    value.is_empty() || is_reference(value)
}

/// Says what is wrong with a variable in a file that is committed.
pub fn judge(findings: &mut Findings, place: &Place, name: &str, value: &str) {
    let default = value.split_once(":-").filter(|_| value.starts_with("${"));
    let value = default.map_or(value, |(_, rest)| rest.trim_end_matches('}'));
    if is_empty(value) {
        return;
    }
    if is_for_browsers(name) && (has_word(name, "SECRET") || has_word(name, "PASSWORD")) {
        findings.fault(
            "secret-for-browsers",
            place,
            format!(
                "`{name}` is built into what browsers load: whoever opens the page can read it"
            ),
            "read it in a service, and take the prefix off its name",
        );
        return;
    }
    if !is_secret(name, value) {
        return;
    }
    let known = match is_name(name) {
        true => is_known(value) || is_known_in_url(value),
        false => is_known_in_url(value),
    };
    match known {
        true => known_default(findings, place, name),
        false => findings.fault(
            "plain-secret",
            place,
            format!("`{name}` stands here in plain text, for whoever can read the repository"),
            "take it out and make a new one: git keeps the old one for good",
        ),
    }
}

/// Says that everybody knows a password.
pub fn known_default(findings: &mut Findings, place: &Place, name: &str) {
    findings.fault(
        "known-default",
        place,
        format!("`{name}` holds a password that everybody knows"),
        "make a new one before anybody else can reach it: `openssl rand -base64 32`",
    );
}

fn has_word(name: &str, word: &str) -> bool {
    name.split('_').any(|part| part == word)
}

/// Says of names and passwords that stand together whether one is the other, or a known pair.
pub fn judge_pairs(findings: &mut Findings, variables: &[(&str, &str, Place)]) {
    for (name, value, place) in variables {
        let Some(stem) = ["PASSWORD", "PASS", "PASSWD"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
        else {
            continue;
        };
        let users = ["USER", "USERNAME", "EMAIL", "LOGIN"].map(|end| format!("{stem}{end}"));
        let user = variables
            .iter()
            .find(|(name, _, _)| users.iter().any(|user| user == name));
        let same = user.is_some_and(|(_, user, _)| user == value && !is_empty(user));
        if same && !is_known(value) {
            // It is more than plain text.
            findings
                .wrong
                .retain(|one| one.code != "plain-secret" || one.place.as_ref() != Some(place));
            known_default(findings, place, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets() {
        for name in [
            "JWT_SECRET",
            "DB_PASSWORD",
            "STRIPE_API_KEY",
            "SENTRY_DSN",
            "SECRET_KEY_BASE",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "PORT",
            "NEXT_PUBLIC_KEY",
            "VAPID_PUBLIC_KEY",
            "MAX_TOKENS",
            "POSTGRES_PASSWORD_FILE",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn values_that_give_themselves_away() {
        for value in [
            "postgres://a:b@h/db",
            "redis://:hunter2@cache:6379",
            "-----BEGIN RSA PRIVATE KEY-----",
            "0123456789abcdef0123456789abcdef",
            "ghp_0123456789abcdefghij",
            "sk-abcdefghijklmnopqrstuvwxyz0123456789",
            "sk-proj-abcdefghijklmnopqrstuvwxyz",
            "npm_abcdefghijklmnop0123",
            "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
            "https://api.telegram.org/bot123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/send",
            "https://discord.com/api/webhooks/1234/abc",
            "https://hooks.slack.com/services/T0/B0/x",
            "Server=db;User Id=a;Password=hunter2;",
            "Server=db; pwd = hunter2",
            "host=db user=a password=hunter2",
            "jdbc:postgresql://db/x?user=a&password=hunter2",
            "Basic dXNlcjpwYXNz",
            "Bearer abcdefgh",
            "Authorization: Bearer abcdefgh",
            "curl -H 'Authorization: Bearer abc123' h",
        ] {
            assert!(is_value(value), "{value}");
        }
        for value in [
            "postgres://a@h/db",
            "http://api:5000",
            "production",
            "postgres://a:${PASSWORD}@h/db",
            "00000000000000000000000000000000",
            "/var/lib/some/very/long/path/that/is/no/secret/at/all",
            "Server=db;Password=${DB_PASSWORD};",
            "host=db password=",
            "Bearer ${TOKEN}",
            "what a basic authentication is",
            "bearer",
            "https://discord.com/api/webhooks/${HOOK}",
            "12:30",
            "sk-learn",
            "npm_config_registry=https://npm.example npm ci",
        ] {
            assert!(!is_value(value), "{value}");
        }
    }

    #[test]
    fn a_private_key_is_a_secret_whatever_its_name() {
        let key = "-----BEGIN EC PRIVATE KEY-----\nabc";
        for name in ["PUBLIC_KEY", "NEXT_PUBLIC_X", "VITE_X", "PLAIN"] {
            assert!(is_secret(name, key), "{name}");
        }
        assert!(!is_secret("NEXT_PUBLIC_X", "-----BEGIN PUBLIC KEY-----"));
    }

    #[test]
    fn secrets_in_commands() {
        for command in [
            "redis-server --requirepass hunter2",
            "API_TOKEN=abc node x",
            "x --db-password=abc",
            "migrate -database postgres://a:b@h/db up",
        ] {
            assert!(in_command(command), "{command}");
        }
        for command in [
            "node x --port 3000",
            "redis-server --requirepass $REDIS_PASSWORD",
            "x --token",
        ] {
            assert!(!in_command(command), "{command}");
        }
    }

    #[test]
    fn passwords_that_everybody_knows() {
        for value in [
            "admin",
            "changeme",
            "your-super-secret-key",
            "Password1@#",
            "<SECURE>",
        ] {
            assert!(is_known(value), "{value}");
        }
        assert!(!is_known("correct horse battery"));
        assert!(is_known_in_url("postgres://flow:flow@db/x"));
    }
}
