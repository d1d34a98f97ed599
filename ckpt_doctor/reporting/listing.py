"""The tensors of checkpoints, as a table and as a document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ckpt_doctor.analysis.aliasing import alias_groups
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.envelope import envelope
from ckpt_doctor.core.findings import MAX_TENSORS
from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.core.wording import byte_size, counted, listed, scaled, shape

from .escape import printable
from .presentation import Presentation


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

    ``repeated_nbytes`` are the bytes by which sharing makes the whole listing look larger than what is stored.
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


def table(listings: Sequence[Listing], look: Presentation) -> Iterator[str]:
    """A table and a line of totals for each checkpoint, in pieces of text; names are never shortened."""
    from tabulate import tabulate

    for number, item in enumerate(listings):
        if number:
            yield ""
        if len(listings) > 1:
            yield look.paint(printable(item.checkpoint.path), "bold")
        if item.rows:
            # Most checkpoints share nothing: the line of totals says so, and the table is a column narrower.
            columns = 6 if any(row.group for row in item.rows) else 5
            yield tabulate(
                [_cells(row)[:columns] for row in item.rows],
                headers=("name", "dtype", "shape", "bytes", "file", "shared with")[:columns],
                disable_numparse=True,
                colalign=("left", "left", "left", "right", "left", "left")[:columns],
            )
            yield ""
        yield _totals(item)


def _cells(row: Row) -> tuple[str, ...]:
    tensor = row.tensor
    others = listed([*row.shared_with(3), *[""] * (row.shared_count - 3)])
    return (
        printable(tensor.name),
        tensor.dtype.name,
        shape(tensor.shape),
        str(tensor.nbytes),
        printable(row.file),
        printable(others),
    )


def _totals(item: Listing) -> str:
    count = f"{len(item.rows):,} of " if item.hidden else ""
    tensors = counted(len(item.rows) + item.hidden, "tensor")
    text = f"{count}{tensors}, {scaled(item.parameters)} parameters, {byte_size(item.nbytes)}"
    if item.hidden or not item.rows:
        return text
    if not any(row.group for row in item.rows):
        return f"{text}, no shared storage"
    return f"{text}, {byte_size(item.nbytes - item.repeated_nbytes)} of it unique"


def document(listings: Iterable[Listing]) -> str:
    """The listings as JSON, version 1. ``shared_with`` has at most 20 names, with ``shared_count`` beside it."""
    return json.dumps(
        {
            **envelope(),
            "checkpoints": [_checkpoint_document(item) for item in listings],
        },
        indent=2,
    )


def _checkpoint_document(item: Listing) -> dict[str, Any]:
    return {
        "path": item.checkpoint.path,
        "layout": item.checkpoint.layout,
        "files": [
            {
                "path": file.path,
                "role": part.role,
                "format": file.format,
                "bytes": file.nbytes,
                "tensors": len(file.tensors),
                "readable": file.readable,
                "defects": [{"kind": defect.kind.value, "message": defect.message} for defect in file.defects],
            }
            for part in item.checkpoint.parts
            for file in part.files
        ],
        "tensors": [
            {
                "name": row.tensor.name,
                "dtype": row.tensor.dtype.name,
                "shape": list(row.tensor.shape),
                "bytes": row.tensor.nbytes,
                "file": row.file,
                "shared_with": row.shared_with(MAX_TENSORS),
                "shared_count": row.shared_count,
            }
            for row in item.rows
        ],
        "totals": {"tensors": len(item.rows), "parameters": item.parameters, "bytes": item.nbytes},
    }
