"""The values of parameters that accelerate keeps outside the model, on disk or in a dictionary, until they are used.

In the model such a parameter is on the meta device. The hook of its module, or of one around it, has the values
(``AlignDevicesHook.weights_map``), under the parameter's name without the path of that module.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def offloaded(model: nn.Module, name: str) -> torch.Tensor | None:
    """The value that the forward pass uses for the parameter or buffer ``name``; ``None`` if no hook has it."""
    import torch

    words = name.split(".")
    for end in range(len(words) - 1, -1, -1):
        module = model.get_submodule(".".join(words[:end]))
        for hook in _hooks(module):
            values = getattr(hook, "weights_map", None)
            if not getattr(hook, "offload", False) or values is None:
                continue
            try:
                value = values[".".join(words[end:])]
            except (KeyError, OSError):
                continue
            if isinstance(value, torch.Tensor) and value.device.type != "meta":
                return value.detach()
    return None


def _hooks(module: nn.Module) -> Iterator[Any]:
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        yield from getattr(hook, "hooks", (hook,))
