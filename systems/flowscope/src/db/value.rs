//! What goes into a statement and comes out of it, the same for both engines.

use super::DbError;

/// A value of a parameter or of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A whole number.
    Int(i64),
    /// A number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// One row of an answer; its columns are taken from left to right.
pub struct Row(std::vec::IntoIter<Value>);

impl Row {
    /// A row of these columns.
    pub fn new(columns: Vec<Value>) -> Self {
        Self(columns.into_iter())
    }

    /// The next column.
    ///
    /// # Errors
    /// `Failed` if there is none, or one of another type.
    pub fn take<T: TryFrom<Value, Error = DbError>>(&mut self) -> Result<T, DbError> {
        T::try_from(self.0.next().unwrap_or(Value::Null))
    }
}

macro_rules! both_ways {
    ($($kind:ty => $variant:ident),+) => { $(
        impl From<$kind> for Value {
            fn from(value: $kind) -> Self {
                Self::$variant(value)
            }
        }

        impl From<Option<$kind>> for Value {
            fn from(value: Option<$kind>) -> Self {
                value.map_or(Self::Null, Self::$variant)
            }
        }

        impl TryFrom<Value> for $kind {
            type Error = DbError;

            fn try_from(value: Value) -> Result<Self, DbError> {
                match value {
                    Value::$variant(value) => Ok(value),
                    other => Err(unexpected(stringify!($variant), &other)),
                }
            }
        }

        impl TryFrom<Value> for Option<$kind> {
            type Error = DbError;

            fn try_from(value: Value) -> Result<Self, DbError> {
                match value {
                    Value::Null => Ok(None),
                    value => value.try_into().map(Some),
                }
            }
        }
    )+ };
}

both_ways!(i64 => Int, f64 => Real, String => Text, Vec<u8> => Blob);

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<Option<u32>> for Value {
    fn from(value: Option<u32>) -> Self {
        value.map(i64::from).into()
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        value.map(str::to_owned).into()
    }
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        value.clone().into()
    }
}

/// Without the value itself: it may be anybody's text.
fn unexpected(wanted: &str, found: &Value) -> DbError {
    let found = match found {
        Value::Null => "Null",
        Value::Int(_) => "Int",
        Value::Real(_) => "Real",
        Value::Text(_) => "Text",
        Value::Blob(_) => "Blob",
    };
    DbError::Failed(format!("a column is {found} and should be {wanted}"))
}
