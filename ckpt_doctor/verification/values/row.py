"""A tensor of a checkpoint on its way through the proof: where it belongs, and what became of it so far."""

from __future__ import annotations

from dataclasses import dataclass

from ckpt_doctor.core.coverage import CAST, RESTORED, Status
from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.verification.model.live import Target
from ckpt_doctor.verification.names.wanted import Wanted

from .comparing import Verdict


@dataclass
class Row:
    """A tensor of the checkpoint, its target, and the verdict on it, which each step of the proof may still correct.

    ``verdict`` says how the values compare; ``None`` if only names and shapes count, or no parameter was found.
    ``detail`` says in words why the tensor is not simply restored. ``found_in`` is a parameter that has the values and
    may not be the place for them. ``needless`` are tensors that the model computes by itself.
    """

    wanted: Wanted
    target: Target | None
    verdict: Verdict | None
    status: Status
    detail: str = ""
    found_in: str = ""
    needless: bool = False

    @property
    def arrived(self) -> bool:
        """True if the model holds the tensor, with or without a cast."""
        return self.status in (RESTORED, CAST)

    @property
    def has_other_shape(self) -> bool:
        """True if the parameter has another shape, for another reason than that it is quantised."""
        if self.target is None or is_quantised(self.wanted.tensor, self.target):
            return False
        return self.target.shape != self.wanted.tensor.shape


def is_quantised(saved: TensorInfo, target: Target) -> bool:
    """True if the parameter holds packed integers where the checkpoint has floating point numbers."""
    integers = not target.dtype.is_floating_point and not target.dtype.is_complex
    return integers and saved.dtype.name.startswith(("float", "bfloat"))
