"""Reads a MemGen checkpoint of any layout into a model of :mod:`.memgen_model`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import IncompleteLoadError, VerificationError
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import counted, shape
from ckpt_doctor.runtime.dependencies import require

from .contents import Key, adapter_of, contents_of

if TYPE_CHECKING:
    from torch import Tensor

    from .model import MemGenModel

# Where the entries of the side files belong; everything else has the same name in the model.
_OF_THE_WEAVER = ("prompt_", "inference_")
_OF_THE_TRIGGER = ("output_layer.",)
_PROBLEMS_SHOWN = 5


class LoadLog(NamedTuple):
    """What :func:`load` did: the files it read, the number of tensors it put into the model, and what it noticed."""

    files: tuple[str, ...]
    restored: int
    warnings: tuple[str, ...] = ()


def into(model: Any, checkpoint: Checkpoint) -> Any:
    """Load every part into ``model``, which bears MemGen's names, by the loader of this package."""
    for line in load(model, checkpoint).warnings:
        logging.getLogger(__name__).warning(line)
    return model


def load(model: MemGenModel, checkpoint: Checkpoint) -> LoadLog:
    """Put every tensor of the checkpoint into ``model``, cast to the dtype and device of its parameter.

    A parameter on the ``meta`` device is replaced by the tensor itself, so a model without memory takes no more
    than the checkpoint. What fits is loaded even where something else does not.

    Raises ``IncompleteLoadError`` if a file is absent, a tensor has no parameter or one of another shape, or a
    parameter that the layout must hold gets no value; ``VerificationError`` where a file cannot be read, and
    before anything is read where one is not safe to load.
    """
    import torch

    files, remarks = _files(model, checkpoint)
    wanted = targets(model, checkpoint)
    live = _live(model)
    problems = _absent(checkpoint)
    covered: set[int] = set()
    replaced: dict[int, Any] = {}
    restored = 0
    for part, file in files:
        # What is next to the adapter that was asked for cannot make its load incomplete.
        faults = remarks if part.secondary else problems
        for name, value in _tensors(checkpoint.root, file):
            key = (file.path, name)
            target = wanted.get(key)
            if target is None:
                if key in wanted:
                    faults.append(f"{name} in {file.path} has no parameter in the model{_why_none(name)}")
                continue
            parameter = live[target]
            # One parameter may have several names in a file; each of them must fit, and the last one counts.
            covered.add(id(parameter))
            if value.shape != parameter.shape:
                faults.append(_misfit(name, tuple(value.shape), tuple(parameter.shape)))
                continue
            restored += 1
            if parameter.is_meta:
                # A copy: what was read may be a view of the file.
                replaced[id(parameter)] = value.to(parameter.dtype, copy=True)
            else:
                with torch.no_grad():
                    parameter.copy_(value)
    _replace(model, replaced)
    uncovered = [name for name in required(model, checkpoint) if id(live[name]) not in covered]
    if uncovered:
        problems.append(
            f"{counted(len(uncovered), 'parameter')} of the model would stay as they were made, {uncovered[0]} first"
        )
    if problems:
        rest = len(problems) - _PROBLEMS_SHOWN
        shown = problems[:_PROBLEMS_SHOWN] + ([f"and {rest} more"] if rest > 0 else [])
        raise IncompleteLoadError(f"{checkpoint.path} does not fit the model: " + "; ".join(shown))
    return LoadLog(tuple(file.path for _, file in files), restored, (*model.lora_notes, *remarks))


