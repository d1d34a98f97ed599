"""Whole models as the rules see them that hold them against their config."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ckpt_doctor.core.architecture import Architecture, MissingTensors
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.wording import listed


class ModelView(NamedTuple):
    """A model whose class is known, and how it fits. ``path`` is its first file, ``config`` that of its config."""

    part: Part
    fit: Architecture
    path: str
    config: str

    def lacks(self, gone: Sequence[MissingTensors]) -> dict[str, object]:
        """The evidence of a finding about missing tensors."""
        patterns = {item.pattern: item.total for item in gone[:20]}
        return {"class": self.fit.cls, "missing": total(gone), "patterns": patterns}


def judged_models(checkpoint: Checkpoint) -> Iterator[ModelView]:
    """The whole models that were held against their config."""
    for part in checkpoint.parts_with("model"):
        if part.architecture is not None and part.config is not None:
            yield ModelView(part, part.architecture, part.preferred[0].path, part.config.path)


def total(missing: Iterable[MissingTensors]) -> int:
    """How many tensors are missing."""
    return sum(item.total for item in missing)


def absent(missing: Iterable[MissingTensors]) -> str:
    """The missing tensors with their verb: ``a and b are``."""
    items = list(missing)
    names = [name for item in items for name in item.names]
    count = total(items)
    rest = count - len(names)
    shown = listed(names) if not rest or len(names) <= 3 else f"{', '.join(names[:3])} and {count - 3:,} more"
    return f"{shown} {'is' if count == 1 else 'are'}"
