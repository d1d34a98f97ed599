"""Two sets of weights that should be the same, side by side: what the rules about second copies ask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ckpt_doctor.analysis.sharding import indexed_shards
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.core.wording import counted, listed


class Copies(NamedTuple):
    """How two sets of weights differ: names on one side only, other shapes, other dtypes, other values.

    ``compared`` counts the names of which both values were read, and ``common`` those that both sides have.
    """

    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    shapes_differ: tuple[str, ...]
    dtypes_differ: tuple[str, ...]
    values_differ: tuple[str, ...]
    compared: int
    common: int

    @property
    def agree(self) -> bool:
        """True if nothing that was compared differs."""
        return not self.names

    @property
    def surely_differ(self) -> bool:
        """True if more than the dtype differs: one copy in half precision may hold what the other does."""
        return bool(self.only_first or self.only_second or self.shapes_differ or self.values_differ)

    @property
    def all_compared(self) -> bool:
        """True if all values were read."""
        return self.compared == self.common

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that differs in anything."""
        return (*self.values_differ, *self.shapes_differ, *self.dtypes_differ, *self.only_first, *self.only_second)

    def without(self, names: Iterable[str]) -> Copies:
        """The same where these names on one side only do not count."""
        left_out = frozenset(names)
        return self._replace(
            only_first=tuple(name for name in self.only_first if name not in left_out),
            only_second=tuple(name for name in self.only_second if name not in left_out),
        )

    def differences(self, first: str, second: str) -> str:
        """The differences in words; ``first`` and ``second`` are what the two sides are called."""
        found = []
        for names, side in ((self.only_first, first), (self.only_second, second)):
            if names:
                found.append(f"{counted(len(names), 'tensor')} only in {side}")
        headers = sorted((*self.shapes_differ, *self.dtypes_differ))
        if headers:
            found.append(f"{len(headers):,} in shape or dtype ({listed(headers, 1)})")
        if self.values_differ:
            found.append(f"{len(self.values_differ):,} of {self.compared:,} in value ({listed(self.values_differ, 1)})")
        return ", ".join(found)


def compare(first: Iterable[WeightFile], second: Iterable[WeightFile]) -> Copies:
    """Compare two sets of files by the names of their tensors.

    A further name of a tensor that both have is no difference: writers of safetensors drop all but one.
    """
    left = {tensor.name: (file, tensor) for file in first for tensor in file.tensors}
    right = {tensor.name: (file, tensor) for file in second for tensor in file.tensors}
    common = left.keys() & right.keys()
    shapes, dtypes, values, compared = [], [], [], 0
    for name in sorted(common):
        (left_file, a), (right_file, b) = left[name], right[name]
        if a.shape != b.shape:
            shapes.append(name)
        elif a.dtype != b.dtype:
            dtypes.append(name)
        else:
            one, other = (file.scans.get(name) if file.scans else None for file in (left_file, right_file))
            if one and other and one.digest and other.digest:
                compared += 1
                if one.digest != other.digest:
                    values.append(name)
    return Copies(
        only_first=_alone(left, common),
        only_second=_alone(right, common),
        shapes_differ=tuple(shapes),
        dtypes_differ=tuple(dtypes),
        values_differ=tuple(values),
        compared=compared,
        common=len(common),
    )


def indexes_of(part: Part, files: Iterable[WeightFile]) -> list[str]:
    """The indexes that list nothing but these files, and so go with them."""
    paths = {file.path for file in files}
    return [shards.index.path for shards in indexed_shards(part) if shards.listed and paths.issuperset(shards.listed)]


def _alone(side: dict[str, tuple[WeightFile, TensorInfo]], common: Iterable[str]) -> tuple[str, ...]:
    stored = {_place(*side[name]) for name in common}
    return tuple(sorted(name for name in side.keys() - set(common) if _place(*side[name]) not in stored))


def _place(file: WeightFile, tensor: TensorInfo) -> tuple[object, ...]:
    return file.path, tensor.storage.key, tensor.extent, tensor.shape
