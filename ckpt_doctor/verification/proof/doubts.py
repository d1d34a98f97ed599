"""Tensors of which it is not known whether the load wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.core.wording import counted
from ckpt_doctor.verification.values.telling import tell

from .by_name import JudgedPart, is_unproven
from .evidence import Evidence


def doubt(evidence: Evidence, parts: Sequence[JudgedPart]) -> Iterator[str]:
    """Doubt values that a new model has too; yields how many tensors cannot be told from new ones."""
    untold = sum(tell(part.rows, evidence.fates) for part in parts) if evidence.values else 0
    if untold:
        yield (
            f"{counted(untold, 'tensor')} hold one value throughout, as a new model may: that a load wrote them cannot "
            "be told afterwards. watch_load can tell"
        )


def refuse_unproven(evidence: Evidence, parts: Sequence[JudgedPart]) -> None:
    """Raise ``VerificationError`` where of a part that arrived no write was seen.

    One tensor may hide among others that were written; where no write was seen, nothing is known.
    """
    for part in parts:
        arrived = [row for row in part.rows if row.arrived and row.wanted.tensor.numel]
        if arrived and all(is_unproven(row, evidence.fates) for row in arrived):
            raise VerificationError(
                f"the parameters for the {part.match.part.name} held its values before the load, and are of a kind "
                "that cannot be marked: it is unknown whether the load wrote them. Use a model with other values"
            )
