"""A table as the JSON that the package holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from ckpt_doctor.analysis.architecture.settings import Condition, Expression

from .observing import CannotBuild, config_of, to_json
from .patterns import Row
from .tables import ClassTable, TypeTable, aliases_of, flat
from .varying import IDS, is_activation

_MOST_TWINS = 4
_ASKED = 6
"""In how many configs a field is left out to see what takes its place."""
LEGACY = frozenset(
    conversion.compiled_sources.pattern for conversion in get_checkpoint_conversion_mapping("legacy") or ()
)
"""Patterns of older names that transformers reads in every model."""


def as_data(table: TypeTable) -> dict[str, Any]:
    """The table of a type as JSON values; see ``knowledge/architectures``."""
    used = sorted(set(_fields_of(table)))
    default = flat(to_json(config_of(table.config_class, {})))
    data = {
        "type": table.name,
        "fixed": _fixed(table, default),
        "special": _special(table, used),
        "defaults": _defaults(table, used, default),
        "aliases": _aliases(table, used),
        "twins": _twins(table, used),
        "old": sorted({pattern for cls in table.classes for pattern in cls.old} - LEGACY),
        "classes": _classes(table.classes),
    }
    return {key: value for key, value in data.items() if value not in ({}, [])}


def text_of(data: Mapping[str, Any]) -> str:
    """JSON with one row on a line, so that a difference can be read."""
    parts = [f'"{key}":{_short(value)}' for key, value in sorted(data.items()) if key != "classes"]
    classes = ",\n".join(_text_of_class(name, cls) for name, cls in sorted(data["classes"].items()))
    return "{" + ",\n".join([*parts, f'"classes":{{\n{classes}}}']) + "}\n"


def _text_of_class(name: str, data: Mapping[str, Any]) -> str:
    parts = [f'"{key}":{_short(value)}' for key, value in sorted(data.items()) if key != "rows"]
    rows = ",\n".join(map(_short, data["rows"]))
    return f'"{name}":{{' + ",\n".join([*parts, f'"rows":[\n{rows}]']) + "}"


def _short(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


# --- rows -----------------------------------------------------------------------------------------------------------


def _classes(tables: Iterable[ClassTable]) -> dict[str, Any]:
    tables = list(tables)
    result = {}
    for table in tables:
        rows = {row.name: _row(row, table) for row in table.rows}
        data: dict[str, Any] = {}
        base = _base_of(table, tables)
        if base is not None:
            own = {f"{table.prefix}.{row.name}": _row(row, base)[1:] for row in base.rows}
            inherited = {name for name, rest in own.items() if name in rows and rows[name][1:] == rest}
            data["extends"] = [base.name, table.prefix]
            data["without"] = sorted(set(own) - inherited)
            rows = {name: row for name, row in rows.items() if name not in inherited}
        data["rows"] = list(rows.values())
        if table.tied:
            data["tied"] = table.tied
        if table.inside:
            data["inside"] = table.inside
        if table.prefix and base is None:
            data["prefix"] = table.prefix
        result[table.name] = {key: value for key, value in data.items() if value != [] or key == "rows"}
    return result


def _row(row: Row, table: ClassTable) -> list[Any]:
    condition = None if row.name in table.optional else row.condition
    return [row.name, row.axes, row.shape, condition]


def _base_of(table: ClassTable, others: Iterable[ClassTable]) -> ClassTable | None:
    """The class whose model this one holds below its prefix, if most of it is the same there."""
    own = {row.name: _row(row, table)[1:] for row in table.rows}
    shared = {}
    for other in others:
        inside = any(row.name.startswith(f"{table.prefix}.") for row in other.rows)
        if table.prefix and other is not table and not inside:
            same = sum(own.get(f"{table.prefix}.{row.name}") == _row(row, other)[1:] for row in other.rows)
            if 2 * same > len(other.rows):
                shared[other.name] = (same, other)
    return max(shared.values(), key=lambda item: (item[0], item[1].name))[1] if shared else None


# --- fields ---------------------------------------------------------------------------------------------------------


def _fields_of(table: TypeTable) -> Iterator[str]:
    for cls in table.classes:
        for row in cls.rows:
            for expression in (*row.axes, *(row.shape or ())):
                yield from fields_of(expression)
            yield from fields_of_condition(row.condition)


def fields_of(expression: Expression | None) -> Iterator[str]:
    """The fields that an expression asks for."""
    if isinstance(expression, str):
        yield expression
    elif isinstance(expression, list):
        operands = expression[1:]
        if expression[0] == "if":
            yield from fields_of_condition(operands[0])
            operands = operands[1:]
        for operand in operands:
            yield from fields_of(operand)


def fields_of_condition(condition: Condition) -> Iterator[str]:
    """The fields that a condition asks for."""
    if not isinstance(condition, list) or condition[0] == "index":
        return
    if condition[0] in ("and", "or", "not"):
        for operand in condition[1:]:
            yield from fields_of_condition(operand)
        return
    yield from fields_of(condition[1])
    if condition[0] == "same":
        yield condition[2]
    if condition[0] == "every" and isinstance(condition[3], str):
        yield condition[3]


def _fixed(table: TypeTable, default: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What was asked for and had the same value in all configs: with another value, nothing is known."""
    fixed = {f"{section}.model_type": [kind] for section, kind in _sections(to_json(config_of(table.config_class, {})))}
    for path in default:
        word = path.rpartition(".")[2]
        if word not in table.read or word == "num_labels" or IDS.search(word) or "drop" in word:
            continue
        values = [config.get(path) for config in table.configs]
        if _is_overruled(table, path):
            continue
        distinct = {json.dumps(value, sort_keys=True, default=str): value for value in values}
        text = [value for value in distinct.values() if isinstance(value, str)]
        if len(distinct) == 1 or (text and not all(map(is_activation, text))):
            fixed[path] = [distinct[key] for key in sorted(distinct)]
        elif all(isinstance(value, list) for value in values):
            known = _known_lists(values)
            if known:
                fixed[path] = [known]
    return fixed


