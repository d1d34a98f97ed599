"""All the ways in which a checkpoint may name the tensors of one live model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ckpt_doctor.verification.model.live import LiveModel, Target, direct, outermost, plain_name

from .conversions import is_transformers, saved_names

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Naming:
    """One way to name the tensors of a model: checkpoint names to targets.

    ``path`` is the module that the names are relative to, ``adapter`` the PEFT adapter that they are of, if any. A
    checkpoint of this naming must hold all of the names in ``owns``.
    """

    targets: Mapping[str, Target]
    path: str = ""
    adapter: str | None = None
    owns: frozenset[str] = field(default_factory=frozenset)


def namings(live: LiveModel) -> list[Naming]:
    """Every naming of a model: its own names, those of each adapter in it, those that transformers saves under."""
    found = [Naming({plain_name(name): target for name, target in _all_targets(live).items()})]
    found += _adapter_namings(live)
    for path, module in outermost(live.module, is_transformers):
        targets = saved_names(module, _below(live.tensors, path), _names_below(live.parameters, path))
        if targets:
            found.append(Naming({key: _moved(target, path) for key, target in targets.items()}, path))
    return found


def raw_names(live: LiveModel) -> set[str]:
    """The names that a loader sees which compares keys with those of the model, or of an adapted model inside of it."""
    names = set(live.tensors)
    for path, _ in live.adapted:
        names |= {name.removeprefix(f"{path}.") for name in names if name.startswith(f"{path}.")}
    return names


def transformers_models(model: nn.Module) -> list[Any]:
    """The models of transformers in ``model``, and none that are parts of those."""
    return [module for _, module in outermost(model, is_transformers)]


def _all_targets(live: LiveModel) -> dict[str, Target]:
    return {name: direct(name, value, trained=name in live.parameters) for name, value in live.tensors.items()}


def _adapter_namings(live: LiveModel) -> Iterator[Naming]:
    for path, module in live.adapted:
        tensors, trained = _below(live.tensors, path), _names_below(live.parameters, path)
        for adapter, config in module.peft_config.items():
            if getattr(config, "is_prompt_learning", False):
                targets = _prompt_targets(module, adapter, tensors)
            else:
                targets = _saved_by_peft(module, adapter, tensors, trained)
            owns = frozenset(targets)
            if not getattr(config, "is_prompt_learning", False):
                targets = {**_saved_with_embeddings(module, adapter, tensors, trained), **targets}
            yield Naming({key: _moved(target, path) for key, target in targets.items()}, path, adapter, owns)


def _saved_by_peft(
    module: Any, adapter: str, tensors: Mapping[str, torch.Tensor], trained: frozenset[str]
) -> dict[str, Target]:
    """What PEFT itself would save of this adapter: it passes on the tensors that it is given, under other names."""
    names = {id(value): name for name, value in tensors.items()}
    found = {}
    for key, value in _save(module, adapter, tensors).items():
        name = names.get(id(value))
        if name is not None:
            found[key] = direct(name, value, trained=name in trained)
            continue
        # VB-LoRA's indices and weights of the best vectors: computed from the logits, anew at each look.

        def compute(key: str = key) -> torch.Tensor:
            return _save(module, adapter, tensors)[key]

        source = key.partition("_topk_")[0]
        behind = tuple(live for live in tensors if live.startswith(f"{source}."))
        found[key] = Target(source, behind, tuple(value.shape), value.dtype, compute, trained=True, computed=True)
    return found


def _saved_with_embeddings(
    module: Any, adapter: str, tensors: Mapping[str, torch.Tensor], trained: frozenset[str]
) -> dict[str, Target]:
    """What PEFT would save if it saved the embeddings, too, as it does where the vocabulary has another size."""
    names = {id(value): name for name, value in tensors.items()}
    if not hasattr(module, "get_input_embeddings"):
        return {}
    try:
        saved = _save(module, adapter, tensors, embeddings=True)
    except (AttributeError, NotImplementedError):  # a model that does not know which its embeddings are
        return {}
    known = {key: names[id(value)] for key, value in saved.items() if id(value) in names}
    return {key: direct(name, tensors[name], trained=name in trained) for key, name in known.items()}


def _save(
    module: Any, adapter: str, tensors: Mapping[str, torch.Tensor], *, embeddings: bool = False
) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    saved: dict[str, torch.Tensor] = get_peft_model_state_dict(
        module, state_dict=dict(tensors), adapter_name=adapter, save_embedding_layers=embeddings
    )
    return saved


def _prompt_targets(module: Any, adapter: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, Target]:
    """Prompt learning: the encoder's embedding is ``prompt_embeddings``, whatever it was computed from in training."""
    prefix = f"prompt_encoder.{adapter}."
    encoder = module.prompt_encoder[adapter]
    own = {name: value for name, value in tensors.items() if name.startswith(prefix)}
    saved = f".modules_to_save.{adapter}."
    found = {name.replace(saved, "."): direct(name, value) for name, value in tensors.items() if saved in name}
    for name in ("prefix_task_cols", "prefix_task_rows"):  # multitask prompt tuning
        if prefix + name in own:
            found[name] = direct(prefix + name, own[prefix + name])
    embedding = f"{prefix}embedding.weight"
    trains_more = own.keys() > {embedding, *(target.name for target in found.values() if target.name in own)}
    if embedding in own and (module.peft_config[adapter].inference_mode or not trains_more):
        found["prompt_embeddings"] = direct(embedding, own[embedding])
    else:  # rows in two parameters (a cartridge), or the results of a network that is not saved
        compute = partial(_encoded, encoder) if embedding in own else partial(_rows, encoder)
        rows = compute()
        behind = (embedding,) if embedding in own else tuple(own)
        found["prompt_embeddings"] = Target(
            f"{prefix}embedding", behind, tuple(rows.shape), rows.dtype, compute, computed=True
        )
    return found


def _rows(encoder: Any) -> torch.Tensor:
    rows: torch.Tensor = encoder.embedding.weight.detach()
    return rows


def _encoded(encoder: Any) -> torch.Tensor:
    """What a prompt encoder that is being trained computes: PEFT saves that instead of its parameters."""
    import torch

    # Aliases of its parameters, because some encoders assign to them whenever they are called.
    values = {name: value.detach() for name, value in encoder.named_parameters()}
    training = [module for module in encoder.modules() if module.training]
    rows = torch.arange(encoder.embedding.num_embeddings, device=encoder.embedding.weight.device)
    try:
        encoder.eval()
        with torch.no_grad():
            result: torch.Tensor = torch.func.functional_call(encoder, values, (rows[None],))[0]
    finally:
        for module in training:
            module.training = True
    return result


def _moved(target: Target, path: str) -> Target:
    """The target with the names that it has in the whole model."""
    if not path:
        return target
    return Target(
        f"{path}.{target.name}",
        tuple(f"{path}.{name}" for name in target.names),
        target.shape,
        target.dtype,
        target.value,
        target.trained,
        target.computed,
    )


def _below(tensors: Mapping[str, torch.Tensor], path: str) -> dict[str, torch.Tensor]:
    start = f"{path}." if path else ""
    return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}


def _names_below(names: frozenset[str], path: str) -> frozenset[str]:
    start = f"{path}." if path else ""
    return frozenset(name[len(start) :] for name in names if name.startswith(start))
