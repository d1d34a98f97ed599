"""``keys`` of a file: the tensors that it must hold, with their shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ckpt_doctor.core.entries import Entry

from .values import Place, flag, table, text, texts


def entries(value: Any, place: Place) -> tuple[Entry, ...]:
    """The entries of a list of names, or of a table of names with shapes. Raises ``SettingsError``."""
    if isinstance(value, dict):
        found = [_entry(name, given, place.at(name)) for name, given in value.items()]
    else:
        found = [Entry(_name(name, place)) for name in texts(value, place)]
    if not found:
        raise place.wrong("name at least one, or leave this out")
    _refuse_repetition(found, place)
    return tuple(found)


def _entry(name: str, value: Any, place: Place) -> Entry:
    given: Mapping[str, Any] = (
        {"shape": value} if isinstance(value, list) else table(value, place, ("shape", "required"))
    )
    dims = _dims(given["shape"], place.at("shape") if isinstance(value, dict) else place) if "shape" in given else None
    return Entry(_name(name, place), dims, flag(given.get("required", True), place.at("required")))


def _name(name: str, place: Place) -> str:
    words = text(name, place).split(".")
    if not all(words) or any(word.count("*") > 1 for word in words):
        raise place.wrong(f"{name!r}: a name is made of words with dots between them, with at most one * in each")
    return name


def _dims(value: Any, place: Place) -> tuple[str | int, ...]:
    if not isinstance(value, list):
        raise place.wrong("a shape is a list of numbers and of names of dimensions")
    dims: list[str | int] = []
    for index, item in enumerate(value):
        if isinstance(item, int) and not isinstance(item, bool) and item >= 0:
            dims.append(item)
        elif isinstance(item, str):
            dims.append(text(item, place.item(index)))
        else:
            raise place.item(index).wrong("a dimension is a number, or a name that means the same size everywhere")
    return tuple(dims)


def _refuse_repetition(found: Iterable[Entry], place: Place) -> None:
    seen = set()
    for entry in found:
        if entry.name in seen:
            raise place.wrong(f"{entry.name} is listed twice")
        seen.add(entry.name)
