"""The last thing before an evaluation: which checkpoint is the newest, is it healthy, and only then the command.

>>> from ckpt_doctor.gate import decide
>>> verdict = decide("fixtures/failures/no_projections/weaver")
>>> verdict.passed, verdict.reason
(False, '1 error: CKD202 side-file-missing')
"""

from __future__ import annotations

from .command import CHECKPOINT_VARIABLE, launch, placed
from .run import Load, decide, latest
from .verdict import Choice, PassedOver, Verdict

__all__ = [
    "CHECKPOINT_VARIABLE",
    "Choice",
    "Load",
    "PassedOver",
    "Verdict",
    "decide",
    "latest",
    "launch",
    "placed",
]
