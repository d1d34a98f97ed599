"""All that is wrong with a load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ckpt_doctor.core.findings import Finding
from ckpt_doctor.verification.model.loads import load_of
from ckpt_doctor.verification.values.finite import not_finite

from .by_name import JudgedPart
from .covered import uncovered
from .evidence import Evidence
from .idle import idle_adapters
from .of_tensors import findings_of, lost_rows
from .scaling import scaled_otherwise


def findings_about(evidence: Evidence, parts: Sequence[JudgedPart]) -> Iterator[Finding]:
    """Everything that is wrong with the load, and with the values that were read for it."""
    checkpoint, load = evidence.checkpoint, load_of(evidence.checkpoint)
    switches, severe = load.switches(checkpoint), evidence.final and load.must_be_active
    matches = [part.match for part in parts]
    for part in parts:
        yield from findings_of(evidence, part)
    # Where tensors are lost, advice belongs to those.
    yield from uncovered(evidence, matches, advise=not any(map(lost_rows, parts)))
    if evidence.values:
        yield from idle_adapters(evidence.model, matches, switches=switches, severe=severe)
        yield from scaled_otherwise(evidence.model, matches)
        yield from not_finite(checkpoint)
