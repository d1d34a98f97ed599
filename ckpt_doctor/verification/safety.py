"""Which checkpoints no loader may touch."""

from __future__ import annotations

from ckpt_doctor.checkpoint import Checkpoint
from ckpt_doctor.findings import Finding, Severity
from ckpt_doctor.inspection import diagnose

_UNSAFE = "CKD90"
# A file that is absent or cannot be read whole lists fewer tensors than there should be: that is never complete.
_BROKEN = (
    *("CKD101", "CKD102", "CKD103", "CKD104", "CKD105", "CKD106", "CKD107", "CKD112"),
    *("CKD202", "CKD206", "CKD301", "CKD503", "CKD70"),
)


def unsafe(checkpoint: Checkpoint) -> list[Finding]:
    """The findings that a loader could run code by, or fall over."""
    return _errors(checkpoint, (_UNSAFE,))


def broken(checkpoint: Checkpoint) -> list[Finding]:
    """The findings that say that the list of tensors may be short."""
    return _errors(checkpoint, _BROKEN)


def _errors(checkpoint: Checkpoint, codes: tuple[str, ...]) -> list[Finding]:
    found = diagnose(checkpoint).findings
    return [item for item in found if item.severity is Severity.ERROR and item.code.startswith(codes)]
