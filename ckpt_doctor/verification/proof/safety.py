"""Which checkpoints no loader may touch, and which a loader changed."""

from __future__ import annotations

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.inspection import diagnose
from ckpt_doctor.runtime.file_states import file_state, judged_files

_UNSAFE = "CKD90"
# A file that is absent or cannot be read whole lists fewer tensors than there should be: that is never complete.
_BROKEN = (
    *("CKD101", "CKD102", "CKD103", "CKD104", "CKD105", "CKD106", "CKD107", "CKD112"),
    *("CKD202", "CKD206", "CKD301", "CKD503", "CKD70"),
)


class _Unchanged:
    """The files of a checkpoint before a load. What a load writes there itself would be found in the model."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._states = {path: file_state(path) for path in judged_files(checkpoint)}

    def check(self) -> None:
        """Raise ``VerificationError`` if one of them is another now: nothing can be said about the load."""
        for path, before in self._states.items():
            now = file_state(path)
            if now != before:
                what = "was removed" if now is None else "changed"
                raise VerificationError(
                    f"the checkpoint changed during the load: {path} {what} meanwhile. Restore it, "
                    "let the loader only read it, and run again"
                )


class Safety:
    """What the files of a checkpoint show before a load: findings, and the state that they are in."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.files = _Unchanged(checkpoint)
        errors = [item for item in diagnose(checkpoint).findings if item.severity is Severity.ERROR]
        self.unsafe = [item for item in errors if item.code.startswith(_UNSAFE)]
        """The findings that a loader could run code by, or fall over."""
        self.broken = [item for item in errors if item.code.startswith(_BROKEN)]
        """The findings that say that the list of tensors may be short."""
