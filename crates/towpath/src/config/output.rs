//! How a configuration looks as JSON: durations are whole milliseconds, templates are as typed.

use std::fmt;
use std::time::Duration;

use serde::ser::{Serialize, Serializer};

use super::{Part, Template};

/// A duration as whole milliseconds.
pub(super) fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis().try_into().unwrap_or(u64::MAX))
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

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
