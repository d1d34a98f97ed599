"""A loaded model and a checkpoint to the judgement: what became of every tensor, and what is wrong with the load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ckpt_doctor.core.coverage import MISSING, RESTORED
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.wording import counted
from ckpt_doctor.verification.names.made_anew import made_anew
from ckpt_doctor.verification.names.matching import PartMatch, match
from ckpt_doctor.verification.names.packed import add_packed, lacks, quantisation
from ckpt_doctor.verification.values.coded import judge_codes
from ckpt_doctor.verification.values.content import by_content
from ckpt_doctor.verification.values.finite import not_finite
from ckpt_doctor.verification.values.reading import TensorReader
from ckpt_doctor.verification.values.row import Row
from ckpt_doctor.verification.values.telling import tell
from ckpt_doctor.verification.values.tied import judge_tied

from .by_name import JudgedPart, is_unproven, judge_offloaded, judged_by_name
from .counting import tensors_covered
from .covered import uncovered
from .evidence import Evidence, Judgement
from .idle import idle_adapters
from .merging import find_merged
from .of_tensors import findings_of, lost_rows
from .scaling import scaled_otherwise


def assess(evidence: Evidence) -> Judgement:
    """Judge every tensor of the checkpoint against the model.

    Raises ``VerificationError`` where the parameters held the values before the load and could not be marked.
    """
    settings = quantisation(evidence.checkpoint)
    parts = judged_by_name(evidence, _matched(evidence, settings))
    rows = [row for part in parts for row in part.rows]
    if evidence.values:
        judge_offloaded(evidence, rows)
        by_content(evidence.live, evidence.checkpoint, rows)
    _forgive_what_is_computed(evidence, rows)
    _judge_codes_and_ties(evidence, parts, settings)
    notes = [*_find_merged(evidence, parts), *_doubt(evidence, parts)]
    _refuse_unproven(evidence, parts)
    findings = list(_findings(evidence, parts))
    return Judgement(tensors_covered(evidence.checkpoint, rows), findings, tuple(notes))


def _matched(evidence: Evidence, settings: Mapping[str, Any]) -> list[PartMatch]:
    """The tensors with the parameters of their names, also the pieces of quantised weights."""
    matches = match(evidence.live, evidence.checkpoint, exact=evidence.exact)
    if settings and not evidence.values:
        for found in matches:
            add_packed(evidence.model, found, settings)
    return matches


def _forgive_what_is_computed(evidence: Evidence, rows: Sequence[Row]) -> None:
    lost = [row for row in rows if row.target is None and row.wanted.part.role != "adapter"]
    names = made_anew(evidence.model, [row.wanted.tensor for row in lost])
    for row in lost:
        if row.wanted.tensor.name in names:
            row.needless, row.detail = True, "the model computes it by itself"


def _judge_codes_and_ties(evidence: Evidence, parts: Sequence[JudgedPart], settings: Mapping[str, Any]) -> None:
    rows = [row for part in parts for row in part.rows]
    with TensorReader(evidence.checkpoint.root) as reader:
        judge_codes(rows, settings, reader, values=evidence.values)
        if not evidence.values:
            judge_tied(evidence.model, rows, reader)
    if settings and not evidence.values:
        for part in parts:
            _lose_without_partners(part, settings)


def _lose_without_partners(part: JudgedPart, settings: Mapping[str, Any]) -> None:
    """Codes of a quantiser that lack what they have to be multiplied by are no weights."""
    absent = lacks(part.match.part, settings)
    for row in part.rows:
        other = absent.get(row.wanted.tensor.name)
        if other is not None and row.status == RESTORED:
            row.status, row.detail = MISSING, f"codes of a quantised weight, and {other} is not in the checkpoint"


def _find_merged(evidence: Evidence, parts: Sequence[JudgedPart]) -> Iterator[str]:
    """Look for adapters in the weights of the base; yields why that could not be tried."""
    for part in parts:
        if evidence.reference is None or not part.match.unadapted or part.arrived == len(part.rows):
            continue
        folder = str(evidence.checkpoint.root / part.match.part.directory)
        unknown = find_merged(evidence.live, folder, part.rows, evidence.reference)
        if unknown is not None:
            yield unknown


def _doubt(evidence: Evidence, parts: Sequence[JudgedPart]) -> Iterator[str]:
    """Doubt values that a new model has as well; yields how many tensors cannot be told from new ones."""
    untold = sum(tell(part.rows, evidence.fates) for part in parts) if evidence.values else 0
    if untold:
        yield (
            f"{counted(untold, 'tensor')} hold one value throughout, as a new model may: that a load wrote them cannot "
            "be told afterwards. watch_load can tell"
        )


def _refuse_unproven(evidence: Evidence, parts: Sequence[JudgedPart]) -> None:
    """One tensor may hide among others that were written; where no write was seen, nothing is known."""
    for part in parts:
        arrived = [row for row in part.rows if row.arrived and row.wanted.tensor.numel]
        if arrived and all(is_unproven(row, evidence.fates) for row in arrived):
            raise VerificationError(
                f"the parameters for the {part.match.part.name} held its values before the load, and are of a kind "
                "that cannot be marked: whether the load wrote them is not known. Judge it with a model of other values"
            )


def _findings(evidence: Evidence, parts: Sequence[JudgedPart]) -> Iterator[Finding]:
    """Everything that is wrong with the load, and with the values that were read for it."""
    matches = [part.match for part in parts]
    for part in parts:
        yield from findings_of(evidence, part)
    # Where tensors are lost, advice belongs to those.
    yield from uncovered(evidence, matches, advise=not any(map(lost_rows, parts)))
    if evidence.values:
        yield from idle_adapters(evidence, matches)
        yield from scaled_otherwise(evidence.model, matches)
        yield from not_finite(evidence.checkpoint)