def targets(model: MemGenModel, checkpoint: Checkpoint) -> Mapping[Key, str | None]:
    """Each tensor that the layout's loader reads, to the parameter or buffer that it is for.

    The names are those of ``model.named_parameters()``; ``None`` if there is no such parameter. Shapes are not
    looked at. Tensors of an adapter that the model does not have and need not have are left out.
    """
    canonical = {id(value): name for name, value in model.state_dict(keep_vars=True).items()}
    canonical.update({id(value): name for name, value in model.named_parameters()})
    live = _live(model)
    by_part: dict[str, Mapping[str, Any]] = {}
    found: dict[Key, str | None] = {}
    for key, item in contents_of(checkpoint).tensors.items():
        part = item.part
        if part.role == "adapter":
            if part.secondary and _adapted(model, part) is None:
                continue
            if part.name not in by_part:
                by_part[part.name] = _adapter_parameters(model, part, everything=True)
            value = by_part[part.name].get(item.tensor.name)
        else:
            value = live.get(_in_the_model(item.tensor.name, part))
        found[key] = None if value is None else canonical[id(value)]
    return found


def required(model: MemGenModel, checkpoint: Checkpoint) -> tuple[str, ...]:
    """The parameters that a checkpoint of this layout must hold a value for, in the model's order.

    All of a whole model; else those of the adapters that were asked for, the projections and the query latents, and in
    the upstream layout also norms, scales and the trigger's classifier.
    """
    if contents_of(checkpoint).whole:
        return tuple(name for name, _ in model.named_parameters())
    wanted: set[int] = set()
    keeps_head = any(checkpoint.parts_with("trigger-head"))
    for part in checkpoint.parts_with("adapter"):
        if not part.secondary:
            wanted |= {id(value) for value in _adapter_parameters(model, part, everything=False).values()}
    for name, value in model.named_parameters():
        owner, _, rest = name.partition(".")
        of_the_weaver = owner == "weaver" and not rest.startswith("model.")
        of_the_head = owner == "trigger" and rest.startswith(_OF_THE_TRIGGER) and keeps_head
        if of_the_weaver or of_the_head or owner in ("reasoner_to_weaver", "weaver_to_reasoner"):
            wanted.add(id(value))
    return tuple(name for name, value in model.named_parameters() if id(value) in wanted)


def _files(model: MemGenModel, checkpoint: Checkpoint) -> tuple[list[tuple[Part, WeightFile]], list[str]]:
    """The files to read, and remarks on those that are skipped. Nothing is opened here."""
    files: list[tuple[Part, WeightFile]] = []
    remarks: list[str] = []
    for part in checkpoint.parts:
        if part.auxiliary:
            continue
        if part.secondary and _adapted(model, part) is None:
            remarks.append(f"the {part.name} in {part.directory} has no place in the model, and was not loaded")
            continue
        unread = [file.path for file in part.files if file not in part.preferred]
        if unread:
            remarks.append(f"{part.preferred[0].path} was read, and {', '.join(unread)} beside it was not")
        for file in part.preferred:
            obstacle = _obstacle(file)
            if obstacle is None:
                files.append((part, file))
            elif part.secondary:
                remarks.append(obstacle)
            else:
                raise VerificationError(obstacle)
    return files, remarks


def _obstacle(file: WeightFile) -> str | None:
    """Why a file must not be opened, or cannot be read."""
    dangers = [defect.message for defect in file.defects if defect.kind.dangerous]
    if dangers:
        return f"{file.path} is not safe to load: {dangers[0]}"
    if not file.readable:
        return f"{file.path} cannot be read: {file.defects[0].message if file.defects else 'its format is not known'}"
    return None


def _absent(checkpoint: Checkpoint) -> list[str]:
    return [
        f"the {part.name} cannot be loaded, because {part.expected_files[0] if part.expected_files else part.name} "
        "is not there"
        for part in checkpoint.parts
        if part.required and not part.auxiliary and not part.secondary and not part.files
    ]


