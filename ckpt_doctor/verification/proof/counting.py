"""Rows to the tensors of the report: which are expected, what each is called, what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.coverage import MISSING, TensorCoverage
from ckpt_doctor.verification.model.live import Place, place
from ckpt_doctor.verification.model.loads import load_of
from ckpt_doctor.verification.names.wanted import wanted
from ckpt_doctor.verification.values.row import Row


def tensors_covered(checkpoint: Checkpoint, rows: Sequence[Row]) -> tuple[TensorCoverage, ...]:
    """The rows as the report has them."""
    components = load_of(checkpoint).components(checkpoint)
    return tuple(
        TensorCoverage(
            row.wanted.tensor.name,
            row.wanted.file.path,
            components.get((row.wanted.file.path, row.wanted.tensor.name), row.wanted.part.name),
            row.status,
            row.target.name if row.target is not None else None,
            row.detail,
            expected,
        )
        for row, expected in zip(rows, _expected(rows), strict=True)
    )


def nothing_arrived(checkpoint: Checkpoint) -> tuple[TensorCoverage, ...]:
    """The tensors of a checkpoint that no load could be judged for."""
    rows = [Row(item, None, None, MISSING) for items in wanted(checkpoint).values() for item in items]
    return tensors_covered(checkpoint, rows)


def _expected(rows: Iterable[Row]) -> list[bool]:
    """Which rows count. Of those that are for one and the same parameter and fared alike, the first does."""
    seen: set[tuple[Place, bool]] = set()
    found = []
    for row in rows:
        # Without elements there is nothing to restore, and nothing to lose.
        has_values = row.wanted.tensor.numel > 0 or row.has_other_shape
        expected = not row.wanted.part.secondary and not row.needless and has_values
        if expected and row.target is not None and not row.target.computed:
            where = (place(row.target.value()), row.arrived)
            expected = where not in seen
            seen.add(where)
        found.append(expected)
    return found
