"""The names that transformers would save a live model under, and what each is a slice of.

From version 5 on, transformers fuses and merges tensors on loading (experts into one parameter, gate and up projection
into another) and takes them apart again on saving. Its own code for saving is run on tensors without memory; what comes
out shares its storage with the parameter that it is a view of, so that nothing about any architecture stands here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .live import Target, direct, plain_name

if TYPE_CHECKING:
    import torch
    from torch import nn


def saved_names(model: nn.Module, tensors: Mapping[str, torch.Tensor], trained: frozenset[str]) -> dict[str, Target]:
    """Checkpoint name to target, for a model of transformers; empty where it saves under the live names.

    ``tensors`` are the model's live tensors, and ``trained`` the names of those that are parameters.
    """
    revert = _revert()
    if revert is None:
        return {}
    plain = {plain_name(name): name for name in tensors}
    hollow = {key: _hollow(tensors[name]) for key, name in plain.items()}
    owners = {value.untyped_storage()._cdata: plain[key] for key, value in hollow.items()}
    with _no_copies():
        saved = revert(model, dict(hollow))
    if saved.keys() == hollow.keys():
        return {}
    found: dict[str, Target] = {}
    computed = []
    for key, value in saved.items():
        owner = owners.get(value.untyped_storage()._cdata)
        if owner is None:
            computed.append(key)
        elif tuple(value.shape) == tuple(tensors[owner].shape) and value.stride() == tensors[owner].stride():
            found[key] = direct(owner, tensors[owner], trained=owner in trained)
        else:
            found[key] = _slice(owner, tensors[owner], value, trained=owner in trained)
    if computed:
        used = {name for target in found.values() for name in target.names}
        rest = {key: name for key, name in plain.items() if name not in used}
        found.update(_computed(model, tensors, rest, set(computed), trained))
    return found


def renamed(model: nn.Module, names: list[str]) -> dict[str, str]:
    """Checkpoint names to the live names that transformers would load them under, where it would rename them."""
    if not names or not is_transformers(model):
        return {}
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming, apply_renamings
    except ImportError:  # before version 5 there was no table of them
        return {}
    conversions: Any = get_model_conversion_mapping(model)  # type: ignore[arg-type]
    renamings = [item for item in conversions if isinstance(item, WeightRenaming)]
    after = {name: apply_renamings(name, renamings) for name in names}
    return {name: new for name, new in after.items() if new != name}


def is_transformers(model: Any) -> bool:
    """Whether ``model`` is one of transformers: it can only be there if somebody has imported that."""
    library = sys.modules.get("transformers")
    return library is not None and isinstance(model, library.PreTrainedModel)


def _revert() -> Any:
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # before version 5 every tensor keeps its name
        return None
    return revert_weight_conversion


def _hollow(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same shape, stride and dtype with a storage of its own and no memory behind it."""
    import torch

    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _no_copies() -> Any:
    """Within this block ``contiguous()`` returns its tensor, so that a view stays one."""
    import torch
    from torch.overrides import TorchFunctionMode

    class NoCopies(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.Tensor.contiguous:
                return args[0]
            return func(*args, **(kwargs or {}))

    return NoCopies()


def _slice(owner: str, tensor: torch.Tensor, view: torch.Tensor, *, trained: bool) -> Target:
    shape, stride = tuple(view.shape), view.stride()
    offset = tensor.storage_offset() + view.storage_offset()
    return Target(
        f"{owner}[...]", (owner,), shape, tensor.dtype, lambda: tensor.as_strided(shape, stride, offset), trained
    )


def _computed(
    model: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    rest: Mapping[str, str],
    wanted: set[str],
    trained: frozenset[str],
) -> dict[str, Target]:
    """Targets of tensors that are rearranged on saving: each is found by saving one parameter at a time."""
    revert = _revert()
    found: dict[str, Target] = {}
    for key, name in rest.items():
        with _no_copies():
            saved = revert(model, {key: _hollow(tensors[name])})
        for new, value in saved.items():
            if new not in wanted:
                continue

            def compute(key: str = key, name: str = name, new: str = new) -> torch.Tensor:
                result: torch.Tensor = revert(model, {key: tensors[name]})[new]
                return result

            found[new] = Target(
                f"{name}[...]", (name,), tuple(value.shape), value.dtype, compute, name in trained, computed=True
            )
    return found
