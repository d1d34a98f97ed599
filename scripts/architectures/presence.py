"""Finding the condition on a config, and on the layer, under which a tensor is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import Any

from ckpt_doctor.analysis.architecture.settings import Condition, holds

from .expressions import Expressions

Point = tuple[int, tuple[int, ...]]
"""The number of a config, and the indices of the lists of layers that something lies in."""

_SURE = 3
"""In how many configs something must be there, and in how many absent, for a condition to be known."""
_MOST_PAIRS = 400


class Presence:
    """The simple conditions that some configs can tell apart."""

    def __init__(self, expressions: Expressions, configs: Sequence[Mapping[str, Any]], read: frozenset[str]) -> None:
        self._expressions = expressions
        self._configs = configs
        self._read = read
        self._global = [*self._about_fields(), *self._about_pairs()]
        self._of_places: dict[tuple[Point, ...], list[tuple[Condition, int]]] = {}

    def find(self, universe: Sequence[Point], present: set[Point]) -> Condition:
        """The simplest condition that holds at the points in ``present`` alone; ``None`` if none surely is."""
        if len(present) == len(universe):
            return True
        absent = {config for config, place in universe if (config, place) not in present}
        if min(len({config for config, _ in present}), len(absent)) < _SURE:
            return None
        wanted = sum(1 << number for number, point in enumerate(universe) if point in present)
        literals = self._literals(tuple(universe))
        for condition, mask in literals:
            if mask == wanted:
                return condition
        containing = [item for item in literals if item[1] & wanted == wanted][:_MOST_PAIRS]
        for (one, x), (two, y) in combinations(containing, 2):
            if x & y == wanted:
                return ["and", one, two]
        inside = [item for item in literals if item[1] | wanted == wanted and item[1]][:_MOST_PAIRS]
        for (one, x), (two, y) in combinations(inside, 2):
            if x | y == wanted:
                return ["or", one, two]
        return self._triple(containing, wanted)

    def _triple(self, containing: list[tuple[Condition, int]], wanted: int) -> Condition:
        for (one, x), (two, y), (three, z) in combinations(containing[:60], 3):
            if x & y & z == wanted:
                return ["and", one, two, three]
        return None

    def splits(self, points: Sequence[Point]) -> Iterator[tuple[Condition, int]]:
        """Conditions with the bit mask of the points where they hold, for a dimension that depends on one."""
        everything = (1 << len(points)) - 1
        for condition, mask in self._literals(tuple(points)):
            if 0 < mask < everything:
                yield condition, mask

    def _literals(self, universe: tuple[Point, ...]) -> list[tuple[Condition, int]]:
        if universe not in self._of_places:
            if len(self._of_places) > 200:
                self._of_places.clear()
            axes = len(universe[0][1]) if universe else 0
            candidates = [*self._global, *(item for axis in range(axes) for item in self._about_places(axis, universe))]
            self._of_places[universe] = _distinct(self._masks(candidates, universe))
        return self._of_places[universe]

    def _masks(self, candidates: list[Condition], universe: tuple[Point, ...]) -> Iterator[tuple[Condition, int]]:
        for condition in candidates:
            mask = opposite = 0
            local = _is_local(condition)
            known = True
            told: dict[int, bool | None] = {}
            for number, (config, place) in enumerate(universe):
                if local or config not in told:
                    told[config] = holds(condition, self._expressions.settings[config], place)
                if told[config] is None:
                    known = False
                    break
                if told[config]:
                    mask |= 1 << number
                else:
                    opposite |= 1 << number
            if known:
                yield condition, mask
                yield ["not", condition], opposite

    def _about_fields(self) -> Iterator[Condition]:
        for path in self._paths():
            values = [config.get(path) for config in self._configs]
            plain = [value for value in values if value is None or isinstance(value, (bool, str))]
            distinct = sorted({repr(value): value for value in plain}.items())
            if len({repr(value) for value in values}) < 2:
                continue
            if all(isinstance(value, bool) for value in values):
                yield ["is", path, True]
                continue
            for _, value in distinct:
                yield ["is", path, value]
            if any(type(value) in (int, float) and not value for value in values):
                yield ["set", path]
            small = {value for value in values if type(value) is int}
            for number in sorted(small & {0, 1}):
                yield ["is", path, number]

    def _about_pairs(self) -> Iterator[Condition]:
        """Sizes that are the same in some configs."""
        sizes = {}
        for path in self._paths():
            values = [config.get(path) for config in self._configs]
            if all(type(value) is int for value in values) and max(values) >= 16:
                sizes[path] = values
        for (one, first), (two, second) in combinations(sizes.items(), 2):
            equal = sum(a == b for a, b in zip(first, second, strict=True))
            if _SURE <= equal <= len(first) - _SURE:
                yield ["same", one, two]

    def _about_places(self, axis: int, universe: tuple[Point, ...]) -> Iterator[Condition]:
        for path in self._paths():
            values = [config.get(path) for config in self._configs]
            if all(isinstance(value, list) for value in values):
                items = {item for value in values for item in value if isinstance(item, (str, int, bool))}
                if len(items) <= 12:
                    for item in sorted(items, key=repr):
                        yield ["kind", path, axis, item]
                if all(type(item) is int for value in values for item in value):
                    yield ["among", path, axis]
                yield ["below", ["-", ["len", path], 1], axis]
            elif all(type(value) is int for value in values):
                yield ["below", path, axis]
                yield ["below", ["-", path, 1], axis]
                if len(set(values)) > 1:
                    shifts = [other for other in self._paths() if other.endswith("offset")]
                    for shift in (0, 1, -1, *shifts):
                        yield ["every", path, axis, shift]
        for index in (0, 1):
            yield ["index", axis, index]

    @cache  # noqa: B019 - lives as long as the type is worked on
    def _paths(self) -> tuple[str, ...]:
        found = {path for config in self._configs for path in config if path.rpartition(".")[2] in self._read}
        return tuple(sorted(found, key=lambda path: (path.count("."), path)))


def _is_local(condition: Condition) -> bool:
    return isinstance(condition, list) and condition[0] in ("kind", "among", "below", "every", "index")


def _distinct(items: Iterator[tuple[Condition, int]]) -> list[tuple[Condition, int]]:
    found: dict[int, Condition] = {}
    for condition, mask in items:
        found.setdefault(mask, condition)
    return [(condition, mask) for mask, condition in found.items()]
