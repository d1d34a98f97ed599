"""The names that transformers would save a live model under, and what each is a slice of.

From version 5 on, transformers fuses and merges tensors on loading (experts into one parameter, gate and up projection
into another) and takes them apart again on saving; or the other way round. Its own code for saving is run on tensors
without memory. What comes out shares its storage with the parameter that it is a view of, or is known to be made of
several, so nothing about any architecture stands here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ckpt_doctor.verification.model.live import Target, direct, plain_name

if TYPE_CHECKING:
    import torch
    from torch import nn


def saved_names(model: nn.Module, tensors: Mapping[str, torch.Tensor], trained: frozenset[str]) -> dict[str, Target]:
    """Checkpoint name to target, for a model of transformers; empty if it saves under the live names.

    ``tensors`` are the model's live tensors, and ``trained`` the names of those that are parameters.
    """
    revert = _revert()
    if revert is None:
        return {}
    plain = {plain_name(name): name for name in tensors}
    hollow = {key: _hollow(tensors[name]) for key, name in plain.items()}
    with _origins({plain[key]: value for key, value in hollow.items()}) as origins:
        try:
            saved = revert(model, dict(hollow))
        except NotImplementedError:  # a base that was read in quantised form: its conversions know no way back
            return {}
    keys = {name: key for key, name in plain.items()}
    found: dict[str, Target] = {}
    for key, value in saved.items():
        owner, sources = origins.owner(value), origins.sources(value)
        if owner is None:
            behind = {keys[name]: tensors[name] for name in tensors if name in sources}
            if behind:
                found[key] = _computed(model, key, value, sources, behind, trained=not trained.isdisjoint(sources))
        elif tuple(value.shape) == tuple(tensors[owner].shape) and value.stride() == tensors[owner].stride():
            found[key] = direct(owner, tensors[owner], trained=owner in trained)
        else:
            found[key] = _slice(owner, tensors[owner], value, trained=owner in trained)
    unchanged = all(target.whole and plain.get(key) == target.name for key, target in found.items())
    return {} if unchanged else found


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
    """True if ``model`` is one of transformers: it can only be there if that is imported."""
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


def _origins(hollow: Mapping[str, torch.Tensor]) -> Any:
    """Within this block every result remembers which of the ``hollow`` tensors it was made of.

    ``contiguous()`` returns its tensor, so a view stays one.
    """
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils._pytree import tree_leaves

    class Origins(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self._owners = {value.untyped_storage()._cdata: name for name, value in hollow.items()}
            self._sources = {storage: frozenset((name,)) for storage, name in self._owners.items()}
            self._kept: list[Any] = []  # so no two storages are ever at one address

        def owner(self, value: torch.Tensor) -> str | None:
            """The tensor that this is a view of, if it is one."""
            return self._owners.get(value.untyped_storage()._cdata)

        def sources(self, value: torch.Tensor) -> frozenset[str]:
            return self._sources.get(value.untyped_storage()._cdata, frozenset())

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.Tensor.contiguous:
                return args[0]
            result = func(*args, **(kwargs or {}))
            given, made = (
                [item for item in tree_leaves(tree) if isinstance(item, torch.Tensor)]
                for tree in ((args, kwargs), result)
            )
            names = frozenset().union(*map(self.sources, given))
            for value in (*made, *given[:1]) if names and _writes(func) else made:
                storage = value.untyped_storage()._cdata
                if storage not in self._owners:
                    self._kept.append(value)
                    self._sources[storage] = self._sources.get(storage, frozenset()) | names
            return result

    return Origins()


def _writes(func: Any) -> bool:
    """True if a function of torch changes its first argument, as the names of those that do say."""
    name = getattr(func, "__name__", "")
    return name == "__setitem__" or name.startswith("__i") or (name.endswith("_") and not name.startswith("__"))


def _slice(owner: str, tensor: torch.Tensor, view: torch.Tensor, *, trained: bool) -> Target:
    shape, stride = tuple(view.shape), view.stride()
    offset = tensor.storage_offset() + view.storage_offset()
    return Target(
        f"{owner}[...]", (owner,), shape, tensor.dtype, lambda: tensor.as_strided(shape, stride, offset), trained
    )


def _computed(
    model: nn.Module,
    key: str,
    value: torch.Tensor,
    sources: frozenset[str],
    behind: Mapping[str, torch.Tensor],
    *,
    trained: bool,
) -> Target:
    """The target of a tensor that is put together on saving, out of those in ``behind`` and of no others."""
    names = tuple(sorted(sources))

    def compute() -> torch.Tensor:
        result: torch.Tensor = _revert()(model, dict(behind))[key]
        return result

    shown = f"{names[0]}[...]" if len(names) == 1 else " + ".join(names)
    return Target(shown, names, tuple(value.shape), value.dtype, compute, trained, computed=True)
