//! How a configuration looks as JSON: durations are whole milliseconds, templates are as typed.

use std::fmt;
use std::time::Duration;

use serde::ser::{Serialize, Serializer};

use super::{Address, Part, Server, Template, VariableKind};

/// A duration as whole milliseconds.
pub(super) fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis().try_into().unwrap_or(u64::MAX))
}

/// As [`millis`], where there is one.
pub(super) fn some_millis<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => formatter.write_str(&text.replace("${", "$${"))?,
                Part::Attribute { name, attribute } => {
                    write!(formatter, "${{{name}.{attribute}}}")?
                }
            }
        }
        Ok(())
    }
}

impl VariableKind {
    /// The type that `word` names in a manifest, which has made sure that it names one.
    pub(super) fn parse(word: &str) -> VariableKind {
        match word {
            "integer" => VariableKind::Integer,
            "number" => VariableKind::Number,
            "boolean" => VariableKind::Boolean,
            "duration" => VariableKind::Duration,
            "size" => VariableKind::Size,
            "url" => VariableKind::Url,
            "enum" => VariableKind::Enum,
            "list" => VariableKind::List,
            _ => VariableKind::String,
        }
    }

    /// What a value of it looks like, for a message; an enum is one of `values`.
    pub(super) fn expected(self, values: &[String]) -> String {
        let expected = match self {
            VariableKind::String => "a string",
            VariableKind::Integer => "an integer",
            VariableKind::Number => "a number",
            VariableKind::Boolean => "`true` or `false`",
            VariableKind::Duration => "a duration such as \"30s\"",
            VariableKind::Size => "a size such as \"8MB\"",
            VariableKind::Url => "a URL such as \"https://example.com\"",
            VariableKind::Enum => {
                let words: Vec<_> = values.iter().map(|word| format!("{word:?}")).collect();
                return format!("one of {}", words.join(", "));
            }
            VariableKind::List => "an array of strings, none of them blank or with a comma",
        };
        expected.to_owned()
    }
}

impl fmt::Display for VariableKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            VariableKind::String => "string",
            VariableKind::Integer => "integer",
            VariableKind::Number => "number",
            VariableKind::Boolean => "boolean",
            VariableKind::Duration => "duration",
            VariableKind::Size => "size",
            VariableKind::Url => "url",
            VariableKind::Enum => "enum",
            VariableKind::List => "list",
        })
    }
}

impl Server {
    /// The machine that `text` names, as in the manifest.
    #[must_use]
    pub fn parse(text: &str) -> Option<Server> {
        let (user, host, port) = crate::manifest::form::server(text)?;
        Some(Server {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(formatter, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(formatter, "[{}]", self.host)?,
            false => formatter.write_str(&self.host)?,
        }
        match self.port {
            Some(port) => write!(formatter, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Server {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Url(url) => formatter.write_str(url),
            Address::File(path) => write!(formatter, "file:{}", path.display()),
            Address::Secret(name) => write!(formatter, "secret:{name}"),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
