"""The evidence about a load, and the judgement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.coverage import TensorCoverage
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.verification.model.live import LiveModel

if TYPE_CHECKING:
    from torch import nn

    from ckpt_doctor.verification.values.marks import Fates

Progress = Callable[[int, int], None]
"""Called with the bytes compared so far and in all."""
Reference = Callable[[], Any]
"""Makes the base that the loader was given, once more."""


@dataclass(frozen=True)
class Evidence:
    """A loaded model, the checkpoint that should be in it, and what is known about the load.

    ``values`` says that they are compared; else name and shape decide. ``fates`` tell what became of marks during the
    load. ``whole`` says that a whole model must be covered in every parameter, ``exact`` that only names count that the
    ecosystem's loaders understand, ``final`` that nothing prepares the model further after this load. ``folder`` is how
    the checkpoint is named in advice; by default its root. ``reference`` makes the base of an adapter once more, for
    where a loader may have merged it.
    """

    model: nn.Module
    checkpoint: Checkpoint
    values: bool = True
    fates: Fates | None = None
    whole: bool = False
    exact: bool = False
    final: bool = False
    folder: str | None = None
    reference: Reference | None = None
    progress: Progress | None = None

    @cached_property
    def live(self) -> LiveModel:
        """The model, looked through once."""
        return LiveModel(self.model)

    @property
    def shown_folder(self) -> str:
        """The checkpoint as advice names it."""
        return self.folder or str(self.checkpoint.root)


class Judgement(NamedTuple):
    """What became of each tensor, what is wrong, and as ``notes`` what could not be told."""

    tensors: tuple[TensorCoverage, ...]
    findings: list[Finding]
    notes: tuple[str, ...] = ()
