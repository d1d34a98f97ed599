"""A lone weight file: ``load_state_dict`` into a base model, or into the user's."""

from __future__ import annotations

from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.verification.question import Question
from ckpt_doctor.verification.values.reading import TensorReader

from . import adapter
from .asked import asked_part, named_base
from .bases import attempted, base_config, fitting_class, hollow_model, real_model
from .plan import Load, Plan


def plan(question: Question) -> Plan:
    """The base model that the user names, of the class that knows most of the names in the file."""
    checkpoint = question.checkpoint
    part = asked_part(checkpoint)
    if part.role == "adapter":
        return adapter.plan(question)
    base = named_base(question)
    config = base_config(base)
    chosen = attempted(base, lambda: fitting_class(config, part))
    return Plan(
        base,
        lambda: real_model(base, config, chosen),
        lambda: hollow_model(config, chosen),
        lambda model: into(model, checkpoint),
    )


def into(model: Any, checkpoint: Checkpoint) -> Any:
    """Load the file into ``model``: an adapter by PEFT, and anything else as a complete state dict."""
    part = asked_part(checkpoint)
    if part.role == "adapter":
        return adapter.into(model, checkpoint)
    model.load_state_dict(read_state_dict(checkpoint, part), strict=True)
    return model


def read_state_dict(checkpoint: Checkpoint, part: Part) -> dict[str, Any]:
    """The tensors of a part by name, on the CPU; no pickle runs. A nested dictionary's names are joined by dots."""
    with TensorReader(checkpoint.root) as reader:
        return {
            tensor.name: reader.whole(file.path, tensor).clone() for file in part.preferred for tensor in file.tensors
        }


LOAD = Load(plan, into)
