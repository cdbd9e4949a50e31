//! The forms of strings in a manifest: durations, sizes, names, paths. Each says what is wrong with a string.

use std::net::SocketAddr;
use std::time::Duration;

use super::edge;
use super::image;
use super::schedule::Schedule;

/// Signals that may end an instance, with their numbers on Linux.
pub const SIGNALS: &[(&str, i32)] = &[
    ("TERM", 15),
    ("INT", 2),
    ("QUIT", 3),
    ("HUP", 1),
    ("USR1", 10),
    ("USR2", 12),
    ("WINCH", 28),
    ("KILL", 9),
];

/// The form of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Any text.
    Any,
    /// Text that is not blank.
    Filled,
    /// A shell command.
    Command,
    /// Text in which `${name.attribute}` and `${VARIABLE}` are replaced.
    Template,
    /// Text without references.
    Plain,
    /// Name of an app, a service, a resource or an environment.
    Name,
    /// Name of an environment variable.
    Variable,
    /// A path below the manifest's folder.
    Path,
    /// The prefix of a route.
    Route,
    /// A request's path, with or without a query.
    Target,
    /// A JSON pointer.
    Pointer,
    /// A host name.
    Host,
    /// An address and a port.
    Listen,
    /// A machine, as ssh takes it.
    Server,
    /// A network, or a lone address.
    Network,
    /// An https URL.
    Secure,
    /// A path that starts at the root.
    Absolute,
    /// A length of time.
    Duration,
    /// A number of bytes.
    Size,
    /// A git ref.
    Ref,
    /// When a job is due.
    Schedule,
    /// A container image.
    Image,
    /// The name of a file.
    File,
    /// A regular expression.
    Pattern,
    /// Requests in a time.
    Rate,
    /// Where a page is from.
    Origin,
    /// The name of a header or of a method.
    Token,
    /// What stands behind the name of a header.
    Header,
}

