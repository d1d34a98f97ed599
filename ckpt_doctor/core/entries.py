"""The tensors that a layout requires in a file: their names, shapes, and sizes that agree between them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import NamedTuple


class Entry(NamedTuple):
    """A tensor that a file must hold, or may hold where it is not ``required``.

    In ``name``, a ``*`` matches any characters within one word between dots: ``layers.*.weight`` means all tensors
    of that kind, and one of them must be there. ``dims`` gives each dimension a size or a name: equal names mean equal
    sizes all over the checkpoint.
    """

    name: str
    dims: tuple[str | int, ...] | None = None
    required: bool = True

    @property
    def is_pattern(self) -> bool:
        """True if it may mean several tensors."""
        return "*" in self.name

    def matches(self, name: str) -> bool:
        """True if a tensor of this name is meant.

        >>> Entry("layers.*.weight").matches("layers.10.weight"), Entry("layers.*.weight").matches("layers.weight")
        (True, False)
        """
        return name == self.name or (self.is_pattern and _regex(self.name).fullmatch(name) is not None)

    def matches_start(self, name: str) -> bool:
        """True if ``name`` is the path of something that the tensor lies in."""
        words = self.name.split(".")
        start = words[: name.count(".") + 1]
        return len(start) < len(words) and _regex(".".join(start)).fullmatch(name) is not None

    def is_among(self, names: Collection[str]) -> bool:
        """True if one of ``names`` is meant; fast for a set."""
        return self.name in names or (self.is_pattern and any(map(self.matches, names)))


def meant(names: Iterable[str], entries: Iterable[Entry]) -> dict[str, Entry]:
    """The one of ``entries`` that means each of ``names``, for those that any means; an exact one goes before a ``*``.

    >>> sorted(meant(["a.1.b", "c"], [Entry("a.*.b"), Entry("a.2.b")]))
    ['a.1.b']
    """
    exact = {entry.name: entry for entry in entries}
    patterns = [entry for entry in exact.values() if entry.is_pattern]
    found = {}
    for name in names:
        entry = exact.get(name) or next((entry for entry in patterns if entry.matches(name)), None)
        if entry is not None:
            found[name] = entry
    return found


@lru_cache(1024)
def _regex(pattern: str) -> re.Pattern[str]:
    """The pattern for a name with ``*``; cached, because a file can hold a hundred thousand names to compare."""
    return re.compile(r"[^.]*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


class KnownSize(NamedTuple):
    """The size of a named dimension as something else than an entry tells it; ``source`` says what."""

    dim: str
    size: int
    source: str