def _tensors(root: Path, file: WeightFile) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file on the CPU, wherever they were when they were saved."""
    read = _safetensors if file.is_safetensors else _torch_tensors
    try:
        yield from read(root / file.path, file)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise VerificationError(f"{file.path} cannot be read: {error}") from error


def _safetensors(path: Path, file: WeightFile) -> Iterator[tuple[str, Tensor]]:
    safetensors = require("safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                yield name, opened.get_tensor(name)
    except safetensors.SafetensorError as error:
        raise VerificationError(f"{file.path} cannot be read: {error}") from error


def _torch_tensors(path: Path, file: WeightFile) -> Iterator[tuple[str, Tensor]]:
    import torch

    serialization: Any = torch.serialization
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=file.format == "torch-zip")
    except serialization.pickle.UnpicklingError:
        # Not torch's own words, which advise to run whatever is in the file.
        raise VerificationError(f"{file.path} cannot be read: torch refuses it with weights_only=True") from None
    yield from _flat(state, "")


def _flat(value: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield path, value.detach()
    elif isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(item, f"{path}.{key}" if path else str(key))


def _live(model: MemGenModel) -> dict[str, Any]:
    """Parameters and persistent buffers under all their names."""
    return dict(model.state_dict(keep_vars=True))


def _in_the_model(name: str, part: Part) -> str:
    if part.role != "model":
        if name.startswith(_OF_THE_WEAVER):
            return f"weaver.{name}"
        if name.startswith(_OF_THE_TRIGGER):
            return f"trigger.{name}"
    return name


def _adapted(model: MemGenModel, part: Part) -> Any:
    """The ``PeftModel`` that holds the adapter of this part, or ``None``."""
    owners = {"weaver": model.weaver, "trigger": model.trigger}
    owner: Any = owners.get(adapter_of(part))
    return None if owner is None else owner.model


def _adapter_parameters(model: MemGenModel, part: Part, *, everything: bool) -> dict[str, Any]:
    """The parameters of one adapter under the names that PEFT saves them by.

    ``everything`` adds all other tensors of the ``PeftModel`` under their own names: PEFT would load them too.
    """
    adapted = _adapted(model, part)
    if adapted is None:
        return {}
    from peft import get_peft_model_state_dict

    live = dict(adapted.state_dict(keep_vars=True))
    # PEFT's own function for saving is asked, so no naming of any adapter type has to be known here. It hands the
    # objects on that it is given; "auto" would look for the base model on the hub.
    saved = get_peft_model_state_dict(
        adapted, state_dict=live, adapter_name=adapter_of(part), save_embedding_layers=False
    )
    known = {id(value) for value in live.values()}
    named = {name: value for name, value in saved.items() if id(value) in known}
    return {**live, **named} if everything else named


def _why_none(name: str) -> str:
    if ".lora_" in name or ".layers." in name:
        return ": the base is another model, or the adapter was made for other modules"
    return ""


def _misfit(name: str, saved: tuple[int, ...], live: tuple[int, ...]) -> str:
    text = f"{name} is {shape(saved)} in the checkpoint and {shape(live)} in the model"
    if name.endswith("_query_latents") and len(saved) == len(live) == 2 and saved[0] != live[0]:
        bank = "prompt" if "prompt_" in name else "inference"
        return f"{text}: {bank}_latents_len is configured as {live[0]}, but was {saved[0]} in training"
    rank = _rank(name, saved), _rank(name, live)
    if None not in rank and rank[0] != rank[1]:
        return f"{text}: the rank is configured as {rank[1]}, but was {rank[0]} in training"
    return f"{text}: the hidden size is another, and so is the base model"


def _rank(name: str, dims: tuple[int, ...]) -> int | None:
    if len(dims) < 2:
        return None
    return dims[0] if ".lora_A." in name else dims[1] if ".lora_B." in name else None


def _replace(model: MemGenModel, values: Mapping[int, Tensor]) -> None:
    """Replace the parameters with these identities by ``values`` wherever they are registered."""
    from torch import nn

    made: dict[int, Any] = {}
    for module in model.modules() if values else ():
        for registered in (module._parameters, module._buffers):
            for name, old in registered.items():
                if old is None or id(old) not in values:
                    continue
                if id(old) not in made:
                    value = values[id(old)]
                    is_parameter = isinstance(old, nn.Parameter)
                    made[id(old)] = nn.Parameter(value, old.requires_grad) if is_parameter else value
                registered[name] = made[id(old)]