impl Form {
    /// What to call it in a message.
    pub fn describe(self) -> &'static str {
        match self {
            Form::Any | Form::Filled | Form::Template | Form::Plain => "a string",
            Form::Command => "a shell command",
            Form::Name => "a name",
            Form::Variable => "the name of a variable",
            Form::Path => "a path",
            Form::Route => "a path such as \"/api\"",
            Form::Target => "a path such as \"/health\"",
            Form::Pointer => "a JSON pointer such as \"/items/0/id\"",
            Form::Host => "a host name",
            Form::Listen => "an address such as \"127.0.0.1:8080\"",
            Form::Server => "a machine such as \"deploy@203.0.113.7\"",
            Form::Network => "a network such as \"10.0.0.0/8\"",
            Form::Secure => "an https URL",
            Form::Absolute => "an absolute path",
            Form::Duration => "a duration such as \"30s\"",
            Form::Size => "a size such as \"8MB\"",
            Form::Ref => "a git ref",
            Form::Schedule => "a schedule such as \"every 15m\" or \"0 3 * * *\"",
            Form::Pattern => "a regular expression",
            Form::Rate => "a rate such as \"1000 in 15m\"",
            Form::Origin => "an origin such as \"https://app.example.com\"",
            Form::Token => "a name such as \"X-Total\"",
            Form::Header => "the value of a header",
            Form::Image => "an image such as \"registry.example.com/notes:1\"",
            Form::File => "a file name such as \"database.sqlite\"",
        }
    }

    /// What is wrong with a string of this form, as the end of "`key` ...".
    pub fn fault(self, text: &str) -> Option<String> {
        if text.contains('\0') {
            return Some("holds a NUL character".to_owned());
        }
        let fault = match self {
            Form::Schedule => return Schedule::parse(text).err(),
            Form::Any | Form::Template => return None,
            Form::Filled => text.trim().is_empty().then_some("is blank"),
            Form::Command => command_fault(text),
            Form::Plain => text.contains("${").then_some("may not hold a reference"),
            Form::Name => (!is_name(text)).then_some("is not a name"),
            Form::Variable => (!is_variable(text)).then_some("is not the name of a variable"),
            Form::Path => path_fault(text),
            Form::Route => route_fault(text),
            Form::Target => target_fault(text),
            Form::Pointer => (!is_pointer(text)).then_some("is not a JSON pointer"),
            Form::Host => (!is_host(text)).then_some("is not a host name"),
            Form::Listen => (!is_listen(text)).then_some("is not an address with a port"),
            Form::Server => server(text)
                .is_none()
                .then_some("is not a machine that ssh can reach"),
            Form::Network => (!is_network(text)).then_some("is not a network"),
            Form::Secure => (!is_secure(text)).then_some("is not an https URL"),
            Form::Absolute => (!text.starts_with('/')).then_some("does not start with `/`"),
            Form::Duration => duration(text).is_none().then_some("is not a duration"),
            Form::Size => size(text).is_none().then_some("is not a size"),
            Form::Ref => ref_fault(text),
            Form::Image => (!image::is_image(text)).then_some("is not a container image"),
            Form::File => (!is_file(text)).then_some("is not the name of a file"),
            Form::Pattern => pattern(text)
                .is_none()
                .then_some("is not a regular expression"),
            Form::Rate => edge::rate(text).is_none().then_some("is not a rate"),
            Form::Origin => (!edge::is_origin(text)).then_some("is not an origin"),
            Form::Token => {
                (!edge::is_token(text)).then_some("is not the name of a header or method")
            }
            Form::Header => (!edge::is_header(text)).then_some("is not the value of a header"),
        };
        fault.map(str::to_owned)
    }

    /// A regular expression that every string of this form matches, for the JSON Schema.
    pub fn pattern(self) -> Option<&'static str> {
        Some(match self {
            Form::Name => "^[a-z][a-z0-9-]{0,30}$",
            Form::Variable => "^[A-Za-z_][A-Za-z0-9_]*$",
            Form::Path => "^[^/~]",
            Form::Route | Form::Target => "^/",
            Form::Pointer => "^(/|$)",
            Form::Duration => "^([0-9]+ *(ms|s|m|h|d)|0+)$",
            Form::Rate => "^[0-9]+ in [0-9]+ *(ms|s|m|h|d)$",
            Form::Size => "^[0-9]+ *(B|KB|KiB|MB|MiB|GB|GiB)$",
            Form::File => "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$",
            _ => return None,
        })
    }

    /// The rule that a string of this form keeps, for a note.
    pub fn rule(self) -> Option<&'static str> {
        Some(match self {
            Form::Command => "references go into `env`; a command uses the variables: `$NAME`",
            Form::Name => "a name is 1 to 31 of `a-z`, `0-9` and `-`, and starts with a letter",
            Form::Variable => {
                "its name is letters, digits and `_`, and does not start with a digit"
            }
            Form::Path => "paths are relative to the folder of the manifest and stay below it",
            Form::Route => {
                "a route starts with `/`, has no empty, `.` or `..` segment, and no query"
            }
            Form::Target => "a request path starts with `/` and holds no blanks",
            Form::Pointer => "a JSON pointer is empty, or starts with `/`: `/items/0/id`",
            Form::Duration => {
                "a duration is a whole number and a unit, at most a year: `200ms`, `30s`, `10m`, `2h`, `7d`"
            }
            Form::Size => {
                "a size is a whole number and a unit: `512B`, `64KB`, `8MB`, `1GB`; a KB is 1,000 bytes, a KiB 1,024"
            }
            Form::Listen => "an address is numbers, then a port: `127.0.0.1:8080`, `[::1]:8080`",
            Form::Server => {
                "a machine is `host`, `user@host` or `user@host:port`; an IPv6 address stands in brackets"
            }
            Form::Network => {
                "a network is the first address and a length: `10.0.0.0/8`, `fd00::/8`; or one address"
            }
            Form::Schedule => {
                "a schedule is `every 15m`, or cron's minute, hour, day, month and weekday; in UTC, or in a zone named last: `0 3 * * * Europe/Berlin`"
            }
            Form::Plain => "a variable is plain text; references go into `env`",
            Form::File => {
                "a file name is 1 to 100 letters, digits, `_`, `.` and `-`, and starts with none of the last two"
            }
            Form::Rate => "a rate is a whole number, `in` and a duration: `1000 in 15m`",
            Form::Origin => {
                "an origin is as browsers send it: `http` or `https`, a host in lower case, a port where it is not the usual one, and no path; `*` alone is all of them"
            }
            Form::Image => {
                "an image is `host/path:tag` or `host/path@sha256:...`; its path is in lower case"
            }
            _ => return None,
        })
    }
}

