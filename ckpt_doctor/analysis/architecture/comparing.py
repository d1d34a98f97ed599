"""A whole model held against its config: what is missing, and what has another shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from ckpt_doctor.core.architecture import Architecture, Misshapen, MissingLayers, MissingTensors
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import MAX_TENSORS
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import TensorInfo

from .expected import Expected, Match, Row, expected, key_of
from .segments import is_wrapped, segment_off

_PLAIN = frozenset(("float64", "float32", "float16", "bfloat16"))
_MOST_UNMATCHED = 1000


def with_architectures(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with each whole model held against its config, where the config's architecture is known."""
    if checkpoint.kind.covers != "model" or not any(part.role == "model" for part in checkpoint.parts):
        return checkpoint
    parts = tuple(part._replace(architecture=_judged(part)) for part in checkpoint.parts)
    return checkpoint._replace(parts=parts)


def _judged(part: Part) -> Architecture | None:
    config = part.config.data if part.config is not None else None
    if part.role != "model" or config is None or not _is_whole(part):
        return None
    wanted = expected(config)
    if wanted is None:
        return None
    return compared(wanted, ((file.path, tensor) for file in part.preferred for tensor in file.tensors))


def _is_whole(part: Part) -> bool:
    """True if all shards are there and readable; else other rules tell what is missing."""
    names = {file.path for file in part.files}
    of_active = [index for index in part.indexes if index.shards.intersection(part.active)]
    return part.readable and all(index.error is None and index.shards <= names for index in of_active)


class _Matched(NamedTuple):
    """Tensors by the name of their row, and the names that no row has."""

    places: Mapping[str, set[tuple[int, ...]]]
    misshapen: tuple[Misshapen, ...]
    confirmed: frozenset[str]
    unmatched: tuple[str, ...]
    tied: frozenset[str]
    older: bool
    bare: bool
    number: int


def compared(wanted: Expected, tensors: Iterable[tuple[str, TensorInfo]]) -> Architecture:
    """How tensors, each with the path of its file, fit what is expected."""
    found = _matched(wanted, tensors)
    fits = len(found.unmatched) < found.number
    missing: list[MissingTensors] = []
    layers: tuple[MissingLayers, ...] = ()
    if fits and not found.older:
        layers = tuple(_missing_layers(wanted, found))
        gone = {(layer.stack, index) for layer in layers for index in layer.indices}
        # Of a list of which more layers are absent than are listed, nothing else is said.
        cut = {layer.stack for layer in layers if layer.total > len(layer.indices)}
        rows = [row for row in wanted.rows if _stack(row.name) not in cut]
        missing = [item for row in rows if (item := _missing(wanted, row, found, gone)) is not None]
    return Architecture(
        cls=wanted.cls,
        matched=found.number,
        unmatched=found.unmatched[:_MOST_UNMATCHED],
        missing=tuple(missing),
        layers=layers,
        misshapen=found.misshapen if fits else (),
        segment=None if fits or found.older else segment_off(found.unmatched, [row.name for row in wanted.rows]),
        bare=found.bare,
        confirmed=found.confirmed,
    )


def _matched(wanted: Expected, tensors: Iterable[tuple[str, TensorInfo]]) -> _Matched:
    places: dict[str, set[tuple[int, ...]]] = {}
    unmatched: list[str] = []
    tied: set[str] = set()
    misshapen: list[Misshapen] = []
    older = False
    prefixed = count = 0
    shapes = _Shapes(wanted)
    for path, tensor in tensors:
        match = wanted.match(tensor.name)
        if match is None:
            match = wanted.match_prefixed(tensor.name)
            prefixed += match is not None
        if match is None:
            if wanted.is_tied(tensor.name):
                tied.add(key_of(tensor.name))
            else:
                older = older or wanted.is_older(tensor.name) or is_wrapped(tensor.name)
                unmatched.append(tensor.name)
            continue
        count += 1
        places.setdefault(match.row.name, set()).add(match.place)
        wrong = shapes.wrong(match, path, tensor)
        if wrong is not None:
            misshapen.append(wrong)
    bare = 2 * prefixed > count
    wrong_shapes, fitting = tuple(misshapen), frozenset(shapes.confirmed)
    return _Matched(places, wrong_shapes, fitting, tuple(unmatched), frozenset(tied), older, bare, count)


