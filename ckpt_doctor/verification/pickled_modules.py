"""The names that the tensors of a module have which was pickled as a whole, and those of its ``state_dict()``.

A pickle of ``torch.save(model, file)`` lists a module's ``__dict__``: submodules are in ``_modules``, parameters in
``_parameters``, buffers in ``_buffers`` (``torch/nn/modules/module.py``). An RNN has its parameters a second time, in
``_flat_weights``; whatever else it keeps as a plain attribute is not part of its state.
"""

from __future__ import annotations

_STATE = ("_parameters", "_buffers")
_WORDS = frozenset(("_modules", *_STATE))


def state_name(name: str) -> str:
    """What ``state_dict()`` calls the tensor.

    >>> state_name("_modules.conv._parameters.weight")
    'conv.weight'
    """
    if "_" not in name:
        return name
    return ".".join(word for word in name.split(".") if word not in _WORDS)


def is_state(name: str) -> bool:
    """Whether a tensor of this name is in the state of a module, or in no module that was pickled."""
    words = name.split(".")
    return "_modules" not in words or any(word in _STATE for word in words)
