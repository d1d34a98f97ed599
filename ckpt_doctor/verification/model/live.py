"""The tensors of a live model, under the names that a checkpoint could use for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

# Wrappers that put themselves between a module and its name: torch.compile, FSDP, activation checkpointing, and PEFT
# around the layer that it adapts.
_TRANSPARENT = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer"))

Place = tuple[int, int, tuple[int, ...], tuple[int, ...]]
"""The key that two views of one tensor share: the storage, and the offset, shape and stride in it, in elements."""


@dataclass(frozen=True)
class Target:
    """The place of one checkpoint tensor in a live model.

    ``name`` is shown to people; ``names`` are the parameters or buffers behind it. ``value`` gives the tensor as it is
    now, in the shape of the checkpoint: the parameter itself, a view of a fused one, or (``computed``) a new tensor.
    """

    name: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    value: Callable[[], torch.Tensor]
    trained: bool = True
    computed: bool = False

    @property
    def whole(self) -> bool:
        """True if this is all of the one parameter or buffer behind it."""
        return self.names == (self.name,)


class LiveModel:
    """A model whose tensors and adapters are collected once, however many questions are asked about it.

    It is right as long as the model registers and drops nothing: make another one after a load or a merge. Values may
    change, as it holds the tensors themselves.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Every parameter and persistent buffer by name, tied ones under each of their names.

        Not ``state_dict()``: its hooks belong to whoever wrote the model, and may rename, copy or gather. What waits
        for a first input to have a shape (``nn.LazyLinear``) is not there yet.
        """
        from torch.nn.parameter import is_lazy

        found = {name: value.detach() for name, value in self._named_parameters()}
        for path, module in self.module.named_modules(remove_duplicate=False):
            for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
                if name not in module._non_persistent_buffers_set and not is_lazy(buffer):
                    found[f"{path}.{name}" if path else name] = buffer.detach()
        return found

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The names of the parameters, without the buffers."""
        return frozenset(name for name, _ in self._named_parameters())

    def _named_parameters(self) -> Iterator[tuple[str, torch.Tensor]]:
        from torch.nn.parameter import is_lazy

        for name, value in self.module.named_parameters(remove_duplicate=False):
            if not is_lazy(value):
                yield name, value

    @cached_property
    def adapted(self) -> tuple[tuple[str, Any], ...]:
        """The modules that hold PEFT adapters, by path: ``PeftModel`` or a model with its own adapters."""
        return tuple(outermost(self.module, has_adapters))


def outermost(model: nn.Module, wanted: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    """The modules that are ``wanted``, by path, and nothing inside of them; a shared module comes once."""
    inside: list[str] = []
    for path, module in model.named_modules():
        if any(path.startswith(f"{outer}.") or not outer for outer in inside):
            continue
        if wanted(module):
            inside.append(path)
            yield path, module


def has_adapters(module: Any) -> bool:
    """True if PEFT adapters hang on this module itself."""
    configs = getattr(module, "peft_config", None)
    return isinstance(configs, dict) and bool(configs)


def place(tensor: torch.Tensor) -> Place:
    """The memory key of a tensor: equal for tied parameters, also on the meta device."""
    return (tensor.untyped_storage()._cdata, int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()))


def plain_name(name: str) -> str:
    """A live name without the wrappers that no checkpoint has in its names.

    >>> plain_name("_orig_mod.model.q_proj.base_layer.weight")
    'model.q_proj.weight'
    """
    return ".".join(word for word in name.split(".") if word not in _TRANSPARENT)


def direct(name: str, tensor: torch.Tensor, *, trained: bool = True) -> Target:
    """The target that is one whole parameter or buffer."""
    return Target(name, (name,), tuple(tensor.shape), tensor.dtype, lambda: tensor, trained)
