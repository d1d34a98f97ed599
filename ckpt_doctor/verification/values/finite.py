"""NaN and Inf in a checkpoint whose values are compared anyway: CKD601, as ``inspect --deep`` finds it."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.rules.non_finite import NonFinite
from ckpt_doctor.scanning import scan

_THREADS = 2


def not_finite(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The weights that are not finite. Masks and observers may hold infinities, and are a note."""
    judged = tuple(part for part in checkpoint.parts if not part.auxiliary)
    yield from NonFinite().check(scan(checkpoint._replace(parts=judged), threads=_THREADS), Policy())
