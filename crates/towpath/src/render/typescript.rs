//! A module of TypeScript.

use super::{Item, quoted, words};
use crate::config::VariableKind;

const HEAD: &str = "\
// Written by `tow config render --format ts`: change `tow.toml` instead.

";

const TAIL: &str = r#"
type Source = { readonly [name: string]: string | undefined };

const UNITS: { readonly [unit: string]: number } = {
  ms: 1, s: 1000, m: 60000, h: 3600000, d: 86400000,
  B: 1, KB: 1000, KiB: 1024, MB: 1000000, MiB: 1048576, GB: 1000000000, GiB: 1073741824,
};

const plain = (text: string): string | undefined => text;
const items = (text: string): readonly string[] => (text === "" ? [] : text.split(","));
const integer = (text: string): number | undefined =>
  /^-?[0-9]+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : undefined;
const number = (text: string): number | undefined =>
  text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : undefined;
const flag = (text: string): boolean | undefined =>
  text === "true" ? true : text === "false" ? false : undefined;
const url = (text: string): string | undefined => (text.includes("://") ? text : undefined);
const oneOf = (words: readonly string[]) => (text: string): string | undefined =>
  words.includes(text) ? text : undefined;
const amount = (units: string) => (text: string): number | undefined => {
  const [, count, unit] = /^([0-9]+) *([A-Za-z]*)$/.exec(text) ?? [];
  if (count === undefined) return undefined;
  if (Number(count) === 0 && unit === "") return 0;
  return units.split(" ").includes(unit ?? "") ? Number(count) * (UNITS[unit ?? ""] ?? NaN) : undefined;
};
const duration = amount("ms s m h d");
const size = amount("B KB KiB MB MiB GB GiB");
"#;

pub(super) fn render(items: &[Item]) -> String {
    let mut text = String::from(HEAD);
    text += "export interface Settings {\n";
    for item in items {
        let optional = if item.always { "" } else { "?" };
        text += &format!("  /** {}{} */\n", item.comment(), unit(item));
        text += &format!("  readonly {}{optional}: {};\n", item.name, kind(item));
    }
    text += "}\n";
    text += TAIL;
    text +=
        "\n/** Reads every value; says everything that is missing or wrong at once, by name. */\n";
    text += "export function settings(source: Source): Settings {\n";
    text += "  const wrong: string[] = [];\n";
    text += "  const read = (name: string, always: boolean, parse: (text: string) => unknown): unknown => {\n";
    text += "    const text = source[name];\n";
    text += "    if (text === undefined) {\n";
    text += "      if (always) wrong.push(`${name} is missing`);\n";
    text += "      return undefined;\n";
    text += "    }\n";
    text += "    const value = parse(text);\n";
    text += "    if (value === undefined) wrong.push(`${name} is of the wrong form`);\n";
    text += "    return value;\n";
    text += "  };\n";
    text += "  const found = {\n";
    for item in items {
        let (name, always) = (&item.name, item.always);
        text += &format!(
            "    {name}: read({}, {always}, {}),\n",
            quoted(name),
            parse(item)
        );
    }
    text += "  };\n";
    text += "  if (wrong.length > 0) throw new Error(wrong.join(\"; \"));\n";
    text += "  return found as unknown as Settings;\n";
    text += "}\n";
    text
}

fn kind(item: &Item) -> String {
    match item.kind {
        VariableKind::Integer | VariableKind::Number => "number".to_owned(),
        VariableKind::Duration | VariableKind::Size => "number".to_owned(),
        VariableKind::Boolean => "boolean".to_owned(),
        VariableKind::String | VariableKind::Url => "string".to_owned(),
        VariableKind::Enum => words(item).join(" | "),
        VariableKind::List => "readonly string[]".to_owned(),
    }
}

fn unit(item: &Item) -> &'static str {
    match item.kind {
        VariableKind::Duration => ", in milliseconds",
        VariableKind::Size => ", in bytes",
        _ => "",
    }
}

fn parse(item: &Item) -> String {
    match item.kind {
        VariableKind::Integer => "integer".to_owned(),
        VariableKind::Number => "number".to_owned(),
        VariableKind::Duration => "duration".to_owned(),
        VariableKind::Size => "size".to_owned(),
        VariableKind::Boolean => "flag".to_owned(),
        VariableKind::String => "plain".to_owned(),
        VariableKind::Url => "url".to_owned(),
        VariableKind::Enum => format!("oneOf([{}])", words(item).join(", ")),
        VariableKind::List => "items".to_owned(),
    }
}
