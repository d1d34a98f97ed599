"""CKD008."""

from __future__ import annotations

from collections.abc import Sequence

from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.wording import counted, listed

from ._kit.load_rule import LoadRule


class ValueChangedByCast(LoadRule):
    """Restored, but the parameter has another dtype, and the conversion changed values.

    ## What it does
    Casts every tensor of the checkpoint to the dtype of its parameter and back, and reports those that are not the
    same then. Values that became infinite are an error.

    ## Why is this bad?
    Usually it is meant. Rounding to bfloat16 keeps two to three digits; float16 overflows above 65,504.

    ## Example
    A float32 checkpoint in a model that is run in bfloat16.

    ## What to do
    Nothing, if the evaluation is to run in that dtype. Otherwise load with the dtype of the checkpoint
    (`dtype="auto"`).
    """

    code = "CKD008"
    name = "value-changed-by-cast"
    severity = Severity.NOTE

    def report(self, path: str, tensors: Sequence[str], dtypes: str, *, overflown: bool) -> Finding:
        """``tensors`` went through ``dtypes``, such as ``float32 to bfloat16``; ``path`` is the file of the first."""
        message = f"The load cast {counted(len(tensors), 'tensor')} ({listed(tensors)}) from {dtypes}, "
        message += "and values became infinite." if overflown else "and rounded their values."
        severity = Severity.ERROR if overflown else None
        return self.finding(message, path=path, tensors=tensors, severity=severity)
