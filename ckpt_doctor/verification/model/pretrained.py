"""A whole model of transformers: ``from_pretrained`` of the class that its config names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.core.parts import Part
from ckpt_doctor.runtime.dependencies import require
from ckpt_doctor.verification.hosting.isolation import run
from ckpt_doctor.verification.hosting.specs import BaseModel
from ckpt_doctor.verification.names.namings import namings
from ckpt_doctor.verification.question import Question

from .asked import asked_part
from .bases import attempted, base_config, fitting_class, hollow_model, new_model, quantiser, without_quantiser
from .choosing import kinds
from .live import LiveModel
from .plan import Load, Plan


def plan(question: Question) -> Plan:
    """The model of the checkpoint's own config, or of the base that the user names."""
    require("transformers")
    checkpoint, spec = question.checkpoint, question.model
    part = asked_part(checkpoint)
    name = spec.name if isinstance(spec, BaseModel) else str(checkpoint.root / part.directory)
    config = base_config(name)
    quantised = quantiser(config)
    if quantised and question.mode != "keys" and quantised != "fp8":
        raise VerificationError(
            f"{checkpoint.path} is quantised ({quantised}): loading packs its values again, so they cannot "
            "be compared. --mode keys compares names and shapes. An adapter on a quantised base can be "
            "verified; so can your own model and loader"
        )
    plain = without_quantiser(config)
    chosen = attempted(name, lambda: fitting_class(plain, part))
    return Plan(
        name,
        lambda: new_model(config, chosen),
        lambda: hollow_model(plain, chosen),
        lambda _: load_pretrained(checkpoint, part, config, chosen),
        whole=True,
        loads_alone=True,
        advice=lambda: _fitting_elsewhere(config, lambda: kinds(config), part, chosen),
        quantised=quantised,
    )


def into(model: Any, checkpoint: Checkpoint) -> Any:
    """Another model of the class and config of ``model``, with the weights of the checkpoint."""
    return load_pretrained(checkpoint, asked_part(checkpoint), model.config, type(model))


def load_pretrained(checkpoint: Checkpoint, part: Part, config: Any, chosen: Any) -> Any:
    """The model in ``part`` as one of class ``chosen``, loaded by ``from_pretrained``."""
    folder = str(checkpoint.root / part.directory)
    variant = _variant(part)
    more: dict[str, Any] = {} if variant is None else {"variant": variant}
    return chosen.from_pretrained(
        folder, config=config, dtype="auto", local_files_only=True, trust_remote_code=False, **more
    )


def _variant(part: Part) -> str | None:
    """The part between the name and the ending of the files, as in ``model.fp16.safetensors``."""
    pattern = re.compile(r"(?:pytorch_)?model\.(.+?)(?:-\d+-of-\d+)?\.(?:safetensors|bin)")
    names = [file.path.rpartition("/")[2] for file in part.preferred]
    found = {match[1] for name in names if (match := pattern.fullmatch(name))}
    return found.pop() if len(found) == 1 else None


def _fitting_elsewhere(config: Any, kinds: Callable[[], Iterator[Any]], part: Part, taken: Any) -> str:
    """The class of this config that has every tensor of a whole model, where the one that was ``taken`` has not."""
    shapes = {tensor.name: tuple(tensor.shape) for tensor in part.loaded_tensors}
    if _fits(config, taken, shapes) is not None:
        return ""  # it is not for want of a class
    name = next(filter(None, (_fits(config, kind, shapes) for kind in kinds())), None)
    return f"All {len(shapes):,} names match in {name}: load it with {name}.from_pretrained." if name else ""


def _fits(config: Any, kind: Any, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The name of the class that ``kind`` builds, where that has a place for all of these."""
    outcome = run(lambda: hollow_model(config, kind))
    for naming in namings(LiveModel(outcome.result)) if outcome.error is None else ():
        there = {key: target.shape for key, target in naming.targets.items()}
        if all(there.get(name) == size for name, size in shapes.items()):
            return type(outcome.result).__name__
    return None


LOAD = Load(plan, into)
