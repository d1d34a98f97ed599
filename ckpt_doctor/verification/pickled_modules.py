"""The names that the tensors of a module have which was pickled as a whole, and those of its ``state_dict()``.

A pickle of ``torch.save(model, file)`` lists a module's ``__dict__``: submodules are in ``_modules``, parameters in
``_parameters``, buffers in ``_buffers`` (``torch/nn/modules/module.py``). An RNN has its parameters a second time, in
``_flat_weights``; whatever else it keeps as a plain attribute is not part of its state.
"""

from __future__ import annotations

from collections.abc import Iterable

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


def beside_state(names: Iterable[str]) -> set[str]:
    """Those of a file's tensor names that are plain attributes of modules which were pickled as a whole."""
    names = list(names)
    roots = {_root(name) for name in names if not _WORDS.isdisjoint(name.split("."))}
    return {
        name for name in names if name.startswith(tuple(roots)) and not any(word in _STATE for word in name.split("."))
    }


def _root(name: str) -> str:
    """What stands before the outermost module of a tensor, with its dot; empty where the file is that module."""
    words = name.split(".")
    first = next(number for number, word in enumerate(words) if word in _WORDS)
    return "".join(f"{word}." for word in words[:first])
