# Written by `tow config render --format python`: change `tow.toml` instead.
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
    CREDITS: float  # number
    DSN: Optional[str]  # url
    LEVEL: Literal["info", "say \"hi\""]  # one of info, say "hi"
    MAX_FILE_SIZE: int  # largest upload * / of all (size)
    ORIGINS: Tuple[str, ...]  # list
    PUBLIC_URL: str  # url
    WAIT: timedelta  # duration
    WORKERS: int  # integer
    class_: str  # string
    type: bool  # boolean


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
        CREDITS=read("CREDITS", True, float),
        DSN=read("DSN", False, _url),
        LEVEL=read("LEVEL", True, _one_of("info", "say \"hi\"")),
        MAX_FILE_SIZE=read("MAX_FILE_SIZE", True, _size),
        ORIGINS=read("ORIGINS", True, _items),
        PUBLIC_URL=read("PUBLIC_URL", True, _url),
        WAIT=read("WAIT", True, _duration),
        WORKERS=read("WORKERS", True, _integer),
        class_=read("class", True, str),
        type=read("type", True, _flag),
    )
    if wrong:
        raise ValueError("; ".join(wrong))
    return found
