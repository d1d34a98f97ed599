"""Each checkpoint of a ``transformers.Trainer`` run, inspected as soon as it is written."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.errors import CkptDoctorError
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted
from ckpt_doctor.inspection import inspect
from ckpt_doctor.runtime.dependencies import require

from .warning import CheckpointWarning

require("transformers")  # says what to install
from transformers import TrainerCallback  # noqa: E402, TID253 - the class below is one

if TYPE_CHECKING:
    from ckpt_doctor.core.results import Report

# A run that has diverged saves NaN, and no header shows that. What was just written is read from memory.
_POLICY = Policy(deep=True)


class CheckpointCallback(TrainerCallback):
    """Inspects each save, warns where it has errors, and on request stops the run. It never deletes or changes a file.

    ``stop`` ends the training after the first save with an error, while the process still holds the weights.
    ``policy`` is that of ``ckpt_doctor.inspect``. By default the tensor bytes are read too, as by the gate;
    ``Policy()`` reads headers and configs only. The report on the last save is in ``report``.
    """

    def __init__(self, *, stop: bool = False, policy: Policy = _POLICY) -> None:
        self.stop = stop
        self.policy = policy
        self.report: Report | None = None

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Inspect ``<output_dir>/checkpoint-<step>``; see ``transformers.TrainerCallback``."""
        if not state.is_world_process_zero:
            return
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        try:
            self.report = inspect(path, self.policy)
        except CkptDoctorError as error:
            self._complain(control, f"{path}: {error}")
            return
        if not self.report.healthy:
            errors = [item for item in self.report.findings if item.severity is Severity.ERROR]
            what = "; ".join(f"{item.code} {item.path or ''}: {item.message}" for item in errors[:3])
            self._complain(control, f"{path} has {counted(len(errors), 'error')}: {what}")

    def _complain(self, control: Any, message: str) -> None:
        if self.stop:
            control.should_training_stop = True
            message += " The training stops here."
        warnings.warn(message, CheckpointWarning, stacklevel=3)
