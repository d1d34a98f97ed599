"""The words for how a whole model and its ``config.json`` fit together: what is absent, what has another shape."""

from __future__ import annotations

from typing import NamedTuple


class MissingTensors(NamedTuple):
    """Tensors of one kind that the architecture has and no file holds.

    ``pattern`` is their name with ``*`` for the indices of layers. ``names`` are the first of them, and ``total`` is
    how many there are. ``head`` says that they belong to what stands on the base model, and ``expert`` that they are
    numbered parts of a layer of experts.
    """

    pattern: str
    names: tuple[str, ...]
    total: int
    head: bool = False
    expert: bool = False


class Misshapen(NamedTuple):
    """A tensor whose shape the config does not give; ``None`` in ``expected`` is a size that is not known.

    ``field`` is the setting that a differing dimension is, and ``size`` what that dimension has, where there is one
    such setting.
    """

    name: str
    file: str
    shape: tuple[int, ...]
    expected: tuple[int | None, ...]
    field: str | None = None
    size: int | None = None
    head: bool = False


class MissingLayers(NamedTuple):
    """Whole layers of one list that are absent: the first indices, how many, and how many the list should have."""

    stack: str
    indices: tuple[int, ...]
    total: int
    layers: int


class Segment(NamedTuple):
    """A part of the path that every name has too much, or lacks. ``position`` counts the parts before it."""

    word: str
    position: int
    inserted: bool
    """True if the names hold it and the architecture does not."""


class Architecture(NamedTuple):
    """A model held against what transformers builds from its config.

    ``cls`` is the class that the config names. ``matched`` counts the tensors that the class has, and ``unmatched``
    are the names of others. ``bare`` says that the names are those of the base model alone, without the prefix that it
    has in the class. ``confirmed`` are settings that some tensor's shape agrees with.
    """

    cls: str
    matched: int
    unmatched: tuple[str, ...] = ()
    missing: tuple[MissingTensors, ...] = ()
    layers: tuple[MissingLayers, ...] = ()
    misshapen: tuple[Misshapen, ...] = ()
    segment: Segment | None = None
    bare: bool = False
    confirmed: frozenset[str] = frozenset()
