//! The JSON Schema of a manifest, made from the same table of keys that it is checked against.

use serde_json::{Map, Value, json};

use super::form::Form;
use super::keys;
use super::shape::{Field, Keys, Shape};

/// The JSON Schema of `tow.toml`, for editors. What it refuses is refused by the parser as well; the parser
/// refuses more.
pub fn schema() -> Value {
    let mut schema = of(&keys::ROOT, false);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("tow.toml");
    schema["required"] = json!(["app"]);
    schema
}

/// The schema of a shape; under an environment everything can be unset.
fn of(shape: &Shape, environment: bool) -> Value {
    match shape {
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::FalseOr(inner) => any_of([json!({ "const": false }), of(inner, environment)]),
        Shape::Text(form) => text(*form),
        Shape::Choice { now, later } => {
            let words = [*now, *later].concat();
            json!({ "enum": words })
        }
        Shape::Integer { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        Shape::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Shape::List {
            of: item,
            single,
            distinct,
        } => list(item, *single, *distinct),
        Shape::Map { names, of: each } => map(*names, each, environment),
        Shape::Table(keys) => table(keys, environment),
        Shape::Short {
            of: short, table, ..
        } => any_of([of(short, false), of(table, environment)]),
        Shape::Plain => json!({
            "type": ["string", "number", "boolean", "array"],
            "items": { "type": "string" },
        }),
        Shape::Json => json!({ "type": ["string", "object"] }),
        Shape::Open => json!({}),
    }
}

fn text(form: Form) -> Value {
    let mut schema = json!({ "type": "string" });
    if let Some(pattern) = form.pattern() {
        schema["pattern"] = json!(pattern);
    }
    schema
}

fn list(item: &Shape, single: bool, distinct: bool) -> Value {
    let item = of(item, false);
    let list = json!({ "type": "array", "items": item, "uniqueItems": distinct });
    match single {
        true => any_of([item, list]),
        false => list,
    }
}

fn map(names: Form, each: &Shape, environment: bool) -> Value {
    let pattern = names.pattern().unwrap_or_default();
    json!({
        "type": "object",
        "propertyNames": { "pattern": format!("({pattern})|(^x-)") },
        "patternProperties": { "^x-": {}, "^(?!x-)": unsettable(each, environment) },
    })
}

fn table(keys: &Keys, environment: bool) -> Value {
    let field = |field: &Field| (field.name.to_owned(), property(field, environment));
    let properties: Map<String, Value> = keys.fields.iter().map(field).collect();
    json!({
        "type": "object",
        "properties": properties,
        "patternProperties": { "^x-": {} },
        "additionalProperties": false,
    })
}

fn property(field: &Field, environment: bool) -> Value {
    let below = environment || field.name == "environments";
    let mut schema = match field.name {
        "environments" => of(&field.shape, below),
        _ => unsettable(&field.shape, below),
    };
    let later = match field.later {
        true => " (not carried out by this version)",
        false => "",
    };
    schema["description"] = json!(format!("{}{later}", field.about));
    schema
}

fn unsettable(shape: &Shape, environment: bool) -> Value {
    let schema = of(shape, environment);
    if !environment {
        return schema;
    }
    let unset = json!({
        "type": "object",
        "properties": { "unset": { "const": true } },
        "required": ["unset"],
        "additionalProperties": false,
    });
    any_of([schema, unset])
}

/// Alternatives of alternatives are alternatives.
fn any_of<const N: usize>(schemas: [Value; N]) -> Value {
    let mut flat = Vec::new();
    for schema in schemas {
        match schema.get("anyOf").and_then(Value::as_array) {
            Some(inner) => flat.extend(inner.iter().cloned()),
            None => flat.push(schema),
        }
    }
    json!({ "anyOf": flat })
}
