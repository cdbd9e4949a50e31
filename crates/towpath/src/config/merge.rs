//! What an environment says, laid over the shared tables: tables merge, everything else is replaced.

use crate::manifest::shape::Shape;
use crate::manifest::value::{Entry, Kind, Table, Value};

/// The tables of one environment, nothing unset left in them.
pub(super) fn merge(shared: &Value, environment: Option<&Value>, shape: &Shape) -> Value {
    let mut merged = shared.clone();
    if let Some(environment) = environment {
        lay(&mut merged, environment, Some(shape));
    }
    if let Kind::Table(table) = &mut merged.kind {
        table.entries.retain(|entry| entry.key != "environments");
    }
    sweep(&mut merged);
    merged
}

fn lay(below: &mut Value, above: &Value, shape: Option<&Shape>) {
    let both = (&mut below.kind, &above.kind);
    let (Kind::Table(base), Kind::Table(over)) = both else {
        *below = above.clone();
        return;
    };
    for entry in &over.entries {
        displace(base, &entry.key, shape);
        let inner = shape.and_then(|shape| shape.below(&entry.key));
        match base.entries.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => {
                lay(&mut known.value, &entry.value, inner);
                if !known.value.environment {
                    continue;
                }
                known.key_span = entry.key_span.clone();
            }
            None => base.entries.push(entry.clone()),
        }
    }
}

/// A probe by command takes the place of one by HTTP: of keys that exclude each other the last one stays.
fn displace(base: &mut Table, key: &str, shape: Option<&Shape>) {
    let Some(keys) = shape.and_then(Shape::keys) else {
        return;
    };
    if keys.one_of.contains(&key) {
        base.entries
            .retain(|entry| entry.key == key || !keys.one_of.contains(&entry.key.as_str()));
    }
}

fn sweep(value: &mut Value) {
    if let Kind::Table(table) = &mut value.kind {
        table
            .entries
            .retain(|entry| entry.value.kind != Kind::Unset);
        for Entry { value, .. } in &mut table.entries {
            sweep(value);
        }
    }
}
