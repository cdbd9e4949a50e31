//! A module of Python.

use super::{Item, apart, quoted, words};
use crate::config::VariableKind;

const HEAD: &str = r#"# Written by `tow config render --format python`: change `tow.toml` instead.
"""What the environment gives, typed: `settings()` reads it and says everything that is wrong at once."""
import os
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Callable, List, Literal, Mapping, Optional, Tuple

_UNITS = {
    "ms": 1, "s": 1000, "m": 60000, "h": 3600000, "d": 86400000,
    "B": 1, "KB": 1000, "KiB": 1024, "MB": 10**6, "MiB": 1 << 20, "GB": 10**9, "GiB": 1 << 30,
}


def _amount(text: str, units: str) -> int:
    found = re.fullmatch(r"([0-9]+) *([A-Za-z]*)", text)
    if found and int(found[1]) == 0 and not found[2]:
        return 0
    if not found or found[2] not in units.split():
        raise ValueError
    return int(found[1]) * _UNITS[found[2]]


def _duration(text: str) -> timedelta:
    return timedelta(milliseconds=_amount(text, "ms s m h d"))


def _size(text: str) -> int:
    return _amount(text, "B KB KiB MB MiB GB GiB")


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]+", text):
        raise ValueError
    return int(text)


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _url(text: str) -> str:
    if "://" not in text:
        raise ValueError
    return text


def _items(text: str) -> Tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return parse


@dataclass(frozen=True)
class Settings:
"#;

const TAIL: &str = r#"

def settings(source: Mapping[str, str] = os.environ) -> Settings:
    wrong: List[str] = []

    def read(name: str, always: bool, parse: Callable[[str], Any]) -> Any:
        text = source.get(name)
        if text is None:
            if always:
                wrong.append(name + " is missing")
            return None
        try:
            return parse(text)
        except (KeyError, ValueError):
            wrong.append(name + " is of the wrong form")
            return None

    found = Settings(
"#;

const WORDS: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
    "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import",
    "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while",
    "with", "yield",
];

pub(super) fn render(items: &[Item]) -> String {
    let mut text = String::from(HEAD);
    for item in items {
        let kind = match item.always {
            true => kind(item),
            false => format!("Optional[{}]", kind(item)),
        };
        text += &format!(
            "    {}: {kind}  # {}\n",
            apart(&item.name, WORDS),
            item.comment()
        );
    }
    if items.is_empty() {
        text += "    pass\n";
    }
    text += TAIL;
    for item in items {
        let always = if item.always { "True" } else { "False" };
        let (field, name) = (apart(&item.name, WORDS), quoted(&item.name));
        text += &format!("        {field}=read({name}, {always}, {}),\n", parse(item));
    }
    text +=
        "    )\n    if wrong:\n        raise ValueError(\"; \".join(wrong))\n    return found\n";
    text
}

fn kind(item: &Item) -> String {
    match item.kind {
        VariableKind::Integer | VariableKind::Size => "int".to_owned(),
        VariableKind::Number => "float".to_owned(),
        VariableKind::Duration => "timedelta".to_owned(),
        VariableKind::Boolean => "bool".to_owned(),
        VariableKind::String | VariableKind::Url => "str".to_owned(),
        VariableKind::Enum => format!("Literal[{}]", words(item).join(", ")),
        VariableKind::List => "Tuple[str, ...]".to_owned(),
    }
}

fn parse(item: &Item) -> String {
    match item.kind {
        VariableKind::Integer => "_integer".to_owned(),
        VariableKind::Number => "float".to_owned(),
        VariableKind::Duration => "_duration".to_owned(),
        VariableKind::Size => "_size".to_owned(),
        VariableKind::Boolean => "_flag".to_owned(),
        VariableKind::String => "str".to_owned(),
        VariableKind::Url => "_url".to_owned(),
        VariableKind::Enum => format!("_one_of({})", words(item).join(", ")),
        VariableKind::List => "_items".to_owned(),
    }
}
