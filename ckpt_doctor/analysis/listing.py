"""The tensors of a checkpoint as a list, and why the list may not be all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part, ShardIndex
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile

from .aliasing import alias_groups


class Row(NamedTuple):
    """A tensor, the file it lies in, and the group of names that share its bytes (with its own name, or empty)."""

    tensor: TensorInfo
    file: str
    group: tuple[str, ...]

    def shared_with(self, limit: int) -> list[str]:
        """The first other names of the group."""
        return [name for name in self.group[: limit + 1] if name != self.tensor.name][:limit]

    @property
    def shared_count(self) -> int:
        """How many other names there are."""
        return max(0, len(self.group) - 1)


class Listing(NamedTuple):
    """The rows of one checkpoint that a filter left. ``hidden`` counts the others.

    ``repeated_nbytes`` are the bytes that the whole listing counts more than once because tensors share them.
    """

    checkpoint: Checkpoint
    rows: tuple[Row, ...]
    hidden: int
    repeated_nbytes: int

    @property
    def parameters(self) -> int:
        """Elements of all rows."""
        return sum(row.tensor.numel for row in self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, shared ones each time."""
        return sum(row.tensor.nbytes for row in self.rows)


def listing(checkpoint: Checkpoint, pattern: str | None = None) -> Listing:
    """Every tensor of every weight file whose name matches the glob ``pattern``, in the order of the files."""
    rows = []
    hidden = repeated = 0
    matches = _matcher(pattern)
    for file in checkpoint.files:
        aliases = alias_groups(file)
        groups = {name: group.names for group in aliases for name in group.names}
        repeated += sum(group.apparent_nbytes - group.unique_nbytes for group in aliases)
        for tensor in file.tensors:
            if matches(tensor.name):
                rows.append(Row(tensor, file.path, groups.get(tensor.name, ())))
            else:
                hidden += 1
    return Listing(checkpoint, tuple(rows), hidden, repeated)


def _matcher(pattern: str | None) -> Any:
    if pattern is None:
        return lambda name: True
    import re
    from fnmatch import translate

    return re.compile(translate(pattern)).match


def gaps(checkpoint: Checkpoint) -> Iterator[str]:
    """Why tensors may be missing from the list, one statement each: damage, files without tensors, absent shards."""
    for part in checkpoint.parts:
        for file in part.files:
            yield from _gaps_of_file(checkpoint, file)
        for index in part.indexes:
            yield from _gaps_of_index(checkpoint, part, index)


def _gaps_of_file(checkpoint: Checkpoint, file: WeightFile) -> Iterator[str]:
    where = file.path if checkpoint.path.endswith(file.path) else f"{checkpoint.path}/{file.path}"
    for defect in file.defects:
        yield f"{where}: {defect.message}"
    if not file.readable and not file.defects:
        yield f"{where}: this is {file.content or 'nothing that holds tensors'}"


def _gaps_of_index(checkpoint: Checkpoint, part: Part, index: ShardIndex) -> Iterator[str]:
    if index.error:
        yield f"{checkpoint.path}/{index.path}: {index.error}"
    present = {file.path for file in part.files}
    folder = index.path.rpartition("/")[0]
    for shard in sorted({f"{folder}/{name}" if folder else name for name in index.weight_map.values()}):
        if shard not in present:
            yield f"{checkpoint.path}/{index.path}: names {shard}, which is not there"
