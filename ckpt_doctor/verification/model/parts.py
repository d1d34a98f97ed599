"""A team's own kind of checkpoint: each of its parts by the loader for such a part."""

from __future__ import annotations

from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.runtime.dependencies import require
from ckpt_doctor.verification.question import Question

from . import adapter, state_dict
from .asked import base_of, named_base
from .bases import adapted_config, attempted, hollow_model, new_model, real_model
from .choosing import choose, none_fits
from .hosts import Host, adapter_name, awaited_parts, hosts, parts_to_load, refusal
from .plan import Load, Plan
from .pretrained import load_pretrained


def plan(question: Question) -> Plan:
    """A base model with the adapters in it; side files need the user's own model.

    For a loader of the user it is the base alone, of the class that suits the first part.
    """
    checkpoint = question.checkpoint
    if question.loader is not None or not _has_several(checkpoint):
        return state_dict.plan(question)
    parts = parts_to_load(checkpoint)
    adapters = [part for part in parts if part.role == "adapter"]
    models = [part for part in parts if part.role == "model"]
    if len(models) > 1 or len(models) + len(adapters) < len(parts) or not adapters:
        raise refusal(checkpoint)
    if question.model is None and not models and len({base_of(part) for part in adapters}) > 1:
        raise refusal(checkpoint, "Its adapters name different base models")
    if models and models[0].config is None:
        raise refusal(checkpoint, f"The {models[0].name} has no config.json")
    return _on_one_base(question, models[0] if models else None, adapters)


def into(model: Any, checkpoint: Checkpoint) -> Any:
    """Load every part into the module of the user's ``model`` that takes it, and return the model."""
    if not _has_several(checkpoint):
        return state_dict.into(model, checkpoint)
    for host in hosts(model, checkpoint):
        model = _put(model, host.path, _loaded(model.get_submodule(host.path), host, checkpoint))
    return model


def _refuse(model: Any, checkpoint: Checkpoint) -> None:
    if _has_several(checkpoint):
        hosts(model, checkpoint)


def _has_several(checkpoint: Checkpoint) -> bool:
    return len(awaited_parts(checkpoint)) > 1


def _loaded(module: Any, host: Host, checkpoint: Checkpoint) -> Any:
    """The module after the load, which is another one where the loader makes its own."""
    if host.part.role == "adapter":
        return _with_adapter(module, host.part, checkpoint)
    if host.part.role == "model" and host.part.config is not None and hasattr(module, "from_pretrained"):
        return load_pretrained(checkpoint, host.part, module.config, type(module))
    module.load_state_dict(state_dict.read_state_dict(checkpoint, host.part), strict=not host.partly)
    return module


def _with_adapter(module: Any, part: Part, checkpoint: Checkpoint) -> Any:
    """By PEFT: into the adapter of its name, into the only one that a training makes, or as a further one."""
    peft = require("peft")
    name, folder = adapter_name(part), checkpoint.root / part.directory
    if not isinstance(module, peft.PeftModel):
        return peft.PeftModel.from_pretrained(module, str(folder), adapter_name=name)
    if name in module.peft_config:
        adapter.load_into_own(module, folder, name)
    elif len(module.peft_config) == 1 and _adapters(checkpoint) == 1:
        adapter.load_into_own(module, folder, adapter.own_adapter(module))
    else:
        module.load_adapter(str(folder), adapter_name=name)
    return module


def _put(model: Any, path: str, module: Any) -> Any:
    """The model with ``module`` at ``path``."""
    if not path:
        return module
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, module)
    return model


def _adapters(checkpoint: Checkpoint) -> int:
    return sum(part.role == "adapter" for part in parts_to_load(checkpoint))


def _run_in_turn(checkpoint: Checkpoint) -> bool:
    """Of several adapters PEFT leaves one active; whoever runs the model switches to the others."""
    return _adapters(checkpoint) > 1


def _on_one_base(question: Question, whole: Part | None, adapters: list[Part]) -> Plan:
    """All adapters in one model: in the checkpoint's own, or in the base that they or the user name."""
    require("peft")
    checkpoint = question.checkpoint
    base = named_base(question) if whole is None else str(checkpoint.root / whole.directory)
    config, task, widened = attempted(base, lambda: adapted_config(base, adapters[0]))
    choice = choose(base, config, task, adapters[0])

    def load(model: Any) -> Any:
        if whole is not None:
            model = load_pretrained(checkpoint, whole, config, choice.kind)
        for part in adapters:
            model = _with_adapter(model, part, checkpoint)
        return model

    return Plan(
        base,
        lambda: real_model(base, config, choice.kind) if whole is None else new_model(config, choice.kind),
        lambda: adapter.hollow(
            lambda: hollow_model(config, choice.kind),
            [(adapter_name(part), checkpoint.root / part.directory) for part in adapters],
        ),
        load,
        # PEFT puts a prefix before the names of the model that it adapts.
        exact=whole is None,
        loads_alone=whole is not None,
        model_class=choice.report,
        departures=() if widened is None else (widened,),
        advice=lambda: none_fits(choice),
    )


LOAD = Load(plan, into, refuse=_refuse, switches=_run_in_turn)
