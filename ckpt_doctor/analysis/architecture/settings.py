"""What a ``config.json`` says, as the architecture tables ask for it.

A value that cannot be told is ``UNKNOWN``, and whatever depends on it is not judged: a field that is absent and has no
certain default, one of another type than expected, a section that is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Union

Expression = Union[int, str, list[Any]]  # noqa: UP007 - Python 3.10 evaluates it
"""See :meth:`Settings.number`."""

Condition = Union[bool, None, list[Any]]  # noqa: UP007
"""See :func:`holds`."""

UNKNOWN: Final = object()
"""What cannot be told."""

_LARGEST = 10**15
_ABSENT = object()


class Settings:
    """The fields of one ``config.json``.

    ``defaults`` gives fields that may be absent a value, or in a list of one item an expression. ``aliases`` are other
    names of fields, and ``twins`` fields that always agree: where two disagree, neither counts.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
        aliases: Mapping[str, Sequence[str]] | None = None,
        twins: Mapping[str, Sequence[str]] | None = None,
        special: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        self._config = config
        self._defaults = defaults or {}
        self._aliases = aliases or {}
        self._twins = twins or {}
        self._special = special
        self._known: dict[str, Any] = {}

    def get(self, path: str) -> Any:
        """The value of a field by its dotted path, or ``UNKNOWN``."""
        if path not in self._known:
            self._known[path] = UNKNOWN  # a default that leads back to itself is none
            value = self._agreed(path)
            self._known[path] = value if self._is_understood(path, value) else UNKNOWN
        return self._known[path]

    def given(self, path: str) -> Any:
        """What the config itself says under this path, or ``UNKNOWN`` where it says nothing."""
        value = self._raw(path)
        return UNKNOWN if value is _ABSENT else value

    def _is_understood(self, path: str, value: Any) -> bool:
        if self._special is None or not (value is None or (type(value) in (int, float) and not value > 0)):
            return True
        return value in self._special.get(path, ())

    def _agreed(self, path: str) -> Any:
        value = self._single(path)
        others = (self._single(twin) for twin in self._twins.get(path, ()))
        return value if all(other is UNKNOWN or other == value for other in others) else UNKNOWN

    def _single(self, path: str) -> Any:
        if path.rpartition(".")[2] == "num_labels":
            return self._labels(path)
        found = [self._raw(name) for name in (path, *self._aliases.get(path, ()))]
        given = [value for value in found if value is not _ABSENT]
        if given and any(value != given[0] for value in given):
            return UNKNOWN
        value = given[0] if given else _ABSENT
        if value is _ABSENT or value is None:
            return self._default(path, value)
        return value

    def _default(self, path: str, value: Any) -> Any:
        default = self._defaults.get(path, _ABSENT)
        if isinstance(default, list):
            number = self.number(default[0])
            return UNKNOWN if number is None else number
        if value is None:
            return None
        if default is _ABSENT or not self._has_section(path):
            return UNKNOWN
        return default

    def _labels(self, path: str) -> Any:
        """The number of labels is the length of ``id2label``, which is absent where there are two."""
        section = path.removesuffix("num_labels")
        labels = self._raw(f"{section}id2label")
        count = self._raw(path)
        if isinstance(labels, Mapping):
            return len(labels)
        if labels not in (_ABSENT, None) or not self._has_section(path):
            return UNKNOWN
        if count is not _ABSENT and count is not None:
            return count
        return self._defaults.get(path, 2)

    def _raw(self, path: str) -> Any:
        value: Any = self._config
        for word in path.split("."):
            if not isinstance(value, Mapping):
                return _ABSENT
            value = value.get(word, _ABSENT)
        return value

    def _has_section(self, path: str) -> bool:
        section = path.rpartition(".")[0]
        return not section or isinstance(self._raw(section), Mapping)

    def number(self, expression: Expression | None, place: Sequence[int] = ()) -> int | None:
        """The value of an expression, a number from 0 to 10**15, or ``None`` if that cannot be told.

        An expression is a number, a field's path, or a list of an operator and its operands: ``+ - * //`` with two
        or more, ``len`` and ``sum`` of a field that is a list, ``at`` (the item of a list with this index, from the
        end if negative), ``of`` (the item whose index is that of the ``n``-th list of layers that the tensor lies
        in: ``place[n]``, moved by a third operand), ``<<`` (doubled as often as such an index says), ``int*`` (a
        field times a fraction, rounded down), and ``if`` with a condition and two expressions.
        """
        value = UNKNOWN if expression is None else self._evaluate(expression, place)
        return value if isinstance(value, int) and 0 <= value <= _LARGEST else None

    def _evaluate(self, expression: Expression, place: Sequence[int]) -> Any:
        if isinstance(expression, int):
            return expression
        if isinstance(expression, str):
            value = self.get(expression)
            return value if type(value) is int else UNKNOWN
        operator, *operands = expression
        if operator in ("len", "sum", "at", "of"):
            return self._of_list(operator, operands, place)
        if operator == "if":
            chosen = holds(operands[0], self, place)
            return UNKNOWN if chosen is None else self._evaluate(operands[1 if chosen else 2], place)
        if operator == "<<":
            base, power = self._evaluate(operands[0], place), place[operands[1]] + operands[2]
            return base << power if base is not UNKNOWN and 0 <= power < 40 else UNKNOWN
        if operator == "int*":
            numbers = (self._evaluate(operands[0], place), self.get(operands[1]))
            if any(type(number) not in (int, float) or not abs(number) < _LARGEST for number in numbers):
                return UNKNOWN
            return int(numbers[0] * numbers[1])
        values = [self._evaluate(operand, place) for operand in operands]
        if any(value is UNKNOWN or abs(value) > _LARGEST for value in values):
            return UNKNOWN
        return _combined(operator, values)

    def _of_list(self, operator: str, operands: Sequence[Any], place: Sequence[int]) -> Any:
        items = self.get(operands[0])
        if not isinstance(items, list):
            return UNKNOWN
        if operator == "len":
            return len(items)
        if operator == "sum":
            return sum(items) if all(type(item) is int for item in items) else UNKNOWN
        index = operands[1] if operator == "at" else place[operands[1]] + operands[2]
        if operator == "of" and index < 0:
            return UNKNOWN
        item = items[index] if -len(items) <= index < len(items) else UNKNOWN
        return item if type(item) is int else UNKNOWN


