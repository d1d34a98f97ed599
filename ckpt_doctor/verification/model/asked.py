"""The parts that a checkpoint is read for: its first part, and the base model that it names."""

from __future__ import annotations

from pathlib import Path

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.core.parts import Part
from ckpt_doctor.verification.hosting.specs import BaseModel
from ckpt_doctor.verification.question import Question


def asked_part(checkpoint: Checkpoint) -> Part:
    """The part that a loader is asked for: the first that is neither secondary nor beside the point."""
    return next(part for part in checkpoint.parts if not part.auxiliary and not part.secondary)


def named_base(question: Question) -> str:
    """The base that the user names, else the one that an adapter names, if it is a folder here.

    Nothing is downloaded that the user did not name. Raises ``VerificationError``.
    """
    if isinstance(question.model, BaseModel):
        return question.model.name
    checkpoint = question.checkpoint
    for part in checkpoint.parts_with("adapter"):
        name = base_of(part)
        if name is not None and (Path(name) / "config.json").is_file():
            return name
    raise VerificationError(f"{checkpoint.path} names no base model that is on this machine: name one with --model")


def base_of(part: Part) -> str | None:
    """The base model that an adapter's config names, a folder or a hub id; ``None`` if it names none."""
    data = (part.config.data if part.config is not None else None) or {}
    name = data.get("base_model_name_or_path")
    return name if isinstance(name, str) and name else None
