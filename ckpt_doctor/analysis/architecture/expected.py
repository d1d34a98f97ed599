"""What the class that a ``config.json`` names holds on disk: one row of its table for each kind of tensor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from ckpt_doctor.knowledge.architectures import old_names, table_of

from .settings import UNKNOWN, Condition, Expression, Settings, holds

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])", re.ASCII)
_HEADS = frozenset(
    (
        "lm_head",
        "score",
        "classifier",
        "qa_outputs",
        "cls",
        "embed_out",
        "classification_head",
        "v_head",
        "output_projection",
    )
)
_LOCAL = frozenset(("of", "<<", "kind", "below", "among", "every", "index"))
_DEEPEST = 4
_LONGEST_INDEX = 9  # digits
_MOST_PLACES = 50_000
"""How many places are looked at for one kind of tensor. The largest models have 20,000."""


class Row(NamedTuple):
    """A kind of tensor. ``name`` has a ``*`` for each index of a layer, and ``axes`` the number of layers for each.

    ``shape`` is ``None`` if nothing is known about it. ``head`` says that it is no part of the base model, ``local``
    that its shape depends on the layer.
    """

    name: str
    axes: tuple[Expression | None, ...]
    shape: tuple[Expression | None, ...] | None
    condition: Condition
    head: bool = False
    local: bool = False

    def named(self, place: Sequence[int]) -> str:
        """The name in the layer at ``place``."""
        indices = iter(place)
        return ".".join(str(next(indices)) if word == "*" else word for word in self.name.split("."))


class Match(NamedTuple):
    """A row that a name belongs to, and the indices in it."""

    row: Row
    place: tuple[int, ...]


class Expected:
    """The rows of one class under one config. ``prefix`` is what base models have in front of their names in it."""

    def __init__(self, cls: str, table: Mapping[str, Any], settings: Settings) -> None:
        self.cls = cls
        self.settings = settings
        data = table["classes"][cls]
        self.prefix: str = data["extends"][1] if "extends" in data else data.get("prefix", "")
        found = list(_rows(table, cls))
        tied = _tied(table, cls)
        copies = frozenset() if _is_untied(settings) else {name for names in tied.values() for name in names}
        below = any(row.name.startswith(f"{self.prefix}.") for row in found) if self.prefix else False
        self.rows = tuple(row._replace(head=_is_head(row.name, self.prefix if below else "")) for row in found)
        # A matrix that a config may tie is only missed where the config says that it does not.
        self.rows = tuple(row._replace(condition=None) if key_of(row.name) in copies else row for row in self.rows)
        self.tied = tied
        self.inside = frozenset(_inside(table, cls))
        self._old = (*table.get("old", ()), *old_names())
        self._by_key: dict[str, list[Row]] = {}
        for row in self.rows:
            self._by_key.setdefault(key_of(row.name), []).append(row)

    def match(self, name: str) -> Match | None:
        """The row that a name belongs to, if it has exactly this name."""
        key = key_of(name)
        for row in self._by_key.get(key, ()):
            # Most patterns have no number of their own, and a large model has 90,000 names.
            place = _numbers(name) if row.name == key else _place(row.name, name)
            if place is not None:
                return Match(row, place)
        return None

    def match_prefixed(self, name: str) -> Match | None:
        """The row of a name that lacks the base model's prefix, or has it where it is not wanted."""
        if not self.prefix:
            return None
        prefix = f"{self.prefix}."
        found = self.match(prefix + name)
        return found or (self.match(name.removeprefix(prefix)) if name.startswith(prefix) else None)

    def is_tied(self, name: str) -> bool:
        """True if a name may hold a parameter that is saved under another name."""
        key = key_of(name)
        known = {other for others in self.tied.values() for other in others}
        return key in known or f"{self.prefix}.{key}" in known or key.removeprefix(f"{self.prefix}.") in known

    def is_older(self, name: str) -> bool:
        """True if transformers gives a tensor of this name another one, or makes others of it, when it reads it."""
        key = key_of(name)
        if key in self.inside or f"{self.prefix}.{key}" in self.inside:
            return True
        return any(re.search(pattern, name) for pattern in self._old)

    def shape(self, match: Match) -> tuple[int | None, ...] | None:
        """The shape that a tensor must have; ``None`` for a size that is not known."""
        if match.row.shape is None:
            return None
        return tuple(self.settings.number(dim, match.place) for dim in match.row.shape)

    def required(self, row: Row) -> Iterator[tuple[int, ...]]:
        """Every place at which a row's tensor must be, in order; nothing where that is not certain.

        It ends after some ten thousand places, needed or not, because a config may state any number of layers.
        """
        if row.condition is None or None in row.axes:
            return
        for place in islice(self._places(row, ()), _MOST_PLACES):
            if holds(row.condition, self.settings, place):
                yield place

    def _places(self, row: Row, place: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(place) == len(row.axes):
            yield place
            return
        for index in range(min(self.settings.number(row.axes[len(place)], place) or 0, _MOST_PLACES)):
            yield from self._places(row, (*place, index))

    def count(self, row: Row) -> int | None:
        """How many tensors of a kind there must be, where that takes no counting."""
        total = 1
        for axis in row.axes:
            length = None if _is_local(axis) else self.settings.number(axis)
            if length is None:
                return None
            total *= length
        if row.condition is True:
            return total
        return 0 if row.condition is None else None


def expected(config: Mapping[str, Any]) -> Expected | None:
    """What a model of this config holds, or ``None`` if that is not known.

    It is not for classes without a table, for code that comes with the model, for weights that are quantised, and
    where a setting has a value that was never tried.
    """
    table = table_for(config)
    architectures = config.get("architectures")
    if table is None or not isinstance(architectures, list):
        return None
    known = [name for name in architectures if isinstance(name, str) and name in table["classes"]]
    return Expected(known[0], table, settings_for(config, table)) if known and known[0] == architectures[0] else None


def table_for(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The table of a config's type, if the config is of a kind that was tried."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or config.get("auto_map") or _is_quantised(config):
        return None
    table = table_of(model_type)
    if table is None:
        return None
    return table if guarded(config, table) else None


def guarded(config: Mapping[str, Any], table: Mapping[str, Any]) -> bool:
    """True if all settings that the table was made with one value of have that value."""
    plain = Settings(config)
    return all(_was_tried(plain.given(path), values) for path, values in table.get("fixed", {}).items())


def settings_for(config: Mapping[str, Any], table: Mapping[str, Any]) -> Settings:
    """The config's fields as the table asks for them."""
    return Settings(
        config, table.get("defaults"), table.get("aliases"), table.get("twins"), table.get("special", {})
    )  # fmt: skip


def key_of(name: str) -> str:
    """A name with ``*`` for every number between dots.

    >>> key_of("h.10.attn.c_attn2.weight")
    'h.*.attn.c_attn2.weight'
    """
    return _NUMBER.sub("*", name)


def _is_quantised(config: Mapping[str, Any]) -> bool:
    text = config.get("text_config")
    sections = (config, text if isinstance(text, Mapping) else {})
    return any(section.get(key) for section in sections for key in ("quantization_config", "quantization"))


def _was_tried(value: Any, allowed: Sequence[Any]) -> bool:
    """True if a field is absent or has a value that the table was made with."""
    if value is UNKNOWN:
        return True
    for item in allowed:
        if isinstance(item, Mapping):
            # A list that is null is made by the config class, like one that is absent.
            if value is None or (isinstance(value, list) and _is_like(value, item)):
                return True
        elif value == item and isinstance(value, bool) == isinstance(item, bool):
            return True
    return False


def _is_like(value: list[Any], known: Mapping[str, Any]) -> bool:
    return len(value) == known.get("len", len(value)) and all(
        not isinstance(item, str) or item in known.get("items", (item,)) for item in value
    )


def _is_untied(settings: Settings) -> bool:
    flags = [settings.given(path) for path in ("tie_word_embeddings", "text_config.tie_word_embeddings")]
    return False in flags and True not in flags


def _rows(table: Mapping[str, Any], cls: str, depth: int = 0) -> Iterator[Row]:
    data = table["classes"][cls]
    if "extends" in data and depth < _DEEPEST:
        base, prefix = data["extends"]
        without = frozenset(data.get("without", ()))
        for row in _rows(table, base, depth + 1):
            name = f"{prefix}.{row.name}"
            if name not in without:
                yield row._replace(name=name)
    for name, axes, shape, condition in data["rows"]:
        local = any(map(_is_local, shape or ()))
        yield Row(name, tuple(axes), None if shape is None else tuple(shape), condition, local=local)


def _tied(table: Mapping[str, Any], cls: str) -> Mapping[str, Sequence[str]]:
    found: Mapping[str, Sequence[str]] = table["classes"][cls].get("tied", {})
    return found


def _inside(table: Mapping[str, Any], cls: str) -> Sequence[str]:
    found: Sequence[str] = table["classes"][cls].get("inside", ())
    return found


def _is_head(name: str, prefix: str) -> bool:
    if prefix:
        return not name.startswith(f"{prefix}.")
    return any(word in _HEADS for word in name.split("."))


def _numbers(name: str) -> tuple[int, ...] | None:
    words = _NUMBER.findall(name)
    return None if any(len(word) > _LONGEST_INDEX for word in words) else tuple(map(int, words))


def _place(pattern: str, name: str) -> tuple[int, ...] | None:
    place = []
    for wanted, word in zip(pattern.split("."), name.split("."), strict=True):
        if wanted == "*":
            if len(word) > _LONGEST_INDEX:
                return None
            place.append(int(word))
        elif wanted != word:
            return None
    return tuple(place)


def _is_local(expression: Any) -> bool:
    if not isinstance(expression, list):
        return False
    return expression[0] in _LOCAL or any(_is_local(operand) for operand in expression[1:])