def _combined(operator: str, values: Sequence[int]) -> Any:
    result = values[0]
    for value in values[1:]:
        if operator == "+":
            result += value
        elif operator == "-":
            result -= value
        elif operator == "*":
            result *= value
        elif operator == "//" and value > 0:
            result //= value
        else:
            return UNKNOWN
    return result


def holds(condition: Condition, settings: Settings, place: Sequence[int] = ()) -> bool | None:
    """True if a condition holds in the layer at ``place``; ``None`` if that cannot be told.

    A condition is ``true``, ``null`` (unknown), or a list of a word and its operands: ``is`` (a field has this
    value), ``set`` (a field is neither null, nor 0, nor false, nor empty), ``same`` (two fields are the same number),
    ``not``, ``and``, ``or``; and about the index in the list of layers that ``place[axis]`` is: ``kind`` (a list has
    this value there), ``below`` (the index is less than an expression), ``among`` (a list holds the index), ``every``
    (the index plus a number, or less a field, is a multiple of a field), ``index`` (the index is this one).
    """
    if condition is None or isinstance(condition, bool):
        return condition
    word, *operands = condition
    if word in ("and", "or", "not"):
        return _joined(word, [holds(operand, settings, place) for operand in operands])
    if word == "index":
        return bool(place[operands[0]] == operands[1])
    value = settings.number(operands[0]) if word == "below" else settings.get(operands[0])
    if value is UNKNOWN or (value is None and word == "below"):
        return None
    if word == "is":
        return _equal(value, operands[1])
    if word == "same":
        other = settings.get(operands[1])
        return value == other if type(value) is int and type(other) is int else None
    if word == "set":
        return bool(value)
    if word == "every" and isinstance(operands[2], str):
        offset = settings.number(operands[2])
        return None if offset is None else _about_index(word, value, place[operands[1]], [-offset])
    return _about_index(word, value, place[operands[1]], operands[2:])


def _joined(word: str, values: list[bool | None]) -> bool | None:
    if word == "not":
        return None if values[0] is None else not values[0]
    decisive = word == "or"
    if decisive in values:
        return decisive
    return None if None in values else not decisive


def _equal(value: Any, wanted: Any) -> bool | None:
    if value is None or wanted is None:
        return value is None and wanted is None
    # What has another type than all that was ever seen may mean anything.
    return bool(value == wanted) if type(value) is type(wanted) else None


def _about_index(word: str, value: Any, index: int, operands: list[Any]) -> bool | None:
    if word == "kind":
        known = isinstance(value, list) and index < len(value)
        return _equal(value[index], operands[0]) if known else None
    if word == "among":
        known = isinstance(value, list) and all(type(item) is int for item in value)
        return index in value if known else None
    if type(value) is not int:
        return None
    if word == "below":
        return index < value
    return (index + operands[0]) % value == 0 if value > 0 else None
