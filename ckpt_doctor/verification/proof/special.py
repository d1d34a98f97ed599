"""Tensors that are no plain weights: what the model computes by itself, codes of quantised weights, tied matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ckpt_doctor.core.coverage import MISSING, RESTORED
from ckpt_doctor.verification.names.made_anew import made_anew
from ckpt_doctor.verification.names.packed import lacks
from ckpt_doctor.verification.values.coded import judge_codes
from ckpt_doctor.verification.values.reading import TensorReader
from ckpt_doctor.verification.values.row import Row
from ckpt_doctor.verification.values.tied import judge_tied

from .by_name import JudgedPart
from .evidence import Evidence


def judge_special(evidence: Evidence, parts: Sequence[JudgedPart], settings: Mapping[str, Any]) -> None:
    """Complete the rows of such tensors, in place; ``settings`` are those of the checkpoint's quantiser."""
    rows = [row for part in parts for row in part.rows]
    _forgive_what_is_computed(evidence, rows)
    with TensorReader(evidence.checkpoint.root) as reader:
        judge_codes(rows, settings, reader, values=evidence.values)
        if not evidence.values:
            judge_tied(evidence.model, rows, reader)
    if settings and not evidence.values:
        for part in parts:
            _lose_without_partners(part, settings)


def _forgive_what_is_computed(evidence: Evidence, rows: Sequence[Row]) -> None:
    lost = [row for row in rows if row.target is None and row.wanted.part.role != "adapter"]
    names = made_anew(evidence.model, [row.wanted.tensor for row in lost])
    for row in lost:
        if row.wanted.tensor.name in names:
            row.needless, row.detail = True, "the model computes it by itself"


def _lose_without_partners(part: JudgedPart, settings: Mapping[str, Any]) -> None:
    """Codes of a quantiser that lack what they have to be multiplied by are no weights."""
    absent = lacks(part.match.part, settings)
    for row in part.rows:
        other = absent.get(row.wanted.tensor.name)
        if other is not None and row.status == RESTORED:
            row.status, row.detail = MISSING, f"codes of a quantised weight, and {other} is not in the checkpoint"
