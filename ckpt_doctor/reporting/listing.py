"""The list of tensors, as a table and as a document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ckpt_doctor.analysis.listing import Listing, Row
from ckpt_doctor.core.envelope import envelope
from ckpt_doctor.core.findings import MAX_TENSORS
from ckpt_doctor.core.wording import byte_size, counted, listed, scaled, shape

from .escape import printable
from .presentation import Presentation


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
