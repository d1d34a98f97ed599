"""A finished table held against configs that are drawn in another way: what they contradict is forgotten.

The configs that a table is made from suit the type's first class; here each class gets its own, and the table is asked
as the package asks it, with defaults, guards and all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ckpt_doctor.analysis.architecture.expected import Expected, Match, guarded, settings_for

from . import observing
from .catalogue import ModelType
from .observing import CannotBuild
from .varying import Variation

_CONFIGS = 8
_TRIES = 10
_LARGEST = 512


def refined(data: dict[str, Any], kind: ModelType, seed: str = "refined") -> dict[str, Any]:
    """The table without what a few fresh configs of each class contradict; changed in place."""
    by_name = {cls.__name__: cls for cls in kind.classes}
    for name in sorted(data["classes"]):
        _hold_against_config(data, kind, by_name[name], {})
        variation = _variation(kind, by_name[name], f"{kind.name} {name} {seed}")
        found = 0
        for _ in range(_TRIES):
            given = variation.draw() if found < _CONFIGS else None
            found += given is not None and _hold_against_config(data, kind, by_name[name], given)
    return data


def hold_against_defaults(data: dict[str, Any], kind: ModelType) -> dict[str, Any]:
    """The table without what the default config contradicts, which is what most published models are like."""
    for cls in kind.classes:
        if cls.__name__ in data["classes"]:
            _hold_against_config(data, kind, cls, {})
    return data


def _hold_against_config(data: dict[str, Any], kind: ModelType, cls: Any, given: Mapping[str, Any]) -> bool:
    """Forget what a model of one config contradicts. Returns whether it could be built."""
    try:
        config = observing.config_of(kind.config, given)
        model = observing.observe(cls, config)
    except CannotBuild:
        return False
    _hold_against(data, cls.__name__, observing.to_json(config), model.saved)
    return True


def _variation(kind: ModelType, cls: Any, seed: str) -> Variation:
    def buildable(given: Mapping[str, Any]) -> bool:
        try:
            observing.build(cls, observing.config_of(kind.config, given))
        except CannotBuild:
            return False
        return True

    return Variation(observing.to_json(observing.config_of(kind.config, {})), buildable, seed, _LARGEST)


def _hold_against(data: dict[str, Any], cls: str, config: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    if not guarded(config, data):
        return
    expected = Expected(cls, data, settings_for(config, data))
    places: dict[str, set[tuple[int, ...]]] = {}
    for name, shape in saved.items():
        match = expected.match(name)
        if match is None:
            continue
        places.setdefault(match.row.name, set()).add(match.place)
        _hold_shape(data, cls, expected, match, shape)
    for row in expected.rows:
        if any(place not in places.get(row.name, ()) for place in expected.required(row)):
            _raw_row(data, cls, row.name)[3] = None


def _hold_shape(data: dict[str, Any], cls: str, expected: Expected, match: Match, shape: tuple[int, ...]) -> None:
    wanted = expected.shape(match)
    if wanted is None or (
        len(wanted) == len(shape) and all(a is None or a == b for a, b in zip(wanted, shape, strict=True))
    ):
        return
    row = _raw_row(data, cls, match.row.name)
    if row[2] is not None and len(row[2]) == len(shape):
        row[2] = [dim if a is None or a == b else None for dim, a, b in zip(row[2], wanted, shape, strict=True)]
    else:
        row[2] = None


def _raw_row(data: dict[str, Any], cls: str, name: str) -> list[Any]:
    """The row of a class as it stands in the table, which may be in the class that it extends."""
    table = data["classes"][cls]
    for row in table["rows"]:
        if row[0] == name:
            found: list[Any] = row
            return found
    base, prefix = table["extends"]
    return _raw_row(data, base, name.removeprefix(f"{prefix}."))
