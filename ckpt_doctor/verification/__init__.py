"""A model, a loader and a checkpoint to :class:`ckpt_doctor.core.coverage.Coverage`.

This room alone imports torch, peft and transformers, and only once a load is to be judged.
"""

from __future__ import annotations

from .apart import verify_apart
from .run import verify
from .watching import LoadWatch, load_coverage, watch_load

__all__ = ["LoadWatch", "load_coverage", "verify", "verify_apart", "watch_load"]
