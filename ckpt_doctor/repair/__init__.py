"""Repairing a checkpoint: planned on paper, judged again after every step, carried out as a whole or not at all."""

from .outcome import Change, Rejected, Repair, Repairs, Step
from .run import fix
from .undo import undo

__all__ = ["Change", "Rejected", "Repair", "Repairs", "Step", "fix", "undo"]
