"""The words for how two checkpoints differ."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from .envelope import envelope


class Side(NamedTuple):
    """One of the two: ``path`` as it was given, ``formats`` of its files, and the number of its tensors."""

    path: str
    layout: str
    formats: tuple[str, ...]
    tensor_count: int

    def to_dict(self) -> dict[str, Any]:
        """The side in the document of ``diff --output-format json``."""
        return {"path": self.path, "layout": self.layout, "formats": self.formats, "tensors": self.tensor_count}


class OneSided(NamedTuple):
    """A tensor that only one side has. ``same_as`` names one of which it is another name there, if there is one."""

    part: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    same_as: str | None = None


class Mismatch(NamedTuple):
    """A shape, a dtype or a setting of which one side says ``a`` and the other ``b``."""

    part: str
    name: str
    a: Any
    b: Any


class ValueDifference(NamedTuple):
    """A tensor of which some elements differ.

    ``dtypes`` are those of both sides. Of the same dtype elements differ by their bits, of others by the numbers that
    they stand for. ``elements`` counts all and ``differing`` those that differ (bytes, where several elements share
    one); ``first`` is the flat index of the first, in row-major order. ``largest`` is the largest absolute difference,
    ``None`` if there is none, and ``nonfinite`` counts the differing elements between which there is none: NaN or
    infinite on either side.
    """

    part: str
    name: str
    dtypes: tuple[str, str]
    shape: tuple[int, ...]
    elements: int
    differing: int
    first: int
    largest: float | None
    nonfinite: int


class Problem(NamedTuple):
    """Something that could not be compared: ``reason`` is a clause, ``tensors`` are concerned, all where none is named.

    ``path`` is that of a file, relative to what ``side`` (``a`` or ``b``, or nothing for both) was given as.
    """

    side: str
    path: str
    reason: str
    tensors: tuple[str, ...] = ()


class Difference(NamedTuple):
    """Everything in which two checkpoints differ, or why it is not known.

    ``values`` says whether values were asked for, ``common`` counts the tensors that both have, and ``compared`` those
    among them whose values were compared. ``left_out`` names files that were not looked at, since no loader reads them.
    """

    a: Side
    b: Side
    values: bool
    common: int
    compared: int = 0
    only_a: tuple[OneSided, ...] = ()
    only_b: tuple[OneSided, ...] = ()
    shapes: tuple[Mismatch, ...] = ()
    dtypes: tuple[Mismatch, ...] = ()
    settings: tuple[Mismatch, ...] = ()
    differing: tuple[ValueDifference, ...] = ()
    problems: tuple[Problem, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """True if everything that was asked for was compared, and is the same."""
        found = (self.only_a, self.only_b, self.shapes, self.dtypes, self.settings, self.differing, self.problems)
        return not any(found)

    def to_dict(self) -> dict[str, Any]:
        """The document of ``diff --output-format json``, version 1, as plain values."""
        return {
            **envelope(),
            "equal": self.equal,
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "values": self.values,
            "summary": {
                "common": self.common,
                "compared": self.compared,
                "only_in_a": len(self.only_a),
                "only_in_b": len(self.only_b),
                "shapes": len(self.shapes),
                "dtypes": len(self.dtypes),
                "settings": len(self.settings),
                "values": len(self.differing),
                "problems": len(self.problems),
            },
            "only_in_a": [item._asdict() for item in self.only_a],
            "only_in_b": [item._asdict() for item in self.only_b],
            "shapes": [item._asdict() for item in self.shapes],
            "dtypes": [item._asdict() for item in self.dtypes],
            "settings": [item._asdict() for item in self.settings],
            "differing": [item._asdict() for item in self.differing],
            "problems": [item._asdict() for item in self.problems],
            "left_out": list(self.left_out),
        }

    def to_json(self) -> str:
        """The document of ``diff --output-format json`` as text."""
        return json.dumps(self.to_dict(), indent=2)
