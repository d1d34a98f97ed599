"""The table of one model type: random configs drawn, models observed, rows found and held against fresh configs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from ckpt_doctor.analysis.architecture.settings import Settings, holds

from . import observing
from .catalogue import ModelType
from .expressions import Expressions
from .observing import CannotBuild, Observation
from .patterns import Patterns, Row
from .presence import Presence
from .varying import Variation, leaves

_FITTED = 16
_HELD_OUT = 3
_TRIES = 24
_FEWEST = 7
_RECORDED = 4
_OF_HEADS = frozenset((*range(12), 16, 17))
"""The configs in which classes are observed that are a model of another class with a head."""
_MOST_NAMES = 6000


@dataclass
class ClassTable:
    """One class: its rows, names that may be absent, and names that the model itself has in place of those on disk."""

    name: str
    rows: list[Row]
    optional: set[str] = field(default_factory=set)
    tied: dict[str, list[str]] = field(default_factory=dict)
    inside: list[str] = field(default_factory=list)
    old: list[str] = field(default_factory=list)
    prefix: str = ""


@dataclass
class TypeTable:
    """One model type. ``configs`` are what was observed, flat; ``refused`` says which classes are not in it and why."""

    name: str
    classes: list[ClassTable]
    configs: list[dict[str, Any]]
    raw: list[dict[str, Any]]
    config_class: type[PreTrainedConfig]
    read: frozenset[str]
    expressions: Expressions
    refused: dict[str, str]


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as dotted paths, with the number of labels as a field of its own."""
    found = {".".join(path): value for path, value in leaves(config)}
    for section in {path.rpartition(".")[0] for path in found}:
        inner: Any = config
        for word in section.split(".") if section else ():
            inner = inner[word]
        labels = inner.get("id2label")
        if isinstance(labels, Mapping):
            found[f"{section}.num_labels" if section else "num_labels"] = len(labels)
    return found


def make(kind: ModelType) -> TypeTable:
    """Observe a type. Raises ``CannotBuild`` where none of its classes can be built."""
    observing.read.clear()
    first, reasons = _first_buildable(kind)
    raw = list(_drawn(kind, first))
    observed: dict[str, dict[int, Observation]] = {}
    refused = dict(reasons)
    configs: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    for given in raw:
        config = observing.config_of(kind.config, given)
        number = len(configs)
        for cls in kind.classes:
            if number not in _OF_HEADS and _is_head(cls, kind.classes):
                continue
            try:
                found = observing.observe(cls, config, recorded=number < _RECORDED)
            except CannotBuild as error:
                refused.setdefault(cls.__name__, str(error))
                continue
            if len(found.saved) <= _MOST_NAMES:
                observed.setdefault(cls.__name__, {})[number] = found
        configs.append(flat(observing.to_json(config)))
        kept.append(given)
    aliases = aliases_of(observing.config_of(kind.config, {}))
    read = frozenset(observing.read | {aliases[name] for name in observing.read if name in aliases} | {"num_labels"})
    fitted = range(len(configs) - _HELD_OUT)
    expressions = Expressions([configs[number] for number in fitted], read)
    presence = Presence(expressions, [configs[number] for number in fitted], read)
    held_out = {number: _settings(configs[number]) for number in range(len(fitted), len(configs))}
    classes = []
    by_name = {cls.__name__: cls for cls in kind.classes}
    for name, models in observed.items():
        seen = {number: model for number, model in models.items() if number in fitted}
        if len(seen) < _FEWEST:
            refused[name] = refused.get(name, "too few configs")
            continue
        refused.pop(name, None)
        cls = by_name[name]
        inherited = _inherited(cls, classes, models, {number: _settings(configs[number]) for number in models})
        own = {
            number: {
                key: shape
                for key, shape in model.saved.items()
                if _matching(inherited.get(_key(key), ()), key)[0] is None
            }
            for number, model in seen.items()
        }
        rows = Patterns(expressions, presence).find(own)
        for number, settings in held_out.items():
            if number in models:
                left = [key for key in models[number].saved if _matching(inherited.get(_key(key), ()), key)[0] is None]
                _hold_against(rows, settings, {key: models[number].saved[key] for key in left})
        rows = [*(row for found in inherited.values() for row in found), *rows]
        classes.append(_class_table(cls, rows, models))
    if not classes:
        raise CannotBuild("; ".join(sorted(set(refused.values()))[:2]) or "nothing to observe")
    return TypeTable(kind.name, classes, configs, kept, kind.config, read, expressions, refused)


def aliases_of(config: PreTrainedConfig) -> dict[str, str]:
    """Other names of fields, of the config and its sections, each with the name that is stored."""
    found = dict(config.attribute_map)
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            found |= aliases_of(value)
    return found


def _is_head(cls: type[PreTrainedModel], classes: Sequence[type[PreTrainedModel]]) -> bool:
    """Whether most of a class is a model of another one, which is observed more often."""
    others = [other for other in classes if other is not cls and other.base_model_prefix == cls.base_model_prefix]
    return len(classes) > 3 and bool(cls.base_model_prefix) and any(other is classes[0] for other in others)