/// A length of time as typed: a whole number with `ms`, `s`, `m`, `h` or `d`; a year at most.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ if number == 0 && unit.is_empty() => 1,
        _ => return None,
    };
    let total = number.checked_mul(millis)?;
    (total <= 366 * 86_400_000).then(|| Duration::from_millis(total))
}

/// A number of bytes as typed: a whole number with `B`, `KB`, `KiB`, `MB`, `MiB`, `GB` or `GiB`.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let bytes = match unit {
        "B" => 1,
        "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}

/// A regular expression that has to match all of a text.
pub fn pattern(text: &str) -> Option<regex_lite::Regex> {
    // Alone first: what closes a group that is not its own must not become right by the brackets.
    regex_lite::Regex::new(text).ok()?;
    regex_lite::Regex::new(&format!("^(?:{text})$")).ok()
}

/// Whether it is a URL: a scheme, `://`, and a host or a path without blanks.
pub fn is_url(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    text.split_once("://").is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(plain)
            && !rest.is_empty()
            && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    Some((number, text[end..].trim_start_matches(' ')))
}

/// User, host and port of a machine as typed: `user@host:port`, of which only the host must be
/// there. What ssh could take for an option is none of them.
pub fn server(text: &str) -> Option<(Option<&str>, &str, Option<u16>)> {
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => {
            let end = rest.find(':').unwrap_or(rest.len());
            let (host, port) = rest.split_at(end);
            is_word(host).then_some((host, port))?
        }
    };
    let port = match port.strip_prefix(':') {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        None if port.is_empty() => None,
        None => return None,
    };
    user.is_none_or(is_word).then_some((user, host, port))
}

/// A user or a host, or what ssh's configuration calls one.
fn is_word(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && !text.starts_with('-')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// Whether it can name an app, a service, a resource or an environment.
pub fn is_name(text: &str) -> bool {
    text.len() <= 31
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Whether it can name a file everywhere, and no hidden one.
fn is_file(text: &str) -> bool {
    text.len() <= 100
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// Whether it can name an environment variable.
pub fn is_variable(text: &str) -> bool {
    text.len() <= 255
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `${api.url}` would reach the shell, which knows no such variable.
fn command_fault(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        return Some("is blank");
    }
    let is_reference = |inside: &str| {
        let inside = inside.split('}').next().unwrap_or_default();
        let parts = inside.split_once('.');
        parts.is_some_and(|(name, attribute)| is_name(name) && is_name(attribute))
    };
    text.split("${")
        .skip(1)
        .any(is_reference)
        .then_some("holds a reference, which the shell does not know")
}

fn path_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("is empty");
    }
    if text.starts_with('/') || text.starts_with('~') {
        return Some("is not below the manifest's folder");
    }
    if text.split('/').any(|segment| segment == "..") {
        return Some("leaves the manifest's folder");
    }
    None
}

fn route_fault(text: &str) -> Option<&'static str> {
    if let Some(fault) = target_fault(text) {
        return Some(fault);
    }
    if text.contains(['?', '#', '*', '{', '}', '%', '\\']) {
        return Some("holds a character that no prefix can");
    }
    if text == "/" {
        return None;
    }
    if text.ends_with('/') {
        return Some("ends with `/`");
    }
    text[1..]
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
        .then_some("has an empty, `.` or `..` segment")
}

fn target_fault(text: &str) -> Option<&'static str> {
    if !text.starts_with('/') {
        return Some("does not start with `/`");
    }
    text.contains(|c: char| c.is_whitespace() || c.is_control())
        .then_some("holds a blank")
}

