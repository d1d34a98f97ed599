"""Values as TOML gives them, taken for what they should be, or refused with the place where they stand."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, TypeVar

from ckpt_doctor.core.errors import SettingsError

_KINDS = (
    (bool, "true or false"),
    (str, "a string"),
    ((int, float), "a number"),
    (list, "a list"),
    (dict, "a table"),
)


Word = TypeVar("Word", bound=str)


class Place(NamedTuple):
    """Where a value stands: a file and the keys that lead there, or an environment variable."""

    source: str
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The place as an error names it.

        >>> str(Place("ckpt-doctor.toml").at("layouts").item(0).at("a b"))
        'ckpt-doctor.toml: layouts[1]."a b"'
        """
        words = "".join(word if word.startswith("[") else f".{word}" for word in self.keys).removeprefix(".")
        return f"{self.source}: {words}" if words else self.source

    def at(self, key: str) -> Place:
        """The place of a key in the table that stands here."""
        return Place(self.source, (*self.keys, key if re.fullmatch(r"[\w-]+", key) else json.dumps(key)))

    def item(self, index: int) -> Place:
        """The place of an item of the list that stands here; people count from 1."""
        return Place(self.source, (*self.keys, f"[{index + 1}]"))

    def wrong(self, problem: str) -> SettingsError:
        """The error that says what is wrong here."""
        return SettingsError(f"{self}: {problem}")


def text(value: Any, place: Place) -> str:
    """A string that is not empty."""
    if not isinstance(value, str):
        raise place.wrong(f"this must be a string, not {_kind(value)}")
    if not value.strip():
        raise place.wrong("this must not be empty")
    return value


def flag(value: Any, place: Place) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise place.wrong(f"this must be true or false, not {_kind(value)}")
    return value


def one_of(value: Any, place: Place, allowed: Collection[Word]) -> Word:
    """One of some words."""
    word = text(value, place)
    for known in allowed:
        if word == known:
            return known
    raise place.wrong(f"{word!r} is not one of {', '.join(allowed)}{nearest(word, allowed)}")


def texts(value: Any, place: Place) -> tuple[str, ...]:
    """A list of strings, or one string."""
    if isinstance(value, str):
        return (text(value, place),)
    if not isinstance(value, list):
        raise place.wrong(f"this must be a string or a list of strings, not {_kind(value)}")
    return tuple(text(item, place.item(index)) for index, item in enumerate(value))


def table(value: Any, place: Place, known: Collection[str] | None = None) -> Mapping[str, Any]:
    """A table, with no other keys than those that are ``known``."""
    if not isinstance(value, dict):
        raise place.wrong(f"this must be a table, not {_kind(value)}")
    for key in value:
        if known is not None and key not in known:
            raise place.at(key).wrong(f"there is no such key{nearest(key, known)}; there are {', '.join(known)}")
    return value


def tables(value: Any, place: Place) -> list[tuple[Any, Place]]:
    """The items of a list that is not empty, each with its place."""
    if not isinstance(value, list) or not value:
        raise place.wrong("this must be a list of tables, with at least one")
    return [(item, place.item(index)) for index, item in enumerate(value)]


def nearest(word: str, known: Collection[str]) -> str:
    """``; did you mean …?`` where one of the known words comes close."""
    from difflib import get_close_matches

    close = get_close_matches(word.lower().replace("_", "-"), known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _kind(value: Any) -> str:
    return next((words for kind, words in _KINDS if isinstance(value, kind)), "a date or a time")
