"""The question of one call of ``verify``: which checkpoint, loaded into which model by which loader, judged how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.coverage import Mode

from .hosting.specs import ModelSpec, UserCode
from .proof.evidence import Progress as Progress
from .stages import Stage, untold

AUTO = "auto"
"""The value of ``--loader`` for the ecosystem's own loader."""


class Names(NamedTuple):
    """Model and loader as the user named them, for the report."""

    model: str
    loader: str


@dataclass(frozen=True)
class Question:
    """``path`` is the checkpoint as the user named it. ``model`` is ``None`` if the checkpoint names its own base.

    ``loader`` is a loader that runs as the user's code does, and ``None`` for the ecosystem's own; ``ours`` says that
    it is a known one, of which no source code is the user's. ``weaver_model`` and ``trigger_model`` are base models of
    MemGen's parts. ``trusts`` lets the user's loader read files that could run code.
    """

    path: str
    checkpoint: Checkpoint
    model: ModelSpec | None
    loader: UserCode | None
    names: Names
    mode: Mode = "load"
    ours: bool = False
    weaver_model: str | None = None
    trigger_model: str | None = None
    trusts: bool = False
    progress: Progress | None = None
    stage: Stage = untold

    @property
    def factory(self) -> UserCode | None:
        """The user's function that is given the path and returns a loaded model, where the model is one."""
        return self.model if isinstance(self.model, UserCode) and self.model.takes_path else None

    @property
    def runs_known_code(self) -> bool:
        """True if the loader that reads the files is a library's or this package's, and not the user's."""
        return self.ours or (self.loader is None and self.factory is None)