def _inherited(
    cls: type[PreTrainedModel],
    bases: Sequence[ClassTable],
    models: Mapping[int, Observation],
    settings: Mapping[int, Settings],
) -> dict[str, list[Row]]:
    """The rows of another class that hold below the prefix of this one, in all that was observed, by their keys."""
    best: dict[str, list[Row]] = {}
    for base in bases:
        prefix = f"{cls.base_model_prefix}."
        rows = [Row(prefix + row.name, row.axes, row.shape, row.condition) for row in base.rows]
        if not cls.base_model_prefix or any(row.name.startswith(prefix) for row in base.rows):
            continue
        agreeing = [row for row in rows if row.condition is not None]
        before = {row.name: (row.condition, row.shape) for row in rows}
        for number, model in models.items():
            _hold_against(rows, settings[number], model.saved)
        agreeing = [row for row in agreeing if before[row.name] == (row.condition, row.shape)]
        if len(agreeing) > sum(map(len, best.values())):
            best = {}
            for row in agreeing:
                best.setdefault(_key(row.name), []).append(row)
    return best


def _settings(config: Mapping[str, Any]) -> Settings:
    from .expressions import _Flat

    return _Flat(config)


def _first_buildable(kind: ModelType) -> tuple[type[PreTrainedModel], dict[str, str]]:
    reasons = {}
    for cls in kind.classes:
        reason = _why_not(kind, cls, {})
        if reason is None:
            return cls, reasons
        reasons[cls.__name__] = reason
    raise CannotBuild("; ".join(sorted(set(reasons.values()))[:2]))


def _why_not(kind: ModelType, cls: type[PreTrainedModel], given: Mapping[str, Any]) -> str | None:
    """Why a class cannot be built from a config; ``None`` where it can."""
    try:
        observing.build(cls, observing.config_of(kind.config, given))
    except CannotBuild as error:
        return str(error)
    return None


def _drawn(kind: ModelType, cls: type[PreTrainedModel]) -> Iterator[dict[str, Any]]:
    def buildable(given: Mapping[str, Any]) -> bool:
        return _why_not(kind, cls, given) is None

    default = observing.to_json(observing.config_of(kind.config, {}))
    variation = Variation(default, buildable, kind.name)
    count = 0
    for _ in range(_TRIES):
        given = variation.draw()
        if given is not None:
            count += 1
            yield given
        if count == _FITTED + _HELD_OUT:
            return


# --- holding rows against fresh configs -----------------------------------------------------------------------------


def _hold_against(rows: list[Row], settings: Settings, saved: Mapping[str, tuple[int, ...]]) -> None:
    """Forget what a model that was not looked at before contradicts."""
    by_key: dict[str, list[Row]] = {}
    for row in rows:
        by_key.setdefault(_key(row.name), []).append(row)
    counts: Counter[str] = Counter()
    for name, shape in saved.items():
        row, place = _matching(by_key.get(_key(name), ()), name)
        if row is None:
            continue
        counts[row.name] += 1
        _hold_shape(row, settings, shape, place)
        if row.condition is not None and holds(row.condition, settings, place) is not True:
            row.condition = None
    for row in rows:
        if row.condition is not None and _expected(row, settings) != counts[row.name]:
            row.condition = None


def _hold_shape(row: Row, settings: Settings, shape: tuple[int, ...], place: Sequence[int]) -> None:
    if row.shape is None:
        return
    if len(row.shape) != len(shape):
        row.shape = None
        return
    row.shape = [
        None if dim is not None and settings.number(dim, place) != size else dim
        for dim, size in zip(row.shape, shape, strict=True)
    ]


def _expected(row: Row, settings: Settings) -> int | None:
    places: list[tuple[int, ...]] = [()]
    for axis in row.axes:
        longer = []
        for place in places:
            length = settings.number(axis, place)
            if length is None or length > 4096:
                return None
            longer += [(*place, index) for index in range(length)]
        places = longer
    told = [holds(row.condition, settings, place) for place in places]
    return None if None in told else sum(map(bool, told))


def _key(name: str) -> str:
    return ".".join("*" if word.isdecimal() else word for word in name.split("."))


def _matching(rows: Sequence[Row], name: str) -> tuple[Row | None, tuple[int, ...]]:
    words = name.split(".")
    for row in rows:
        pattern = row.name.split(".")
        if all(p in ("*", w) for p, w in zip(pattern, words, strict=True)):
            return row, tuple(int(w) for p, w in zip(pattern, words, strict=True) if p == "*")
    return None, ()


# --- what may be absent ---------------------------------------------------------------------------------------------


def _class_table(cls: type[PreTrainedModel], rows: list[Row], models: Mapping[int, Observation]) -> ClassTable:
    by_key: dict[str, list[Row]] = {}
    for row in rows:
        by_key.setdefault(_key(row.name), []).append(row)
    table = ClassTable(cls.__name__, rows, prefix=cls.base_model_prefix)
    inside = set()
    for model in models.values():
        for name in model.optional:
            row, _ = _matching(by_key.get(_key(name), ()), name)
            if row is not None:
                table.optional.add(row.name)
        for name, others in model.tied.items():
            row, _ = _matching(by_key.get(_key(name), ()), name)
            if row is not None:
                known = table.tied.setdefault(row.name, [])
                known += [key for key in map(_key, others) if key not in known]
        tied = {name for others in model.tied_inside for name in others}
        inside |= {_key(name) for name in model.inside if name not in model.saved and name not in tied}
        table.old = sorted({*table.old, *model.old})
    table.inside = sorted(inside - set(by_key))
    return table
