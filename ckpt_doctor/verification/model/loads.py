"""The table of how each kind of checkpoint is loaded: whatever depends on the kind is asked of its entry here."""

from __future__ import annotations

from collections.abc import Mapping

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.verification.hosting.specs import MemGenConfig, UserCode
from ckpt_doctor.verification.memgen import plan as memgen
from ckpt_doctor.verification.question import Question

from . import adapter, parts, pretrained, state_dict
from .plan import Load, Plan
from .users_model import plan_of_users_model

LOADS: Mapping[str, Load] = {
    "adapter": adapter.LOAD,
    "pretrained": pretrained.LOAD,
    "state-dict": state_dict.LOAD,
    "parts": parts.LOAD,
    "memgen": memgen.LOAD,
}
"""By the names that ``Layout.loads`` has for them."""


def load_of(checkpoint: Checkpoint) -> Load:
    """The entry for checkpoints of this kind."""
    return LOADS[checkpoint.kind.loads]


def planned(question: Question) -> Plan:
    """How to get a model and a load for this question. Raises ``VerificationError`` if there is no way."""
    load, spec = load_of(question.checkpoint), question.model
    if isinstance(spec, UserCode):
        return plan_of_users_model(spec, question.checkpoint, load)
    if isinstance(spec, MemGenConfig) and not load.reads_yaml:
        path = question.checkpoint.path
        raise VerificationError(f"{path} is not a MemGen checkpoint: name a base model instead of {spec.path}")
    return load.plan(question)