def _known_lists(values: Iterable[list[Any]]) -> dict[str, Any]:
    """What all lists of a field have in common: the length, and the words that were seen in them."""
    known: dict[str, Any] = {}
    lengths = {len(value) for value in values}
    words = {item for value in values for item in value if isinstance(item, str)}
    if len(lengths) == 1:
        known["len"] = lengths.pop()
    if words:
        known["items"] = sorted(words)
    return known


def _is_overruled(table: TypeTable, path: str) -> bool:
    """Whether the config class itself sets a field, whatever a ``config.json`` says."""
    values = {json.dumps(config.get(path), default=str) for config in table.configs}
    given = {json.dumps(flat(raw).get(path), default=str) for raw in table.raw} - {"null"}
    return len(values) == 1 and bool(given) and not given <= values


def _sections(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The sections of a config that are configs, with their types."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value.get("model_type"):
            yield prefix + key, value["model_type"]
            yield from _sections(value, f"{prefix}{key}.")


def _special(table: TypeTable, used: Iterable[str]) -> dict[str, list[Any]]:
    special = {}
    for path in used:
        values = [config.get(path) for config in table.configs]
        found = {
            json.dumps(value): value
            for value in values
            if value is None or (type(value) in (int, float) and not value > 0)
        }
        if found:
            special[path] = [found[key] for key in sorted(found)]
    return special


def _defaults(table: TypeTable, used: Iterable[str], default: Mapping[str, Any]) -> dict[str, Any]:
    """What a field means that a config does not have: a value of the class, or one that is made of other fields.

    A size that is absent is not guessed, because an older name may hold it.
    """
    defaults: dict[str, Any] = {}
    for path in used:
        if path.rpartition(".")[2] == "num_labels":
            continue
        without = _without(table, path)
        values = {number: value for number, value in without.items() if type(value) is int}
        if len(values) == len(without) and len(set(values.values())) > 1:
            found = table.expressions.find(values)
            if found is not None:
                defaults[path] = [found]
        elif all(value == default.get(path) for value in without.values()) and isinstance(
            default.get(path), (bool, str, float, type(None))
        ):
            defaults[path] = default.get(path)
    return defaults


def _without(table: TypeTable, path: str) -> dict[int, Any]:
    found = {}
    for number, raw in enumerate(table.raw[:_ASKED]):
        given = json.loads(json.dumps(raw))
        section = given
        *words, last = path.split(".")
        for word in words:
            section = section.setdefault(word, {})
        section.pop(last, None)
        try:
            found[number] = flat(to_json(config_of(table.config_class, given))).get(path)
        except CannotBuild:
            continue
    return found


def _aliases(table: TypeTable, used: Iterable[str]) -> dict[str, list[str]]:
    found = {}
    names = aliases_of(config_of(table.config_class, {}))
    for path in used:
        section, _, word = path.rpartition(".")
        others = sorted(alias for alias, actual in names.items() if actual == word and alias != word)
        if others:
            found[path] = [f"{section}.{other}" if section else other for other in others]
    return found


def _twins(table: TypeTable, used: Iterable[str]) -> dict[str, list[str]]:
    """Fields that had the value of a used one in every config, so that nobody knows which of them counts."""
    columns: dict[str, list[str]] = {}
    for path in sorted({path for config in table.configs for path in config}):
        key = json.dumps([config.get(path) for config in table.configs], default=str)
        columns.setdefault(key, []).append(path)
    twins = {}
    for path in used:
        key = json.dumps([config.get(path) for config in table.configs], default=str)
        others = [other for other in columns.get(key, ()) if other != path and other.rpartition(".")[2] in table.read]
        if others:
            twins[path] = others[:_MOST_TWINS]
    return twins
