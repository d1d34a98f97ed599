"""A loaded model and a checkpoint to the judgement: what became of every tensor, and what is wrong with the load."""

from __future__ import annotations

from ckpt_doctor.verification.names.matching import match
from ckpt_doctor.verification.names.packed import add_packed, quantisation
from ckpt_doctor.verification.values.content import by_content

from .by_name import judged_by_name
from .counting import tensors_covered
from .doubts import doubt, refuse_unproven
from .evidence import Evidence, Judgement
from .findings import findings_about
from .merging import find_merged
from .special import judge_special


def assess(evidence: Evidence) -> Judgement:
    """Judge every tensor of the checkpoint against the model.

    Raises ``VerificationError`` if the parameters held the values before the load and could not be marked.
    """
    settings = quantisation(evidence.checkpoint)
    matches = match(evidence.live, evidence.checkpoint, exact=evidence.exact)
    if settings and not evidence.values:
        for found in matches:
            add_packed(evidence.model, found, settings)
    parts = judged_by_name(evidence, matches)
    rows = [row for part in parts for row in part.rows]
    if evidence.values:
        by_content(evidence.live, evidence.checkpoint, rows)
    judge_special(evidence, parts, settings)
    notes = [*find_merged(evidence, parts), *doubt(evidence, parts)]
    refuse_unproven(evidence, parts)
    findings = list(findings_about(evidence, parts))
    return Judgement(tensors_covered(evidence.checkpoint, rows), findings, tuple(notes))
