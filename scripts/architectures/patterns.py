"""From the names and shapes of several models of one class to rows: patterns with shapes and conditions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ckpt_doctor.analysis.architecture.settings import Condition, Expression

from .expressions import Expressions
from .observing import Shape
from .presence import Point, Presence

_FIRST_OF_LISTS = 8


@dataclass
class Row:
    """One pattern: ``*`` stands for the index of a layer, and ``axes`` give the number of layers for each.

    A dimension or an axis is ``None`` where no expression surely gives it, and so is ``shape`` where the number of
    dimensions varies. ``condition`` is ``None`` if it is unknown whether the tensor is there.
    """

    name: str
    axes: list[Expression | None]
    shape: list[Expression | None] | None
    condition: Condition
    points: set[Point] = field(default_factory=set, repr=False)


_Entry = tuple[Point, Sequence[str], Shape]


class Patterns:
    """Finds the rows of one class."""

    def __init__(self, expressions: Expressions, presence: Presence) -> None:
        self._expressions = expressions
        self._presence = presence
        self.rows: list[Row] = []

    def find(self, saved: Mapping[int, Mapping[str, Shape]]) -> list[Row]:
        """The rows of models, given their names and shapes by the number of their config."""
        entries = [
            ((number, ()), name.split("."), shape) for number, names in saved.items() for name, shape in names.items()
        ]
        self._walk([], [], entries, [(number, ()) for number in saved])
        return self.rows

    def _walk(self, words: list[str], axes: list[Any], entries: list[_Entry], universe: list[Point] | None) -> None:
        ends = [entry for entry in entries if not entry[1]]
        if ends:
            self.rows.append(self._row(words, axes, ends, universe))
        numbered: dict[str, list[_Entry]] = defaultdict(list)
        named: dict[str, list[_Entry]] = defaultdict(list)
        for point, rest, shape in entries:
            if rest:
                (numbered if rest[0].isdecimal() else named)[rest[0]].append((point, rest[1:], shape))
        if numbered:
            self._lists(words, axes, numbered, named, universe)
        for word, inside in named.items():
            self._walk([*words, word], axes, inside, universe)

    def _lists(
        self, words: list[str], axes: list[Any], numbered: dict[str, list[_Entry]], named: dict[str, list[_Entry]],
        universe: list[Point] | None,
    ) -> None:  # fmt: skip
        """Decide whether numbers are indices of a list whose length varies, or names like any other."""
        indices: dict[Point, set[int]] = defaultdict(set)
        for word, inside in numbered.items():
            for point, _, _ in inside:
                indices[point].add(int(word))
        if len({frozenset(found) for found in indices.values()}) == 1:
            named.update(numbered)
            return
        lengths = {point: max(found) + 1 for point, found in indices.items()}
        length = self._plain(lengths)
        if length is None and max(lengths.values()) <= _FIRST_OF_LISTS:
            named.update(numbered)
            return
        inside = [
            ((point[0], (*point[1], int(word))), rest, shape)
            for word, items in numbered.items()
            for point, rest, shape in items
        ]
        below = None if universe is None or length is None else self._below(universe, length)
        self._walk([*words, "*"], [*axes, length], inside, below)

    def _below(self, universe: list[Point], length: Expression) -> list[Point] | None:
        points = []
        for config, place in universe:
            count = self._expressions.settings[config].number(length, place)
            if count is None or count > 4096:
                return None
            points += [(config, (*place, index)) for index in range(count)]
        return points

    def _row(self, words: list[str], axes: list[Any], ends: list[_Entry], universe: list[Point] | None) -> Row:
        shapes = {point: shape for point, _, shape in ends}
        lengths = {len(shape) for shape in shapes.values()}
        dims = None
        if len(lengths) == 1:
            dims = [
                self.expression({point: shape[number] for point, shape in shapes.items()})
                for number in range(lengths.pop())
            ]
        known = universe is not None and set(shapes) <= set(universe)
        condition = self._presence.find(universe, set(shapes)) if known and universe is not None else None
        return Row(".".join(words), axes, dims, condition, set(shapes))

    # --- numbers --------------------------------------------------------------------------------------------------

    def expression(self, values: Mapping[Point, int]) -> Expression | None:
        """What gives these numbers: one for all layers, the layer's own setting, or one of two by a condition."""
        found = self._plain(values)
        if found is not None:
            return found
        points = tuple(sorted(values))
        for condition, mask in self._presence.splits(points):
            yes = {point: values[point] for number, point in enumerate(points) if mask >> number & 1}
            no = {point: values[point] for number, point in enumerate(points) if not mask >> number & 1}
            first = self._plain(yes)
            second = self._plain(no) if first is not None else None
            if first is not None and second is not None:
                return ["if", condition, first, second]
        return None

    def _plain(self, values: Mapping[Point, int]) -> Expression | None:
        by_config: dict[int, set[int]] = defaultdict(set)
        for (config, _), value in values.items():
            by_config[config].add(value)
        if all(len(found) == 1 for found in by_config.values()):
            return self._expressions.find({config: next(iter(found)) for config, found in sorted(by_config.items())})
        return self._by_layer(values) if len(by_config) >= 4 else None

    def _by_layer(self, values: Mapping[Point, int]) -> Expression | None:
        axes = len(next(iter(values))[1])
        for axis in range(axes):
            for candidate in self._layer_expressions(axis, values):
                if all(
                    self._expressions.settings[config].number(candidate, place) == value
                    for (config, place), value in values.items()
                ):
                    return candidate
        return None

    def _layer_expressions(self, axis: int, values: Mapping[Point, int]) -> list[Expression]:
        configs = sorted({config for config, _ in values})
        lists = self._expressions.number_lists()
        items: list[Expression] = [["of", path, axis, shift] for path in lists for shift in (0, -1, 1)]
        found = list(items)
        found += [["*", number, item] for item in items for number in (2, 3, 4)]
        found += [["//", item, number] for item in items for number in (2, 4)]
        fields = self._expressions.number_fields()[:40]
        found += [["*", path, item] for item in items for path in fields]
        found += [["*", one, two] for one in items for two in items]
        # A width that doubles from stage to stage.
        for shift in (0, 1, -1):
            base = {}
            for config in configs:
                place, value = next((p, v) for (c, p), v in values.items() if c == config)
                power = place[axis] + shift
                scaled = value / 2**power
                if power < 0 or scaled != int(scaled):
                    break
                base[config] = int(scaled)
            else:
                expression = self._expressions.find(base)
                if expression is not None:
                    found.append(["<<", expression, axis, shift])
        return found
