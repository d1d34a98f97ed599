"""Finding the expression in a config's fields that gives a number in every observed config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np

from ckpt_doctor.analysis.architecture.settings import UNKNOWN, Expression, Settings

Numbers = "np.ndarray[Any, np.dtype[np.int64]]"
_INVALID = -(1 << 62)
_SURE, _SURE_OF_FIELDS = 5, 3
"""In how many configs an expression, and a field alone, must have held."""
_MOST_ATOMS = 40


class Expressions:
    """All expressions of a few operators in the numbers of some configs, the simplest first."""

    def __init__(self, configs: Sequence[Mapping[str, Any]], read: Iterable[str]) -> None:
        self._flat = configs
        self._read = frozenset(read)
        self.settings = [_Flat(config) for config in configs]
        self._expressions: list[Expression] = []
        self._rows: list[np.ndarray[Any, Any]] = []
        self._seen: set[bytes] = set()
        self._found: dict[tuple[tuple[int, ...], tuple[int, ...]], Expression | None] = {}
        self._width = len(configs)
        self._sections = self._atoms()
        self._more = [self._singles, self._all_pairs, self._all_triples]
        self._matrix = np.zeros((0, len(configs)), dtype=np.int64)

    def find(self, values: Mapping[int, int]) -> Expression | None:
        """The simplest expression that gives these values, by the number of the config; ``None`` if none surely is."""
        where, wanted = tuple(values), tuple(values.values())
        if (where, wanted) not in self._found:
            self._found[where, wanted] = self._search(where, wanted)
        return self._found[where, wanted]

    def _search(self, where: tuple[int, ...], wanted: tuple[int, ...]) -> Expression | None:
        if len(where) < _SURE_OF_FIELDS:
            return None
        if len(set(wanted)) == 1:
            return wanted[0] if len(where) >= _SURE else None
        hits = self._hits(where, wanted)
        while not len(hits) and self._more:
            # What takes long to make is made where nothing simpler is found.
            self._more.pop(0)()
            self._matrix = np.array(self._rows) if self._rows else np.zeros((0, self._width), dtype=np.int64)
            hits = self._hits(where, wanted)
        if not len(hits):
            return None
        found = self._expressions[int(hits[0])]
        different = len(set(wanted))
        sure = different >= 3 or (isinstance(found, str) and len(where) >= _SURE)
        return found if sure and (isinstance(found, str) or len(where) >= _SURE) else None

    def _hits(self, where: tuple[int, ...], wanted: tuple[int, ...]) -> np.ndarray[Any, Any]:
        return np.flatnonzero((self._matrix[:, list(where)] == np.array(wanted)).all(axis=1))

    def number_fields(self) -> list[str]:
        """Fields that are a number in every config."""
        return [path for path in self._paths() if all(type(config.get(path)) is int for config in self._flat)]

    def number_lists(self) -> list[str]:
        """Fields that are a list of numbers in every config."""
        return [
            path
            for path in self._paths()
            if all(
                isinstance(config.get(path), list) and all(type(i) is int for i in config[path])
                for config in self._flat
            )
        ]

    def _paths(self) -> list[str]:
        found = {path for config in self._flat for path in config if path.rpartition(".")[2] in self._read}
        return sorted(found, key=lambda path: (path.count("."), path))

    # --- making them ----------------------------------------------------------------------------------------------

    def _add(self, expression: Expression, row: np.ndarray[Any, Any]) -> None:
        key = row.tobytes()
        if key not in self._seen and (row >= 0).any():
            self._seen.add(key)
            self._expressions.append(expression)
            self._rows.append(row)

    def _atoms(self) -> dict[str, list[tuple[Expression, np.ndarray[Any, Any]]]]:
        """Varied numbers by section."""
        sections: dict[str, list[tuple[Expression, np.ndarray[Any, Any]]]] = {}
        for path in sorted(
            {path for config in self._flat for path in config}, key=lambda path: (path.count("."), path)
        ):
            values = [config.get(path) for config in self._flat]
            for expression in _of_field(path, values):
                row = np.array([_number(settings, expression) for settings in self.settings], dtype=np.int64)
                valid = row[row != _INVALID]
                if len(set(valid.tolist())) > 1 and path.rpartition(".")[2] in self._read:
                    sections.setdefault(path.rpartition(".")[0], []).append((expression, row))
        return sections

    def _singles(self) -> None:
        every = [atom for atoms in self._sections.values() for atom in atoms]
        # A field says more than the length of a list, which older configs do not have.
        for expression, row in sorted(every, key=lambda atom: not isinstance(atom[0], str)):
            self._add(expression, row)
        for expression, row in every:
            for number in (2, 3, 4, 6, 8):
                self._add(["*", number, expression], _times(row, np.int64(number)))
                self._add(["//", expression, number], _over(row, np.int64(number)))
            for number in (1, 2, 3):
                self._add(["+", expression, number], _plus(row, np.int64(number)))
                self._add(["-", expression, number], _plus(row, np.int64(-number)))

    def _all_pairs(self) -> None:
        every = [atom for atoms in self._sections.values() for atom in atoms]
        for atoms in self._sections.values():
            if len(atoms) <= _MOST_ATOMS:
                self._pairs(atoms)
        if len(self._sections) > 1 and len(every) <= 2 * _MOST_ATOMS:
            for (a, x), (b, y) in combinations(every, 2):
                self._add(["*", a, b], _times(x, y))
                self._add(["+", a, b], _plus(x, y))

    def _all_triples(self) -> None:
        for atoms in self._sections.values():
            if len(atoms) <= 28:
                self._triples(atoms)

    def _pairs(self, atoms: list[tuple[Expression, np.ndarray[Any, Any]]]) -> None:
        products = []
        for (a, x), (b, y) in combinations_with_replacement(atoms, 2):
            products.append((["*", a, b], _times(x, y)))
        for expression, row in products:
            self._add(expression, row)
        quotients = []
        for a, x in atoms:
            for b, y in atoms:
                quotients.append((["//", a, b], _over(x, y)))
                self._add(["-", a, b], _plus(x, np.where(y == _INVALID, _INVALID, -y)))
        sums = [(["+", a, b], _plus(x, y)) for (a, x), (b, y) in combinations(atoms, 2)]
        for expression, row in (*sums, *quotients):
            self._add(expression, row)
        for expression, row in quotients:
            # The patches of a square image, with and without tokens in front.
            for number in (0, 1, 2):
                square = ["*", expression, expression]
                self._add(["+", square, number] if number else square, _plus(_times(row, row), np.int64(number)))
        for number in (2, 3, 4):
            for expression, row in products:
                self._add(["*", number, *expression[1:]], _times(row, np.int64(number)))
            for expression, row in sums:
                self._add(["*", number, expression], _times(row, np.int64(number)))
            for a, x in atoms:
                for b, y in atoms:
                    self._add(["+", a, ["*", number, b]], _plus(x, _times(y, np.int64(number))))
        self._fractions(atoms)

    def _triples(self, atoms: list[tuple[Expression, np.ndarray[Any, Any]]]) -> None:
        products = [(["*", a, b], _times(x, y)) for (a, x), (b, y) in combinations_with_replacement(atoms, 2)]
        sums = [(["+", a, b], _plus(x, y)) for (a, x), (b, y) in combinations(atoms, 2)]
        for expression, row in products:
            for c, z in atoms:
                self._add([*expression, c], _times(row, z))
                self._add(["+", expression, c], _plus(row, z))
        for expression, row in sums:
            for c, z in atoms:
                self._add(["*", c, expression], _times(row, z))
                self._add(["+", *expression[1:], c], _plus(row, z))
        for a, x in atoms:
            for b, y in atoms:
                for c, z in atoms:
                    self._add(["*", ["//", a, b], c], _times(_over(x, y), z))
                    self._add(["*", ["+", a, ["*", 2, b]], c], _times(_plus(x, _times(y, np.int64(2))), z))
        if len(atoms) <= 20:
            for (one, x), (two, y) in combinations(products, 2):
                self._add(["+", one, two], _plus(x, y))
                self._add(["+", ["*", 2, *one[1:]], two], _plus(_times(x, np.int64(2)), y))
                self._add(["+", one, ["*", 2, *two[1:]]], _plus(x, _times(y, np.int64(2))))

    def _fractions(self, atoms: list[tuple[Expression, np.ndarray[Any, Any]]]) -> None:
        names = {path for config in self._flat for path, value in config.items() if type(value) is float and value > 0}
        for a, _ in atoms:
            if not isinstance(a, str):
                continue
            for name in sorted(names):
                if name.rpartition(".")[2] in self._read and name.rpartition(".")[0] == a.rpartition(".")[0]:
                    for number in (1, 2, 4, 8):
                        expression: Expression = ["int*", a if number == 1 else ["*", number, a], name]
                        row = np.array([_number(settings, expression) for settings in self.settings], dtype=np.int64)
                        self._add(expression, row)


class _Flat(Settings):
    """Settings over a config that is flat already: dotted paths to values."""

    def _single(self, path: str) -> Any:
        return self._config.get(path, UNKNOWN)


def _of_field(path: str, values: Sequence[Any]) -> list[Expression]:
    if any(type(value) is int for value in values):
        return [path]
    if all(isinstance(value, list) for value in values):
        made: list[Expression] = [["len", path]]
        if all(type(item) is int for value in values for item in value):
            made += [["at", path, 0], ["at", path, -1], ["at", path, 1], ["at", path, -2], ["sum", path]]
        return made
    return []


def _number(settings: Settings, expression: Expression) -> int:
    value = settings.number(expression)
    return _INVALID if value is None else value


def _times(x: Any, y: Any) -> Any:
    return np.where((x == _INVALID) | (y == _INVALID), _INVALID, x * y)


def _plus(x: Any, y: Any) -> Any:
    return np.where((x == _INVALID) | (y == _INVALID), _INVALID, x + y)


def _over(x: Any, y: Any) -> Any:
    safe = np.where(y > 0, y, 1)
    return np.where((x == _INVALID) | (y == _INVALID) | (y <= 0), _INVALID, x // safe)