class _Shapes:
    """The expected shapes of one class: most rows have one for all layers."""

    def __init__(self, wanted: Expected) -> None:
        self._wanted = wanted
        self._known: dict[str, tuple[int | None, ...] | None] = {}
        self.confirmed: set[str] = set()

    def wrong(self, match: Match, path: str, tensor: TensorInfo) -> Misshapen | None:
        """What is wrong with the shape of a tensor, if anything surely is."""
        row = match.row
        new = row.name not in self._known or row.local
        shape = self._wanted.shape(match) if new else self._known[row.name]
        self._known[row.name] = shape
        if shape == tensor.shape and not new:
            return None
        # Packed weights have shapes of their own.
        if shape is None or tensor.dtype.name not in _PLAIN:
            return None
        sizes = list(zip(row.shape or (), shape, tensor.shape, strict=False))
        different = [(dim, size) for dim, wanted, size in sizes if wanted is not None and wanted != size]
        if len(shape) == len(tensor.shape) and not different:
            self.confirmed.update(dim for dim, _, _ in sizes if isinstance(dim, str))
            return None
        field, size = different[0] if len(shape) == len(tensor.shape) and len(different) == 1 else (None, None)
        if not isinstance(field, str):
            field = size = None
        return Misshapen(tensor.name, path, tensor.shape, shape, field, size, row.head)


# --- what is missing ------------------------------------------------------------------------------------------


def _missing(
    wanted: Expected, row: Row, found: _Matched, gone: set[tuple[str, int]]
) -> MissingTensors | None:  # fmt: skip
    present = found.places.get(row.name, set())
    number = wanted.count(row)
    if number == 0 or (number == len(present) and _in_range(wanted, row, present)):
        return None
    if _held_by_tied(wanted, row, found):
        return None
    stack = _stack(row.name)
    absent = (
        place for place in wanted.required(row) if place not in present and not (place and (stack, place[0]) in gone)
    )
    first = list(islice(absent, MAX_TENSORS))
    if not first:
        return None
    count = len(first) + sum(1 for _ in absent)
    names = tuple(map(row.named, first))
    return MissingTensors(row.name, names, count, row.head, len(row.axes) > 1 and "expert" in row.name)


def _in_range(wanted: Expected, row: Row, present: set[tuple[int, ...]]) -> bool:
    """True if no index is beyond what its list has: some files hold a layer more, for the prediction of more tokens."""
    lengths = [wanted.settings.number(axis) for axis in row.axes]
    highest = [max(indices) for indices in zip(*present, strict=True)] if row.axes and present else []
    return all(length is not None and index < length for index, length in zip(highest, lengths, strict=False))


def _held_by_tied(wanted: Expected, row: Row, found: _Matched) -> bool:
    """True if another name holds the same parameter: one that need not be there under this config."""
    names = wanted.tied.get(row.name, ())
    if not names:
        return False
    present = found.places.keys() | found.tied
    held = {name for name in present for form in (name, f"{wanted.prefix}.{name}") if form in names}
    required = {other.name for other in wanted.rows if other.name in held and any(True for _ in wanted.required(other))}
    return bool(held - required)


def _stack(name: str) -> str:
    """The outermost list of layers that a pattern lies in; empty if there is none."""
    return name.partition(".*")[0] if ".*" in name else ""


def _missing_layers(wanted: Expected, found: _Matched) -> Iterator[MissingLayers]:
    """Layers of which nothing is there and something should be."""
    stacks: dict[str, list[Row]] = {}
    for row in wanted.rows:
        if row.axes:
            stacks.setdefault(_stack(row.name), []).append(row)
    for stack, rows in stacks.items():
        there = {place[0] for row in rows for place in found.places.get(row.name, ())}
        length = _length(wanted, rows)
        if not there or length is None or len(there) == length:
            continue
        needed = _needed(wanted, rows, length)
        absent = [index for index in needed if index not in there]
        if absent:
            more = max(0, length - _MOST_LAYERS)
            yield MissingLayers(stack, tuple(absent[:_MOST_LAYERS]), len(absent) + more, length)


_MOST_LAYERS = 2000


def _length(wanted: Expected, rows: list[Row]) -> int | None:
    lengths = {wanted.settings.number(row.axes[0]) for row in rows if row.axes[0] is not None}
    length = lengths.pop() if len(lengths) == 1 else None
    return length if isinstance(length, int) else None


def _needed(wanted: Expected, rows: list[Row], length: int) -> list[int]:
    """The layers, of the first few, in which some tensor must be."""
    plain = [row for row in rows if len(row.axes) == 1 and row.condition is not None]
    if any(row.condition is True for row in plain):
        return list(range(min(length, _MOST_LAYERS)))
    places = {
        place[0] for row in plain for place in islice(wanted.required(row), _MOST_LAYERS) if place[0] < _MOST_LAYERS
    }
    return sorted(places)