/// Port 0 would be another one at every start.
fn is_listen(text: &str) -> bool {
    text.parse::<SocketAddr>()
        .is_ok_and(|address| address.port() != 0)
}

fn is_network(text: &str) -> bool {
    towpath_gateway::is_network(text)
}

fn is_secure(text: &str) -> bool {
    let rest = text.strip_prefix("https://");
    rest.is_some_and(|rest| {
        !rest.is_empty() && !rest.starts_with('/') && rest.chars().all(|c| c.is_ascii_graphic())
    })
}

fn is_pointer(text: &str) -> bool {
    text.is_empty() || text.starts_with('/')
}

fn is_host(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        })
}

/// A ref goes to git as an argument, so it must not look like an option.
fn ref_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.starts_with('-') {
        return Some("is not a git ref");
    }
    text.contains(|c: char| c.is_whitespace() || c.is_control())
        .then_some("is not a git ref")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        let good = [
            "notes",
            "notes:1.0-rc_2",
            "library/notes",
            "registry.example.com/team/notes:1",
            "127.0.0.1:5000/notes:1",
            "localhost/notes",
            &format!("notes@{digest}"),
            &format!("localhost:5000/a/b:1@{digest}"),
        ];
        for text in good {
            assert_eq!(Form::Image.fault(text), None, "{text}");
        }
        let bad = [
            "",
            " ",
            "-v/:/host",
            "--privileged",
            "notes -v /:/host",
            "notes\n",
            "Notes",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:b:c",
            "a:-b",
            "a@",
            "a@sha256:12",
            "a@md5:00",
            "me@host.example/a",
            "host:0/a",
            "a;id",
            "$(id)",
            "../a",
            "a/../b",
            "http://a/b",
        ];
        for text in bad {
            assert!(Form::Image.fault(text).is_some(), "{text}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(duration("2h"), Some(Duration::from_secs(7200)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        for bad in [
            "",
            "s",
            "5",
            "-5s",
            "1.5s",
            "5 weeks",
            "99999999999999999999s",
            "9999999h",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("8MB"), Some(8_000_000));
        assert_eq!(size("1 KiB"), Some(1024));
        for bad in ["", "8", "8mb", "-1B", "99999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn servers() {
        let good = [
            ("a", (None, "a", None)),
            ("me@a.b", (Some("me"), "a.b", None)),
            ("me@10.0.0.1:22", (Some("me"), "10.0.0.1", Some(22))),
            ("me@[2001:db8::1]:22", (Some("me"), "2001:db8::1", Some(22))),
            ("[::1]", (None, "::1", None)),
        ];
        for (text, parts) in good {
            assert_eq!(server(text), Some(parts), "{text}");
        }
        for bad in [
            "",
            "@",
            "@a",
            "me@",
            "-oProxyCommand=x",
            "me@-x",
            "-x@a",
            "a:0",
            "a:70000",
            "a:",
            "a:b",
            "::1",
            "me@::1",
            "[::1",
            "[a]",
            "[::1]x",
            "a b",
            "a;b",
            "a$b",
            "a/b",
            "a@b@c d",
        ] {
            assert_eq!(server(bad), None, "{bad}");
        }
    }

    #[test]
    fn commands() {
        for good in [
            "serve --port $PORT",
            "a ${PORT:-80}",
            "echo ${A%.*}",
            "x ${a}",
        ] {
            assert_eq!(Form::Command.fault(good), None, "{good}");
        }
        for bad in [" ", "serve ${api.url}", "a ${A} ${ai-model.port}x"] {
            assert!(Form::Command.fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn paths() {
        for good in ["a", "a/b", "./a", "..a"] {
            assert_eq!(Form::Path.fault(good), None, "{good}");
        }
        for bad in ["", "/a", "~/a", "..", "a/../b"] {
            assert!(Form::Path.fault(bad).is_some(), "{bad}");
        }
        for bad in ["a", "/a/", "//", "/a//b", "/../b", "/a?b", "/a b"] {
            assert!(Form::Route.fault(bad).is_some(), "{bad}");
        }
    }
}
